#include "pyrt/sys/exit_status.h"

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {

ExitRequest ExitRequestOf(Error& exit) {
  absl::StatusOr<Ref<Object>> code = exit.GetAttr("code");
  return ExitRequestOfCode(code.ok() ? *code : None());
}

ExitRequest ExitRequestOfCode(const Ref<Object>& code) {
  if (!code || IsNone(code)) return {};
  if (const Bool* flag = As<Bool>(code)) return {flag->value() ? 1 : 0, nullptr};
  // Truncated like a C int; one that does not even fit a long is -1 (gh-125842).
  if (const Int* number = As<Int>(code)) {
    return {number->fits_int64() ? static_cast<int>(number->value()) : -1, nullptr};
  }
  return {1, code};
}

}  // namespace pyrt::inline PYRT_VARIANT
