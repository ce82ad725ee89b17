// The exceptions of the import system, with their `name` attribute.

#ifndef PYRT_IMPORTLOCK_INTERNAL_IMPORT_ERRORS_H_
#define PYRT_IMPORTLOCK_INTERNAL_IMPORT_ERRORS_H_

#include <string_view>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT::internal {

inline absl::Status ImportErrorFor(std::string_view name, std::string_view message) {
  return ToStatus(Error::New(ErrorType::ImportError(), message)->WithAttribute("name", String::Of(name)));
}

inline absl::Status ModuleNotFound(std::string_view name, std::string_view message) {
  return ToStatus(
      Error::New(ErrorType::ModuleNotFoundError(), message)->WithAttribute("name", String::Of(name)));
}

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_IMPORT_ERRORS_H_
