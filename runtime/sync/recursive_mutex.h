// A mutex that its owner may lock again: the import lock's kind.
//
//   mutex_   who may be the owner
//   owner_   the owner's thread identifier, 0 for none. Written by the owner only, read by anybody
//   level_   how often the owner has locked it beyond the first time. The owner's alone
//
// Re-entry costs one load and one increment. A thread can read its own identifier in owner_ only if it wrote
// it there itself and has not overwritten it since, so the check needs no order.
//
// CPython counterpart: _PyRecursiveMutex, with its fatal text.

#ifndef PYRT_RUNTIME_SYNC_RECURSIVE_MUTEX_H_
#define PYRT_RUNTIME_SYNC_RECURSIVE_MUTEX_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

class PYRT_CAPABILITY("recursive mutex") RecursiveMutex {
 public:
  constexpr RecursiveMutex() = default;
  RecursiveMutex(const RecursiveMutex&) = delete;
  RecursiveMutex& operator=(const RecursiveMutex&) = delete;

  // Blocks until this thread owns the mutex, or adds a level. `hooks` as for Mutex::Lock.
  void Lock(const WaitHooks* hooks = nullptr) PYRT_ACQUIRE() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    const uint64_t self = CurrentThreadIdent();
    if (owner_.load(kRelaxed) == self) {
      ++level_;
      return;
    }
    mutex_.Lock(hooks);
    owner_.store(self, kRelaxed);
  }

  // Never blocks.
  bool TryLock() PYRT_TRY_ACQUIRE(true) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    const uint64_t self = CurrentThreadIdent();
    if (owner_.load(kRelaxed) == self) {
      ++level_;
      return true;
    }
    if (!mutex_.TryLock()) return false;
    owner_.store(self, kRelaxed);
    return true;
  }

  // As Mutex::LockTimed. CPython: _PyRecursiveMutex_LockTimed.
  LockStatus LockTimed(Timeout timeout, const WaitHooks* hooks = nullptr) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    const uint64_t self = CurrentThreadIdent();
    if (owner_.load(kRelaxed) == self) {
      ++level_;
      return LockStatus::kAcquired;
    }
    const LockStatus status = mutex_.LockTimed(timeout, hooks);
    if (status == LockStatus::kAcquired) owner_.store(self, kRelaxed);
    return status;
  }

  // Takes a level away, or gives the mutex up. Never blocks. Fatal on a thread that is not the owner.
  void Unlock() PYRT_RELEASE() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (!TryUnlock()) [[unlikely]] {
      UnlockedByStranger();
    }
  }

  // Unlock, but false on a thread that is not the owner. CPython: _PyRecursiveMutex_TryUnlock.
  bool TryUnlock() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (!IsOwnedByCurrentThread()) return false;
    if (level_ > 0) {
      --level_;
      return true;
    }
    // Before the unlock: afterwards the next owner writes it.
    if (!PYRT_MUTANT(recursive_mutex_owner_cleared_late)) owner_.store(0, kRelaxed);
    mutex_.Unlock();
    if (PYRT_MUTANT(recursive_mutex_owner_cleared_late)) owner_.store(0, kRelaxed);
    return true;
  }

  // Tells Clang's analysis that this thread owns the mutex; debug builds check it.
  void AssertHeld() const PYRT_ASSERT_CAPABILITY(this) { PYRT_DCHECK(IsOwnedByCurrentThread()); }

  bool IsOwnedByCurrentThread() const { return owner_.load(kRelaxed) == CurrentThreadIdent(); }

  // Diagnostic: true if somebody owned it a moment ago.
  bool IsLocked() const { return mutex_.IsLocked(); }

  // The owner's thread identifier a moment ago, 0 for none.
  uint64_t owner() const { return owner_.load(kRelaxed); }

  // How often the owner locked it beyond the first time. Meaningful to the owner.
  size_t level() const { return level_; }

  // In a forked child, after ParkingLot::AfterForkInChild. `owned`: the thread that forked owned the mutex
  // and goes on owning it at its level, under the identifier that it has now; otherwise nobody owns it.
  void ReinitAfterFork(bool owned);

 private:
  [[noreturn]] void UnlockedByStranger() const;

  Mutex mutex_;
  Atomic<uint64_t> owner_{0};
  size_t level_ = 0;
};

class PYRT_SCOPED_CAPABILITY RecursiveMutexLock {
 public:
  explicit RecursiveMutexLock(RecursiveMutex& mutex, const WaitHooks* hooks = nullptr) PYRT_ACQUIRE(mutex)
      : mutex_(mutex) {
    mutex_.Lock(hooks);
  }
  ~RecursiveMutexLock() PYRT_RELEASE() { mutex_.Unlock(); }
  RecursiveMutexLock(const RecursiveMutexLock&) = delete;
  RecursiveMutexLock& operator=(const RecursiveMutexLock&) = delete;

 private:
  RecursiveMutex& mutex_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_RECURSIVE_MUTEX_H_
