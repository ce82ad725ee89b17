#include "pyrt/runtime/object/error_type.h"

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

ErrorType::ErrorType(std::string_view module, std::string_view name, const ErrorType* base)
    : Object(ObjectKind::kErrorType),
      name_(name),
      module_(module),
      base_(Ref<const ErrorType>::Share(base)) {}

namespace {

// Where CPython defines the types that are no builtins.
std::string_view ModuleOf(std::string_view name) {
  if (name == "DeadlockError") return "_frozen_importlib";
  if (name == "InterpreterError" || name == "InterpreterNotFoundError") return "concurrent.interpreters";
  return "builtins";
}

}  // namespace

const ErrorType& ErrorType::BaseException() {
  static const ErrorType* const type = [] {
    auto* made = new ErrorType("builtins", "BaseException", nullptr);
    made->MakeImmortal();
    return made;
  }();
  return *type;
}

#define PYRT_ERROR_TYPE_DEFINITION(name, base)                                \
  const ErrorType& ErrorType::name() {                                        \
    static const ErrorType* const type = [] {                                 \
      auto* made = new ErrorType(ModuleOf(#name), #name, &ErrorType::base()); \
      made->MakeImmortal();                                                   \
      return made;                                                            \
    }();                                                                      \
    return *type;                                                             \
  }
PYRT_ERROR_TYPES(PYRT_ERROR_TYPE_DEFINITION)
#undef PYRT_ERROR_TYPE_DEFINITION

void ErrorType::MakeAll() {
#define PYRT_ERROR_TYPE_MAKE(name, base) static_cast<void>(name());
  PYRT_ERROR_TYPES(PYRT_ERROR_TYPE_MAKE)
#undef PYRT_ERROR_TYPE_MAKE
}

const ErrorType* ErrorType::Find(std::string_view name) {
  if (name == "BaseException") return &BaseException();
#define PYRT_ERROR_TYPE_FIND(type, base) \
  if (name == #type) return &type();
  PYRT_ERROR_TYPES(PYRT_ERROR_TYPE_FIND)
#undef PYRT_ERROR_TYPE_FIND
  return nullptr;
}

Ref<const ErrorType> ErrorType::New(std::string_view module, std::string_view name, const ErrorType& base) {
  return Ref<const ErrorType>::Adopt(new ErrorType(module, name, &base));
}

std::string ErrorType::QualifiedName() const {
  return module_ == "builtins" || module_ == "__main__" ? name_ : module_ + "." + name_;
}

bool ErrorType::IsSubtypeOf(const ErrorType& other) const {
  for (const ErrorType* type = this; type != nullptr; type = type->base()) {
    if (type == &other) return true;
  }
  return false;
}

absl::StatusOr<std::string> ErrorType::Repr() const {
  return "<class '" + (module_ == "builtins" ? name_ : module_ + "." + name_) + "'>";
}

absl::StatusOr<Ref<Object>> ErrorType::Call(Args args) {
  return Ref<Object>(Error::New(*this, std::vector<Ref<Object>>(args.begin(), args.end())));
}

}  // namespace pyrt::inline PYRT_VARIANT
