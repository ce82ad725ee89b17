#include "pyrt/runtime/runtime_status.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/phase.h"

namespace pyrt::inline PYRT_VARIANT {

absl::Status RuntimeStatus::ToStatus() const {
  switch (kind_) {
    case Kind::kOk:
      return absl::OkStatus();
    case Kind::kError:
      return absl::FailedPreconditionError(message_);
    case Kind::kExit:
      return absl::AbortedError("exit status " + std::to_string(exit_code_));
  }
  PYRT_UNREACHABLE("RuntimeStatus of no kind");
}

void ExitStatusException(const RuntimeStatus& status) {
  PYRT_CHECK(status.is_exception(), "Py_ExitStatusException",
             "the status is ok: call it only when RuntimeStatus::is_exception()");
  if (status.is_exit()) std::exit(status.exit_code());
  std::fprintf(stderr, "Fatal Python error: %s%s%s\n", status.function().c_str(),
               status.function().empty() ? "" : ": ", status.message().c_str());
  std::fflush(stderr);
  PrintPhase(STDERR_FILENO);
  std::exit(1);
}

}  // namespace pyrt::inline PYRT_VARIANT
