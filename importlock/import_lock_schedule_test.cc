// The import lock on the deterministic scheduler: both algorithms, with the mistakes that they exclude.

#include <gtest/gtest.h>

#include <string>

#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Schedule;

constexpr const char* kNames[] = {"a", "b", "c", "d"};

Options Isolated(Options options) {
  options.isolate = true;  // a failure leaves the parking lot in disorder
  return options;
}

// Each thread owns the lock twice, once with a re-entry and a switch inside.
void Exclude(Schedule& s, int threads) {
  TestGil gil;
  ImportLock lock;
  Plain<int> counter{0};
  detsched::Name(&lock, "lock");
  detsched::Name(&gil, "gil");
  for (int i = 0; i < threads; ++i) {
    s.Spawn(kNames[i], [&] {
      const TestAttached attached(gil);
      for (int round = 0; round < 2; ++round) {
        lock.Acquire(gil.hooks());
        if (round == 0) lock.Acquire(gil.hooks());
        const int before = counter.Get();
        gil.Detach();
        gil.Attach();
        counter.Set(before + 1);
        if (round == 0) DETSCHED_CHECK(lock.Release().ok());
        DETSCHED_CHECK(lock.HeldByCurrentThread());
        DETSCHED_CHECK(lock.Release().ok());
      }
    });
  }
  s.Run();
  DETSCHED_CHECK(counter.Get() == 2 * threads);
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

// Waits that end by themselves take no wake-up with them.
void TimeOut(Schedule& s) {
  TestGil gil;
  ImportLock lock;
  Plain<int> owned{0};
  int acquired = 0;
  detsched::Name(&lock, "lock");
  for (int i = 0; i < 3; ++i) {
    s.Spawn(kNames[i], [&, i] {
      const TestAttached attached(gil);
      const Timeout timeout = i == 2 ? kForever : kNanosPerMicro;
      const LockStatus status = lock.AcquireTimed(timeout, gil.hooks());
      if (status != LockStatus::kAcquired) {
        DETSCHED_CHECK(i != 2 && status == LockStatus::kFailure);
        return;
      }
      ++acquired;
      DETSCHED_CHECK(owned.Get() == 0);
      owned.Set(1);
      gil.Detach();
      gil.Attach();
      owned.Set(0);
      DETSCHED_CHECK(lock.Release().ok());
    });
  }
  s.Run();
  DETSCHED_CHECK(acquired >= 1);
  DETSCHED_CHECK(!lock.Held());
}

// A thread forks while others own the lock or wait for it; the child must be able to use it.
void Fork(Schedule& s) {
  TestGil gil;
  ImportLock lock;
  for (int i = 0; i < 2; ++i) {
    s.Spawn(kNames[i], [&] {
      const TestAttached attached(gil);
      lock.Acquire(gil.hooks());
      gil.Detach();
      gil.Attach();
      DETSCHED_CHECK(lock.Release().ok());
    });
  }
  s.Spawn("forker", [&] {
    gil.Attach();
    lock.Acquire(gil.hooks());
    lock.BeforeFork(gil.hooks());
    DETSCHED_CHECK(lock.level() == 1);
    if (ForkProcess() == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      lock.AfterForkInChild();
    } else {
      lock.AfterForkInParent();
    }
    DETSCHED_CHECK(lock.HeldByCurrentThread() && lock.level() == 0);
    DETSCHED_CHECK(lock.Release().ok());
    lock.Acquire(gil.hooks());
    DETSCHED_CHECK(lock.Release().ok());
    gil.Detach();
  });
  s.Run();
  DETSCHED_CHECK(!lock.Held());
}

TEST(ImportLockScheduleTest, B100_TwoThreadsExhaustively) {
  const auto result = Explore(Isolated(Options::Exhaustive(2)), [](Schedule& s) { Exclude(s, 2); });
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete) << result.schedules;
}

TEST(ImportLockScheduleTest, B100_FourThreadsByPct) {
  Options options = Options::Pct(3, 3000);
  options.spurious_wakeups = 1;
  options.weak_cas_failures = 1;
  const auto result = Explore(Isolated(options), [](Schedule& s) { Exclude(s, 4); });
  EXPECT_TRUE(result.ok()) << result.report;
}

TEST(ImportLockScheduleTest, HandsOverToAnOverdueWaiter) {
  const auto result = Explore(Isolated(Options::Exhaustive(2)), HandOver);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete) << result.schedules;
}

TEST(ImportLockScheduleTest, TimedOutWaitersLoseNoWakeUp) {
  Options options = Options::Pct(3, 5000);
  options.early_timeouts = 2;
  const auto result = Explore(Isolated(options), TimeOut);
  EXPECT_TRUE(result.ok()) << result.report;
}

TEST(ImportLockScheduleTest, B101_ForkOnBothSides) {
  Options options = Options::Pct(3, 5000);
  options.fork = detsched::ForkSide::kEither;
  const auto result = Explore(Isolated(options), Fork);
  EXPECT_TRUE(result.ok()) << result.report;
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
  const auto two = [](Schedule& s) { Exclude(s, 2); };
  ExpectKilled("import_lock_waiter_is_not_counted", two, Options::Exhaustive(2), Failure::kDeadlock);
  ExpectKilled("import_lock_hand_over_frees", HandOver, Options::Exhaustive(2), Failure::kCheck);
  if constexpr (!kGilEnabled) {
    ExpectKilled("import_lock_acquire_is_relaxed", two, Options::Exhaustive(2), Failure::kRace);
    ExpectKilled("import_lock_release_is_relaxed", two, Options::Exhaustive(2), Failure::kRace);
    ExpectKilled("import_lock_release_without_fence", two, Options::Exhaustive(2), Failure::kDeadlock);
    ExpectKilled("import_lock_release_looks_once", two, Options::Exhaustive(2), Failure::kDeadlock);
    ExpectKilled("import_lock_waiter_without_fence", two, Options::Exhaustive(2), Failure::kDeadlock);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
