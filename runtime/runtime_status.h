// RuntimeStatus: how a step of initialization ended: it worked, it failed, or the process should exit.
//
// An absl::Status cannot say "exit with status 3", and an embedder's main() wants to hand all three on in one
// line (ExitStatusException).
//
// CPython counterpart: PyStatus, PyStatus_Ok, PyStatus_Error, PyStatus_NoMemory, PyStatus_Exit,
// PyStatus_Exception, Py_ExitStatusException.

#ifndef PYRT_RUNTIME_RUNTIME_STATUS_H_
#define PYRT_RUNTIME_RUNTIME_STATUS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

class [[nodiscard]] RuntimeStatus {
 public:
  static RuntimeStatus Ok() { return RuntimeStatus(Kind::kOk, "", "", 0); }
  // `function` is what the fatal message names; it may be empty.
  static RuntimeStatus Error(std::string_view message, std::string_view function = {}) {
    return RuntimeStatus(Kind::kError, message, function, 0);
  }
  static RuntimeStatus NoMemory() { return Error("memory allocation failed"); }
  static RuntimeStatus Exit(int exit_code) { return RuntimeStatus(Kind::kExit, "", "", exit_code); }

  // An error with the status' message, and with the function and the phase of the failure if the status knows them;
  // else with `function`.
  static RuntimeStatus FromStatus(const absl::Status& status, std::string_view function = {});
  // Makes `failure` know the phase that the process is in, which a start that failed does not leave as it was.
  static void NotePhase(absl::Status* failure);

  bool ok() const { return kind_ == Kind::kOk; }
  bool is_error() const { return kind_ == Kind::kError; }
  bool is_exit() const { return kind_ == Kind::kExit; }
  // Error or exit. CPython: PyStatus_Exception.
  bool is_exception() const { return !ok(); }

  const std::string& message() const { return message_; }
  const std::string& function() const { return function_; }
  // "core initialized"; empty if it is not known.
  const std::string& phase() const { return phase_; }
  int exit_code() const { return exit_code_; }

  // FailedPrecondition with the message, which knows the function and the phase; Aborted "exit status N" for an exit.
  absl::Status ToStatus() const;

 private:
  enum class Kind { kOk, kError, kExit };
  RuntimeStatus(Kind kind, std::string_view message, std::string_view function, int exit_code)
      : kind_(kind), message_(message), function_(function), exit_code_(exit_code) {}

  Kind kind_;
  std::string message_;
  std::string function_;
  std::string phase_;
  int exit_code_;
};

// Ends the process: with the exit code of an exit, or after "Fatal Python error: FUNCTION: MESSAGE" and the
// status' phase, or else the runtime's, on stderr with status 1 (not by abort). Fatal for a status that is ok.
[[noreturn]] void ExitStatusException(const RuntimeStatus& status);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_RUNTIME_STATUS_H_
