#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;

// Sleeps `times` times. Each kOk belongs to one claim, and the unparker's word is there.
void SleepAndCheck(const Atomic<uint32_t>& word, int times, Deadline deadline, int& reported) {
  for (int i = 0; i < times; ++i) {
    Plain<int> note{0};
    const ParkResult result = ParkingLot::Park(word, uint32_t{0}, deadline, &note);
    DETSCHED_CHECK((note.Get() == 1) == (result == ParkResult::kOk));
    if (result == ParkResult::kOk) ++reported;
  }
}

void Claim(const Atomic<uint32_t>& word, int& claimed) {
  ParkingLot::Unpark(&word, [&](void* note, bool) {
    if (note == nullptr) return;
    static_cast<Plain<int>*>(note)->Set(1);
    ++claimed;
  });
}

// Sleepers with a deadline beside unparkers: B009, and the life of the node.
void ClaimsAndTimeouts(Schedule& schedule, int sleepers, int unparkers) {
  Atomic<uint32_t> word{0};
  int reported = 0;
  int claimed = 0;
  for (int i = 0; i < sleepers; ++i) {
    schedule.Spawn(i == 0 ? "sleeper" : "sleeper two",
                   [&] { SleepAndCheck(word, 2, 1'000'000'000, reported); });
  }
  for (int i = 0; i < unparkers; ++i) {
    schedule.Spawn(i == 0 ? "unparker" : "unparker two", [&] { Claim(word, claimed); });
  }
  schedule.Run();
  DETSCHED_CHECK(reported == claimed);
  DETSCHED_CHECK(ParkingLot::CountParked(&word) == 0);
}

// A sleeper that a signal interrupts at any moment, also between the claim and the wake-up (gh-148820).
void ClaimsAndInterruptions(Schedule& schedule) {
  Atomic<uint32_t> word{0};
  int reported = 0;
  int claimed = 0;
  const detsched::FiberId sleeper =
      schedule.Spawn("sleeper", [&] { SleepAndCheck(word, 2, 1'000'000'000, reported); });
  schedule.MaySignal(
      sleeper, [] {}, 1);
  schedule.Spawn("unparker", [&] { Claim(word, claimed); });
  schedule.Run();
  DETSCHED_CHECK(reported == claimed);
  DETSCHED_CHECK(ParkingLot::CountParked(&word) == 0);
}

// The change under the bucket's lock: whoever saw the old value is woken.
void ChangeUnderTheBucketLock(Schedule& schedule) {
  Atomic<uint32_t> word{0};
  schedule.Spawn("sleeper", [&] {
    while (word.load(kRelaxed) == 0) ParkingLot::Park(word, uint32_t{0}, kNoDeadline);
  });
  schedule.Spawn("unparker",
                 [&] { ParkingLot::Unpark(&word, [&](void*, bool) { word.store(1, kRelaxed); }); });
  schedule.Run();
}

// The change before UnparkAll: all who saw the old value are woken.
void ChangeBeforeUnparkAll(Schedule& schedule) {
  Atomic<uint32_t> word{0};
  for (const char* name : {"sleeper", "sleeper two"}) {
    schedule.Spawn(name, [&] {
      while (word.load(kRelaxed) == 0) ParkingLot::Park(word, uint32_t{0}, kNoDeadline);
    });
  }
  schedule.Spawn("unparker", [&] {
    word.store(1, kRelaxed);
    ParkingLot::UnparkAll(&word);
  });
  schedule.Run();
}

std::vector<Scenario> Scenarios() {
  Options timed = Options::Exhaustive(2);
  timed.early_timeouts = 1;
  timed.max_schedules = 400'000;
  Options interrupted = Options::Exhaustive(2);
  interrupted.max_schedules = 400'000;
  const auto mishaps = [](Options& options) {
    options.early_timeouts = 2;
    options.spurious_wakeups = 2;
  };
  std::vector<Scenario> scenarios = {
      {"change_and_unpark", Options::Exhaustive(3), ChangeUnderTheBucketLock},
      {"change_and_unpark_all", Options::Exhaustive(2), ChangeBeforeUnparkAll},
      {"timed", timed, [](Schedule& s) { ClaimsAndTimeouts(s, 1, 1); }},
      {"interrupted", interrupted, ClaimsAndInterruptions},
  };
  AddSampled(
      scenarios, "crowd", [](Schedule& s) { ClaimsAndTimeouts(s, 2, 2); }, mishaps);
  return scenarios;
}

TEST(ParkingLotScheduleTest, B009_ClaimsAreReportedAndNobodyIsForgotten) { ExpectAllHold(Scenarios()); }

TEST(ParkingLotScheduleTest, MutantsAreCaught) {
  for (const char* mutant : {"gh_148820_leave_before_signal", "parking_lot_relaxed_signal",
                             "parking_lot_forgets_wake", "parking_lot_skips_validation"}) {
    ExpectCaught(mutant, Scenarios());
  }
}

// A thread that dies while it re-attaches takes no place in the queue with it (gh-137433).
TEST(ParkingLotScheduleTest, SleeperThatHangsWhileReattachingIsOutOfTheQueue) {
  Options options = Options::Exhaustive(2);
  options.early_timeouts = 1;
  ExpectAllHold({{"hang", options, [](Schedule& schedule) {
                    Atomic<uint32_t> word{0};
                    int reported = 0;
                    int claimed = 0;
                    schedule.Spawn("daemon", [&] {
                      WaitHooks hooks;
                      hooks.before_park = [](void*) {};
                      hooks.after_park = [](void*) { HangForever(); };
                      Plain<int> note{0};
                      ParkingLot::Park(word, uint32_t{0}, 1'000'000'000, &note, &hooks);
                    });
                    schedule.Spawn("sleeper", [&] { SleepAndCheck(word, 1, 1'000'000'000, reported); });
                    schedule.Spawn("unparker", [&] {
                      Claim(word, claimed);
                      Claim(word, claimed);
                    });
                    schedule.Run();
                    DETSCHED_CHECK(ParkingLot::CountParked(&word) == 0);
                    DETSCHED_CHECK(schedule.hung() == 1);
                  }}});
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
