// Object: the little that the runtime knows of a host's objects.
//
// pyrt has no object model. Where CPython's runtime handles a PyObject* (an entry of sys, a hook, an
// exception, a module) pyrt handles a Ref<Object>: something that counts references, has a type name, can be
// printed, asked for an attribute and called. A host derives its own objects from Object and overrides what
// they can do; the few values that the runtime itself makes (numbers, strings, tuples, exceptions) are in
// values.h, containers.h and error.h.
//
// Reference counting
//   GIL enabled    The count is plain memory: an object belongs to one interpreter, and only threads attached
//                  to it touch the count, exactly as in CPython. Objects that interpreters with their own GIL
//                  share must be immortal. A violation is a data race that ThreadSanitizer and detsched
//                  report.
//   GIL disabled   The count is atomic; IncRef and DecRef are callable from every thread, attached or not.
//   Immortal       Both are no-ops, for ever: None, True, False, small numbers, built-in exception types.
//
// A new object has one reference (MakeRef owns it). DecRef to zero deletes the object on the calling thread;
// destructors may run host code, so no runtime lock is ever held across a DecRef.
//
// The virtual hooks are called attached, with no runtime lock held, and may run anything. They report failure
// by a status that carries an exception (error.h).

#ifndef PYRT_RUNTIME_OBJECT_OBJECT_H_
#define PYRT_RUNTIME_OBJECT_OBJECT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/internal/reference_count.h"
#include "pyrt/runtime/object/ref.h"

namespace pyrt::inline PYRT_VARIANT {

class Object;

using Args = absl::Span<const Ref<Object>>;

// What an object is, for the types that the runtime must tell apart without a host's help. Everything that a
// host defines is kHost.
enum class ObjectKind : uint8_t {
  kHost,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kBytes,
  kTuple,
  kStructSequence,
  kList,
  kDict,
  kFunction,
  kErrorType,
  kError,
  kTextStream,
};

class Object {
 public:
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  void IncRef() const noexcept { references_.Increment(); }
  void DecRef() const noexcept {
    if (references_.Decrement()) DeallocateSlow();
  }

  // The count, for tests and introspection (sys.getrefcount has no other use either). Immortal: negative.
  int64_t RefCount() const noexcept { return references_.Get(); }

  // Makes IncRef and DecRef no-ops for the rest of the process. Call before the object is shared.
  void MakeImmortal() noexcept { references_.MakeImmortal(); }
  bool IsImmortal() const noexcept { return RefCount() < 0; }

  ObjectKind kind() const noexcept { return kind_; }

  // The name of the object's type as error messages show it: "str", "ValueError", "function". A C string that
  // lives as long as the object.
  virtual const char* TypeName() const = 0;

  // repr(object), str(object): UTF-8, lone surrogates encoded as three bytes. Default: "<NAME object at
  // 0x...>"; Str is Repr unless overridden.
  virtual absl::StatusOr<std::string> Repr() const;
  virtual absl::StatusOr<std::string> Str() const;

  // bool(object). Default: true.
  virtual absl::StatusOr<bool> IsTrue() const;

  // object.name. Default: AttributeError "'NAME' object has no attribute 'name'".
  virtual absl::StatusOr<Ref<Object>> GetAttr(std::string_view name);

  // object.name = value, del object.name when `value` is null. Default: AttributeError.
  virtual absl::Status SetAttr(std::string_view name, Ref<Object> value);

  // object(*args). Default: TypeError "'NAME' object is not callable".
  virtual absl::StatusOr<Ref<Object>> Call(Args args);
  virtual bool IsCallable() const { return false; }

 protected:
  explicit Object(ObjectKind kind = ObjectKind::kHost) noexcept : kind_(kind) {}
  virtual ~Object() = default;

 private:
  void DeallocateSlow() const noexcept __attribute__((cold, noinline));

  const ObjectKind kind_;
  mutable ReferenceCount<kGilEnabled> references_;
};

// The object as a T if it is one, else null. T names its kind in T::kKind.
template <typename T>
T* As(Object* object) noexcept {
  return object != nullptr && T::IsKind(object->kind()) ? static_cast<T*>(object) : nullptr;
}
template <typename T>
const T* As(const Object* object) noexcept {
  return object != nullptr && T::IsKind(object->kind()) ? static_cast<const T*>(object) : nullptr;
}
template <typename T, typename U>
T* As(const Ref<U>& ref) noexcept {
  return As<T>(static_cast<Object*>(ref.get()));
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_OBJECT_H_
