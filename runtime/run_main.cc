#include "pyrt/runtime/run_main.h"

#include <signal.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/exit_status.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

absl::Status AuditProgram(SysModule& sys) {
  const RuntimeConfig& config = sys.config();
  if (config.run_command.has_value()) {
    return sys.auditor().Audit("cpython.run_command", "s", config.run_command->c_str());
  }
  if (config.run_module.has_value()) {
    return sys.auditor().Audit("cpython.run_module", "s", config.run_module->c_str());
  }
  if (config.run_filename.has_value()) {
    return sys.auditor().Audit("cpython.run_file", "s", config.run_filename->c_str());
  }
  return sys.auditor().Audit("cpython.run_stdin");
}

// How far the process has come.
struct Outcome {
  int status = 0;
  bool exits = false;        // SystemExit: no prompt any more
  bool interrupted = false;  // KeyboardInterrupt that nobody caught
};

Outcome Display(SysModule& sys, const absl::Status& status) {
  if (status.ok()) return {};
  const Ref<Error> error = ErrorFromStatus(status);
  Outcome outcome{.status = 1, .interrupted = error->IsA(ErrorType::KeyboardInterrupt())};
  if (const std::optional<int> exit = PrintUncaught(sys, error)) {
    // Also when it was sys.excepthook that exits, and be it because of an interrupt.
    outcome = {.status = *exit, .exits = true};
  }
  return outcome;
}

Outcome CallInteractiveHook(SysModule& sys) {
  const Ref<Object> hook = sys.dict().Find("__interactivehook__");
  if (!hook) return {};
  absl::Status status = sys.auditor().Audit("cpython.run_interactivehook", "(O)", hook);
  if (status.ok()) status = hook->Call({}).status();
  if (status.ok()) return {};
  WriteStderr(sys, "Failed calling sys.__interactivehook__\n");
  return Display(sys, status);
}

bool HasProgram(const RuntimeConfig& config) {
  return config.run_command.has_value() || config.run_module.has_value() || config.run_filename.has_value();
}

bool StdinIsInteractive(const RuntimeConfig& config) {
  return config.interactive > 0 || ::isatty(STDIN_FILENO) == 1;
}

bool WantsPrompt(SysModule& sys) {
  const RuntimeConfig& config = sys.config();
  if (!HasProgram(config) || !StdinIsInteractive(config)) return false;
  if (sys.inspect() > 0) return true;
  // Now and not at the start: the program may have set it (SY-29).
  return config.use_environment && sys.host().Environment("PYTHONINSPECT").has_value();
}

Outcome RunProgram(SysModule& sys, const Program& program) {
  if (!HasProgram(sys.config()) && StdinIsInteractive(sys.config())) {
    // The program is the prompt: there is no other one that SystemExit were to be kept from preventing.
    sys.set_inspect(0);
    const Outcome hook = CallInteractiveHook(sys);
    if (hook.exits) return hook;
  }
  absl::Status status = AuditProgram(sys);
  if (status.ok()) status = program.run();
  return Display(sys, status);
}

[[noreturn]] void DieOfSigint() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGINT, &action, nullptr);
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  ::pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
  ::kill(::getpid(), SIGINT);
  // Ignored by whoever traces this process: the status that a shell would show.
  ::_exit(128 + SIGINT);
}

}  // namespace

int RunMain(const Program& program) {
  SysModule* const sys = SysModule::Current();
  PYRT_CHECK(sys != nullptr, "Py_RunMain",
             "there is no sys: add SysSubsystem() before Runtime::Initialize, and be attached");
  Outcome outcome = RunProgram(*sys, program);
  if (!outcome.exits && program.prompt && WantsPrompt(*sys)) {
    // From here on SystemExit is obeyed: this is the prompt that it was to be kept from preventing.
    sys->set_inspect(0);
    outcome = CallInteractiveHook(*sys);
    if (!outcome.exits) {
      absl::Status status = sys->auditor().Audit("cpython.run_stdin");
      if (status.ok()) status = program.prompt();
      outcome = Display(*sys, status);
    }
  }
  if (Runtime::Finalize() < 0) outcome.status = kFlushFailureStatus;
  if (outcome.interrupted) DieOfSigint();
  return outcome.status;
}

}  // namespace pyrt::inline PYRT_VARIANT
