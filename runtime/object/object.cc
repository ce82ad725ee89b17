#include "pyrt/runtime/object/object.h"

#include <cstdio>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"

namespace pyrt::inline PYRT_VARIANT {

void Object::DeallocateSlow() const noexcept { delete this; }

absl::StatusOr<std::string> Object::Repr() const {
  char address[32];
  std::snprintf(address, sizeof(address), "%p", static_cast<const void*>(this));
  return std::string("<") + TypeName() + " object at " + address + ">";
}

absl::StatusOr<std::string> Object::Str() const { return Repr(); }

absl::StatusOr<bool> Object::IsTrue() const { return true; }

absl::StatusOr<Ref<Object>> Object::GetAttr(std::string_view name) {
  return Raise(ErrorType::AttributeError(), "'%.100s' object has no attribute '%.*s'", TypeName(),
               static_cast<int>(name.size()), name.data());
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): for those who keep the value
absl::Status Object::SetAttr(std::string_view name, Ref<Object> /*value*/) {
  return Raise(ErrorType::AttributeError(), "'%.100s' object has no attribute '%.*s'", TypeName(),
               static_cast<int>(name.size()), name.data());
}

absl::StatusOr<Ref<Object>> Object::Call(Args /*args*/) {
  return Raise(ErrorType::TypeError(), "'%.200s' object is not callable", TypeName());
}

}  // namespace pyrt::inline PYRT_VARIANT
