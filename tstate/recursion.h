// RecursionCounter: how much deeper a thread may call, in calls of the host's language and in bytes of stack.
//
//   remaining   limit - depth. Negative when the limit was lowered under a thread that is deeper (SY-55)
//   headroom    > 0 while an overflow is being reported: 50 more calls are allowed then (SY-57)
//   bounds      of the machine's stack: native recursion is checked against the stack pointer
//
// Owned by the thread; attached. set_limit may be called by a party that excludes the thread (stopped world).
//
// CPython counterpart: PyThreadState.py_recursion_remaining, py_recursion_limit, recursion_headroom,
// c_stack_top, c_stack_soft_limit, c_stack_hard_limit, _Py_EnterRecursiveCall.

#ifndef PYRT_TSTATE_RECURSION_H_
#define PYRT_TSTATE_RECURSION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

class RecursionCounter {
 public:
  static constexpr int32_t kDefaultLimit = 1000;
  static constexpr int32_t kHeadroom = 50;
  // Left free below the soft limit for the code that reports the overflow, and below the hard limit for the
  // machine (signal frames, the dynamic linker).
  static constexpr size_t kSoftMargin = 128 * 1024;
  static constexpr size_t kHardMargin = 64 * 1024;

  explicit RecursionCounter(int32_t limit = kDefaultLimit) : remaining_(limit), limit_(limit) {}

  // One call deeper; every OK is paired with a Leave(). RecursionError "maximum recursion depth exceeded" +
  // `where` (such as " in comparison"). Fatal when 50 calls are used up while an overflow is being handled.
  absl::Status Enter(const char* where = "") {
    if (--remaining_ < 0) [[unlikely]]
      return Overflow(where);
    return absl::OkStatus();
  }
  void Leave() { ++remaining_; }

  // Native recursion: whether the stack has room for more. RecursionError past the soft limit; fatal past the
  // hard one. Costs a compare after the first call on a thread.
  absl::Status CheckNativeStack(const char* where = "") {
    char here;
    if (reinterpret_cast<uintptr_t>(&here) < soft_limit_) [[unlikely]]
      return NativeOverflow(reinterpret_cast<uintptr_t>(&here), where);
    return absl::OkStatus();
  }
  // For a thread whose stack the host has made itself. `size` bytes below `top`. CPython:
  // PyUnstable_ThreadState_SetStackProtection.
  void SetStackBounds(uintptr_t top, size_t size);
  uintptr_t soft_limit() const { return soft_limit_; }

  int32_t limit() const { return limit_; }
  int32_t depth() const { return limit_ - remaining_; }
  int32_t remaining() const { return remaining_; }
  // Keeps the depth. The interpreter checks the new limit first (SY-54).
  void set_limit(int32_t limit) {
    remaining_ += limit - limit_;
    limit_ = limit;
  }

  // An overflow is being handled: see kHeadroom.
  void BeginHeadroom() { ++headroom_; }
  void EndHeadroom() { --headroom_; }
  bool in_headroom() const { return headroom_ > 0; }

 private:
  [[gnu::cold]] absl::Status Overflow(const char* where);
  [[gnu::cold]] absl::Status NativeOverflow(uintptr_t here, const char* where);

  int32_t remaining_;
  int32_t limit_;
  int32_t headroom_ = 0;
  uintptr_t soft_limit_ = UINTPTR_MAX;  // until the bounds are known, every check is a slow one
  uintptr_t hard_limit_ = 0;
  uintptr_t top_ = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_RECURSION_H_
