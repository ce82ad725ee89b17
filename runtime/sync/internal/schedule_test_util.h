// What the schedule tests of runtime/sync share: run a scenario within bounds, require that a mutant is
// found.

#ifndef PYRT_RUNTIME_SYNC_INTERNAL_SCHEDULE_TEST_UTIL_H_
#define PYRT_RUNTIME_SYNC_INTERNAL_SCHEDULE_TEST_UTIL_H_

#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {

inline constexpr const char* kThreadNames[] = {"one", "two", "three", "four"};

// What threads do where at most one of them may be, and the invariant that says so.
class Guarded {
 public:
  // `locked`: whether the lock is held, the newest value.
  Guarded(detsched::Schedule& schedule, detsched::Watched watched, std::function<bool()> locked)
      : watched_(watched) {
    if (watched_ == detsched::Watched::kNo) return;
    schedule.Invariant("one thread inside, and it has the lock",
                       [this, locked] { return inside_ == 0 || (inside_ == 1 && locked()); });
  }
  // Between Lock and Unlock.
  void Work() {
    ++inside_;
    count_.Set(count_.Get() + 1);  // a race if two do it side by side
    if (watched_ == detsched::Watched::kYes) detsched::Point("inside");
    --inside_;
  }
  int count() const { return count_.Get(); }

 private:
  const detsched::Watched watched_;
  int inside_ = 0;  // the model's: changed between two scheduling points
  Plain<int> count_{0};
};

// A scenario and the bounds within which it is explored.
struct Scenario {
  const char* name;
  detsched::Options options;
  std::function<void(detsched::Schedule&)> body;
};

inline detsched::Result ExploreScenario(const Scenario& scenario) {
  detsched::Options options = scenario.options;
  options.reset = [] { ParkingLotAfterForkInChild(); };
  return detsched::Explore(options, scenario.body);
}

// Every scenario holds, and an exhaustive one was explored to the end of its bounds.
inline void ExpectAllHold(const std::vector<Scenario>& scenarios) {
  for (const Scenario& scenario : scenarios) {
    SCOPED_TRACE(scenario.name);
    const detsched::Result result = ExploreScenario(scenario);
    EXPECT_EQ(result.diverged, 0u);
    if (scenario.options.strategy == detsched::Strategy::kExhaustive) {
      detsched::ExpectComplete(result);
    } else {
      detsched::ExpectOk(result);
    }
    testing::Test::RecordProperty(scenario.name, std::to_string(result.schedules));
  }
}

// The same scenario by PCT: bugs of depth two and three, each with 99 %, or what a second gives.
inline void AddSampled(std::vector<Scenario>& scenarios, const char* name,
                       const std::function<void(detsched::Schedule&)>& body,
                       const std::function<void(detsched::Options&)>& mishaps = nullptr) {
  for (detsched::Options options : {detsched::Options::Pct(2, 2'000), detsched::Options::Pct(3, 50'000)}) {
    options.pct_guarantee = 0.99;
    options.max_seconds = 1;
    if (mishaps != nullptr) mishaps(options);
    scenarios.push_back({name, options, body});
  }
}

// Some scenario fails while `mutant` is active.
inline void ExpectCaught(const std::string& mutant, const std::vector<Scenario>& scenarios) {
  SCOPED_TRACE(mutant);
  const detsched::ScopedMutant active(mutant);
  for (const Scenario& scenario : scenarios) {
    Scenario quick = scenario;
    quick.options.shrink = false;
    const detsched::Result result = ExploreScenario(quick);
    if (!result.ok()) {
      EXPECT_NE(result.failure, detsched::Failure::kUsage) << result.report;
      EXPECT_GT(detsched::MutantHits(), 0u);
      return;
    }
  }
  ADD_FAILURE() << "no scenario notices it; its line was reached " << detsched::MutantHits() << " times";
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_INTERNAL_SCHEDULE_TEST_UTIL_H_
