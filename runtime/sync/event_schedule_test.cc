#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;

void NotifyAndWait(Schedule& schedule, int waiters, Timeout timeout) {
  Event event;
  Plain<int> data;
  detsched::Name(&event, "event");
  for (int i = 0; i < waiters; ++i) {
    schedule.Spawn(kThreadNames[i], [&, timeout] {
      while (!event.WaitTimed(timeout)) DETSCHED_CHECK(timeout >= 0);
      DETSCHED_CHECK(data.Get() == 1);
    });
  }
  schedule.Spawn("notifier", [&] {
    data.Set(1);
    event.Notify();
    event.Notify();
  });
  schedule.Run();
  DETSCHED_CHECK(event.state() == 1);
}

std::vector<Scenario> Scenarios() {
  Options timed = Options::Exhaustive(2);
  timed.early_timeouts = 1;
  const auto mishaps = [](Options& options) { options.early_timeouts = 2; };
  std::vector<Scenario> scenarios = {
      {"one_waiter", Options::Exhaustive(3), [](Schedule& s) { NotifyAndWait(s, 1, kForever); }},
      {"two_waiters", Options::Exhaustive(2), [](Schedule& s) { NotifyAndWait(s, 2, kForever); }},
      {"timed", timed, [](Schedule& s) { NotifyAndWait(s, 1, kNanosPerMilli); }},
  };
  AddSampled(
      scenarios, "two_waiters_timed", [](Schedule& s) { NotifyAndWait(s, 2, kNanosPerMilli); }, mishaps);
  AddSampled(
      scenarios, "three_waiters_timed", [](Schedule& s) { NotifyAndWait(s, 3, kNanosPerMilli); }, mishaps);
  return scenarios;
}

TEST(EventScheduleTest, B011_NobodyMissesTheEvent) { ExpectAllHold(Scenarios()); }

TEST(EventScheduleTest, MutantsAreCaught) {
  for (const char* mutant :
       {"event_is_set_is_relaxed", "event_notify_is_relaxed", "event_notify_loses_waiter"}) {
    ExpectCaught(mutant, Scenarios());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
