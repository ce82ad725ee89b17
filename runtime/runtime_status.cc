#include "pyrt/runtime/runtime_status.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/types/optional.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/phase.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr char kFunctionUrl[] = "pyrt/function";
constexpr char kPhaseUrl[] = "pyrt/phase";

std::string Known(const absl::Status& status, const char* url, std::string_view otherwise) {
  const absl::optional<absl::Cord> payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string(otherwise);
}

}  // namespace

RuntimeStatus RuntimeStatus::FromStatus(const absl::Status& status, std::string_view function) {
  if (status.ok()) return Ok();
  RuntimeStatus error = Error(std::string(status.message()), Known(status, kFunctionUrl, function));
  error.phase_ = Known(status, kPhaseUrl, "");
  return error;
}

void RuntimeStatus::NotePhase(absl::Status* failure) {
  failure->SetPayload(kPhaseUrl, absl::Cord(PhaseName()));
}

absl::Status RuntimeStatus::ToStatus() const {
  switch (kind_) {
    case Kind::kOk:
      return absl::OkStatus();
    case Kind::kError: {
      absl::Status status = absl::FailedPreconditionError(message_);
      if (!function_.empty()) status.SetPayload(kFunctionUrl, absl::Cord(function_));
      if (!phase_.empty()) status.SetPayload(kPhaseUrl, absl::Cord(phase_));
      return status;
    }
    case Kind::kExit:
      return absl::AbortedError("exit status " + std::to_string(exit_code_));
  }
  PYRT_UNREACHABLE("RuntimeStatus of no kind");
}

void ExitStatusException(const RuntimeStatus& status) {
  PYRT_CHECK(status.is_exception(), "Py_ExitStatusException",
             "the status is ok: call it only when RuntimeStatus::is_exception()");
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the process's end, on the thread that asks for it
  if (status.is_exit()) std::exit(status.exit_code());
  std::fprintf(stderr, "Fatal Python error: %s%s%s\n", status.function().c_str(),
               status.function().empty() ? "" : ": ", status.message().c_str());
  if (!status.phase().empty()) std::fprintf(stderr, "Python runtime state: %s\n", status.phase().c_str());
  std::fflush(stderr);
  if (status.phase().empty()) PrintPhase(STDERR_FILENO);
  std::exit(1);  // NOLINT(concurrency-mt-unsafe): as above
}

}  // namespace pyrt::inline PYRT_VARIANT
