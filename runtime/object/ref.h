// Ref<T>: a strong reference to an object that counts its own references.
//
// T provides IncRef() and DecRef(). A null Ref is allowed and means "nothing" (CPython's NULL), which is not
// the same as a reference to None.
//
// A Ref itself is not atomic: two threads may each own one to the same object, but not share one. Whether
// counting is safe between threads is the object's affair, see object.h.
//
// CPython counterpart: Py_INCREF / Py_DECREF and the words "new reference", "steals a reference". pyrt hands
// out owning references only: borrowed results of PySys_GetObject and its kind are a use-after-free as soon
// as another thread replaces the entry (gh-130163).

#ifndef PYRT_RUNTIME_OBJECT_REF_H_
#define PYRT_RUNTIME_OBJECT_REF_H_

#include <cstddef>
#include <type_traits>
#include <utility>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

template <typename T>
class Ref {
 public:
  using element_type = T;

  constexpr Ref() noexcept = default;
  constexpr Ref(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor): as for smart pointers
  Ref(const Ref& other) noexcept : object_(other.object_) { Increment(); }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  template <typename U>
  requires std::is_convertible_v<U*, T*> Ref(const Ref<U>& other)
  noexcept : object_(other.get()) {  // NOLINT(google-explicit-constructor)
    Increment();
  }
  template <typename U>
  requires std::is_convertible_v<U*, T*> Ref(Ref<U>&& other)
  noexcept : object_(other.release()) {}  // NOLINT(google-explicit-constructor)
  ~Ref() { Decrement(object_); }

  // The old object is released last, after this Ref holds the new one: its destructor may come back here.
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }

  // Takes over a reference that the caller owns ("steals").
  static Ref Adopt(T* object) noexcept {
    Ref ref;
    ref.object_ = object;
    return ref;
  }

  // Adds a reference to `object`, which somebody else keeps alive during the call.
  static Ref Share(T* object) noexcept {
    Ref ref = Adopt(object);
    ref.Increment();
    return ref;
  }

  // Gives the reference to the caller, who must DecRef it; this Ref is null afterwards.
  [[nodiscard]] T* release() noexcept { return std::exchange(object_, nullptr); }
  void reset() noexcept { *this = Ref(); }

  T* get() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }

  friend void swap(Ref& a, Ref& b) noexcept { std::swap(a.object_, b.object_); }

 private:
  void Increment() const noexcept {
    if (object_ != nullptr) object_->IncRef();
  }
  static void Decrement(T* object) noexcept {
    if (object != nullptr) object->DecRef();
  }

  T* object_ = nullptr;
};

// Identity, Python's `is`.
template <typename T, typename U>
bool operator==(const Ref<T>& a, const Ref<U>& b) noexcept {
  return a.get() == b.get();
}
template <typename T>
bool operator==(const Ref<T>& a, std::nullptr_t) noexcept {
  return a.get() == nullptr;
}

// The one way to make an object: new objects are born with one reference, which the result owns.
template <typename T, typename... Args>
Ref<T> MakeRef(Args&&... args) {
  return Ref<T>::Adopt(new T(std::forward<Args>(args)...));
}

// An unchecked downcast that keeps the reference. For a checked one see As<T>() in object.h.
template <typename T, typename U>
Ref<T> StaticRefCast(Ref<U> ref) noexcept {
  return Ref<T>::Adopt(static_cast<T*>(ref.release()));
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_REF_H_
