#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/once_flag.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

// The first `failures` runs of the callback fail.
void CallFromAll(Schedule& schedule, int threads, int failures, Watched watched = Watched::kNo) {
  OnceFlag flag;
  Plain<int> runs;
  int failed = 0;
  int running = 0;  // changed between two scheduling points
  if (watched == Watched::kYes) {
    schedule.Invariant("one callback at a time, none when it is done",
                       [&] { return running == 0 || (running == 1 && !flag.IsDone()); });
  }
  detsched::Name(&flag, "flag");
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn(kThreadNames[i], [&, failures] {
      const int result = flag.CallOnce([&] {
        ++running;
        runs.Set(runs.Get() + 1);  // a race if two run it side by side
        detsched::Point("callback");
        --running;
        return runs.Get() <= failures ? -1 : 0;
      });
      if (result == 0) {
        DETSCHED_CHECK(runs.Get() == failures + 1);
      } else {
        ++failed;
      }
    });
  }
  schedule.Run();
  DETSCHED_CHECK(flag.IsDone());
  DETSCHED_CHECK(failed == failures);
}

std::vector<Scenario> Scenarios() {
  const auto mishaps = [](Options& options) { options.weak_cas_failures = 1; };
  std::vector<Scenario> scenarios = {
      {"two", Options::Exhaustive(3), [](Schedule& s) { CallFromAll(s, 2, 0); }},
      {"two_and_a_failure", Options::Exhaustive(3), [](Schedule& s) { CallFromAll(s, 2, 1); }},
      {"three_and_a_failure", Options::Exhaustive(2), [](Schedule& s) { CallFromAll(s, 3, 1); }},
  };
  AddSampled(
      scenarios, "three_and_two_failures", [](Schedule& s) { CallFromAll(s, 3, 2, Watched::kYes); }, mishaps);
  AddSampled(
      scenarios, "four_and_two_failures", [](Schedule& s) { CallFromAll(s, 4, 2, Watched::kYes); }, mishaps);
  return scenarios;
}

TEST(OnceFlagScheduleTest, B012_RunsUntilItSucceedsOnce) { ExpectAllHold(Scenarios()); }

TEST(OnceFlagScheduleTest, MutantsAreCaught) {
  for (const char* mutant : {"once_is_done_is_relaxed", "once_finish_is_relaxed", "once_finish_loses_waiter",
                             "once_failure_wakes_nobody"}) {
    ExpectCaught(mutant, Scenarios());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
