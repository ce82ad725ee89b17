// The two layouts of an object's reference count: plain memory under the GIL, an atomic without it. object.h
// says what each promises.

#ifndef PYRT_RUNTIME_OBJECT_INTERNAL_REFERENCE_COUNT_H_
#define PYRT_RUNTIME_OBJECT_INTERNAL_REFERENCE_COUNT_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

template <bool kWithGil>
class ReferenceCount;

template <>
class ReferenceCount<true> {
 public:
  void Increment() noexcept {
    const int64_t count = count_.Get();
    if (count >= 0) count_.Set(count + 1);
  }
  // True when that was the last reference.
  [[nodiscard]] bool Decrement() noexcept {
    const int64_t count = count_.Get();
    if (count < 0) return false;
    count_.Set(count - 1);
    return count == 1;
  }
  int64_t Get() const noexcept { return count_.Get(); }
  void MakeImmortal() noexcept { count_.Set(kImmortal); }

 private:
  static constexpr int64_t kImmortal = INT64_MIN / 2;

  Plain<int64_t> count_{1};
};

template <>
class ReferenceCount<false> {
 public:
  void Increment() noexcept {
    // Relaxed: the caller owns or borrows a reference, so the object exists, and a count that goes up
    // publishes nothing. The load keeps immortal objects from becoming a contended cache line.
    if (count_.load(kRelaxed) >= 0) count_.fetch_add(1, kRelaxed);
  }
  [[nodiscard]] bool Decrement() noexcept {
    if (count_.load(kRelaxed) < 0) return false;
    // Release, so that this thread's use of the object happens before its destruction by the last owner;
    // acquire, so that the last owner sees everybody's use.
    return count_.fetch_sub(1, kAcqRel) == 1;
  }
  int64_t Get() const noexcept { return count_.load(kRelaxed); }
  void MakeImmortal() noexcept { count_.store(kImmortal, kRelaxed); }

 private:
  // Far from zero: increments that race MakeImmortal cannot bring the count back.
  static constexpr int64_t kImmortal = INT64_MIN / 2;

  Atomic<int64_t> count_{1};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_INTERNAL_REFERENCE_COUNT_H_
