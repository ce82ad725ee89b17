// The import lock of one interpreter: recursive, owned by an operating-system thread, and short.
//
// It protects the table of module locks, each single question to a finder, and fork. It is not held while a
// module's body runs, nor while a thread waits for a module lock.
//
//   state                 Acquire            Release                   Held
//   free                  owned, level 0     RuntimeError              false
//   owned by me, level n  level n + 1        level n - 1; free at 0    true
//   owned by another      waits detached     RuntimeError              true
//
// level() counts the acquisitions beyond the first, as in CPython.
//
// Two algorithms, chosen by the build (internal/import_lock_state.h argues for both):
//
//   GIL enabled    The lock belongs to one interpreter, and *every call must be made attached to it*. Then
//                  the interpreter's GIL already excludes all other callers: owner, level and the number of
//                  waiters are plain words, and an uncontended pair has no locked instruction. Only a thread
//                  that must wait does more: it queues itself, and detaches afterwards.
//   GIL disabled   One compare-exchange to take it, one plain store to give it up; a waiter pays for that
//                  with a membarrier before it sleeps. Callable attached or detached.
//
// A lock that is free may be taken by whoever comes first. A thread that has waited for longer than a
// millisecond gets it handed over by the next Release.
//
// A thread that ends, or hangs for good, while it owns the lock keeps it for ever (as in CPython); at
// finalization use AcquireTimed.
//
// Place in the lock order: before every other lock of the runtime (lock_rank.h). Callers may hold no lock.
//
// CPython counterpart: interp->imports.lock, _PyImport_AcquireLock, _PyImport_ReleaseLock, _imp.lock_held.

#ifndef PYRT_IMPORTLOCK_IMPORT_LOCK_H_
#define PYRT_IMPORTLOCK_IMPORT_LOCK_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

#include "pyrt/importlock/internal/import_lock_state.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

// Without Clang's lock annotations, which know no recursion: ownership is checked at run time.
class ImportLock {
 public:
  constexpr ImportLock() = default;
  ImportLock(const ImportLock&) = delete;
  ImportLock& operator=(const ImportLock&) = delete;

  // Owns the lock, or adds a level. Waits for as long as another thread owns it; before_park of `hooks`
  // detaches. In a GIL-enabled build a wait without before_park would keep the owner from ever releasing and
  // is a fatal error. Not async-signal-safe, but re-entrant from a signal handler that runs attached.
  // CPython: _PyImport_AcquireLock, _imp.acquire_lock.
  void Acquire(const WaitHooks* hooks = nullptr) {
    const uint64_t self = CurrentThreadIdent();
    if (!state_.TryAcquire(self)) [[unlikely]] {
      AcquireSlow(self, hooks);
    }
  }

  // Never blocks.
  bool TryAcquire() { return state_.TryAcquire(CurrentThreadIdent()); }

  // Waits up to `timeout` nanoseconds (negative: for ever, 0: not at all). kFailure: time is up, or
  // hooks->must_fail said so; kInterrupted: hooks->interrupted did. CPython: _PyRecursiveMutex_LockTimed.
  LockStatus AcquireTimed(Timeout timeout, const WaitHooks* hooks = nullptr);

  // Takes a level away, or gives the lock up. Never blocks. RuntimeError "not holding the import lock" on any
  // thread that does not own it, and nothing has changed then.
  // CPython: _PyImport_ReleaseLock, _imp.release_lock.
  absl::Status Release() {
    switch (state_.Release(CurrentThreadIdent())) {
      [[likely]] case internal::ImportLockRelease::kReleased : break;
      case internal::ImportLockRelease::kHasWaiters:
        state_.Wake();
        break;
      case internal::ImportLockRelease::kNotOwner:
        return NotHolding();
    }
    return absl::OkStatus();
  }

  // Whether anybody owns the lock, not whether the caller does. CPython: _imp.lock_held.
  bool Held() const { return state_.owner() != 0; }

  bool HeldByCurrentThread() const { return state_.owner() == CurrentThreadIdent(); }

  // The owner's thread identifier, 0 for none: exact under the GIL, a moment old without.
  uint64_t owner() const { return state_.owner(); }

  // How often the owner acquired it beyond the first time. Meaningful to the owner.
  size_t level() const { return state_.level(); }

  // How many threads are between their first failed attempt and their return, also for good: a thread that hangs
  // in a wait stays counted.
  size_t waiters() const { return state_.waiters(); }

  // Brackets a fork: BeforeFork, the fork, then one of the others, also when the fork failed
  // (AfterForkInParent). Levels that the thread had before are kept on both sides, and in the child they
  // belong to its one thread under the identifier that it has there (gh-126688). In the child call
  // ParkingLot::AfterForkInChild first.
  void BeforeFork(const WaitHooks* hooks = nullptr) { Acquire(hooks); }
  void AfterForkInParent();
  void AfterForkInChild();
  // In the child, of a lock that BeforeFork was not called for, because another interpreter forked: it stays the
  // caller's if it was; who else had it is gone.
  void ReinitAfterFork() { state_.ReinitAfterFork(HeldByCurrentThread(), CurrentThreadIdent()); }

 private:
  void AcquireSlow(uint64_t self, const WaitHooks* hooks);
  static absl::Status NotHolding();

  internal::ImportLockState<kGilEnabled> state_;
};

// Owns the import lock for the length of a scope.
class ImportLockScope {
 public:
  explicit ImportLockScope(ImportLock& lock, const WaitHooks* hooks = nullptr) : lock_(lock) {
    lock_.Acquire(hooks);
  }
  // Takes over a lock that the calling thread has acquired.
  static ImportLockScope Adopt(ImportLock& lock) { return ImportLockScope(lock, Acquired{}); }
  ~ImportLockScope() { lock_.Release().IgnoreError(); }
  ImportLockScope(const ImportLockScope&) = delete;
  ImportLockScope& operator=(const ImportLockScope&) = delete;

 private:
  struct Acquired {};
  ImportLockScope(ImportLock& lock, Acquired) : lock_(lock) {}

  ImportLock& lock_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_IMPORT_LOCK_H_
