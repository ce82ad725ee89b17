#include <algorithm>
#include <iterator>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/mutex_slow.h"
#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/raw_mutex.h"
#include "pyrt/runtime/sync/wait_hooks.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

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
void CountUnderLock(Schedule& schedule, int threads, int turns, Watched watched = Watched::kNo) {
  HandingOver::now = 0;
  AnyMutex mutex;
  Guarded guarded(schedule, watched, [&] { return mutex.IsLocked(); });
  detsched::Name(&mutex, "mutex");
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn(kThreadNames[i], [&, turns]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
      for (int turn = 0; turn < turns; ++turn) {
        mutex.Lock();
        guarded.Work();
        mutex.Unlock();
      }
    });
  }
  schedule.Run();
  DETSCHED_CHECK(guarded.count() == threads * turns);
  DETSCHED_CHECK(!mutex.IsLocked());
}

// One that may run out of time beside some that may not; none of them is forgotten.
template <typename Policy>
void TimeOut(Schedule& schedule, int patient, Watched watched) {
  HandingOver::now = 0;
  BasicMutex<Policy> mutex;
  Guarded guarded(schedule, watched, [&] { return mutex.IsLocked(); });
  int expected = patient;
  for (int i = 0; i < patient; ++i) {
    schedule.Spawn(kThreadNames[i], [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
      mutex.Lock();
      guarded.Work();
      mutex.Unlock();
    });
  }
  schedule.Spawn("timed", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (mutex.LockTimed(kNanosPerMicro) != LockStatus::kAcquired) return;
    ++expected;
    guarded.Work();
    mutex.Unlock();
  });
  schedule.Run();
  DETSCHED_CHECK(guarded.count() == expected);
  DETSCHED_CHECK(!mutex.IsLocked());
}

std::vector<Scenario> MutexScenarios() {
  const auto mishaps = [](Options& options) {
    options.early_timeouts = 1;
    options.spurious_wakeups = 1;
    options.weak_cas_failures = 1;
  };
  Options pair = Options::Exhaustive(4);
  Options trio = Options::Exhaustive(2);
  trio.max_schedules = 400'000;
  std::vector<Scenario> scenarios = {
      {"two_barging", pair, [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 2, 1); }},
      {"two_handing_over", pair, [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 2, 1); }},
      {"three_once_barging", trio, [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 3, 1); }},
      {"three_once_handing_over", trio,
       [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 3, 1); }},
  };
  AddSampled(scenarios, "two_spinning", [](Schedule& s) { CountUnderLock<Mutex>(s, 2, 2, Watched::kYes); });
  AddSampled(scenarios, "three_barging",
             [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 3, 2, Watched::kYes); });
  AddSampled(scenarios, "three_handing_over",
             [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 3, 2, Watched::kYes); });
  AddSampled(scenarios, "four_barging",
             [](Schedule& s) { CountUnderLock<BasicMutex<Barging>>(s, 4, 1, Watched::kYes); });
  AddSampled(scenarios, "four_handing_over",
             [](Schedule& s) { CountUnderLock<BasicMutex<HandingOver>>(s, 4, 1, Watched::kYes); });
  Options timed_pair = Options::Exhaustive(2);
  timed_pair.early_timeouts = 1;
  Options timed_trio = timed_pair;
  timed_trio.stale_reads = 1;
  scenarios.push_back(
      {"timed_two_barging", timed_pair, [](Schedule& s) { TimeOut<Barging>(s, 1, Watched::kNo); }});
  scenarios.push_back(
      {"timed_two_handing_over", timed_pair, [](Schedule& s) { TimeOut<HandingOver>(s, 1, Watched::kNo); }});
  scenarios.push_back(
      {"timed_three_barging", timed_trio, [](Schedule& s) { TimeOut<Barging>(s, 2, Watched::kNo); }});
  scenarios.push_back({"timed_three_handing_over", timed_trio,
                       [](Schedule& s) { TimeOut<HandingOver>(s, 2, Watched::kNo); }});
  AddSampled(
      scenarios, "timed_barging", [](Schedule& s) { TimeOut<Barging>(s, 2, Watched::kYes); }, mishaps);
  AddSampled(
      scenarios, "timed_handing_over", [](Schedule& s) { TimeOut<HandingOver>(s, 2, Watched::kYes); },
      mishaps);
  return scenarios;
}

std::vector<Scenario> RawMutexScenarios() {
  std::vector<Scenario> scenarios = {
      {"raw_two", Options::Exhaustive(4), [](Schedule& s) { CountUnderLock<RawMutex>(s, 2, 2); }},
      {"raw_three_once", Options::Exhaustive(3), [](Schedule& s) { CountUnderLock<RawMutex>(s, 3, 1); }},
  };
  AddSampled(scenarios, "raw_three", [](Schedule& s) { CountUnderLock<RawMutex>(s, 3, 2, Watched::kYes); });
  AddSampled(scenarios, "raw_four", [](Schedule& s) { CountUnderLock<RawMutex>(s, 4, 1, Watched::kYes); });
  return scenarios;
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

// A thread that holds the mutex for a while and takes it again at once, for ever. A waiter that sleeps is
// woken and overtaken until it has waited for a millisecond; the unlock after that hands it the mutex.
void WaiterBesideARetaker(Schedule& schedule, int64_t hold_time) {
  // One hold may have begun before, one ends after.
  const int bound = static_cast<int>(kMutexFairnessLimit / hold_time) + 2;
  Mutex mutex;
  bool served = false;  // changed under the mutex
  int overtaken = 0;
  detsched::Name(&mutex, "mutex");
  schedule.Spawn("retaker", [&, bound, hold_time]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    for (int hold = 0; hold < 5 * bound; ++hold) {
      mutex.Lock();
      if (served) return mutex.Unlock();
      // Long enough for the waiter to fall asleep: the mutex is handed to sleepers only.
      while (ParkingLot::CountParked(&mutex) == 0) YieldCpu();
      DETSCHED_CHECK(++overtaken <= bound);
      detsched::AdvanceTime(hold_time);
      mutex.Unlock();
    }
  });
  schedule.Spawn("waiter", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    served = true;
    mutex.Unlock();
  });
  schedule.Run();
  DETSCHED_CHECK(served && !mutex.IsLocked());
}

std::vector<Scenario> FairnessScenarios() {
  Options pair = Options::Exhaustive(2);
  pair.usable_cpus = 1;  // nobody spins
  pair.max_schedules = 400'000;
  const auto long_holds = [](Schedule& s) { WaiterBesideARetaker(s, 400 * kNanosPerMicro); };
  const auto short_holds = [](Schedule& s) { WaiterBesideARetaker(s, 100 * kNanosPerMicro); };
  return {
      {"two_holds", pair, long_holds},
      {"ten_holds", Options::Random(5'000), short_holds},
      {"ten_holds", Options::Pct(2, 2'000), short_holds},
      {"ten_holds", Options::Pct(3, 10'000), short_holds},
  };
}

TEST(MutexScheduleTest, B004_ASleeperIsOvertakenForAMillisecondAtMost) { ExpectAllHold(FairnessScenarios()); }

TEST(MutexScheduleTest, AMutexThatIsNeverHandedOverIsNoticed) {
  ExpectCaught("mutex_never_hands_over", FairnessScenarios());
}

// ---- What a spinner costs the owner (gh-157914): looks at the byte, each of which takes the cache line that the owner's
// unlock has to fetch back. Counted on the shipping policy: how many they are, that they are all that it does there, and
// that they become rarer. What a look costs on a machine is mutex_benchmark's.
struct WatchedSpinner : SpinningMutexPolicy</*kBrief=*/false> {
  static constexpr int kLooks = 10;
  static constexpr int kLongestPause = 64;

  static inline const void* byte = nullptr;
  static inline int looks = 0;
  static inline detsched::AccessCounts after_spin;

  static void Reset(const void* mutex) {
    byte = mutex;
    looks = 0;
  }

  static void Spin(int spin) {
    const detsched::FiberId self = detsched::CurrentFiber();
    const detsched::AccessCounts before = detsched::AccessesBy(self, byte, 1);
    // Since the last spin one look; before the first one Lock's own try, and the look with which the wait begins.
    DETSCHED_CHECK(before.updates == 1 && before.stores == 0);
    DETSCHED_CHECK(before.loads == (looks == 0 ? 1 : after_spin.loads + 1));
    DETSCHED_CHECK(++looks <= kLooks);
    const int pauses = detsched::PausesOf(self);
    SpinningMutexPolicy::Spin(spin);
    DETSCHED_CHECK(detsched::PausesOf(self) - pauses >= std::min(1 << spin, kLongestPause));
    after_spin = detsched::AccessesBy(self, byte, 1);
    DETSCHED_CHECK(after_spin.loads == before.loads && after_spin.updates == before.updates);
  }
};

// The owner unlocks after so many turns of its own, whatever the waiter does.
void OwnerBesideASpinner(Schedule& schedule) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  static constexpr int kTurns[] = {0, 1, 3, 7, 15, 31, 63, 127, 191, 255, 319, 400};
  const int turns = kTurns[schedule.Choose(static_cast<int>(std::size(kTurns)))];
  BasicMutex<WatchedSpinner> mutex;
  WatchedSpinner::Reset(&mutex);
  detsched::Name(&mutex, "mutex");
  mutex.Lock();
  detsched::FiberId waiter = -1;
  bool asleep = false;   // the waiter was, or was about to, at the unlock
  int unlocked_at = -1;  // in pauses of the waiter
  schedule.Spawn("owner", [&, turns]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    for (int turn = 0; turn < turns; ++turn) CpuRelax();
    mutex.Unlock();
    asleep = detsched::AccessesBy(waiter, &mutex).updates > 1;
    unlocked_at = detsched::PausesOf(waiter);
    // The unlock is one locked instruction, as if nobody waited.
    const detsched::AccessCounts own = detsched::AccessesBy(detsched::CurrentFiber(), &mutex);
    if (!asleep) DETSCHED_CHECK(own.updates == 1 && own.loads == 0 && own.stores == 0);
  });
  waiter = schedule.Spawn("waiter", [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    const int late = detsched::PausesOf(detsched::CurrentFiber()) - unlocked_at;
    DETSCHED_CHECK(unlocked_at >= 0 && (asleep || late <= WatchedSpinner::kLongestPause));
    const detsched::AccessCounts own = detsched::AccessesBy(detsched::CurrentFiber(), &mutex);
    // Lock's try and the one that got it, or before that the mark of who sleeps.
    DETSCHED_CHECK(own.updates <= (asleep ? 3 : 2));
    mutex.Unlock();
  });
  schedule.Run();
  DETSCHED_CHECK(!mutex.IsLocked());
}

// The owner does not unlock before the waiter sleeps.
void SpinnerInVain(Schedule& schedule, bool detaches, int looks) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  BasicMutex<WatchedSpinner> mutex;
  WatchedSpinner::Reset(&mutex);
  detsched::Name(&mutex, "mutex");
  mutex.Lock();
  const auto nothing = [](void*) {};
  const WaitHooks detaching{.before_park = nothing, .after_park = nothing};
  const WaitHooks* const hooks = detaches ? &detaching : nullptr;
  detsched::FiberId waiter = -1;
  schedule.Spawn("owner", [&, looks]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    while (ParkingLot::CountParked(&mutex) == 0) YieldCpu();
    const detsched::AccessCounts spent = detsched::AccessesBy(waiter, &mutex);
    DETSCHED_CHECK(WatchedSpinner::looks == looks);
    DETSCHED_CHECK(spent.loads == 1 + looks + 1);  // the first, and the last in the queue
    DETSCHED_CHECK(spent.updates == 2 && spent.stores == 0);
    mutex.Unlock();
  });
  waiter = schedule.Spawn("waiter", [&, hooks]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock(hooks);
    mutex.Unlock();
  });
  schedule.Run();
}

std::vector<Scenario> SpinnerScenarios() {
  Options pair = Options::Exhaustive(1);
  pair.stale_reads = 0;
  Options one_cpu = pair;
  one_cpu.usable_cpus = 1;
  const auto in_vain = [](bool detaches, int looks) {
    return [detaches, looks](Schedule& s) { SpinnerInVain(s, detaches, looks); };
  };
  constexpr int kLooks = WatchedSpinner::kLooks;
  return {
      {"owner_and_spinner", pair, OwnerBesideASpinner},
      {"in_vain", pair, in_vain(false, kLooks)},
      {"in_vain_detaching", pair, in_vain(true, kGilEnabled ? 0 : kLooks)},
      {"in_vain_on_one_cpu", one_cpu, in_vain(false, 0)},
  };
}

TEST(MutexScheduleTest, gh_157914_ASpinnerLooksTenTimesEverMoreRarelyAndWritesNothing) {
  ExpectAllHold(SpinnerScenarios());
}

TEST(MutexScheduleTest, SpinnersThatDisturbTheOwnerAreNoticed) {
  ExpectCaught("gh_157914_looks_after_each_pause", SpinnerScenarios());
  ExpectCaught("gh_157914_spins_by_locked_instructions", SpinnerScenarios());
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
