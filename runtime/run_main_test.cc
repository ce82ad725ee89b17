// Whole processes: the test starts itself again as a small host whose programs are named by -c, with real descriptors, and
// looks at what is left of it.

#include "pyrt/runtime/run_main.h"

#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sys_subsystem.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

// ---- The host

void Print(std::string_view text) { FormatStdout(*SysModule::Current(), text); }

absl::Status Exit(std::vector<Ref<Object>> arguments) {
  return SysModule::Current()->dict().Find("exit")->Call(arguments).status();
}

Ref<Object> FailingFunction() {
  return NativeFunction::New(
      "f", [](Args) -> absl::StatusOr<Ref<Object>> { return Raise(ErrorType::ValueError(), "from f"); });
}

// A function that calls sys.exit(status).
Ref<Object> ExitingFunction(int64_t status) {
  return NativeFunction::New(
      "exiting", [status](Args) -> absl::StatusOr<Ref<Object>> { return Exit({Int::Of(status)}); });
}

absl::Status StartDaemonThatWrites() {
  static constinit Atomic<bool> written{false};
  const auto daemon = Thread::Start(
      [] {
        const Ref<Object> stream = SysModule::Current()->dict().Find("stdout");
        for (;;) {
          for (int i = 0; i < 20; ++i) static_cast<void>(WriteToStream(stream, std::string(100, 'd')));
          static_cast<void>(FlushStream(stream));
          written.store(true, kRelease);
          DetachedScope detached(ThreadState::Get("daemon"));
        }
        return absl::OkStatus();
      },
      {.daemon = true});
  if (!daemon.ok()) return daemon.status();
  // The end begins while the daemon is inside a write.
  DetachedScope detached(ThreadState::Get("host"));
  return Eventually([] { return written.load(kAcquire); }) ? absl::OkStatus()
                                                           : absl::InternalError("no write");
}

absl::Status FailInThread() {
  const Ref<Object> function = FailingFunction();
  auto thread = Thread::Start([function] { return function->Call({}).status(); }, {.function = function});
  return thread.ok() ? thread->Join() : thread.status();
}

absl::Status Interrupt() {
  ::kill(::getpid(), SIGINT);
  ThreadState& thread = ThreadState::Get("host");
  while (Interpreter::CheckSignals(thread) == 0) ::sched_yield();
  return ToStatus(std::exchange(thread.data().current_exception, nullptr));
}

absl::Status LeaveSubinterpreter() {
  ThreadState* const thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  if (!sub.ok()) return sub.status();
  ThreadState::Swap(thread);
  return absl::OkStatus();
}

const std::map<std::string, std::function<absl::Status()>>& Programs() {
  static const std::map<std::string, std::function<absl::Status()>> programs = {
      {"pass", [] { return absl::OkStatus(); }},
      {"print", [] { return Print("text\n"), absl::OkStatus(); }},
      {"print_error", [] { return FormatStderr(*SysModule::Current(), "error\n"), absl::OkStatus(); }},
      {"exit", [] { return Exit({}); }},
      {"exit_none", [] { return Exit({None()}); }},
      {"exit_7", [] { return Print("seven\n"), Exit({Int::Of(7)}); }},
      {"exit_256", [] { return Exit({Int::Of(256)}); }},
      {"exit_minus_1", [] { return Exit({Int::Of(-1)}); }},
      {"exit_huge", [] { return Exit({Int::FromDecimal("1000000000000000000000").value()}); }},
      {"exit_true", [] { return Exit({True()}); }},
      {"exit_text", [] { return Exit({String::Of("bye")}); }},
      {"exit_pair",
       [] {
         return Exit({Tuple::Of({Int::Of(1), Int::Of(2)})});
       }},
      {"exit_error", [] { return Exit({Error::New(ErrorType::ValueError(), "why")}); }},
      {"raise", [] { return Raise(ErrorType::ValueError(), "wrong"); }},
      {"raise_interrupt", [] { return ToStatus(Error::New(ErrorType::KeyboardInterrupt(), "")); }},
      {"interrupt", &Interrupt},
      {"interrupt_exits_5",
       [] {
         SysModule::Current()->dict().Set("excepthook", ExitingFunction(5));
         return ToStatus(Error::New(ErrorType::KeyboardInterrupt(), ""));
       }},
      {"ask_for_prompt",
       [] {
         ::setenv("PYTHONINSPECT", "1", 1);
         return absl::OkStatus();
       }},
      {"interactive_hook",
       [] {
         SysModule::Current()->dict().Set("__interactivehook__", FailingFunction());
         return absl::OkStatus();
       }},
      {"interactive_hook_exits_4",
       [] {
         SysModule::Current()->dict().Set("__interactivehook__", ExitingFunction(4));
         return absl::OkStatus();
       }},
      {"daemon", &StartDaemonThatWrites},
      {"fail_in_thread", &FailInThread},
      {"leave_subinterpreter", &LeaveSubinterpreter},
  };
  return programs;
}

absl::Status ShowEvent(std::string_view event, const Ref<Tuple>& arguments, void*) {
  if (event.substr(0, 12) != "cpython.run_") return absl::OkStatus();
  const std::string line = std::string(event) + " " + arguments->Repr().value() + "\n";
  static_cast<void>(!::write(STDOUT_FILENO, line.data(), line.size()));
  if (::getenv("HOST_VETO") != nullptr) return Raise(ErrorType::RuntimeError(), "vetoed");
  return absl::OkStatus();
}

std::string Variable(const char* name, const char* otherwise) {
  const char* const value = ::getenv(name);
  return value != nullptr ? value : otherwise;
}

int Host(const std::vector<std::string>& argv) {
  ArmWatchdog();
  RuntimeConfig config;
  const ConfigStatus read = ReadConfig(EnvironmentView::Process(), argv, &config);
  if (!read.ok()) {
    std::fputs(read.Text().c_str(), read.exit_code() == 0 ? stdout : stderr);
    return read.exit_code();
  }
  if (::getenv("HOST_AUDIT") != nullptr) static_cast<void>(AddAuditHook(&ShowEvent, nullptr));
  SysSubsystemOptions options;
  options.config = config;
  Runtime::AddSubsystem(SysSubsystem(options));
  const auto runtime = Runtime::Initialize(RuntimeOptionsOf(config));
  if (!runtime.ok()) ExitStatusException(RuntimeStatus::FromStatus(runtime.status(), "main"));
  std::string name = config.run_command.value_or(Variable("HOST_STDIN", "pass") + "\n");
  name.pop_back();
  const std::string hook = Variable("HOST_HOOK", "pass");
  if (!Programs().at(hook)().ok()) return 97;
  return RunMain({.run = Programs().at(name), .prompt = [] {
                    Print("prompt\n");
                    return ::getenv("HOST_PROMPT_EXITS") != nullptr ? Exit({Int::Of(3)}) : absl::OkStatus();
                  }});
}

// ---- The test's side

struct Ended {
  std::string how;  // "exit 0", "signal 2"
  std::string out;
  std::string err;
};

struct Start {
  std::vector<std::pair<std::string, std::string>> environment = {};
  const char* out = nullptr;  // a file in the place of the captured stdout
  const char* in = "/dev/null";
  std::vector<int> closed = {};  // descriptors that are not open
  bool out_is_broken_pipe = false;
  bool out_is_slow_pipe = false;  // one of 4096 bytes, whose reader takes less than that at a time
  bool in_is_terminal = false;
};

std::string Contents(int fd) {
  std::string text;
  char chunk[4096];
  ::lseek(fd, 0, SEEK_SET);
  for (ssize_t n; (n = ::read(fd, chunk, sizeof(chunk))) > 0;) text.append(chunk, static_cast<size_t>(n));
  ::close(fd);
  return text;
}

int Scratch() {
  std::string name = testing::TempDir() + "/run_main_XXXXXX";
  const int fd = ::mkstemp(name.data());
  ::unlink(name.c_str());
  return fd;
}

Ended RunHost(const std::vector<std::string>& arguments, const Start& start = {}) {
  const int out = Scratch();
  const int err = Scratch();
  int slow[2] = {-1, -1};
  int terminal[2] = {-1, -1};
  if (start.out_is_slow_pipe) {
    EXPECT_EQ(::pipe2(slow, O_CLOEXEC), 0);
    EXPECT_GE(::fcntl(slow[1], F_SETPIPE_SZ, 4096), 4096);
  }
  if (start.in_is_terminal) {
    EXPECT_EQ(::openpty(&terminal[0], &terminal[1], nullptr, nullptr, nullptr), 0);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGINT, SIG_DFL);  // whoever runs the test may ignore it
    ::dup2(start.in_is_terminal ? terminal[1] : ::open(start.in, O_RDONLY), 0);
    ::dup2(start.out != nullptr ? ::open(start.out, O_WRONLY) : out, 1);
    ::dup2(err, 2);
    if (start.out_is_slow_pipe) ::dup2(slow[1], 1);
    if (start.out_is_broken_pipe) {
      int ends[2];
      if (::pipe(ends) != 0) ::_exit(99);
      ::dup2(ends[1], 1);
      ::close(ends[0]), ::close(ends[1]);
    }
    for (const int fd : start.closed) ::close(fd);
    ::clearenv();                                   // who runs the test may have PYTHON* variables
    ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // threads that hang hold on to what they have
    for (const auto& [name, value] : start.environment) ::setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> argv;
    std::vector<std::string> words = {"/proc/self/exe", "--host"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(98);
  }
  if (start.out_is_slow_pipe) {
    ::close(slow[1]);
    char some[512];
    while (::read(slow[0], some, sizeof(some)) > 0) ::sched_yield();
    ::close(slow[0]);
  }
  const std::string how = WaitForChild(child);
  for (const int fd : terminal) ::close(fd);
  return {how, Contents(out), Contents(err)};
}

std::string HowEnds(const char* program, const Start& start = {}) {
  return RunHost({"-c", program}, start).how;
}

TEST(RunMainTest, B125_StatusOfTheProcess) {
  EXPECT_EQ(HowEnds("pass"), "exit 0");
  EXPECT_EQ(HowEnds("exit"), "exit 0");
  EXPECT_EQ(HowEnds("exit_none"), "exit 0");
  EXPECT_EQ(HowEnds("exit_7"), "exit 7");
  EXPECT_EQ(HowEnds("exit_256"), "exit 0");
  EXPECT_EQ(HowEnds("exit_minus_1"), "exit 255");
  EXPECT_EQ(HowEnds("exit_huge"), "exit 255");
  EXPECT_EQ(HowEnds("exit_true"), "exit 1");
}

TEST(RunMainTest, B125_ObjectsAreShownAndTheStatusIsOne) {
  const auto shown = [](const char* program) {
    const Ended ended = RunHost({"-c", program});
    EXPECT_EQ(ended.how, "exit 1") << program;
    EXPECT_EQ(ended.out, "") << program;
    return ended.err;
  };
  EXPECT_EQ(shown("exit_text"), "bye\n");
  EXPECT_EQ(shown("exit_pair"), "(1, 2)\n");
  EXPECT_EQ(shown("exit_error"), "why\n");
  EXPECT_EQ(shown("raise"), "ValueError: wrong\n");
}

TEST(RunMainTest, B125_SY28_AnInterruptThatNobodyCaughtKillsByItsSignal) {
  const Ended raised = RunHost({"-c", "raise_interrupt"});
  EXPECT_EQ(raised.how, "signal 2");
  EXPECT_EQ(raised.err, "KeyboardInterrupt\n");
  EXPECT_EQ(HowEnds("interrupt"), "signal 2");
  EXPECT_EQ(HowEnds("raise_interrupt", {.out = "/dev/full"}), "signal 2");
}

TEST(RunMainTest, SY28_AnExcepthookThatExitsEndsAnInterruptWithItsStatus) {
  EXPECT_EQ(HowEnds("interrupt_exits_5"), "exit 5");
}

TEST(RunMainTest, B135_WhatCannotBeFlushedMakes120OfAnyStatus) {
  for (const char* program : {"print", "exit_7"}) {
    for (const bool broken : {false, true}) {
      Start start;
      if (broken) {
        start.out_is_broken_pipe = true;
      } else {
        start.out = "/dev/full";
      }
      const Ended ended = RunHost({"-c", program}, start);
      EXPECT_EQ(ended.how, "exit 120") << program;
      const std::string report = "Exception ignored while flushing sys.stdout";
      EXPECT_THAT(ended.err, HasSubstr(report));
      EXPECT_EQ(ended.err.find(report), ended.err.rfind(report)) << "SY-16: once\n" << ended.err;
      EXPECT_THAT(ended.err, EndsWith(broken ? "BrokenPipeError: [Errno 32] Broken pipe\n"
                                             : "OSError: [Errno 28] No space left on device\n"));
    }
  }
  EXPECT_EQ(HowEnds("pass", {.out = "/dev/full"}), "exit 0") << "nothing was written";
}

TEST(RunMainTest, SY8_DescriptorsThatAreClosedAtTheStart) {
  EXPECT_EQ(HowEnds("print", {.closed = {0}}), "exit 0");
  const Ended no_out = RunHost({"-c", "print"}, {.closed = {1}});
  EXPECT_EQ(no_out.how, "exit 0") << "sys.stdout is None";
  EXPECT_EQ(no_out.err, "");
  EXPECT_EQ(HowEnds("raise", {.closed = {2}}), "exit 1");
  EXPECT_EQ(HowEnds("exit_text", {.closed = {0, 1, 2}}), "exit 1");
}

TEST(RunMainTest, SY13_B032_AStdinThatIsADirectoryEndsTheStart) {
  const Ended ended = RunHost({"-c", "print"}, {.in = "/"});
  EXPECT_EQ(ended.how, "exit 1");
  EXPECT_EQ(ended.out, "");
  EXPECT_EQ(ended.err,
            "Fatal Python error: init_sys_streams: <stdin> is a directory, cannot continue\n"
            "Python runtime state: core initialized\n");
}

TEST(RunMainTest, SY9_UnbufferedOutputFailsInTheProgramAndNotAtTheEnd) {
  // The write fails at once; nothing is left that a flush could fail with.
  EXPECT_EQ(RunHost({"-u", "-c", "print"}, {.out = "/dev/full"}).how, "exit 0");
  EXPECT_EQ(RunHost({"-u", "-c", "print"}).out, "text\n");
}

TEST(RunMainTest, SY29_ThePrompt) {
  const Ended inspected = RunHost({"-i", "-c", "exit_7"});
  EXPECT_EQ(inspected.how, "exit 0") << "the prompt's";
  EXPECT_EQ(inspected.out, "seven\nprompt\n");
  EXPECT_EQ(inspected.err, "SystemExit: 7\n");
  const Start terminal{.in_is_terminal = true};
  EXPECT_EQ(RunHost({"-c", "ask_for_prompt"}, terminal).out, "prompt\n")
      << "the variable is looked at when the program has ended";
  EXPECT_EQ(RunHost({"-E", "-c", "ask_for_prompt"}, terminal).out, "");
  EXPECT_EQ(RunHost({"-c", "ask_for_prompt"}).out, "") << "nobody is there to be asked";
  EXPECT_EQ(RunHost({"-c", "pass"}, terminal).out, "") << "nobody has asked for it";
  const Ended exits = RunHost({"-c", "exit_7"}, {.environment = {{"HOST_AUDIT", "1"}}});
  EXPECT_EQ(exits.out, "cpython.run_command ('exit_7\\n',)\nseven\n") << "SystemExit needs no prompt";
  const Ended hook = RunHost({"-i", "-c", "interactive_hook"});
  EXPECT_EQ(hook.err, "Failed calling sys.__interactivehook__\nValueError: from f\n");
  EXPECT_EQ(hook.out, "prompt\n");
}

TEST(RunMainTest, SY29_SystemExitAtThePromptAndBeforeItEndsTheProgram) {
  const Ended at_prompt = RunHost({"-i", "-c", "exit_7"}, {.environment = {{"HOST_PROMPT_EXITS", "1"}}});
  EXPECT_EQ(at_prompt.how, "exit 3");
  EXPECT_EQ(at_prompt.err, "SystemExit: 7\n") << "the program's is shown, the prompt's obeyed";
  const Ended in_hook = RunHost({"-i", "-c", "interactive_hook_exits_4"});
  EXPECT_EQ(in_hook.how, "exit 4");
  EXPECT_EQ(in_hook.err, "Failed calling sys.__interactivehook__\n");
  EXPECT_EQ(in_hook.out, "") << "no prompt";
}

TEST(RunMainTest, SY29_WithoutAProgramThePromptIsTheProgram) {
  for (const bool option : {false, true}) {
    const std::vector<std::string> words =
        option ? std::vector<std::string>{"-i"} : std::vector<std::string>{};
    const auto prompt = [&](const char* hook, const char* inspect = "") {
      return RunHost(words, {.environment = {{"HOST_AUDIT", "1"},
                                             {"HOST_STDIN", "exit_7"},
                                             {"HOST_HOOK", hook},
                                             {"PYTHONINSPECT", inspect}},
                             .in_is_terminal = !option});
    };
    const Ended obeyed = prompt("interactive_hook", "1");
    EXPECT_EQ(obeyed.how, "exit 7") << "and no second prompt";
    EXPECT_EQ(obeyed.out,
              "cpython.run_interactivehook (<built-in function f>,)\ncpython.run_stdin ()\nseven\n");
    EXPECT_EQ(obeyed.err, "Failed calling sys.__interactivehook__\nValueError: from f\n");
    const Ended in_hook = prompt("interactive_hook_exits_4");
    EXPECT_EQ(in_hook.how, "exit 4");
    EXPECT_THAT(in_hook.out, Not(HasSubstr("run_stdin")));
  }
  const Start from_a_file{.environment = {{"HOST_STDIN", "print"}, {"HOST_HOOK", "interactive_hook"}}};
  EXPECT_EQ(RunHost({}, from_a_file).out, "text\n");
  EXPECT_EQ(RunHost({}, from_a_file).err, "") << "the hook is for prompts";
}

TEST(RunMainTest, SY51_EventsOfPrograms) {
  const Start audited{.environment = {{"HOST_AUDIT", "1"}}};
  EXPECT_EQ(RunHost({"-c", "pass"}, audited).out, "cpython.run_command ('pass\\n',)\n");
  EXPECT_EQ(RunHost({"-m", "a.b"}, audited).out, "cpython.run_module ('a.b',)\n");
  EXPECT_EQ(RunHost({"script.py", "x"}, audited).out, "cpython.run_file ('script.py',)\n");
  EXPECT_EQ(RunHost({}, audited).out, "cpython.run_stdin ()\n");
  EXPECT_THAT(
      RunHost({"-i", "-c", "interactive_hook"}, audited).out,
      HasSubstr("cpython.run_interactivehook (<built-in function f>,)\ncpython.run_stdin ()\nprompt\n"));
  const Ended refused = RunHost({"-c", "print"}, {.environment = {{"HOST_AUDIT", "1"}, {"HOST_VETO", "1"}}});
  EXPECT_EQ(refused.how, "exit 1");
  EXPECT_EQ(refused.err, "RuntimeError: vetoed\n");
  EXPECT_THAT(refused.out, Not(HasSubstr("text")));
}

TEST(RunMainTest, UnraisableErrorsAndWarningsReachSysStderr) {
  EXPECT_EQ(RunHost({"-c", "fail_in_thread"}).err,
            "Exception ignored in thread started by <built-in function f>:\nValueError: from f\n");
  const Ended sub = RunHost({"-c", "leave_subinterpreter"});
  EXPECT_EQ(sub.how, "exit 0");
  EXPECT_EQ(sub.err,
            "<sys>:0: RuntimeWarning: remaining subinterpreters; close them with Interpreter.close()\n");
}

TEST(RunMainTest, GH_129536_ADaemonThreadThatWritesDoesNotKeepTheProcess) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(HowEnds("daemon", {.out_is_slow_pipe = true}), "exit 0");
}

TEST(RunMainTest, BadOptionsAndHelp) {
  EXPECT_EQ(RunHost({"-Z"}).how, "exit 2");
  EXPECT_EQ(RunHost({"-V"}).out, "Python 3.15.2\n");
  const Ended bad = RunHost({"-c", "pass"}, {.environment = {{"PYTHONHASHSEED", "bad"}}});
  EXPECT_EQ(bad.how, "exit 1");
  EXPECT_THAT(bad.err, HasSubstr("Fatal Python error: config_init_hash_seed: PYTHONHASHSEED must be"));
  EXPECT_EQ(RunHost({"-I", "-c", "pass"}, {.environment = {{"PYTHONHASHSEED", "bad"}}}).how, "exit 0");
  EXPECT_EQ(RunHost({"-X", "gil=1", "-c", "pass"}).how, "exit 0");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--host") {
    std::vector<std::string> words(argv + 1, argv + argc);
    words[0] = "python3";
    return pyrt::Host(words);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
