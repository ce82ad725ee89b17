#include <cstddef>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/recursive_mutex.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

void CountUnderNestedLocks(Schedule& schedule, int threads, Watched watched = Watched::kNo) {
  RecursiveMutex mutex;
  Guarded guarded(schedule, watched, [&] { return mutex.IsLocked() && mutex.owner() != 0; });
  detsched::Name(&mutex, "mutex");
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn(kThreadNames[i], [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
      mutex.Lock();
      DETSCHED_CHECK(mutex.level() == 0);
      mutex.Lock();
      DETSCHED_CHECK(mutex.level() == 1);
      guarded.Work();
      mutex.Unlock();
      DETSCHED_CHECK(mutex.IsOwnedByCurrentThread());
      guarded.Work();
      mutex.Unlock();
      DETSCHED_CHECK(!mutex.IsOwnedByCurrentThread());
    });
  }
  schedule.Run();
  DETSCHED_CHECK(guarded.count() == 2 * threads);
  DETSCHED_CHECK(!mutex.IsLocked() && mutex.owner() == 0 && mutex.level() == 0);
}

std::vector<Scenario> Scenarios() {
  Options trio = Options::Exhaustive(2);
  trio.max_schedules = 400'000;
  trio.stale_reads = 1;
  std::vector<Scenario> scenarios = {
      {"two", Options::Exhaustive(2), [](Schedule& s) { CountUnderNestedLocks(s, 2); }},
      {"three_once", trio, [](Schedule& s) { CountUnderNestedLocks(s, 3); }},
  };
  AddSampled(scenarios, "three", [](Schedule& s) { CountUnderNestedLocks(s, 3, Watched::kYes); });
  AddSampled(scenarios, "four", [](Schedule& s) { CountUnderNestedLocks(s, 4, Watched::kYes); });
  return scenarios;
}

TEST(RecursiveMutexScheduleTest, B013_OwnerAndLevelAreTheOwners) { ExpectAllHold(Scenarios()); }

TEST(RecursiveMutexScheduleTest, MutantsAreCaught) {
  ExpectCaught("recursive_mutex_owner_cleared_late", Scenarios());
}

// Both processes after a fork at any moment of another thread that has the lock at some level: the child
// keeps the lock, and its level, if the thread that forked owned it.
void Fork(Schedule& schedule) {
  RecursiveMutex mutex;
  schedule.Spawn("other", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    mutex.Lock();
    mutex.Unlock();
    mutex.Unlock();
  });
  schedule.Spawn("forking", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    const int owned = detsched::Choose(3);
    for (int i = 0; i < owned; ++i) mutex.Lock();
    if (ForkProcess() == 0) {
      PlatformAfterForkInChild();
      ParkingLotAfterForkInChild();
      mutex.ReinitAfterFork(owned != 0);
    }
    DETSCHED_CHECK(mutex.IsOwnedByCurrentThread() == (owned != 0));
    for (int i = owned; i > 0; --i) {
      DETSCHED_CHECK(mutex.level() == static_cast<size_t>(i) - 1);
      mutex.Unlock();
    }
    mutex.Lock();
    DETSCHED_CHECK(mutex.level() == 0);
    mutex.Unlock();
  });
  schedule.Run();
  DETSCHED_CHECK(!mutex.IsLocked() && mutex.owner() == 0);
}

std::vector<Scenario> ForkScenarios() {
  Options exhaustive = Options::Exhaustive(2);
  exhaustive.fork = detsched::ForkSide::kEither;
  std::vector<Scenario> scenarios = {{"fork", exhaustive, &Fork}};
  AddSampled(scenarios, "fork", &Fork, [](Options& options) { options.fork = detsched::ForkSide::kEither; });
  return scenarios;
}

TEST(RecursiveMutexScheduleTest, ForkAtAnyMoment) { ExpectAllHold(ForkScenarios()); }

TEST(RecursiveMutexScheduleTest, MutantsOfTheForkAreCaught) {
  for (const char* mutant : {"recursive_mutex_survives_fork", "recursive_mutex_level_survives_fork"}) {
    ExpectCaught(mutant, ForkScenarios());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
