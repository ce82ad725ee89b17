// NativeFunction: a C++ function as a callable object, for hooks and for the functions of sys.
//
// CPython counterpart: PyCFunction (METH_VARARGS).

#ifndef PYRT_RUNTIME_OBJECT_FUNCTION_H_
#define PYRT_RUNTIME_OBJECT_FUNCTION_H_

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

class NativeFunction final : public Object {
 public:
  using Body = std::function<absl::StatusOr<Ref<Object>>(Args)>;

  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kFunction; }

  // `body` is called attached, from any thread, several at a time in a GIL-disabled build.
  static Ref<NativeFunction> New(std::string_view name, Body body) {
    return Ref<NativeFunction>::Adopt(new NativeFunction(name, std::move(body)));
  }

  const std::string& name() const { return name_; }

  const char* TypeName() const override { return "builtin_function_or_method"; }
  absl::StatusOr<std::string> Repr() const override { return "<built-in function " + name_ + ">"; }
  absl::StatusOr<Ref<Object>> Call(Args args) override { return body_(args); }
  bool IsCallable() const override { return true; }

 private:
  NativeFunction(std::string_view name, Body body)
      : Object(ObjectKind::kFunction), name_(name), body_(std::move(body)) {}

  const std::string name_;
  const Body body_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_FUNCTION_H_
