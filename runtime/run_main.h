// RunMain: what `python` does around a program, from the first audit event to the status of the process.
//
//   1  the audit event of the program, as the config names it:
//        -c        cpython.run_command (text)       file     cpython.run_file (file name)
//        -m        cpython.run_module (name)        neither  cpython.run_stdin (); with an interactive stdin (a
//                                                            terminal, or -i) the hook of step 4 before it
//   2  the program; a refusal by a hook counts as its failure
//   3  an exception is displayed (error_display.h): SystemExit gives the status, any other 1
//   4  after a -c, -m or file, if stdin is interactive, with -i, or PYTHONINSPECT as it is now: the prompt; before it
//      sys.__interactivehook__ and the events cpython.run_interactivehook (hook) and cpython.run_stdin ().
//      SystemExit skips it, but not with -i (SY-29); that of the hook or at the prompt ends the program with its
//      status, as does that of a program that is a prompt itself
//   5  Runtime::Finalize; standard streams that cannot be flushed make the status 120, whatever it was (LC-31)
//   6  a KeyboardInterrupt that nobody caught: SIGINT with its default action, so that a shell sees it (SY-28)
//
// CPython counterpart: Py_RunMain, pymain_run_python, pymain_repl, exit_sigint.

#ifndef PYRT_RUNTIME_RUN_MAIN_H_
#define PYRT_RUNTIME_RUN_MAIN_H_

#include <functional>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// What a host brings. Called attached, on the calling thread.
struct Program {
  std::function<absl::Status()> run;  // without a -c, -m or file: what reads stdin
  // The prompt after it; empty if the host has none. Its failure is displayed like that of `run`.
  std::function<absl::Status()> prompt;
};

// Attached to the main interpreter, with the sys subsystem (sys_subsystem.h); on the main thread for 6. Returns what main()
// should, with the runtime finalized, or does not return.
[[nodiscard]] int RunMain(const Program& program);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_RUN_MAIN_H_
