// The two algorithms of the import lock. Include importlock/import_lock.h instead.

#ifndef PYRT_IMPORTLOCK_INTERNAL_IMPORT_LOCK_STATE_H_
#define PYRT_IMPORTLOCK_INTERNAL_IMPORT_LOCK_STATE_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT::internal {

enum class ImportLockRelease : uint8_t {
  kReleased,    // done
  kHasWaiters,  // call Wake
  kNotOwner,    // nothing changed
};

// How long a waiter may be overtaken, as for Mutex.
inline constexpr int64_t kImportLockFairnessLimit = kNanosPerMilli;

template <bool gil_enabled>
class ImportLockState;

// GIL enabled. Everything is guarded by the GIL of the interpreter that the lock belongs to.
//
// Why no wake-up is lost without any atomic: a thread that finds the lock owned counts itself in waiters_ and
// queues itself in the parking lot while it still holds the GIL; only then does before_park detach it. The
// owner can release only when it holds the GIL, thus afterwards: it sees the count, and the parking lot has
// the node.
//
// waiters_ counts the threads between their first failed attempt and their return. One that was woken still
// counts while it waits for the GIL; so does one that never gets it back (a daemon thread at shutdown), which
// costs later owners a look into an empty queue and nothing else. A forked child starts at zero; a wait whose
// own signal handler forked finds another epoch and counts itself again.
template <>
class ImportLockState<true> {
 public:
  bool TryAcquire(uint64_t self) {
    const uint64_t owner = owner_.Get();
    if (owner == 0) [[likely]] {
      owner_.Set(self);
      return true;
    }
    if (owner != self) return false;
    level_.Set(level_.Get() + 1);
    return true;
  }

  ImportLockRelease Release(uint64_t self) {
    if (owner_.Get() != self) [[unlikely]] {
      return ImportLockRelease::kNotOwner;
    }
    if (level_.Get() != 0) {
      level_.Set(level_.Get() - 1);
      return ImportLockRelease::kReleased;
    }
    if (waiters_.Get() != 0) [[unlikely]] {
      return ImportLockRelease::kHasWaiters;
    }
    owner_.Set(0);
    return ImportLockRelease::kReleased;
  }

  // After kHasWaiters: gives the lock up and wakes the oldest waiter, or hands it over.
  void Wake();
  LockStatus Wait(uint64_t self, Timeout timeout, const WaitHooks* hooks);
  // `owned`: by the thread that forked, under the identifier `self` that it has now.
  void ReinitAfterFork(bool owned, uint64_t self);

  uint64_t owner() const { return owner_.Get(); }
  size_t level() const { return level_.Get(); }
  size_t waiters() const { return waiters_.Get(); }

 private:
  Plain<uint64_t> owner_{0};  // 0 for none
  Plain<size_t> level_{0};    // the owner's
  Plain<size_t> waiters_{0};
  Plain<uint32_t> fork_epoch_{0};  // how often this process has come out of a fork as the child
};

// GIL disabled.
//
//   owner releases               waiter                       the order that matters
//     owner_ = 0   (release)       waiters_ += 1              one of the two sees the other's store: Heavy on
//     Light()                      Heavy()                    the waiter's side makes it so
//     waiters_ ?   (relaxed)       parks if owner_ != 0
//
// The waiter stays counted until it owns the lock, so that its one Heavy serves for every later round: each
// release after the fence sees the count. A release whose store came before the fence is seen by the
// validation of the park, or by the owner that took the lock since, whose own release is then in the same
// position.
//
// An owner that sees a waiter before it releases does so under the parking lot's bucket lock, and can hand
// the lock over: nobody starves for longer than kImportLockFairnessLimit plus one critical section.
template <>
class ImportLockState<false> {
 public:
  bool TryAcquire(uint64_t self) {
    // Relaxed: only this thread ever writes its own identifier there (or a releaser on its behalf, and then
    // it has seen that already), so a match needs no order.
    // Likely, and Release's too: a first acquisition pays for its compare-exchange anyway, and re-entry is nothing
    // but these few instructions.
    const uint64_t owner = owner_.load(kRelaxed);
    if (owner == self) [[likely]] {
      level_.Set(level_.Get() + 1);
      return true;
    }
    if (owner != 0) return false;
    uint64_t expected = 0;
    // Acquire pairs with the release of the store (or of the hand-over) that freed it.
    return owner_.compare_exchange_strong(
        expected, self, PYRT_MUTANT(import_lock_acquire_is_relaxed) ? kRelaxed : kAcquire, kRelaxed);
  }

  ImportLockRelease Release(uint64_t self) {
    if (owner_.load(kRelaxed) != self) [[unlikely]] {
      return ImportLockRelease::kNotOwner;
    }
    if (level_.Get() != 0) [[likely]] {
      level_.Set(level_.Get() - 1);
      return ImportLockRelease::kReleased;
    }
    // Relaxed: a hint. One that is missed here is not missed below.
    if (waiters_.load(kRelaxed) != 0) [[unlikely]] {
      return ImportLockRelease::kHasWaiters;
    }
    owner_.store(0, PYRT_MUTANT(import_lock_release_is_relaxed) ? kRelaxed : kRelease);
    if (!PYRT_MUTANT(import_lock_release_without_fence)) AsymmetricFence::Light();
    // Relaxed: ordered after the store by the fence.
    if (waiters_.load(kRelaxed) != 0 && !PYRT_MUTANT(import_lock_release_looks_once)) [[unlikely]] {
      WakeAfterRelease();
    }
    return ImportLockRelease::kReleased;
  }

  void Wake();
  LockStatus Wait(uint64_t self, Timeout timeout, const WaitHooks* hooks);
  void ReinitAfterFork(bool owned, uint64_t self);

  uint64_t owner() const { return owner_.load(kRelaxed); }
  size_t level() const { return level_.Get(); }
  size_t waiters() const { return waiters_.load(kRelaxed); }

 private:
  void WakeAfterRelease();

  Atomic<uint64_t> owner_{0};  // 0 for none
  Plain<size_t> level_{0};     // the owner's
  Atomic<uint32_t> waiters_{0};
  // Written by the only thread of a child; others may have read it in the parent.
  Atomic<uint32_t> fork_epoch_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_IMPORT_LOCK_STATE_H_
