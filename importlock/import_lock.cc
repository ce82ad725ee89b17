#include "pyrt/importlock/import_lock.h"

#include <cinttypes>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/sync/parking_lot.h"

namespace pyrt::inline PYRT_VARIANT {
namespace internal {
namespace {

// What a sleeping thread tells the one that releases. On the waiter's stack; `handed_over` is written under
// the bucket's lock and read after the waiter was signalled.
struct ImportLockWaiter {
  ImportLockWaiter(uint64_t the_self, int64_t the_overdue_after)
      : self(the_self), overdue_after(the_overdue_after) {}

  bool IsOverdue() const {
    return MonotonicNow() > overdue_after && !PYRT_MUTANT(import_lock_never_hands_over);
  }

  const uint64_t self;
  const int64_t overdue_after;
  Plain<bool> handed_over{false};
};

Deadline DeadlineFrom(int64_t now, Timeout timeout) {
  return timeout < 0 || timeout > kNoDeadline - now ? kNoDeadline : now + timeout;
}

// Ends a wait, also where must_fail or interrupted throws or ends its thread. Neither is called when the lock has been
// handed over to this wait. The hooks around the sleep may be, and must not unwind: nobody would pass the lock on.
template <typename Leave>
class OnLeaving {
 public:
  explicit OnLeaving(const Leave& leave) : leave_(leave) {}
  ~OnLeaving() { leave_(); }
  OnLeaving(const OnLeaving&) = delete;
  OnLeaving& operator=(const OnLeaving&) = delete;

 private:
  const Leave leave_;
};

bool MustFail(const WaitHooks* hooks) {
  return hooks != nullptr && hooks->must_fail != nullptr && hooks->must_fail(hooks->context);
}

bool Interrupted(const WaitHooks* hooks) {
  return hooks != nullptr && hooks->interrupted != nullptr && hooks->interrupted(hooks->context);
}

}  // namespace

void ImportLockState<true>::Wake() {
  uint64_t next = 0;
  ParkingLot::Unpark(this, [&](void* argument, bool) {
    auto* const waiter = static_cast<ImportLockWaiter*>(argument);
    if (waiter == nullptr || !waiter->IsOverdue()) return;
    waiter->handed_over.Set(true);
    next = waiter->self;
  });
  // The woken thread looks at this only when it holds the GIL again, and we have it.
  owner_.Set(PYRT_MUTANT(import_lock_hand_over_frees) ? 0 : next);
}

LockStatus ImportLockState<true>::Wait(uint64_t self, Timeout timeout, const WaitHooks* hooks) {
  const int64_t now = MonotonicNow();
  const Deadline deadline = DeadlineFrom(now, timeout);
  ImportLockWaiter waiter(self, now + kImportLockFairnessLimit);
  if (!PYRT_MUTANT(import_lock_waiter_is_not_counted)) waiters_.Set(waiters_.Get() + 1);
  uint32_t epoch = fork_epoch_.Get();
  const OnLeaving leaving([&] {
    if (epoch != fork_epoch_.Get()) return;  // in a child that has not counted this wait
    if (!PYRT_MUTANT(import_lock_waiter_is_not_counted)) waiters_.Set(waiters_.Get() - 1);
  });
  LockStatus status = LockStatus::kAcquired;
  for (;;) {
    if (waiter.handed_over.Get()) break;
    // Also true when a signal handler of this very wait acquired it and has not released it.
    if (TryAcquire(self)) break;
    PYRT_CHECK(hooks != nullptr && hooks->before_park != nullptr, "ImportLock::Acquire",
               "thread %" PRIu64 " would wait for thread %" PRIu64
               " without detaching, which then could never release the import lock: pass hooks that detach",
               self, owner_.Get());
    if (MustFail(hooks)) {
      status = LockStatus::kFailure;
      break;
    }
    // Nothing to validate: nobody can release before before_park has detached this thread.
    const ParkResult woken = ParkingLot::ParkIf(
        this, [](const void*, const void*) { return true; }, nullptr, deadline, &waiter, hooks);
    if (waiter.handed_over.Get() || woken == ParkResult::kOk) continue;
    if (woken == ParkResult::kTimeout && owner_.Get() != 0) {
      status = LockStatus::kFailure;
      break;
    }
    if (woken != ParkResult::kInterrupted) continue;
    const bool interrupted = Interrupted(hooks);
    if (epoch != fork_epoch_.Get()) {  // the handler forked, and this is the child, which counts nobody
      epoch = fork_epoch_.Get();
      waiters_.Set(waiters_.Get() + 1);
    }
    if (interrupted) {
      status = LockStatus::kInterrupted;
      break;
    }
  }
  return status;
}

void ImportLockState<true>::ReinitAfterFork(bool owned, uint64_t self) {
  if (owned || !PYRT_MUTANT(import_lock_keeps_an_owner_that_is_gone)) owner_.Set(owned ? self : 0);
  if (!owned) level_.Set(0);
  if (!PYRT_MUTANT(import_lock_keeps_waiters_that_are_gone)) waiters_.Set(0);
  fork_epoch_.Set(fork_epoch_.Get() + 1);
}

void ImportLockState<false>::Wake() {
  ParkingLot::Unpark(&owner_, [this](void* argument, bool) {
    auto* const waiter = static_cast<ImportLockWaiter*>(argument);
    uint64_t next = 0;
    if (waiter != nullptr && waiter->IsOverdue()) {
      waiter->handed_over.Set(true);
      if (!PYRT_MUTANT(import_lock_hand_over_frees)) next = waiter->self;
    }
    // Release: for whoever takes it by compare-exchange. A thread that it is handed to gets the order from
    // the parking lot's signal.
    owner_.store(next, kRelease);
  });
}

void ImportLockState<false>::WakeAfterRelease() {
  ParkingLot::Unpark(&owner_, [](void*, bool) {});
}

LockStatus ImportLockState<false>::Wait(uint64_t self, Timeout timeout, const WaitHooks* hooks) {
  // Longer than most owners hold it, shorter than a sleep: 3 us of pauses.
  const int max_spins = UsableCpus() == 1 ? 0 : kDetsched ? 1 : 8;
  for (int spin = 0; spin < max_spins; ++spin) {
    for (int pause = kDetsched ? 1 : 1 << spin; pause > 0; --pause) CpuRelax();
    if (TryAcquire(self)) return LockStatus::kAcquired;
    if (waiters_.load(kRelaxed) != 0) break;  // others sleep: it is held for long
  }

  const int64_t now = MonotonicNow();
  const Deadline deadline = DeadlineFrom(now, timeout);
  ImportLockWaiter waiter(self, now + kImportLockFairnessLimit);
  // Relaxed: the fence orders it before the parking lot's look at owner_.
  if (!PYRT_MUTANT(import_lock_waiter_is_not_counted)) waiters_.fetch_add(1, kRelaxed);
  if (!PYRT_MUTANT(import_lock_waiter_without_fence)) AsymmetricFence::Heavy();
  // Relaxed: it changes in a fork only, and in the child by this thread.
  uint32_t epoch = fork_epoch_.load(kRelaxed);
  const OnLeaving leaving([&] {
    if (epoch != fork_epoch_.load(kRelaxed)) return;  // in a child that has not counted this wait
    if (!PYRT_MUTANT(import_lock_waiter_is_not_counted)) waiters_.fetch_sub(1, kRelaxed);
  });
  LockStatus status = LockStatus::kAcquired;
  for (;;) {
    if (waiter.handed_over.Get()) break;
    // Also true when a signal handler of this very wait acquired it and has not released it.
    if (TryAcquire(self)) break;
    if (MustFail(hooks)) {
      status = LockStatus::kFailure;
      break;
    }
    // Sleeps only while somebody owns it. Whoever that is saw our count (see the header), or is seen here.
    const ParkResult woken = ParkingLot::ParkIf(
        &owner_,
        [](const void* address, const void*) {
          return static_cast<const Atomic<uint64_t>*>(address)->load(kRelaxed) != 0;
        },
        nullptr, deadline, &waiter, hooks);
    if (waiter.handed_over.Get()) break;
    if (woken == ParkResult::kTimeout && owner_.load(kRelaxed) != 0) {
      status = LockStatus::kFailure;
      break;
    }
    if (woken != ParkResult::kInterrupted) continue;
    const bool interrupted = Interrupted(hooks);
    if (const uint32_t now_at = fork_epoch_.load(kRelaxed); epoch != now_at) {
      // The handler forked, and this is the child, which counts nobody: as at first, for the threads that it
      // starts.
      epoch = now_at;
      waiters_.fetch_add(1, kRelaxed);
      AsymmetricFence::Heavy();
    }
    if (interrupted) {
      status = LockStatus::kInterrupted;
      break;
    }
  }
  return status;
}

void ImportLockState<false>::ReinitAfterFork(bool owned, uint64_t self) {
  if (owned || !PYRT_MUTANT(import_lock_keeps_an_owner_that_is_gone)) {
    owner_.store(owned ? self : 0, kRelaxed);
  }
  if (!owned) level_.Set(0);
  if (!PYRT_MUTANT(import_lock_keeps_waiters_that_are_gone)) waiters_.store(0, kRelaxed);
  fork_epoch_.store(fork_epoch_.load(kRelaxed) + 1, kRelaxed);
}

}  // namespace internal

__attribute__((noinline, cold)) void ImportLock::AcquireSlow(uint64_t self, const WaitHooks* hooks) {
  WaitHooks uninterrupted;
  if (hooks != nullptr) {
    uninterrupted = *hooks;
    uninterrupted.interrupted = uninterrupted.must_fail = nullptr;
    hooks = &uninterrupted;
  }
  static_cast<void>(state_.Wait(self, kForever, hooks));
}

LockStatus ImportLock::AcquireTimed(Timeout timeout, const WaitHooks* hooks) {
  const uint64_t self = CurrentThreadIdent();
  if (state_.TryAcquire(self)) return LockStatus::kAcquired;
  if (timeout == 0) return LockStatus::kFailure;
  return state_.Wait(self, timeout, hooks);
}

__attribute__((noinline, cold)) absl::Status ImportLock::NotHolding() {
  return Raise(ErrorType::RuntimeError(), "not holding the import lock");
}

void ImportLock::AfterForkInParent() {
  const absl::Status status = Release();
  PYRT_CHECK(status.ok(), "ImportLock::AfterForkInParent",
             "the import lock is owned by thread %" PRIu64
             ", not by the thread that forks: BeforeFork is missing",
             owner());
}

void ImportLock::AfterForkInChild() {
  PYRT_CHECK(Held(), "ImportLock::AfterForkInChild", "the import lock is free: BeforeFork is missing");
  state_.ReinitAfterFork(/*owned=*/true, CurrentThreadIdent());
  static_cast<void>(Release().ok());
}

}  // namespace pyrt::inline PYRT_VARIANT
