#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/mutex_slow.h"
#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/raw_mutex.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;

constexpr const char* kNames[] = {"one", "two", "three"};

// No waiter is ever old enough to be handed the mutex.
struct Barging {
  static int64_t Now() { return 0; }
  static int MaxSpins(bool) { return 0; }
  static void Spin(int) {}
};

// Every waiter is.
struct HandingOver {
  static inline int64_t now = 0;
  static int64_t Now() { return now += 2 * kMutexFairnessLimit; }
  static int MaxSpins(bool) { return 0; }
  static void Spin(int) {}
};

template <typename AnyMutex>
void CountUnderLock(Schedule& schedule, int threads, int turns) {
  HandingOver::now = 0;
  AnyMutex mutex;
  Plain<int> counter;
  detsched::Name(&mutex, "mutex");
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn(kNames[i], [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
      for (int turn = 0; turn < turns; ++turn) {
        mutex.Lock();
        counter.Set(counter.Get() + 1);
        mutex.Unlock();
      }
    });
  }
  schedule.Run();
  DETSCHED_CHECK(counter.Get() == threads * turns);
  DETSCHED_CHECK(!mutex.IsLocked());
}

// One that may run out of time beside two that may not; none of them is forgotten.
template <typename Policy>
void TimeOut(Schedule& schedule) {
  HandingOver::now = 0;
  BasicMutex<Policy> mutex;
  Plain<int> counter;
  int expected = 2;
  for (int i = 0; i < 2; ++i) {
    schedule.Spawn(kNames[i], [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
      mutex.Lock();
      counter.Set(counter.Get() + 1);
      mutex.Unlock();
    });
  }
  schedule.Spawn("timed", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (mutex.LockTimed(kNanosPerMicro) != LockStatus::kAcquired) return;
    ++expected;
    counter.Set(counter.Get() + 1);
    mutex.Unlock();
  });
  schedule.Run();
  DETSCHED_CHECK(counter.Get() == expected);
  DETSCHED_CHECK(!mutex.IsLocked());
}

std::vector<Scenario> MutexScenarios() {
  Options timing = Options::Pct(3, 20'000);
  timing.early_timeouts = 1;
  timing.spurious_wakeups = 1;
  timing.weak_cas_failures = 1;
  Options pair = Options::Exhaustive(4);
  Options trio = Options::Exhaustive(2);
  trio.max_schedules = 400'000;
  return {
      {"two_barging", pair, [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 2, 1); }},
      {"two_handing_over", pair, [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 2, 1); }},
      {"three_once_barging", trio, [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 3, 1); }},
      {"three_once_handing_over", trio,
       [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 3, 1); }},
      {"two_spinning", Options::Pct(3, 10'000), [](Schedule& s) { CountUnderLock<Mutex>(s, 2, 2); }},
      {"three_barging", Options::Pct(3, 20'000),
       [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 3, 2); }},
      {"three_handing_over", Options::Pct(3, 20'000),
       [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 3, 2); }},
      {"timed_barging", timing, [](Schedule& s) { TimeOut<Barging>(s); }},
      {"timed_handing_over", timing, [](Schedule& s) { TimeOut<HandingOver>(s); }},
  };
}

std::vector<Scenario> RawMutexScenarios() {
  Options exhaustive = Options::Exhaustive(2);
  exhaustive.max_schedules = 400'000;
  return {
      {"raw_two", exhaustive, [](Schedule& s) { CountUnderLock<RawMutex>(s, 2, 2); }},
      {"raw_three", Options::Pct(3, 20'000), [](Schedule& s) { CountUnderLock<RawMutex>(s, 3, 2); }},
  };
}

TEST(MutexScheduleTest, B001_ExcludesAndForgetsNobody) { ExpectAllHold(MutexScenarios()); }

TEST(MutexScheduleTest, RawMutexExcludesAndForgetsNobody) { ExpectAllHold(RawMutexScenarios()); }

TEST(MutexScheduleTest, MutantsAreCaught) {
  for (const char* mutant :
       {"mutex_lock_is_relaxed", "mutex_unlock_is_relaxed", "mutex_barging_clears_has_parked",
        "mutex_parks_without_has_parked", "mutex_handover_unlocks", "mutex_unlock_forgets_other_sleepers",
        "parking_lot_relaxed_signal", "parking_lot_forgets_wake", "parking_lot_skips_validation"}) {
    ExpectCaught(mutant, MutexScenarios());
  }
  for (const char* mutant : {"raw_mutex_slow_lock_forgets_sleepers", "raw_mutex_unlock_forgets_wake"}) {
    ExpectCaught(mutant, RawMutexScenarios());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
