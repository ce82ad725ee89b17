// FinalizationGuards: counts what an interpreter's finalization has to wait for (PEP 788).
//
//   counter   0, 1, 2, ...   guards that exist        closed (all ones)   no more guards, for ever
//
//                    0               n                                        closed
//   TryAcquire       1               n + 1                                    false
//   Release          fatal           n - 1; the last one wakes who waits      fatal
//   CloseIfNone      closed, true    false                                    true
//
// CPython counterpart: interp->finalization_guards.

#ifndef PYRT_TSTATE_FINALIZATION_GUARDS_H_
#define PYRT_TSTATE_FINALIZATION_GUARDS_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

// The counter. The interpreter owns one and names it in its link.
class FinalizationGuards {
 public:
  constexpr FinalizationGuards() = default;
  FinalizationGuards(const FinalizationGuards&) = delete;
  FinalizationGuards& operator=(const FinalizationGuards&) = delete;

  // False once closed. Any thread that keeps the interpreter alive meanwhile (attached, or the head lock);
  // does not block. Acquire: what was done before the guards were reopened.
  [[nodiscard]] bool TryAcquire() {
    uint32_t count = word_.load(kRelaxed);
    do {
      if (count == kClosed) return false;
    } while (!word_.compare_exchange_weak(count, count + kOne, kAcquire, kRelaxed));
    return true;
  }

  // Release: all that was done under the guard happens before CloseIfNone returns true. The finalizer may
  // free this object as soon as the count is 0; only the address is used afterwards.
  void Release();

  // Counts forks on the way to this process. A guard of an earlier generation is the parent's and gives up nothing:
  // its interpreter may have been ended by the child, and this object freed.
  static uint32_t generation() { return generation_; }
  // In a forked child, which has none of its parent's guards though the objects that stand for them are still there;
  // then Reopen() each interpreter's.
  static void ForgetAfterFork() { ++generation_; }

  // The finalizer: true, and TryAcquire fails from now on, if there is no guard.
  [[nodiscard]] bool CloseIfNone() {
    uint32_t expected = 0;
    return word_.compare_exchange_strong(expected, kClosed, kAcquire, kRelaxed) || expected == kClosed ||
           (expected == kWaiting && word_.compare_exchange_strong(expected, kClosed, kAcquire, kRelaxed));
  }

  // Waits until there is no guard, or the deadline, or an interruption (a signal: the caller handles it and
  // calls again). True if there was none a moment ago. Detaches through `hooks`. One waiter.
  bool WaitUntilNone(Deadline deadline, const WaitHooks* hooks);

  bool closed() const { return word_.load(kRelaxed) == kClosed; }
  uint32_t count() const { return closed() ? 0 : word_.load(kRelaxed) / kOne; }

  // There is none, and there may be again.
  void Reopen() { word_.store(0, kRelaxed); }

 private:
  static constexpr uint32_t kWaiting = 1;
  static constexpr uint32_t kOne = 2;
  static constexpr uint32_t kClosed = UINT32_MAX;

  static inline constinit uint32_t generation_ = 0;  // written by the only thread of a forked child
  Atomic<uint32_t> word_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_FINALIZATION_GUARDS_H_
