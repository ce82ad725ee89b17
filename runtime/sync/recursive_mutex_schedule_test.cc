#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/recursive_mutex.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;

void CountUnderNestedLocks(Schedule& schedule, int threads) {
  static constexpr const char* kNames[] = {"one", "two", "three"};
  RecursiveMutex mutex;
  Plain<int> counter;
  detsched::Name(&mutex, "mutex");
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn(kNames[i], [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
      mutex.Lock();
      DETSCHED_CHECK(mutex.level() == 0);
      mutex.Lock();
      DETSCHED_CHECK(mutex.level() == 1);
      counter.Set(counter.Get() + 1);
      mutex.Unlock();
      DETSCHED_CHECK(mutex.IsOwnedByCurrentThread());
      counter.Set(counter.Get() + 1);
      mutex.Unlock();
      DETSCHED_CHECK(!mutex.IsOwnedByCurrentThread());
    });
  }
  schedule.Run();
  DETSCHED_CHECK(counter.Get() == 2 * threads);
  DETSCHED_CHECK(!mutex.IsLocked() && mutex.owner() == 0 && mutex.level() == 0);
}

std::vector<Scenario> Scenarios() {
  return {
      {"two", Options::Exhaustive(2), [](Schedule& s) { CountUnderNestedLocks(s, 2); }},
      {"three", Options::Pct(3, 20'000), [](Schedule& s) { CountUnderNestedLocks(s, 3); }},
  };
}

TEST(RecursiveMutexScheduleTest, B013_OwnerAndLevelAreTheOwners) { ExpectAllHold(Scenarios()); }

TEST(RecursiveMutexScheduleTest, MutantsAreCaught) {
  ExpectCaught("recursive_mutex_owner_cleared_late", Scenarios());
}

// Any moment of the parent's life: the child keeps the lock if the thread that forked owned it.
TEST(RecursiveMutexScheduleTest, ForkAtAnyMoment) {
  ExpectAllHold({{"fork", Options::Exhaustive(2), [](Schedule& schedule) {
                    RecursiveMutex mutex;
                    schedule.Spawn("other", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
                      mutex.Lock();
                      mutex.Unlock();
                    });
                    schedule.Spawn("forking", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
                      const bool owned = detsched::Choose(2) == 1;
                      if (owned) mutex.Lock();
                      if (ForkProcess() == 0) {
                        PlatformAfterForkInChild();
                        ParkingLotAfterForkInChild();
                        mutex.ReinitAfterFork(owned);
                        DETSCHED_CHECK(mutex.IsOwnedByCurrentThread() == owned);
                      }
                      if (owned) mutex.Unlock();
                      mutex.Lock();
                      DETSCHED_CHECK(mutex.level() == 0);
                      mutex.Unlock();
                    });
                    schedule.Run();
                    DETSCHED_CHECK(!mutex.IsLocked());
                  }}});
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
