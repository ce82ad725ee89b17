// The waiting half of runtime/sync/mutex.h, for the files that instantiate BasicMutex.

#ifndef PYRT_RUNTIME_SYNC_INTERNAL_MUTEX_SLOW_H_
#define PYRT_RUNTIME_SYNC_INTERNAL_MUTEX_SLOW_H_

#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// How long a waiter may be overtaken.
inline constexpr int64_t kMutexFairnessLimit = kNanosPerMilli;

// What a parked thread tells the one that unlocks. It lives on the waiter's stack; `handed_over` is written
// under the bucket's lock and read after the waiter was signalled.
struct MutexWaiter {
  explicit MutexWaiter(int64_t the_overdue_after) : overdue_after(the_overdue_after) {}
  const int64_t overdue_after;
  Plain<bool> handed_over{false};
};

template <typename Policy>
__attribute__((noinline, cold)) LockStatus BasicMutex<Policy>::Wait(Timeout timeout, const WaitHooks* hooks) {
  MutexWaiter waiter(Policy::Now() + kMutexFairnessLimit);
  Deadline deadline = kNoDeadline;
  if (timeout >= 0) {
    const int64_t now = waiter.overdue_after - kMutexFairnessLimit;
    deadline = timeout > kNoDeadline - now ? kNoDeadline : now + timeout;
  }
  const int max_spins = Policy::MaxSpins(hooks != nullptr && hooks->before_park != nullptr);
  int spins = 0;

  uint8_t bits = bits_.load(kRelaxed);
  for (;;) {
    if ((bits & kLocked) == 0) {
      // Keeps HAS_PARKED: others may sleep, and our unlock must wake one.
      const uint8_t desired = PYRT_MUTANT(mutex_barging_clears_has_parked) ? kLocked : bits | kLocked;
      if (bits_.compare_exchange_weak(bits, desired, LockOrder(), kRelaxed)) return LockStatus::kAcquired;
      continue;
    }
    // Where others sleep already, the lock is held for long or it is this thread's turn to queue.
    if ((bits & kHasParked) == 0 && spins < max_spins) {
      Policy::Spin(spins++);
      // gh-135871: without it a spinner never notices the unlock. A load: any locked instruction, even one that
      // changes nothing, would take the line from the owner and from the other spinners.
      bits = PYRT_MUTANT(gh_157914_spins_by_locked_instructions) ? bits_.fetch_or(0, kRelaxed)
                                                                 : bits_.load(kRelaxed);
      continue;
    }
    if (hooks != nullptr && hooks->must_fail != nullptr && hooks->must_fail(hooks->context)) {
      return LockStatus::kFailure;
    }
    if ((bits & kHasParked) == 0 && !PYRT_MUTANT(mutex_parks_without_has_parked)) {
      // Relaxed: the flag publishes nothing. The owner's unlock sees it, because compare-exchanges of one
      // byte are totally ordered, and then both sides meet under the bucket's lock.
      if (!bits_.compare_exchange_weak(bits, bits | kHasParked, kRelaxed, kRelaxed)) continue;
      bits |= kHasParked;
    }
    switch (ParkingLot::Park(bits_, bits, deadline, &waiter, hooks)) {
      case ParkResult::kOk:
        if (waiter.handed_over.Get()) return LockStatus::kAcquired;
        break;
      case ParkResult::kAgain:
        break;
      case ParkResult::kTimeout:
        // HAS_PARKED stays: clearing it could hide another sleeper, and a stale one is harmless.
        return LockStatus::kFailure;
      case ParkResult::kInterrupted:
        if (hooks != nullptr && hooks->interrupted != nullptr && hooks->interrupted(hooks->context)) {
          return LockStatus::kInterrupted;
        }
        break;
    }
    bits = bits_.load(kRelaxed);
  }
}

template <typename Policy>
__attribute__((noinline, cold)) void BasicMutex<Policy>::LockSlow(const WaitHooks* hooks) {
  WaitHooks uninterrupted;
  if (hooks != nullptr) {
    uninterrupted = *hooks;
    uninterrupted.interrupted = uninterrupted.must_fail = nullptr;
    hooks = &uninterrupted;
  }
  static_cast<void>(Wait(kForever, hooks));
}

template <typename Policy>
__attribute__((noinline, cold)) LockStatus BasicMutex<Policy>::LockTimedSlow(Timeout timeout,
                                                                             const WaitHooks* hooks) {
  return Wait(timeout, hooks);
}

template <typename Policy>
__attribute__((noinline, cold)) bool BasicMutex<Policy>::TryUnlockSlow() {
  uint8_t bits = bits_.load(kRelaxed);
  for (;;) {
    if ((bits & kLocked) == 0) return false;
    if ((bits & kHasParked) != 0) break;
    if (bits_.compare_exchange_weak(bits, kUnlocked, kRelease, kRelaxed)) return true;
  }
  // The byte stays 3 until the store below: only the owner clears LOCKED, and HAS_PARKED is cleared only
  // here. Release: for whoever locks next by compare-exchange. After the store the mutex may be freed by a
  // thread that locked and unlocked it; nothing below touches it.
  ParkingLot::Unpark(&bits_, [this](void* argument, bool more) {
    uint8_t after = kUnlocked;
    if (auto* const waiter = static_cast<MutexWaiter*>(argument)) {
      const bool hand_over = Policy::Now() > waiter->overdue_after && !PYRT_MUTANT(mutex_never_hands_over);
      if (hand_over) {
        waiter->handed_over.Set(true);
        if (!PYRT_MUTANT(mutex_handover_unlocks)) after |= kLocked;
      }
      if (more && !PYRT_MUTANT(mutex_unlock_forgets_other_sleepers)) after |= kHasParked;
    }
    bits_.store(after, PYRT_MUTANT(mutex_unlock_is_relaxed) ? kRelaxed : kRelease);
  });
  return true;
}

template <typename Policy>
__attribute__((noinline, cold)) void BasicMutex<Policy>::UnlockSlow() {
  PYRT_CHECK(TryUnlockSlow(), "PyMutex_Unlock", "unlocking mutex that is not locked");
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_INTERNAL_MUTEX_SLOW_H_
