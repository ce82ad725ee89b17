// Bounded bypass: how often others may get the GIL before somebody who waits for it. The queue is first in, first out
// for forced switches; who comes while the GIL is free may overtake the queue, until its head has waited too long.

#include <functional>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/gil/gil_test_util.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::BypassMonitor;
using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using TakeResult = Gil::TakeResult;

// Three threads that only yield when they are asked. Who yields is queued in the operation that passes the GIL on, so
// each other thread gets it at most once before the yield returns: from its place in the queue, or because it came
// while the GIL was free.
void ThreeYielders(Schedule& schedule) {
  constexpr int kThreads = 3;
  Gil gil(/*enabled=*/true);
  gil.set_interval(1);
  TestThread actors[kThreads];
  BypassMonitor monitor(/*bound=*/kThreads - 1);
  detsched::Name(&gil, "gil");
  for (TestThread& actor : actors) {
    schedule.Spawn("busy", [&gil, &actor, &monitor] {
      DETSCHED_CHECK(gil.Take(actor.holder) == TakeResult::kTaken);
      monitor.Entered();
      for (int polls = 0; polls < 4; ++polls) {
        detsched::Point("works");
        if (!actor.asked()) continue;
        monitor.Waiting();
        DETSCHED_CHECK(gil.Yield(actor.holder) == TakeResult::kTaken);
        monitor.Entered();
      }
      gil.Drop(actor.holder);
    });
  }
  schedule.Run();
  for (TestThread& actor : actors) gil.Forget(actor.holder);
}

Options WithTimers(Options options) {
  options.early_timeouts = 3;
  return options;
}

void ExpectFound(const char* name, Options options, const std::function<void(Schedule&)>& body) {
  const detsched::ScopedMutant mutant(name);
  options.shrink = false;
  const Result result = Explore(options, body);
  EXPECT_NE(result.failure, detsched::Failure::kNone) << name << " survives";
  EXPECT_NE(result.failure, detsched::Failure::kUsage) << result.report;
}

TEST(GilFairnessScheduleTest, GI9_WhoYieldsIsOvertakenOnceByEachOther) {
  for (const Options& options : {Options::Random(6000), Options::Pct(3, 6000)}) {
    const Result result = Explore(WithTimers(options), ThreeYielders);
    EXPECT_TRUE(result.ok()) << result.report;
  }
}

TEST(GilFairnessScheduleTest, AYieldThatDoesNotQueueIsNoticed) {
  ExpectFound("gil_yield_does_not_queue", WithTimers(Options::Random(20'000)), ThreeYielders);
}

// A waiter against a thread that drops and takes again at once, for ever. The latter overtakes until the waiter has been
// the head of the queue for a millisecond, which is so many of its holds; then its drop hands the GIL over.
void WaiterBesideARetaker(Schedule& schedule, int holds) {
  const int bound = holds + 2;  // one hold may have begun before, one ends after
  Gil gil(/*enabled=*/true);
  TestThread retaker, waiter;
  Atomic<uint32_t> served{0};
  schedule.Spawn("retaker", [&, holds, bound] {
    int overtaken = 0;
    for (int i = 0; i < 6 * holds && served.load(kRelaxed) == 0; ++i) {
      DETSCHED_CHECK(gil.Take(retaker.holder) == TakeResult::kTaken);
      if (served.load(kRelaxed) == 0 && gil.Stats().waiting != 0) ++overtaken;
      DETSCHED_CHECK(overtaken <= bound);
      detsched::AdvanceTime(kNanosPerMilli / holds);
      gil.Drop(retaker.holder);
    }
  });
  schedule.Spawn("waiter", [&] {
    DETSCHED_CHECK(gil.Take(waiter.holder) == TakeResult::kTaken);
    served.store(1, kRelaxed);
    gil.Drop(waiter.holder);
  });
  schedule.Run();
  gil.Forget(retaker.holder);
  gil.Forget(waiter.holder);
}

TEST(GilFairnessScheduleTest, WhoDropsAndTakesAgainCannotKeepItForEver) {
  Options every = Options::Exhaustive(2);
  every.usable_cpus = 1;
  every.stale_reads = 0;
  const auto four_holds = [](Schedule& s) { WaiterBesideARetaker(s, 4); };
  detsched::ExpectComplete(Explore(every, four_holds));
  ExpectFound("gil_barging_without_end", every, four_holds);
  Options options = Options::Random(4000);
  options.stale_reads = 2;  // a store is seen in the end
  const Result result = Explore(options, [](Schedule& s) { WaiterBesideARetaker(s, 10); });
  EXPECT_TRUE(result.ok()) << result.report;
  ExpectFound("gil_barging_without_end", options, [](Schedule& s) { WaiterBesideARetaker(s, 10); });
}

// A thread that waits and spins may catch the word, and an interactive one may queue ahead of it before it has left the
// queue: with its request at the holder before, and nobody behind it who keeps time. It must be served nevertheless by a
// thread that only polls.
void AnInteractiveThreadBesideASpinner(Schedule& schedule) {
  Gil gil(/*enabled=*/true);
  gil.set_interval(1);
  gil.set_policy(SwitchPolicy::kInteractive);
  TestThread spins, retakes;
  Atomic<uint32_t> served{0};
  schedule.Spawn("spins", [&] {
    DETSCHED_CHECK(gil.Take(spins.holder) == TakeResult::kTaken);
    while (served.load(kRelaxed) == 0) {
      detsched::AdvanceTime(kNanosPerMicro);
      if (spins.asked()) DETSCHED_CHECK(gil.Yield(spins.holder) == TakeResult::kTaken);
    }
    gil.Drop(spins.holder);
  });
  schedule.Spawn("retakes", [&] {
    for (int i = 0; i < 2; ++i) {
      DETSCHED_CHECK(gil.Take(retakes.holder) == TakeResult::kTaken);
      gil.Drop(retakes.holder);
    }
    served.store(1, kRelaxed);
  });
  schedule.Run();
  gil.Forget(spins.holder);
  gil.Forget(retakes.holder);
}

TEST(GilFairnessScheduleTest, AnInteractiveThreadThatOvertakesASpinnerIsServed) {
  Options options = WithTimers(Options::Random(20'000));
  options.stale_reads = 2;  // a store is seen in the end
  options.max_steps = 20'000;
  const Result result = Explore(options, AnInteractiveThreadBesideASpinner);
  EXPECT_TRUE(result.ok()) << result.report;
  ExpectFound("gil_spinner_tells_nobody_that_it_left", options, AnInteractiveThreadBesideASpinner);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
