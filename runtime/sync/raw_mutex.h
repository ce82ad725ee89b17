// A leaf lock of four bytes straight on a futex: for the parking lot's buckets and for queues that are
// themselves part of a lock, where Mutex would be circular.
//
//   word  0 free   1 locked   2 locked, and somebody may sleep (error on this side costs one system call)
//
//                 free            locked               locked, sleepers
//   TryLock       1, true         false                false
//   Lock          1               spins, then 2+sleep  sleeps
//   Unlock        fatal           0                    0 and wakes one, which competes again
//
// Hold it for a few dozen instructions and never across anything that can block, attach, detach, call back or
// allocate: waiting for it does not detach. No owner, not recursive, not fair, no time-out.
//
// CPython counterpart: _PyRawMutex (a word with a stack of waiters; a futex word needs no list and no node
// whose lifetime could end too early, gh-148820).

#ifndef PYRT_RUNTIME_SYNC_RAW_MUTEX_H_
#define PYRT_RUNTIME_SYNC_RAW_MUTEX_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/internal/tsan_mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class PYRT_CAPABILITY("raw mutex") RawMutex : private TsanMutex {
 public:
  constexpr RawMutex() = default;
  RawMutex(const RawMutex&) = delete;
  RawMutex& operator=(const RawMutex&) = delete;

  // Blocks without detaching. A critical section happens after those before it: the acquire here pairs with
  // the release exchange of Unlock.
  void Lock() PYRT_ACQUIRE() {
    uint32_t expected = kFree;
    if (!word_.compare_exchange_strong(expected, kLocked, kAcquire, kRelaxed)) [[unlikely]] {
      LockSlow();
    }
    TsanLocked();
  }

  // Never blocks.
  bool TryLock() PYRT_TRY_ACQUIRE(true) {
    uint32_t expected = kFree;
    if (!word_.compare_exchange_strong(expected, kLocked, kAcquire, kRelaxed)) return false;
    TsanTryLocked();
    return true;
  }

  // Never blocks. After the exchange another thread may lock, unlock and free the mutex: only its address is
  // used. Unlocking an unlocked mutex is fatal.
  void Unlock() PYRT_RELEASE() {
    TsanUnlocking();
    const uint32_t before = word_.exchange(kFree, kRelease);
    if (before != kLocked) [[unlikely]] {
      UnlockSlow(before);
    }
  }

  // Diagnostic: true if somebody held it a moment ago.
  bool IsLocked() const { return word_.load(kRelaxed) != kFree; }

  // In a forked child: nobody holds it and nobody waits.
  void ReinitAfterFork() { word_.store(kFree, kRelaxed); }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kLocked = 1;
  static constexpr uint32_t kLockedWithSleepers = 2;

  void LockSlow();
  void UnlockSlow(uint32_t before);

  Atomic<uint32_t> word_{kFree};
};

class PYRT_SCOPED_CAPABILITY RawMutexLock {
 public:
  explicit RawMutexLock(RawMutex& mutex) PYRT_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~RawMutexLock() PYRT_RELEASE() { mutex_.Unlock(); }
  RawMutexLock(const RawMutexLock&) = delete;
  RawMutexLock& operator=(const RawMutexLock&) = delete;

 private:
  RawMutex& mutex_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_RAW_MUTEX_H_
