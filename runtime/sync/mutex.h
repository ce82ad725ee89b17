// The runtime's general lock: one byte, one compare-exchange to lock and one to unlock, queues in the parking
// lot.
//
//   byte  bit 0 LOCKED       somebody owns the mutex
//         bit 1 HAS_PARKED   somebody may sleep in the parking lot (set while nobody does is harmless: the
//         next
//                            unlock goes the slow way, finds nobody and stores 0)
//
//          0 free             1 locked            2 free, sleepers        3 locked, sleepers
//   TryLock  1, true            false               3, true                 false
//   Lock     1                  spin; 3 + sleep     3 (barges)              sleep
//   Unlock   fatal              0                   fatal                   wakes the oldest sleeper:
//                                                                             younger than 1 ms  0 or 2, it
//                                                                             competes older              1
//                                                                             or 3, it owns
//   TryUnlock false             like Unlock         false                   like Unlock
//
// A lock that is free may be taken by whoever comes first (no handover, no convoy), but nobody is overtaken
// for more than a millisecond plus one critical section: then the mutex is handed over.
//
// Whoever unlocks synchronises with whoever locks next, also by a handover. Not recursive; no owner: another
// thread may unlock (ThreadSanitizer will say that it did).
//
// CPython counterpart: PyMutex. `hooks` say whether the thread detaches while it waits (PyMutex_Lock does).

#ifndef PYRT_RUNTIME_SYNC_MUTEX_H_
#define PYRT_RUNTIME_SYNC_MUTEX_H_

#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/internal/tsan_mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

// The clock and the manners of spinning, apart from the algorithm: tests bring their own. `kBrief`: one look after one
// pause, so that schedules which are about something else stay short.
//
// A waiter that spins looks at the byte between its pauses and never writes to it, ten times at most for one Lock, and
// ever more rarely: each look takes the cache line from the owner, whose unlock has to fetch it back (gh-157914).
template <bool kBrief>
struct SpinningMutexPolicy {
  static int64_t Now() { return MonotonicNow(); }

  // How often a waiter may look again before it sleeps. `detaches`: the waiter is attached and would give the
  // GIL away by sleeping. With the GIL the owner then probably needs just that, so spinning is the wrong
  // thing.
  static int MaxSpins(bool detaches) {
    if (kGilEnabled && detaches) return 0;
    if (UsableCpus() == 1) return 0;
    return kBrief ? 1 : 10;
  }

  // The wait before look number `spin`, 0 first: 1, 2, 4, ... 64 pauses, 3 us in all; sleeping and being
  // woken costs 5 to 40 us.
  static void Spin(int spin) {
    const bool once = kBrief || PYRT_MUTANT(gh_157914_looks_after_each_pause);
    const int pauses = once ? 1 : 1 << (spin < 6 ? spin : 6);
    for (int i = 0; i < pauses; ++i) CpuRelax();
  }
};
using DefaultMutexPolicy = SpinningMutexPolicy</*kBrief=*/kDetsched>;

template <typename Policy>
class PYRT_CAPABILITY("mutex") BasicMutex : private TsanMutex {
 public:
  constexpr BasicMutex() = default;
  BasicMutex(const BasicMutex&) = delete;
  BasicMutex& operator=(const BasicMutex&) = delete;

  // Blocks until the mutex is owned. Interruptions resume the wait and hooks->must_fail is not asked: for
  // those use LockTimed. Usable before initialization and on a thread without a thread state.
  void Lock(const WaitHooks* hooks = nullptr) PYRT_ACQUIRE() {
    uint8_t expected = kUnlocked;
    if (!bits_.compare_exchange_strong(expected, kLocked, LockOrder(), kRelaxed)) [[unlikely]] {
      LockSlow(hooks);
    }
    hooks == nullptr ? TsanLocked() : TsanTryLocked();
  }

  // Owns the mutex and returns true, or returns false at once. Reads no clock, runs no hook.
  bool TryLock() PYRT_TRY_ACQUIRE(true) {
    uint8_t expected = kUnlocked;
    while (!bits_.compare_exchange_strong(expected, expected | kLocked, LockOrder(), kRelaxed)) {
      if ((expected & kLocked) != 0) return false;
    }
    TsanTryLocked();
    return true;
  }

  // Waits up to `timeout` nanoseconds: negative for ever, 0 not at all. kAcquired, kFailure (time is up, or
  // hooks->must_fail) or kInterrupted (hooks->interrupted). Clang's analysis cannot follow a LockStatus: call
  // AssertHeld where it is kAcquired. CPython: _PyMutex_LockTimed.
  LockStatus LockTimed(Timeout timeout, const WaitHooks* hooks = nullptr) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (TryLock()) return LockStatus::kAcquired;
    if (timeout == 0) return LockStatus::kFailure;
    const LockStatus status = LockTimedSlow(timeout, hooks);
    if (status == LockStatus::kAcquired) hooks == nullptr ? TsanLocked() : TsanTryLocked();
    return status;
  }

  // Never blocks. Unlocking an unlocked mutex is fatal.
  void Unlock() PYRT_RELEASE() {
    TsanUnlocking();
    uint8_t expected = kLocked;
    if (!bits_.compare_exchange_strong(expected, kUnlocked, kRelease, kRelaxed)) [[unlikely]] {
      UnlockSlow();
    }
  }

  // Unlock, but false if the mutex is not locked. CPython: _PyMutex_TryUnlock.
  bool TryUnlock() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (!IsLocked()) return false;
    TsanUnlocking();
    return TryUnlockSlow();
  }

  // Tells Clang's analysis that this thread owns the mutex; debug builds check that somebody does.
  void AssertHeld() const PYRT_ASSERT_CAPABILITY(this) { PYRT_DCHECK(IsLocked()); }

  // Diagnostic: true if somebody owned it a moment ago.
  bool IsLocked() const { return (bits_.load(kRelaxed) & kLocked) != 0; }

  // In a forked child, after ParkingLot::AfterForkInChild: unlocked, whoever held it in the parent.
  void ReinitAfterFork() { Reinit(kUnlocked); }

  // The same, but held: by the thread that forked and goes on to use the data.
  void ReinitAfterForkLocked() {
    Reinit(kLocked);
    TsanLocked();
  }

  // The byte, for tests and state dumps.
  uint8_t bits() const { return bits_.load(kRelaxed); }

 private:
  static constexpr uint8_t kUnlocked = 0;
  static constexpr uint8_t kLocked = 1;
  static constexpr uint8_t kHasParked = 2;

  // Acquire pairs with the release of the Unlock before it (the compare-exchange, or the store under the
  // bucket lock): critical sections are ordered. CPython's are seq_cst; nothing here is a store that must be
  // seen before a later load: whoever sleeps re-reads the byte under the bucket's lock.
  static std::memory_order LockOrder() { return PYRT_MUTANT(mutex_lock_is_relaxed) ? kRelaxed : kAcquire; }

  void LockSlow(const WaitHooks* hooks);
  LockStatus LockTimedSlow(Timeout timeout, const WaitHooks* hooks);
  LockStatus Wait(Timeout timeout, const WaitHooks* hooks);
  void UnlockSlow();
  bool TryUnlockSlow();

  void Reinit(uint8_t bits) { bits_.store(bits, kRelaxed); }

  Atomic<uint8_t> bits_{kUnlocked};
};

extern template class BasicMutex<DefaultMutexPolicy>;
using Mutex = BasicMutex<DefaultMutexPolicy>;

static_assert(kDetsched || sizeof(Mutex) == 1);

// Owns a mutex for the length of a scope.
template <typename AnyMutex>
class PYRT_SCOPED_CAPABILITY BasicMutexLock {
 public:
  explicit BasicMutexLock(AnyMutex& mutex, const WaitHooks* hooks = nullptr) PYRT_ACQUIRE(mutex)
      : mutex_(mutex) {
    mutex_.Lock(hooks);
  }
  ~BasicMutexLock() PYRT_RELEASE() { mutex_.Unlock(); }
  BasicMutexLock(const BasicMutexLock&) = delete;
  BasicMutexLock& operator=(const BasicMutexLock&) = delete;

 private:
  AnyMutex& mutex_;
};

using MutexLock = BasicMutexLock<Mutex>;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_MUTEX_H_
