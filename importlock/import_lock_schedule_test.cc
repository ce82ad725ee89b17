// The import lock on the deterministic scheduler: both algorithms, with the mistakes that they exclude.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>

#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/importlock/schedule_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

constexpr const char* kNames[] = {"a", "b", "c", "d"};

// Who owns the lock, as those say who acquire and release it.
class Owners {
 public:
  Owners(Schedule& s, const ImportLock& lock, Watched watched) {
    if (watched == Watched::kNo) return;
    s.Invariant("at most one owner, which the lock names",
                [&] { return owners_ == 0 || (owners_ == 1 && lock.owner() == last_); });
  }
  void Acquired() {
    ++owners_;
    last_ = CurrentThreadIdent();
    DETSCHED_CHECK(owners_ == 1);
  }
  void Releases() { --owners_; }

 private:
  int owners_ = 0;
  uint64_t last_ = 0;
};

// Each thread owns the lock once, or twice: first with a re-entry. A switch inside.
void Exclude(Schedule& s, int threads, int rounds, Watched watched = Watched::kNo) {
  TestGil gil;
  ImportLock lock;
  Owners owners(s, lock, watched);
  Plain<int> counter{0};
  detsched::Name(&lock, "lock");
  detsched::Name(&gil, "gil");
  for (int i = 0; i < threads; ++i) {
    s.Spawn(kNames[i], [&] {
      const TestAttached attached(gil);
      for (int left = rounds; left > 0; --left) {
        lock.Acquire(gil.hooks());
        owners.Acquired();
        if (left == 2) lock.Acquire(gil.hooks());
        const int before = counter.Get();
        gil.Detach();
        gil.Attach();
        counter.Set(before + 1);
        if (left == 2) DETSCHED_CHECK(lock.Release().ok());
        DETSCHED_CHECK(lock.HeldByCurrentThread());
        owners.Releases();
        DETSCHED_CHECK(lock.Release().ok());
      }
    });
  }
  s.Run();
  DETSCHED_CHECK(counter.Get() == rounds * threads);
  DETSCHED_CHECK(!lock.Held() && lock.level() == 0);
}

// The owner keeps it until its waiter is overdue: the release hands it over, and nobody can come in between.
void HandOver(Schedule& s) {
  TestGil gil;
  ImportLock lock;
  Atomic<bool> owned{false};
  Atomic<bool> tried{false};
  Plain<int> guarded{0};
  detsched::Name(&lock, "lock");
  s.Spawn("owner", [&] {
    gil.Attach();
    lock.Acquire(gil.hooks());
    owned.store(true, kRelease);
    while (gil.times_detached() == 0) {
      gil.Detach();
      YieldCpu();
      gil.Attach();
    }
    detsched::AdvanceTime(2 * kNanosPerMilli);
    guarded.Set(1);
    DETSCHED_CHECK(lock.Release().ok());
    DETSCHED_CHECK(!lock.TryAcquire());
    gil.Detach();
    tried.store(true, kRelease);
  });
  s.Spawn("waiter", [&] {
    while (!owned.load(kAcquire)) YieldCpu();
    gil.Attach();
    lock.Acquire(gil.hooks());
    DETSCHED_CHECK(guarded.Get() == 1 && lock.HeldByCurrentThread() && lock.level() == 0);
    while (!tried.load(kAcquire)) {
      gil.Detach();
      YieldCpu();
      gil.Attach();
    }
    DETSCHED_CHECK(lock.Release().ok());
    gil.Detach();
  });
  s.Run();
  DETSCHED_CHECK(!lock.Held());
}

// A waiter beside a thread that releases and acquires again at once, for ever. It is overtaken until it has waited
// for a millisecond, which is some of the other's holds; then a release hands the lock over. Who was woken gets to run
// before the next release; that much is up to the operating system.
struct Overtaken {
  Overtaken(TestGil& the_gil, int bound) : gil(the_gil), monitor(bound) {
    hooks.context = this;
    hooks.before_park = [](void* self) { static_cast<Overtaken*>(self)->BeforePark(); };
    hooks.after_park = [](void* self) { static_cast<Overtaken*>(self)->gil.Attach(); };
  }
  void BeforePark() {
    if (!std::exchange(known, true)) monitor.Waiting();
    queued.store(true, kRelease);
    gil.Detach();
  }

  TestGil& gil;
  detsched::BypassMonitor monitor;
  bool known = false;  // the waiter's
  Atomic<bool> queued{false};
  Atomic<bool> served{false};
  WaitHooks hooks;
};

void WaiterBesideARetaker(Schedule& s, int64_t hold_time) {
  TestGil gil;
  ImportLock lock;
  const int bound =
      static_cast<int>(kNanosPerMilli / hold_time) + 2;  // one hold may have begun before, one ends after
  Overtaken overtaken(gil, bound);
  detsched::Name(&lock, "lock");
  s.Spawn("retaker", [&] {
    const TestAttached attached(gil);
    bool woken = false;
    for (int i = 0; i < 5 * bound && !overtaken.served.load(kAcquire); ++i) {
      lock.Acquire(gil.hooks());
      overtaken.monitor.Entered();
      gil.Detach();
      while (woken && !overtaken.queued.load(kAcquire) && !overtaken.served.load(kAcquire)) YieldCpu();
      gil.Attach();
      detsched::AdvanceTime(hold_time);
      woken = overtaken.queued.exchange(false, kAcqRel);
      DETSCHED_CHECK(lock.Release().ok());
    }
  });
  s.Spawn("waiter", [&] {
    const TestAttached attached(gil);
    lock.Acquire(&overtaken.hooks);
    overtaken.monitor.Entered();
    overtaken.served.store(true, kRelease);
    DETSCHED_CHECK(lock.Release().ok());
  });
  s.Run();
  DETSCHED_CHECK(!lock.Held());
}

void TwoHolds(Schedule& s) { WaiterBesideARetaker(s, 400 * kNanosPerMicro); }
void TenHolds(Schedule& s) { WaiterBesideARetaker(s, 100 * kNanosPerMicro); }

// Waits that end by themselves, of all threads but one, take no wake-up with them.
void TimeOut(Schedule& s, int threads, Watched watched) {
  TestGil gil;
  ImportLock lock;
  Owners owners(s, lock, watched);
  Plain<int> owned{0};
  int acquired = 0;
  detsched::Name(&lock, "lock");
  for (int i = 0; i < threads; ++i) {
    const bool patient = i == threads - 1;
    s.Spawn(kNames[i], [&, patient] {
      const TestAttached attached(gil);
      const Timeout timeout = patient ? kForever : kNanosPerMicro;
      const LockStatus status = lock.AcquireTimed(timeout, gil.hooks());
      if (status != LockStatus::kAcquired) {
        DETSCHED_CHECK(!patient && status == LockStatus::kFailure);
        return;
      }
      ++acquired;
      owners.Acquired();
      DETSCHED_CHECK(owned.Get() == 0);
      owned.Set(1);
      gil.Detach();
      gil.Attach();
      owned.Set(0);
      owners.Releases();
      DETSCHED_CHECK(lock.Release().ok());
    });
  }
  s.Run();
  DETSCHED_CHECK(acquired >= 1);
  DETSCHED_CHECK(!lock.Held());
}

// A thread forks while others own the lock or wait for it; the child must be able to use it.
void Fork(Schedule& s, int others, Watched watched) {
  TestGil gil;
  ImportLock lock;
  Owners owners(s, lock, watched);
  for (int i = 0; i < others; ++i) {
    s.Spawn(kNames[i], [&] {
      const TestAttached attached(gil);
      lock.Acquire(gil.hooks());
      owners.Acquired();
      gil.Detach();
      gil.Attach();
      owners.Releases();
      DETSCHED_CHECK(lock.Release().ok());
    });
  }
  s.Spawn("forker", [&] {
    gil.Attach();
    lock.Acquire(gil.hooks());
    owners.Acquired();
    gil.Detach();  // the others come, and wait
    gil.Attach();
    lock.BeforeFork(gil.hooks());
    DETSCHED_CHECK(lock.level() == 1);
    if (ForkProcess() == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      lock.AfterForkInChild();
      DETSCHED_CHECK(lock.waiters() == 0);
    } else {
      lock.AfterForkInParent();
    }
    DETSCHED_CHECK(lock.HeldByCurrentThread() && lock.level() == 0);
    owners.Releases();
    DETSCHED_CHECK(lock.Release().ok());
    lock.Acquire(gil.hooks());
    owners.Acquired();
    owners.Releases();
    DETSCHED_CHECK(lock.Release().ok());
    gil.Detach();
  });
  s.Run();
  DETSCHED_CHECK(!lock.Held());
}

// A thread that does not own the lock forks, because another interpreter is the one that forks. In the child nobody owns
// it, at no level, and nobody waits.
void ForkByAnOutsider(Schedule& s) {
  TestGil gil;
  ImportLock lock;
  detsched::Name(&lock, "lock");
  lock.Acquire();
  lock.Acquire();
  s.Spawn("waiter", [&] {
    const TestAttached attached(gil);
    DETSCHED_CHECK(lock.AcquireTimed(kNanosPerMicro, gil.hooks()) == LockStatus::kFailure);
  });
  s.Spawn("forker", [&] {
    const TestAttached attached(gil);
    if (ForkProcess() != 0) return;
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    lock.ReinitAfterFork();
    DETSCHED_CHECK(!lock.Held() && lock.level() == 0 && lock.waiters() == 0);
    lock.Acquire(gil.hooks());
    DETSCHED_CHECK(lock.HeldByCurrentThread() && lock.level() == 0);
    DETSCHED_CHECK(lock.Release().ok());
  });
  s.Run();
  if (s.forked()) return;
  DETSCHED_CHECK(lock.Release().ok() && lock.level() == 0);
  DETSCHED_CHECK(lock.Release().ok() && !lock.Held());
}

void TwoExclude(Schedule& s) { Exclude(s, 2, 2); }
void ForkBesideOne(Schedule& s) { Fork(s, 1, Watched::kNo); }

TEST(ImportLockScheduleTest, B100_TwoThreadsExhaustively) {
  ExpectComplete(Options::Exhaustive(2), TwoExclude);
}

TEST(ImportLockScheduleTest, B100_ThreeThreadsExhaustively) {
  ExpectComplete(Exhaustive(2), [](Schedule& s) { Exclude(s, 3, 1); });
}

TEST(ImportLockScheduleTest, B100_FourThreadsByPct) {
  const auto mishaps = [](Options& options) { options.spurious_wakeups = options.weak_cas_failures = 1; };
  ExpectOkByPct(
      50'000, [](Schedule& s) { Exclude(s, 4, 2, Watched::kYes); }, mishaps);
}

TEST(ImportLockScheduleTest, HandsOverToAnOverdueWaiter) { ExpectComplete(Options::Exhaustive(2), HandOver); }

TEST(ImportLockScheduleTest, WhoReleasesAndAcquiresAgainCannotKeepItForEver) {
  // Two preemptions without a GIL keep the waiter away for ever between what it announces and its sleep, or after it was
  // woken: that is up to the operating system.
  Options one = Exhaustive(1);
  one.bound_is_claim = !kGilEnabled;
  ExpectComplete(kGilEnabled ? Exhaustive(2) : one, TwoHolds);
  ExpectComplete(one, TenHolds);
  ExpectOkByPct(2000, TenHolds);
}

TEST(ImportLockScheduleTest, TimedOutWaitersExhaustively) {
  Options two = Exhaustive(2);
  two.early_timeouts = 1;
  ExpectComplete(two, [](Schedule& s) { TimeOut(s, 2, Watched::kNo); });
  Options three = Exhaustive(2, /*stale_reads=*/0);
  three.early_timeouts = 1;
  ExpectComplete(three, [](Schedule& s) { TimeOut(s, 3, Watched::kNo); });
}

TEST(ImportLockScheduleTest, TimedOutWaitersLoseNoWakeUp) {
  const auto mishaps = [](Options& options) { options.early_timeouts = 2; };
  ExpectOkByPct(
      50'000, [](Schedule& s) { TimeOut(s, 3, Watched::kYes); }, mishaps);
}

TEST(ImportLockScheduleTest, B101_ForkBesideOneThreadExhaustively) {
  ExpectComplete(OnEitherSide(Exhaustive(2)), ForkBesideOne);
}

TEST(ImportLockScheduleTest, B101_ForkOnBothSides) {
  const auto mishaps = [](Options& options) { options.fork = detsched::ForkSide::kEither; };
  ExpectOkByPct(
      20'000, [](Schedule& s) { Fork(s, 3, Watched::kYes); }, mishaps);
}

TEST(ImportLockScheduleTest, AForkByAnOutsiderLeavesItFree) {
  ExpectComplete(OnEitherSide(Exhaustive(2)), ForkByAnOutsider);
}

// A mistake is found, by one of the tests above.
void ExpectKilled(const std::string& mutant, void (*body)(Schedule&), Options options,
                  detsched::Failure failure) {
  const detsched::ScopedMutant active(mutant);
  options.shrink = false;
  const auto result = Explore(Isolated(options), body);
  EXPECT_EQ(result.failure, failure) << mutant << "\n" << result.report;
}

TEST(ImportLockScheduleTest, MutantsAreKilled) {
  using detsched::Failure;
  ExpectKilled("import_lock_waiter_is_not_counted", TwoExclude, Options::Exhaustive(2), Failure::kDeadlock);
  ExpectKilled("import_lock_hand_over_frees", HandOver, Options::Exhaustive(2), Failure::kCheck);
  ExpectKilled("import_lock_never_hands_over", TenHolds, Exhaustive(1), Failure::kCheck);
  ExpectKilled("import_lock_keeps_waiters_that_are_gone", ForkBesideOne, OnEitherSide(Exhaustive(2)),
               Failure::kCheck);
  ExpectKilled("import_lock_keeps_an_owner_that_is_gone", ForkByAnOutsider, OnEitherSide(Exhaustive(2)),
               Failure::kCheck);
  if constexpr (!kGilEnabled) {
    ExpectKilled("import_lock_acquire_is_relaxed", TwoExclude, Options::Exhaustive(2), Failure::kRace);
    ExpectKilled("import_lock_release_is_relaxed", TwoExclude, Options::Exhaustive(2), Failure::kRace);
    ExpectKilled("import_lock_release_without_fence", TwoExclude, Options::Exhaustive(2), Failure::kDeadlock);
    ExpectKilled("import_lock_release_looks_once", TwoExclude, Options::Exhaustive(2), Failure::kDeadlock);
    ExpectKilled("import_lock_waiter_without_fence", TwoExclude, Options::Exhaustive(2), Failure::kDeadlock);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
