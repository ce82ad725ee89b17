// The shipping Gil on the deterministic scheduler: every interleaving of two threads at preemption bound 2,
// more threads by random walk and PCT, and for each mistake that history knows a mutant that must be found.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using TakeResult = Gil::TakeResult;

struct Actor {
  Atomic<uintptr_t> word{0};
  GilHolder holder{&word, 1};
  bool asked() const { return (word.load(kRelaxed) & 1) != 0; }
};

// The Gil, what it protects, and its users.
struct World {
  World() : gil(/*enabled=*/true) {
    gil.set_interval(1);
    detsched::Name(&gil, "gil");
    detsched::Name(&inside, "inside");
    for (int i = 0; i < 4; ++i) detsched::Name(&actors[i], "actor", i);
  }

  // What a thread does while it holds the GIL. Plain: two at once are a race.
  void Work(int& done) {
    inside.Set(inside.Get() + 1);
    ++done;
  }

  void TakeAndDrop(int who, int times) {
    Actor& self = actors[who];
    for (int i = 0; i < times; ++i) {
      DETSCHED_CHECK(gil.Take(self.holder) == TakeResult::kTaken);
      Work(done[who]);
      gil.Drop(self.holder);
    }
  }

  // A busy thread: polls and yields when asked.
  void HoldAndPoll(int who, int polls) {
    Actor& self = actors[who];
    DETSCHED_CHECK(gil.Take(self.holder) == TakeResult::kTaken);
    for (int i = 0; i < polls; ++i) {
      Work(done[who]);
      if (self.asked()) DETSCHED_CHECK(gil.Yield(self.holder) == TakeResult::kTaken);
    }
    gil.Drop(self.holder);
  }

  void CheckPristine(int expected) {
    DETSCHED_CHECK(inside.Get() == expected);
    DETSCHED_CHECK(!gil.locked());
    DETSCHED_CHECK(gil.Stats().waiting == 0);
    for (Actor& actor : actors) gil.Forget(actor.holder);
  }

  Gil gil;
  Actor actors[4];
  Plain<int> inside{0};
  int done[4] = {};
};

Options WithTimers(Options options, int early_timeouts = 1) {
  options.early_timeouts = early_timeouts;
  return options;
}

void ExpectOk(const Result& result) {
  EXPECT_TRUE(result.ok()) << result.report;
  ::testing::Test::RecordProperty("schedules", std::to_string(result.schedules));
}

void ExpectComplete(const Result& result) {
  ExpectOk(result);
  EXPECT_TRUE(result.complete) << "cut short after " << result.schedules << " schedules";
}

// In these scenarios nobody may have to wait for the interval: a lost wake-up shows as an hour of virtual
// time.
constexpr uint64_t kHourMicros = 3'600'000'000;

class NobodyWaitedForTheInterval {
 public:
  explicit NobodyWaitedForTheInterval(World& world) : start_(MonotonicNow()) {
    world.gil.set_interval(kHourMicros);
  }
  void Check() const {
    DETSCHED_CHECK(MonotonicNow() - start_ < static_cast<int64_t>(kHourMicros) * kNanosPerMicro);
  }

 private:
  int64_t start_;
};

// One fiber waits for another without burning steps.
class Signal {
 public:
  void Set() {
    word_.store(1, kRelease);
    FutexWake(&word_, 1);
  }
  void Wait() {
    while (word_.load(kAcquire) == 0) FutexWait(&word_, 0, kNoDeadline);
  }

 private:
  Atomic<uint32_t> word_{0};
};

// Without spinning a schedule is short enough to be exhausted.
Options Exhaustive(int bound) {
  Options options = Options::Exhaustive(bound);
  options.usable_cpus = 1;
  options.stale_reads = 1;
  options.max_schedules = 150'000;
  return options;
}

void TwoTakers(Schedule& schedule) {
  World world;
  const NobodyWaitedForTheInterval timing(world);
  schedule.Spawn("first", [&] { world.TakeAndDrop(0, 1); });
  schedule.Spawn("second", [&] { world.TakeAndDrop(1, 1); });
  schedule.Run();
  timing.Check();
  world.CheckPristine(2);
}

void TwoTakersTwice(Schedule& schedule) {
  World world;
  const NobodyWaitedForTheInterval timing(world);
  schedule.Spawn("first", [&] { world.TakeAndDrop(0, 3); });
  schedule.Spawn("second", [&] { world.TakeAndDrop(1, 2); });
  schedule.Run();
  timing.Check();
  world.CheckPristine(5);
}

void HolderAndWaiter(Schedule& schedule) {
  World world;
  schedule.Spawn("busy", [&] { world.HoldAndPoll(0, 3); });
  schedule.Spawn("waiter", [&] { world.TakeAndDrop(1, 1); });
  schedule.Run();
  world.CheckPristine(4);
}

void FourThreads(Schedule& schedule) {
  World world;
  schedule.Spawn("busy 0", [&] { world.HoldAndPoll(0, 4); });
  schedule.Spawn("busy 1", [&] { world.HoldAndPoll(1, 4); });
  schedule.Spawn("taker 2", [&] { world.TakeAndDrop(2, 2); });
  schedule.Spawn("taker 3", [&] { world.TakeAndDrop(3, 2); });
  schedule.Run();
  world.CheckPristine(12);
}

// One thread earns the bias alone, then another comes.
void BiasedAndRevoker(Schedule& schedule) {
  World world;
  schedule.Spawn("biased", [&] { world.TakeAndDrop(0, 5); });
  schedule.Spawn("revoker", [&] {
    world.TakeAndDrop(1, 1);
    world.TakeAndDrop(1, 1);
  });
  schedule.Run();
  world.CheckPristine(7);
}

// A thread that waits, or is about to, must leave, and does not run after the order was given.
void WaiterMustExit(Schedule& schedule) {
  World world;
  DETSCHED_CHECK(world.gil.Take(world.actors[0].holder) == TakeResult::kTaken);
  Plain<bool> closing{false};  // guarded by the GIL
  bool left = false;
  schedule.Spawn("main", [&] {
    world.gil.RequestExit(world.actors[1].holder);
    closing.Set(true);
    world.gil.Drop(world.actors[0].holder);
  });
  schedule.Spawn("daemon", [&] {
    TakeResult result = TakeResult::kTaken;
    while (result == TakeResult::kTaken) {
      result = world.gil.Take(world.actors[1].holder);
      if (result != TakeResult::kTaken) break;
      DETSCHED_CHECK(!closing.Get());
      world.gil.Drop(world.actors[1].holder);
    }
    DETSCHED_CHECK(result == TakeResult::kMustExit);
    left = true;
  });
  schedule.Run();
  DETSCHED_CHECK(left);
  world.CheckPristine(0);
}

// The order comes from a thread that does not hold the GIL, while the daemon is earning the bias. From the take
// that begins after it on the daemon is out. Found by testing/models/gil.pml.
void OutsiderOrdersExit(Schedule& schedule) {
  World world;
  Atomic<bool> ordered{false};
  schedule.Spawn("outsider", [&] {
    world.gil.RequestExit(world.actors[1].holder);
    ordered.store(true, kRelease);
  });
  schedule.Spawn("daemon", [&] {
    for (int takes = 0;; ++takes) {
      const bool told = takes > 6 || ordered.load(kAcquire);
      while (takes > 6 && !ordered.load(kAcquire)) YieldCpu();
      const TakeResult result = world.gil.Take(world.actors[1].holder);
      DETSCHED_CHECK(result == (told ? TakeResult::kMustExit : result));
      if (result == TakeResult::kMustExit) return;
      world.gil.Drop(world.actors[1].holder);
    }
  });
  schedule.Run();
  world.CheckPristine(0);
}

// gh-96387: the daemon asks the holder to drop and must then exit. The holder is left without a request.
void WaiterMustExitAfterAsking(Schedule& schedule) {
  World world;
  Signal left;
  DETSCHED_CHECK(world.gil.Take(world.actors[0].holder) == TakeResult::kTaken);
  schedule.Spawn("main", [&] {
    while (!world.actors[0].asked()) YieldCpu();
    world.gil.RequestExit(world.actors[1].holder);
    left.Wait();
    DETSCHED_CHECK(!world.actors[0].asked());
    world.gil.Drop(world.actors[0].holder);
  });
  schedule.Spawn("daemon", [&] {
    DETSCHED_CHECK(world.gil.Take(world.actors[1].holder) == TakeResult::kMustExit);
    left.Set();
  });
  schedule.Run();
  world.CheckPristine(0);
}

// The order reaches a sleeper although the holder never lets go before it has left.
void WaiterMustExitWhileHeld(Schedule& schedule) {
  World world;
  const NobodyWaitedForTheInterval timing(world);
  Signal left;
  DETSCHED_CHECK(world.gil.Take(world.actors[0].holder) == TakeResult::kTaken);
  schedule.Spawn("main", [&] {
    world.gil.RequestExit(world.actors[1].holder);
    left.Wait();
    world.gil.Drop(world.actors[0].holder);
  });
  schedule.Spawn("daemon", [&] {
    DETSCHED_CHECK(world.gil.Take(world.actors[1].holder) == TakeResult::kMustExit);
    left.Set();
  });
  schedule.Run();
  timing.Check();
  world.CheckPristine(0);
}

// The one that leaves may have swallowed the wake-up for those behind it.
void OneOfTwoWaitersMustExit(Schedule& schedule) {
  World world;
  const NobodyWaitedForTheInterval timing(world);
  DETSCHED_CHECK(world.gil.Take(world.actors[0].holder) == TakeResult::kTaken);
  schedule.Spawn("main", [&] { world.gil.Drop(world.actors[0].holder); });
  schedule.Spawn("finalizer", [&] { world.gil.RequestExit(world.actors[1].holder); });
  schedule.Spawn("daemon", [&] {
    if (world.gil.Take(world.actors[1].holder) == TakeResult::kTaken) world.gil.Drop(world.actors[1].holder);
  });
  schedule.Spawn("worker", [&] { world.TakeAndDrop(2, 1); });
  schedule.Run();
  timing.Check();
  world.CheckPristine(1);
}

// After a final drop the next holder may free the holder that left, and the Gil itself.
void FinalDrop(Schedule& schedule) {
  std::optional<Gil> gil;
  gil.emplace(/*enabled=*/true);
  std::optional<Actor> leaver, heir;
  leaver.emplace();
  heir.emplace();
  DETSCHED_CHECK(gil->Take(leaver->holder) == TakeResult::kTaken);
  Plain<int> alive{1};
  schedule.Spawn("leaver", [&] { gil->DropFinal(leaver->holder); });
  schedule.Spawn("heir", [&] {
    DETSCHED_CHECK(gil->Take(heir->holder) == TakeResult::kTaken);
    alive.Set(0);
    gil->Forget(leaver->holder);
    leaver.emplace();  // a leaver that still looks races with the construction
    gil->DropFinal(heir->holder);
    gil.emplace(/*enabled=*/true);
  });
  schedule.Run();
}

void ForkWithWaiters(Schedule& schedule) {
  World world;
  schedule.Spawn("forker", [&] {
    DETSCHED_CHECK(world.gil.Take(world.actors[0].holder) == TakeResult::kTaken);
    if (ForkProcess() == 0) {
      PlatformAfterForkInChild();
      world.gil.ReinitAfterFork(&world.actors[0].holder);
      DETSCHED_CHECK(world.gil.Take(world.actors[0].holder) == TakeResult::kTaken);
    }
    world.gil.Drop(world.actors[0].holder);
  });
  schedule.Spawn("other 1", [&] { world.TakeAndDrop(1, 1); });
  schedule.Spawn("other 2", [&] { world.TakeAndDrop(2, 1); });
  schedule.Run();
  DETSCHED_CHECK(!world.gil.locked());
}

void InteractiveBesideBusy(Schedule& schedule) {
  World world;
  world.gil.set_policy(SwitchPolicy::kInteractive);
  world.gil.set_interval(5000);
  schedule.Spawn("busy", [&] { world.HoldAndPoll(0, 4); });
  schedule.Spawn("io 1", [&] { world.TakeAndDrop(1, 2); });
  schedule.Spawn("io 2", [&] { world.TakeAndDrop(2, 1); });
  schedule.Run();
  world.CheckPristine(7);
}

void DisableWithWaiters(Schedule& schedule) {
  Gil gil(/*enabled=*/false);
  Actor main, others[2];
  DETSCHED_CHECK(gil.AddEnableRequest());
  DETSCHED_CHECK(gil.Take(main.holder) == TakeResult::kTaken);
  schedule.Spawn("main", [&] { DETSCHED_CHECK(gil.RemoveEnableRequest(main.holder)); });
  for (Actor& other : others) {
    schedule.Spawn("waiter", [&gil, &other] {
      // Taken: it came between the counter and the release. It then holds a GIL that is off, and drops it.
      if (gil.Take(other.holder) == TakeResult::kTaken) gil.Drop(other.holder);
    });
  }
  schedule.Run();
  DETSCHED_CHECK(gil.Stats().waiting == 0);
}

// The same without timers to fall back on.
void DisableReleasesEveryWaiter(Schedule& schedule) {
  World world;
  Gil gil(/*enabled=*/false);
  gil.set_interval(kHourMicros);
  const NobodyWaitedForTheInterval timing(world);
  DETSCHED_CHECK(gil.AddEnableRequest());
  DETSCHED_CHECK(gil.Take(world.actors[0].holder) == TakeResult::kTaken);
  schedule.Spawn("main", [&] { DETSCHED_CHECK(gil.RemoveEnableRequest(world.actors[0].holder)); });
  for (int i = 1; i <= 2; ++i) {
    schedule.Spawn("waiter", [&, i] {
      if (gil.Take(world.actors[i].holder) == TakeResult::kTaken) gil.Drop(world.actors[i].holder);
    });
  }
  schedule.Run();
  timing.Check();
  DETSCHED_CHECK(gil.Stats().waiting == 0);
}

TEST(GilScheduleTest, TwoThreadsExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), TwoTakers));
  ExpectComplete(Explore(WithTimers(Exhaustive(2)), HolderAndWaiter));
}

TEST(GilScheduleTest, BiasAndRevocationExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), BiasedAndRevoker));
  ExpectComplete(Explore(Exhaustive(2), TwoTakersTwice));
}

TEST(GilScheduleTest, ExitOfAWaiterExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), WaiterMustExit));
  ExpectComplete(Explore(Exhaustive(2), WaiterMustExitAfterAsking));
  ExpectComplete(Explore(Exhaustive(2), WaiterMustExitWhileHeld));
}

TEST(GilScheduleTest, FinalDropExhaustively) { ExpectComplete(Explore(Exhaustive(2), FinalDrop)); }

struct Scenario {
  const char* name;
  void (*body)(Schedule&);
  int early_timeouts = 0;  // where the interval matters, it may be over at any time
};

class GilRandomScheduleTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(GilRandomScheduleTest, RandomWalkWithSpinning) {
  Options options = WithTimers(Options::Random(4'000), GetParam().early_timeouts);
  options.spurious_wakeups = 2;
  ExpectOk(Explore(options, GetParam().body));
  // Time stands still while somebody runs, so that without these no spin ever lasts as long as it may.
  options.clock_jumps = 1;
  ExpectOk(Explore(options, GetParam().body));
}

TEST_P(GilRandomScheduleTest, PctDepth3) {
  Options options = WithTimers(Options::Pct(3, 4'000), GetParam().early_timeouts);
  options.usable_cpus = 1;
  ExpectOk(Explore(options, GetParam().body));
}

TEST_P(GilRandomScheduleTest, WithoutMembarrier) {
  Options options = WithTimers(Options::Random(2'000), GetParam().early_timeouts);
  options.membarrier = false;
  ExpectOk(Explore(options, GetParam().body));
}

// A thread that is biased, or about to be, must leave.
void BiasedMustExit(Schedule& schedule) {
  World world;
  world.TakeAndDrop(1, 3);
  schedule.Spawn("main", [&] { world.gil.RequestExit(world.actors[1].holder); });
  schedule.Run();
  DETSCHED_CHECK(world.gil.Take(world.actors[1].holder) == TakeResult::kMustExit);
}

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> scenarios = {
      {"TwoTakers", TwoTakers},
      {"TwoTakersTwice", TwoTakersTwice},
      {"HolderAndWaiter", HolderAndWaiter, 2},
      {"FourThreads", FourThreads, 2},
      {"BiasedAndRevoker", BiasedAndRevoker, 2},
      {"WaiterMustExit", WaiterMustExit, 2},
      {"WaiterMustExitAfterAsking", WaiterMustExitAfterAsking, 2},
      {"WaiterMustExitWhileHeld", WaiterMustExitWhileHeld},
      {"OneOfTwoWaitersMustExit", OneOfTwoWaitersMustExit},
      {"OutsiderOrdersExit", OutsiderOrdersExit},
      {"FinalDrop", FinalDrop, 2},
      {"BiasedMustExit", BiasedMustExit},
      {"ForkWithWaiters", ForkWithWaiters, 2},
      {"InteractiveBesideBusy", InteractiveBesideBusy, 2},
  };
  if (!kGilEnabled) {
    scenarios.push_back({"DisableWithWaiters", DisableWithWaiters, 2});
    scenarios.push_back({"DisableReleasesEveryWaiter", DisableReleasesEveryWaiter});
  }
  return scenarios;
}

INSTANTIATE_TEST_SUITE_P(All, GilRandomScheduleTest, ::testing::ValuesIn(Scenarios()),
                         [](const auto& info) { return std::string(info.param.name); });

struct Mutant {
  const char* name;
  void (*body)(Schedule&);
  int early_timeouts = 0;
};

// Of the protocol, and not of the test or of a fault that it injects.
bool IsFinding(detsched::Failure failure) {
  return failure != detsched::Failure::kUsage && failure != detsched::Failure::kCrash;
}

class GilMutantTest : public ::testing::TestWithParam<Mutant> {};

TEST_P(GilMutantTest, IsKilled) {
  const detsched::ScopedMutant mutant(GetParam().name);
  Options options = WithTimers(Options::Random(30'000), GetParam().early_timeouts);
  options.shrink = false;
  options.isolate = true;
  for (const int cpus : {2, 1}) {
    options.usable_cpus = cpus;
    const Result result = Explore(options, GetParam().body);
    if (result.ok()) continue;
    EXPECT_TRUE(IsFinding(result.failure)) << result.report;
    return;
  }
  FAIL() << GetParam().name << " survives 60 000 random schedules";
}

std::vector<Mutant> Mutants() {
  std::vector<Mutant> mutants = {
      {"gil_park_without_fence", TwoTakersTwice},
      {"gil_revoke_without_fence", BiasedAndRevoker},
      {"gil_biased_take_without_fence", BiasedAndRevoker},
      {"gil_drop_relaxed", TwoTakers},
      {"gil_drop_ignores_waiters", TwoTakers},
      {"gil_conversion_overlooked", BiasedAndRevoker},
      {"gil_revoke_reads_relaxed", BiasedAndRevoker},
      {"gil_leaver_swallows_wake", OneOfTwoWaitersMustExit},
      {"gil_notify_forgets_wake", TwoTakers},
      {"gil_handoff_frees_the_word", HolderAndWaiter, 2},
      {"gil_grant_relaxed", HolderAndWaiter, 2},
      {"gil_yield_does_not_queue", HolderAndWaiter, 2},
      {"gil_exit_does_not_wake", WaiterMustExitWhileHeld},
      {"gil_exit_keeps_bias", BiasedMustExit},
      {"gil_bias_for_the_exiting", OutsiderOrdersExit},
      {"gh_104341_final_drop_looks_back", FinalDrop, 2},
      {"gh_96387_keep_drop_request", WaiterMustExitAfterAsking},
      {"bpo_36475_no_check_after_take", WaiterMustExit},
  };
  if (!kGilEnabled) mutants.push_back({"gi_33_disable_wakes_one", DisableReleasesEveryWaiter});
  return mutants;
}

INSTANTIATE_TEST_SUITE_P(All, GilMutantTest, ::testing::ValuesIn(Mutants()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
