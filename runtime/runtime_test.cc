#include "pyrt/runtime/runtime.h"

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/tstate/gil_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What subsystems and hooks have seen since the test began. One subsystem serves all tests: they are not
// removable.
struct Recorder {
  std::vector<std::string> log;
  std::vector<std::string> warnings;
  std::vector<std::string> unraisable;
  std::string fail_at;
  std::function<void()> in_main;
  bool record = true;

  absl::Status Step(const std::string& step, Interpreter* interp = nullptr) {
    if (record) log.push_back(interp == nullptr ? step : step + " " + std::to_string(interp->id()));
    return fail_at == step ? absl::InternalError(step + " fails") : absl::OkStatus();
  }
};
Recorder recorder;
const char* PhaseNow() {
  return Runtime::IsInitialized() ? "initialized" : Runtime::IsFinalizing() ? "finalizing" : "other";
}

class RuntimeTest : public testing::Test {
 public:
  static void SetUpTestSuite() {
    static const bool added = [] {
      Runtime::AddSubsystem({
          .name = "recorder",
          .init_core = [](void*, Interpreter& interp) { return recorder.Step("core", &interp); },
          .init_main =
              [](void*, Interpreter& interp) {
                EXPECT_FALSE(interp.is_main() && Runtime::IsInitialized()) << "RT-12";
                if (recorder.in_main) recorder.in_main();
                return recorder.Step("main", &interp);
              },
          .flush = [](void*, Interpreter& interp) { return recorder.Step("flush", &interp).ok(); },
          .finalize_modules =
              [](void*, Interpreter& interp) {
                if (interp.is_main()) {
                  EXPECT_TRUE(recorder.fail_at == "main" || recorder.fail_at == "core" ||
                              Runtime::IsFinalizing());
                }
                static_cast<void>(recorder.Step("modules", &interp));
              },
          .clear_interpreter =
              [](void*, Interpreter& interp) { static_cast<void>(recorder.Step("clear", &interp)); },
          .finalize_process = [](void*) { static_cast<void>(recorder.Step("process")); },
          .audit = [](void*, const char* event, Args) { return recorder.Step(event); },
      });
      return true;
    }();
    static_cast<void>(added);
  }
  RuntimeTest() { recorder = Recorder(); }
  ~RuntimeTest() override { Runtime::Finalize(); }

  static Runtime& Start(RuntimeOptions options = {}) {
    options.warn = [](void*, const char* category, const char* text) {
      recorder.warnings.push_back(std::string(category) + ": " + text);
    };
    options.unraisable = [](void*, const absl::Status& error, const char* what, const Ref<Object>&) {
      recorder.unraisable.push_back(std::string(what == nullptr ? "" : what) + "|" +
                                    std::string(error.message()));
    };
    absl::StatusOr<Runtime*> runtime = Runtime::Initialize(options);
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    return **runtime;
  }
  static Ref<Object> Callback(std::function<void()> body) {
    return NativeFunction::New("callback", [body](Args) -> absl::StatusOr<Ref<Object>> {
      body();
      return None();
    });
  }
};

TEST_F(RuntimeTest, B021_FlagsAtEachPhase) {
  EXPECT_FALSE(Runtime::IsInitialized());
  EXPECT_FALSE(Runtime::IsCoreInitialized());
  Runtime& runtime = Start();
  EXPECT_TRUE(Runtime::IsInitialized());
  EXPECT_TRUE(Runtime::IsCoreInitialized());
  EXPECT_FALSE(Runtime::IsFinalizing());
  EXPECT_EQ(ThreadState::CurrentInterpreter(), &runtime.main_interpreter());
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_FALSE(Runtime::IsInitialized());
  EXPECT_FALSE(Runtime::IsCoreInitialized());
  EXPECT_TRUE(Runtime::IsFinalizing()) << "RT-14: until the next Initialize";
  EXPECT_EQ(ThreadState::Current(), nullptr);
  EXPECT_EQ(ThreadState::GilState(), nullptr);
}

TEST_F(RuntimeTest, B022_InitializeAndFinalizeTwiceDoNothing) {
  EXPECT_EQ(Runtime::Finalize(), 0);
  Runtime& runtime = Start();
  ThreadState* const thread = ThreadState::Current();
  const size_t steps = recorder.log.size();
  EXPECT_EQ(*Runtime::Initialize(), &runtime);
  EXPECT_EQ(ThreadState::Current(), thread);
  EXPECT_EQ(recorder.log.size(), steps);
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_EQ(Runtime::Finalize(), 0);
}

TEST_F(RuntimeTest, B023_IdsRestartInEachLife) {
  for (int life = 0; life < 5; ++life) {
    Runtime& runtime = Start();
    EXPECT_EQ(runtime.main_interpreter().id(), 0);
    EXPECT_EQ(ThreadState::Current()->id(), 1u);
    ThreadState* const main_thread = ThreadState::Current();
    absl::StatusOr<ThreadState*> sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
    ASSERT_TRUE(sub.ok());
    EXPECT_EQ((*sub)->interp()->id(), 1);
    Runtime::EndInterpreter(**sub);
    main_thread->Attach();
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
}

TEST_F(RuntimeTest, B130_OrderOfTheEnd) {
  Start();
  recorder.log.clear();
  ASSERT_TRUE(Interpreter::Get()
                  .at_exit()
                  .Register(Callback([] {
                    static_cast<void>(recorder.Step(std::string("atexit ") + PhaseNow()));
                    ASSERT_EQ(Interpreter::Get().pending_calls().Add(
                                  [](void*) -> absl::Status {
                                    return recorder.Step(std::string("call ") + PhaseNow());
                                  },
                                  nullptr),
                              PendingCalls::AddResult::kAdded);
                  }))
                  .ok());
  Interpreter::Get().at_exit().RegisterLowLevel(
      [](void*) { static_cast<void>(recorder.Step(std::string("low-level atexit ") + PhaseNow())); },
      nullptr);
  Interpreter::Get().gc().SetCollector({[](void*, int) -> int64_t {
                                          static_cast<void>(recorder.Step("collect"));
                                          return 0;
                                        },
                                        nullptr});
  Runtime::AtExit([] {
    EXPECT_EQ(ThreadState::Current(), nullptr);
    static_cast<void>(recorder.Step(std::string("exit function ") + PhaseNow()));
  });
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_THAT(recorder.log,
              ElementsAre("atexit initialized", "call initialized", "flush 0", "collect", "modules 0",
                          "flush 0", "cpython.PyInterpreterState_Clear", "low-level atexit finalizing",
                          "clear 0", "process", "exit function finalizing"));
}

TEST_F(RuntimeTest, B135_AFlushThatFailsMakesFinalizeFail) {
  Start();
  recorder.fail_at = "flush";
  EXPECT_EQ(Runtime::Finalize(), -1);
  recorder.fail_at.clear();
  EXPECT_EQ(InChild([] {
              Start();
              recorder.fail_at = "flush";
              Runtime::Exit(3);
              return 99;
            }),
            "exit 120");
  EXPECT_EQ(InChild([] {
              Start();
              Runtime::Exit(3);
              return 99;
            }),
            "exit 3");
}

TEST_F(RuntimeTest, LC3_AFailedStartLeavesNothingBehindAndMayBeTriedAgain) {
  for (const char* step : {"core", "main"}) {
    recorder.fail_at = step;
    const auto runtime = Runtime::Initialize();
    EXPECT_EQ(runtime.status().message(), std::string(step) + " fails");
    EXPECT_FALSE(Runtime::IsInitialized());
    EXPECT_FALSE(Runtime::IsCoreInitialized());
    EXPECT_EQ(ThreadState::Current(), nullptr);
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
  recorder.fail_at.clear();
  Start();
  EXPECT_EQ(Interpreter::Get().id(), 0);
}

TEST_F(RuntimeTest, LC3_AFailedStartForgetsItsForkCallbacks) {
  const auto held = std::make_shared<int>();
  recorder.fail_at = "main";
  recorder.in_main = [held] {
    Fork::Register(
        {.before = [held] { return absl::OkStatus(); }, .after_in_parent = {}, .after_in_child = {}});
  };
  EXPECT_FALSE(Runtime::Initialize().ok());
  recorder.in_main = {};
  EXPECT_EQ(held.use_count(), 1);
  recorder.fail_at.clear();
}

TEST_F(RuntimeTest, RT4_AFailedStartKeepsWhatWasRegisteredEarly) {
  // In a process that has had no life yet: what is registered between two lives is lost (RT-3).
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  static int ran = 0;
  EXPECT_EXIT(
      {
        Runtime::AtExit([] { ++ran; });
        recorder.fail_at = "core";
        if (Runtime::Initialize().ok()) std::_Exit(1);
        recorder.fail_at.clear();
        Start();
        if (Runtime::Finalize() != 0) std::_Exit(2);
        std::_Exit(ran == 1 ? 0 : 3);
      },
      testing::ExitedWithCode(0), "");
}

TEST_F(RuntimeTest, RT3_ASignalThatNobodyHandledIsNotTheNextLifes) {
  Signals& signals = Start().interpreters().signals();
  EXPECT_EQ(signals.SetWakeupFd(1'000'000), -1);
  EXPECT_EQ(Runtime::Finalize(), 0);
  signals.Trip(SIGINT);
  Start();
  EXPECT_FALSE(signals.IsTripped());
  EXPECT_EQ(ThreadState::Current()->Poll(), 0);
  EXPECT_EQ(signals.SetWakeupFd(-1), -1);
}

TEST_F(RuntimeTest, EB43_ASignalWithoutAHandlerIsReported) {
  Start();
  Runtime::Get().interpreters().signals().Trip(SIGUSR1);
  EXPECT_EQ(ThreadState::Current()->Poll(), 0);
  EXPECT_THAT(recorder.unraisable, ElementsAre(HasSubstr("Signal 10 ignored due to race condition")));
}

TEST_F(RuntimeTest, B028_TheThreadThatInitializesIsTheMainThread) {
  std::jthread([] {
    Runtime& runtime = Start();
    EXPECT_EQ(runtime.interpreters().main_thread_ident(), CurrentThreadIdent());
    EXPECT_TRUE(runtime.interpreters().IsMainThread());
    EXPECT_EQ(runtime.interpreters().main_thread_state(), ThreadState::Current());
    EXPECT_EQ(Runtime::Finalize(), 0);
  }).join();
  Runtime& runtime = Start();
  EXPECT_EQ(runtime.interpreters().main_thread_ident(), CurrentThreadIdent());
}

// ---- Exit functions

std::vector<std::string>* exit_log = nullptr;
template <int n>
void ExitFunction() {
  exit_log->push_back(std::to_string(n) + " " + PhaseNow());
}

TEST_F(RuntimeTest, B024_ExitFunctionsThirtyTwoLastInFirstOut) {
  Start();
  std::vector<std::string> log;
  exit_log = &log;
  EXPECT_EQ(Runtime::AtExit(&ExitFunction<1>), 0);
  EXPECT_EQ(Runtime::AtExit([] {
              exit_log->push_back("registers");
              EXPECT_EQ(Runtime::AtExit(&ExitFunction<3>), 0);
            }),
            0);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(Runtime::AtExit(&ExitFunction<2>), 0);
  EXPECT_EQ(Runtime::AtExit(&ExitFunction<4>), -1) << "the 33rd";
  EXPECT_EQ(Runtime::Finalize(), 0);
  ASSERT_EQ(log.size(), 33u);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(log[static_cast<size_t>(i)], "2 finalizing");
  EXPECT_EQ(log[30], "registers");
  EXPECT_EQ(log[31], "3 finalizing") << "registered by one that runs: next";
  EXPECT_EQ(log[32], "1 finalizing");
}

TEST_F(RuntimeTest, B025_ExitFunctionsBetweenLivesAreLostAndBeforeTheFirstAreKept) {
  EXPECT_EQ(InChild([] {
              // A process whose runtime has never started: this child is one only if no test ran before it, so
              // it says what it found.
              std::vector<std::string> log;
              exit_log = &log;
              Start();
              Runtime::AtExit(&ExitFunction<1>);
              Runtime::Finalize();
              if (log != std::vector<std::string>{"1 finalizing"}) return 1;
              Runtime::AtExit(&ExitFunction<2>);
              Start();
              Runtime::Finalize();
              return log.size() == 1 ? 0 : 2;
            }),
            "exit 0");
}

using ExitFunctionsDeathTest = RuntimeTest;

// In a process of its own, that is started anew: no runtime has been there before.
TEST_F(ExitFunctionsDeathTest, B025_WhatIsRegisteredBeforeTheFirstLifeRunsLast) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        static std::vector<std::string> log;
        exit_log = &log;
        if (Runtime::AtExit(&ExitFunction<1>) != 0) ::_exit(1);
        Start();
        if (Runtime::AtExit(&ExitFunction<2>) != 0) ::_exit(2);
        Runtime::Finalize();
        Runtime::AtExit(&ExitFunction<3>);
        Start();
        Runtime::Finalize();
        for (const std::string& line : log) std::fprintf(stderr, "%s\n", line.c_str());
        ::_exit(0);
      },
      testing::ExitedWithCode(0), "^2 finalizing\n1 finalizing\n$");
  testing::GTEST_FLAG(death_test_style) = "fast";
}

// ---- Interpreters

TEST_F(RuntimeTest, B033_ANewInterpreterIsCurrentAndAFailureRestoresTheCaller) {
  Start();
  ThreadState* const before = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok()) << sub.status();
  EXPECT_EQ(ThreadState::Current(), *sub);
  EXPECT_FALSE(before->attached());
  Runtime::EndInterpreter(**sub);
  EXPECT_EQ(ThreadState::Current(), nullptr) << "LC-20";
  before->Attach();

  for (const char* step : {"core", "main"}) {
    recorder.fail_at = step;
    const auto failed = Runtime::NewInterpreter(InterpreterConfig::Isolated());
    EXPECT_EQ(failed.status().message(), std::string(step) + " fails");
    EXPECT_EQ(ThreadState::Current(), before) << "LC-29";
    EXPECT_EQ(Runtime::Get().interpreters().size(), 1u);
  }
  recorder.fail_at = "cpython.PyInterpreterState_New";
  EXPECT_EQ(Runtime::NewInterpreter(InterpreterConfig::Isolated()).status().message(), "sys.audit failed");
  recorder.fail_at.clear();
  InterpreterConfig bad = InterpreterConfig::Isolated();
  bad.check_multi_interp_extensions = false;
  EXPECT_FALSE(Runtime::NewInterpreter(bad).ok());
  EXPECT_EQ(ThreadState::Current(), before);
}

TEST_F(RuntimeTest, LC23_NoInterpreterWithoutARuntime) {
  EXPECT_EQ(Runtime::NewInterpreter(InterpreterConfig::Isolated()).status().message(),
            "Py_Initialize must be called first");
}

TEST_F(RuntimeTest, B134_LiveSubinterpretersAreEndedBeforeThePointOfNoReturnWithOneWarning) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  for (const auto& config : {InterpreterConfig::Isolated(), InterpreterConfig::Legacy()}) {
    const auto sub = Runtime::NewInterpreter(config);
    ASSERT_TRUE(sub.ok()) << sub.status();
    ASSERT_TRUE((*sub)
                    ->interp()
                    ->at_exit()
                    .Register(Callback([] {
                      static_cast<void>(
                          recorder.Step(std::string("atexit ") + PhaseNow(), Interpreter::Current()));
                    }))
                    .ok());
    ThreadState::Swap(main_thread);
  }
  recorder.log.clear();
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_THAT(recorder.warnings,
              ElementsAre("RuntimeWarning: remaining subinterpreters; close them with Interpreter.close()"));
  EXPECT_THAT(recorder.log,
              ElementsAre("atexit initialized 2", "modules 2", "cpython.PyInterpreterState_Clear", "clear 2",
                          "atexit initialized 1", "modules 1", "cpython.PyInterpreterState_Clear", "clear 1",
                          "flush 0", "modules 0", "flush 0", "cpython.PyInterpreterState_Clear", "clear 0",
                          "process"));
}

// What a subsystem has started before another one fails ends as at the end of any interpreter.
TEST_F(RuntimeTest, AFailedStartOrCreationEndsItsThreads) {
  Atomic<int> ended{0};
  int exit_callbacks = 0;
  const auto in_main = [&] {
    EXPECT_TRUE(Interpreter::Get().at_exit().Register(Callback([&] { ++exit_callbacks; })).ok());
    const auto start = [](Thread::Body body, bool daemon) {
      EXPECT_TRUE(Thread::Start(std::move(body), {.daemon = daemon}).ok());
    };
    start(
        [&] {
          {
            DetachedScope detached;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
          ended.fetch_add(1, kRelaxed);
          return absl::OkStatus();
        },
        /*daemon=*/false);
    start(
        [] {
          for (;;) {
            DetachedScope detached;
            YieldCpu();
          }
          return absl::OkStatus();
        },
        /*daemon=*/true);
  };
  recorder.in_main = in_main;
  recorder.fail_at = "main";
  EXPECT_EQ(Runtime::Initialize().status().message(), "main fails");
  EXPECT_EQ(ended.load(kRelaxed), 1);
  EXPECT_EQ(exit_callbacks, 1);
  recorder = Recorder();

  Runtime& runtime = Start();
  ThreadState* const creator = ThreadState::Current();
  recorder.in_main = in_main;
  recorder.fail_at = "main";
  EXPECT_EQ(Runtime::NewInterpreter(InterpreterConfig::Legacy()).status().message(), "main fails");
  EXPECT_EQ(ended.load(kRelaxed), 2);
  EXPECT_EQ(exit_callbacks, 2);
  EXPECT_EQ(runtime.interpreters().size(), 1u);
  EXPECT_EQ(ThreadState::Current(), creator);
  recorder = Recorder();
}

TEST_F(RuntimeTest, B036_TheLastIdReferenceEndsALinkedInterpreter) {
  Runtime& runtime = Start();
  ThreadState* const before = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  Interpreter& interp = *(*sub)->interp();
  ThreadState::Swap(before);
  interp.IncrefId();
  interp.IncrefId();
  interp.set_requires_idref(true);
  const int64_t id = interp.id();
  Runtime::ReleaseInterpreterId(id);
  EXPECT_EQ(runtime.interpreters().size(), 2u);
  Runtime::ReleaseInterpreterId(id);
  EXPECT_EQ(runtime.interpreters().size(), 1u);
  EXPECT_EQ(ThreadState::Current(), before);
}

// What refers to an interpreter may be older than its end.
TEST_F(RuntimeTest, B036_ALateReferenceToAnInterpreterThatHasEndedOrEnds) {
  Start();
  ThreadState* const before = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  Interpreter& interp = *(*sub)->interp();
  static int64_t id;
  static int released;
  id = interp.id();
  released = 0;
  const auto release = [](void*) {
    Runtime::ReleaseInterpreterId(id);
    ++released;
  };
  interp.at_exit().RegisterLowLevel(release, nullptr);  // by its own end
  ThreadState::Swap(before);
  interp.IncrefId();
  interp.IncrefId();
  interp.set_requires_idref(true);
  Runtime::ReleaseInterpreterId(id);
  before->interp()->at_exit().RegisterLowLevel(release, nullptr);  // by the runtime's end
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_EQ(released, 2);
}

TEST_F(RuntimeTest, B137_FinalizeFromADetachedMainThread) {
  Start();
  ThreadState::SaveThread();
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_EQ(ThreadState::Current(), nullptr);
}

TEST_F(RuntimeTest, B137_FinalizeWithASubinterpreterActive) {
  Start();
  ASSERT_TRUE(Runtime::NewInterpreter(InterpreterConfig::Isolated()).ok());
  EXPECT_EQ(Runtime::Finalize(), 0);  // gh-120838
  EXPECT_EQ(recorder.warnings.size(), 1u);
}

TEST_F(RuntimeTest, B137_FinalizeFromCodeOfASubinterpreter) {
  Start();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  int frame = 0;
  (*sub)->data().current_frame.store(&frame, kRelaxed);
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_FALSE(Runtime::IsInitialized());
}

TEST_F(RuntimeTest, B137_FinalizeFromAnotherThread) {
  Start();
  ThreadState::SaveThread();
  std::jthread([] { EXPECT_EQ(Runtime::Finalize(), 0); }).join();
  EXPECT_FALSE(Runtime::IsInitialized());
  // And the next life works on this thread.
  Start();
  EXPECT_EQ(ThreadState::Current()->id(), 1u);
}

TEST_F(RuntimeTest, RE1_FinalizeInsideFinalizeDoesNothing) {
  Start();
  int inner = -2;
  ASSERT_TRUE(Interpreter::Get().at_exit().Register(Callback([&] { inner = Runtime::Finalize(); })).ok());
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_EQ(inner, 0);
}

TEST_F(RuntimeTest, B062_ViewsNameWhicheverInterpreterHasTheIdNow) {
  const InterpreterView main = InterpreterView::FromMain();
  EXPECT_FALSE(InterpreterGuard::FromView(main));
  for (int life = 0; life < 2; ++life) {
    Start();
    EXPECT_TRUE(InterpreterGuard::FromView(main));
    ThreadState* const before = ThreadState::Current();
    const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
    ASSERT_TRUE(sub.ok());
    const InterpreterView view = InterpreterView::FromCurrent();
    EXPECT_TRUE(InterpreterGuard::FromView(view));
    Runtime::EndInterpreter(**sub);
    EXPECT_FALSE(InterpreterGuard::FromView(view));
    before->Attach();
    EXPECT_EQ(Runtime::Finalize(), 0);
    EXPECT_FALSE(InterpreterGuard::FromView(main));
  }
}

TEST_F(RuntimeTest, B061_AForeignThreadWithAGuardRunsWhileFinalizeWaits) {
  Start();
  Atomic<bool> ran{false};
  InterpreterGuard guard = *InterpreterGuard::FromCurrent();
  ThreadState* const main_thread = ThreadState::Current();
  std::jthread foreign([&] {
    while (main_thread->attached()) YieldCpu();  // Finalize waits
    EnsureToken token = EnsureAttached(guard);
    EXPECT_TRUE(token);
    EXPECT_TRUE(Runtime::IsInitialized());
    ran.store(true, kRelease);
    ReleaseAttached(token);
    guard.Close();
    EXPECT_TRUE(Eventually([] { return !Runtime::IsInitialized(); }));
    EXPECT_FALSE(EnsureAttachedFromView(InterpreterView::FromMain())) << "fails, does not hang";
  });
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_TRUE(ran.load(kAcquire));
}

TEST_F(RuntimeTest, SignalsBecomeKeyboardInterruptOnTheMainThread) {
  ::signal(SIGINT, SIG_DFL);  // whoever runs the test may ignore it
  Start({.install_signal_handlers = true});
  ::raise(SIGINT);
  ThreadState& thread = ThreadState::Get();
  EXPECT_EQ(thread.Poll(), -1);
  EXPECT_TRUE(std::exchange(thread.data().current_exception, nullptr)->IsA(ErrorType::KeyboardInterrupt()));
  EXPECT_EQ(Runtime::Finalize(), 0);
  struct sigaction now;
  ::sigaction(SIGINT, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
}

TEST_F(RuntimeTest, ASignalThatIsIgnoredOrTheHostsOwnStaysSo) {
  for (void (*const theirs)(int) : {SIG_IGN, static_cast<void (*)(int)>([](int) {})}) {
    ::signal(SIGINT, theirs);
    Start({.install_signal_handlers = true});
    ::raise(SIGINT);
    EXPECT_EQ(ThreadState::Get().Poll(), 0);
    EXPECT_EQ(Runtime::Finalize(), 0);
    EXPECT_EQ(::signal(SIGINT, SIG_DFL), theirs);
  }
}

TEST_F(RuntimeTest, RT29_LifecycleEventsAreAudited) {
  Start();
  ThreadState* const before = ThreadState::Current();
  recorder.log.clear();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  EXPECT_EQ(recorder.log[0], "cpython.PyInterpreterState_New");
  Runtime::EndInterpreter(**sub);
  before->Attach();

  const auto nothing = [] { return absl::OkStatus(); };
  recorder.log.clear();
  auto thread = Thread::Start(nothing);
  ASSERT_TRUE(thread.ok());
  EXPECT_TRUE(thread->Join().ok());
  EXPECT_THAT(recorder.log, ElementsAre("_thread.start_joinable_thread"));
  recorder.fail_at = "_thread.start_joinable_thread";
  EXPECT_EQ(Thread::Start(nothing).status().message(), "_thread.start_joinable_thread fails");
  EXPECT_EQ(Interpreter::Get().threads().size(), 1u);
  EXPECT_EQ(Thread::Joinable(Interpreter::Get()), 0u);

  recorder.fail_at = "os.fork";
  EXPECT_EQ(Fork::Run().status().message(), "os.fork fails");
  recorder.fail_at.clear();
}

// ---- Fatal errors

using RuntimeDeathTest = RuntimeTest;

TEST_F(RuntimeDeathTest, B032_FatalErrorsNameThePhase) {
  EXPECT_DEATH(Fatal("f", "text"), "Fatal Python error: f: text\n");
  Start();
  EXPECT_DEATH(Fatal("f", "text"), "Fatal Python error: f: text\nPython runtime state: initialized\n");
  EXPECT_DEATH(Fatal(nullptr, "text"), "Fatal Python error: text\nPython runtime state: initialized\n");
  EXPECT_DEATH(
      {
        Runtime::AtExit([] { Fatal("f", "late"); });
        Runtime::Finalize();
      },
      "Fatal Python error: f: late\nPython runtime state: finalizing \\(tstate=0x[0-9a-f]{16}\\)\n");
  Runtime::Finalize();
  EXPECT_DEATH(
      {
        process_phase.finalizing.store(0, kRelaxed);
        Fatal("f", "text");
      },
      "Python runtime state: unknown\n");
}

TEST_F(RuntimeDeathTest, B038_EndOfAnInterpreterThatIsNotCurrentOrStillRuns) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  ThreadState::Swap(main_thread);
  EXPECT_DEATH(Runtime::EndInterpreter(**sub),
               "Fatal Python error: Py_EndInterpreter: thread is not current");
  ThreadState::Swap(*sub);
  EXPECT_DEATH(
      {
        int frame = 0;
        (*sub)->data().current_frame.store(&frame, kRelaxed);
        Runtime::EndInterpreter(**sub);
      },
      "Fatal Python error: Py_EndInterpreter: thread still has a frame");
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
}

TEST_F(RuntimeDeathTest, StatusErrorsExitWithStatusOne) {
  EXPECT_EXIT(ExitStatusException(RuntimeStatus::Error("text", "f")), testing::ExitedWithCode(1),
              "Fatal Python error: f: text\nPython runtime state: ");
  EXPECT_EXIT(ExitStatusException(RuntimeStatus::Exit(7)), testing::ExitedWithCode(7), "^$");
  EXPECT_DEATH(ExitStatusException(RuntimeStatus::Ok()), "the status is ok");
  EXPECT_EQ(RuntimeStatus::NoMemory().message(), "memory allocation failed");
  EXPECT_FALSE(RuntimeStatus::Exit(7).ToStatus().ok());
  EXPECT_TRUE(RuntimeStatus::Ok().ToStatus().ok());
}

TEST_F(RuntimeDeathTest, B032_AStartThatFailedNamesItsFunctionAndItsPhase) {
  for (const bool core : {false, true}) {
    absl::Status (*const fails)(void*, Interpreter&) = [](void*, Interpreter&) {
      return RuntimeStatus::Error("text", "f").ToStatus();
    };
    EXPECT_EXIT(
        {
          Runtime::AddSubsystem(core ? Subsystem{.name = "x", .init_core = fails}
                                     : Subsystem{.name = "x", .init_main = fails});
          ExitStatusException(RuntimeStatus::FromStatus(Runtime::Initialize().status(), "main"));
        },
        testing::ExitedWithCode(1),
        core ? "Fatal Python error: f: text\nPython runtime state: preinitialized\n"
             : "Fatal Python error: f: text\nPython runtime state: core initialized\n");
  }
  const RuntimeStatus nameless = RuntimeStatus::FromStatus(absl::InternalError("text"), "main");
  EXPECT_EQ(nameless.function(), "main");
  EXPECT_EQ(nameless.phase(), "");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
