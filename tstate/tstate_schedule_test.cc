// The shipping attach, detach, stop-the-world, handshake, QSBR, deletion and fork on the deterministic
// scheduler: every schedule of short scenarios, walks through longer ones, and for each line whose absence
// has been a bug somewhere a mutant that must be found. What only threads without a GIL can do is explored in
// that build, with the stopper attached or not; in the GIL-enabled build a stopper is attached, and its GIL
// is what stops the others.

#include <cstdint>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/runtime/object/counted_test_util.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/handshake.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::ExpectWalks;
using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using detsched::Strategy;

using World = ScheduleWorld;

// States are made before the threads start, so that schedules are about attaching.
struct Actor {
  void Make(World& world) {
    state = world.threads.New(Whence::kThreading);
    world.Watch(state);
  }
  void Enter() {
    state->Bind();
    state->Attach();
  }
  ThreadState* state = nullptr;
};

void AttachPollDetach(World& world, Actor& actor, int who, int rounds, bool polls) {
  actor.state->Bind();
  for (int i = 0; i < rounds; ++i) {
    actor.state->Attach();
    world.owned[who].Set(world.owned[who].Get() + 1);
    if (polls) {
      actor.state->Poll();
      world.owned[who].Set(world.owned[who].Get() + 1);
    }
    actor.state->Detach();
  }
}

void StopAndLook(World& world, StopTheWorld stop, int threads, int times) {
  for (int i = 0; i < times; ++i) {
    stop.Stop();
    world.Stopped(ThreadState::Current());
    for (int who = 0; who < threads; ++who) world.owned[who].Set(world.owned[who].Get() + 100);
    // Time for who runs although it should not.
    detsched::Point("stopped");
    world.Starting();
    stop.Start();
  }
}

void DeleteAll(World& world) { world.DeleteAll(); }

struct Stops {
  int threads = 1;
  int rounds = 1;
  bool polls = true;
  bool global = false;
  bool attached = kGilEnabled;  // the stopper
  int times = 1;
};

Result ExploreStops(const Options& options, const Stops& stops) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor actors[4], stopper;
    static constexpr const char* kNames[] = {"a", "b", "c", "d"};
    for (int who = 0; who < stops.threads; ++who) {
      actors[who].Make(world);
      schedule.Spawn(kNames[who],
                     [&, who] { AttachPollDetach(world, actors[who], who, stops.rounds, stops.polls); });
    }
    if (stops.attached) stopper.Make(world);
    schedule.Spawn("stopper", [&] {
      if (stops.attached) stopper.Enter();
      StopAndLook(world, stops.global ? StopTheWorld(world.registry) : StopTheWorld(world.threads),
                  stops.threads, stops.times);
      if (stops.attached) stopper.state->Detach();
    });
    schedule.Run();
    for (int who = 0; who < stops.threads; ++who) {
      DETSCHED_CHECK(world.owned[who].Get() == stops.rounds * (stops.polls ? 2 : 1) + 100 * stops.times);
    }
    DeleteAll(world);
  });
}

class StopScheduleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kGilEnabled) GTEST_SKIP() << "stop-the-world is empty with the GIL";
  }
};

TEST_F(StopScheduleTest, B055_OneThreadEverySchedule) {
  for (const bool polls : {false, true}) {
    for (const bool global : {false, true}) {
      ExpectComplete(ExploreStops(Base(Options::Exhaustive(2)), {.polls = polls, .global = global}));
    }
  }
}

TEST_F(StopScheduleTest, B055_TwoThreadsEverySchedule) {
  ExpectComplete(ExploreStops(EverySchedule(/*stale_reads=*/0), {.threads = 2, .polls = false}));
}

TEST_F(StopScheduleTest, B055_NobodyElseIsAttachedAtAnyStepOfAStop) {
  for (const bool polls : {false, true}) {
    for (const bool global : {false, true}) {
      ExpectComplete(ExploreStops(EveryStep(), {.polls = polls, .global = global}));
    }
  }
}

TEST(TstateScheduleTest, B055_AnAttachedThreadStopsAnotherEverySchedule) {
  for (const bool polls : {false, true}) {
    for (const bool global : {false, true}) {
      ExpectComplete(ExploreStops(EverySchedule(/*stale_reads=*/2),
                                  {.polls = polls, .global = global, .attached = true}));
    }
  }
}

TEST(TstateScheduleTest, B055_NobodyElseIsAttachedAtAnyStepOfAnAttachedStopper) {
  for (const bool polls : {false, true}) {
    ExpectComplete(ExploreStops(EveryStep(), {.polls = polls, .attached = true}));
  }
}

TEST(TstateScheduleTest, B055_ManyThreads) {
  for (const bool global : {false, true}) {
    ExpectWalks(
        [=](const Options& options) {
          return ExploreStops(options, {.threads = 3, .rounds = 2, .global = global, .times = 2});
        },
        4000);
  }
}

TEST(TstateScheduleTest, B055_WithMishaps) {
  const Stops stops{.threads = 2, .rounds = 2, .times = 2};
  Options options = Options::Random(2000);
  options.spurious_wakeups = 2;
  options.weak_cas_failures = 2;
  ExpectOk(ExploreStops(options, stops));
  options = Options::Random(1000);
  options.membarrier = false;
  ExpectOk(ExploreStops(options, stops));
}

TEST_F(StopScheduleTest, MutantsOfTheStopAreKilled) {
  struct Case {
    const char* mutant;
    Failure failure;
  };
  for (const Case& mutation : {Case{"stw_park_without_fence", Failure::kDeadlock},
                               Case{"stw_detach_ignores_requests", Failure::kDeadlock},
                               Case{"stw_acknowledge_is_relaxed", Failure::kRace},
                               Case{"tstate_detach_is_relaxed", Failure::kRace}}) {
    detsched::ScopedMutant mutant(mutation.mutant);
    // A thread that never polls shows the fence, one that does the acknowledgement.
    Result result = ExploreStops(Options::Exhaustive(2), {.polls = false});
    if (result.ok()) result = ExploreStops(Options::Exhaustive(2), {});
    EXPECT_EQ(result.failure, mutation.failure) << mutation.mutant << ": " << result.report;
  }
}

// --- Birth and deletion

// A thread leaves beside a stop, with a state that was there before or with one that it makes meanwhile.
// Where nobody touches what the other one does, the invariant alone sees who runs beside a stopper.
Result ExploreDeletion(const Options& options, bool newborn, bool touches = true) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor leaver, stopper;
    if (!newborn) leaver.Make(world);
    if (kGilEnabled) stopper.Make(world);
    schedule.Spawn("leaver", [&] {
      if (newborn) {
        leaver.state = &world.Enter();
      } else {
        leaver.Enter();
      }
      if (touches) world.owned[0].Set(world.owned[0].Get() + 1);
      world.Leave(*leaver.state);
    });
    schedule.Spawn("stopper", [&] {
      if (kGilEnabled) stopper.Enter();
      StopAndLook(world, StopTheWorld(world.threads), 1, 1);
      if (kGilEnabled) world.Leave(*stopper.state);
    });
    schedule.Run();
    DETSCHED_CHECK(world.owned[0].Get() == (touches ? 101 : 100));
    world.CheckPristine();
  });
}

TEST(TstateScheduleTest, B058_AThreadThatDeletesItselfEverySchedule) {
  ExpectComplete(ExploreDeletion(EverySchedule(/*stale_reads=*/2), /*newborn=*/false));
  ExpectComplete(ExploreDeletion(EveryStep(), /*newborn=*/false));
}

TEST(TstateScheduleTest, B055_NewStatesStartSuspended) {
  ExpectComplete(ExploreDeletion(EverySchedule(/*stale_reads=*/2), /*newborn=*/true));
  ExpectComplete(ExploreDeletion(EveryStep(), /*newborn=*/true));
  ExpectWalks([](const Options& options) { return ExploreDeletion(options, /*newborn=*/true); }, 10'000);
}

TEST_F(StopScheduleTest, B055_ANewStateThatDoesNotStartSuspendedIsFound) {
  detsched::ScopedMutant mutant("stw_newborn_is_not_suspended");
  for (const Options& options : {EveryStep(), Options::Random(20'000)}) {
    const Result broken = ExploreDeletion(options, /*newborn=*/true, /*touches=*/false);
    EXPECT_EQ(broken.failure, Failure::kInvariant) << broken.report;
  }
}

TEST_F(StopScheduleTest, B058_AThreadThatDeletesItselfCompletesTheStop) {
  ExpectOk(ExploreDeletion(Options::Random(4000), /*newborn=*/false));
  detsched::ScopedMutant mutant("stw_deletion_is_not_an_acknowledgement");
  const Result broken = ExploreDeletion(Options::Random(20'000), /*newborn=*/false);
  EXPECT_EQ(broken.failure, Failure::kDeadlock) << broken.report;
}

// --- Several stoppers, deadlines, starvation

struct Stopper {
  bool attached;
  bool global;
};

Result ExploreStoppers(const Options& options, const std::vector<Stopper>& stoppers) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Plain<int> stopped_all{0};
    Actor actors[4];
    for (size_t who = 0; who < stoppers.size(); ++who) {
      const Stopper& stopper = stoppers[who];
      Actor& actor = actors[who];
      if (stopper.attached) actor.Make(world);
      schedule.Spawn(stopper.global ? "global" : "stopper", [&] {
        if (stopper.attached) actor.Enter();
        StopTheWorld stop = stopper.global ? StopTheWorld(world.registry) : StopTheWorld(world.threads);
        stop.Stop();
        world.Stopped(ThreadState::Current());
        stopped_all.Set(stopped_all.Get() + 1);
        detsched::Point("stopped");
        world.Starting();
        stop.Start();
        if (!stopper.attached) return;
        actor.state->Poll();
        actor.state->Detach();
      });
    }
    schedule.Run();
    DETSCHED_CHECK(stopped_all.Get() == static_cast<int>(stoppers.size()));
    DeleteAll(world);
  });
}

TEST(TstateScheduleTest, B056_TwoStoppersEverySchedule) {
  for (const bool global : {false, true}) {
    for (const bool other_global : {false, true}) {
      if (global && !other_global) continue;
      ExpectComplete(ExploreStoppers(EverySchedule(), {{true, global}, {true, other_global}}));
      if (kGilEnabled) continue;
      ExpectComplete(ExploreStoppers(EverySchedule(), {{true, global}, {false, other_global}}));
      ExpectComplete(ExploreStoppers(EverySchedule(), {{false, global}, {false, other_global}}));
    }
  }
}

TEST(TstateScheduleTest, B056_StoppersExcludeEachOtherAndAnAttachedOneIsStopped) {
  constexpr bool kDetached = kGilEnabled;  // there a stopper is attached
  ExpectWalks(
      [](const Options& options) {
        return ExploreStoppers(options, {{true, false}, {true, true}, {kDetached, true}, {kDetached, false}});
      },
      6000);
}

Result ExploreDeadline(Options options, int threads, int rounds, int* given_up, int* stopped_all) {
  options.early_timeouts = 1;
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor actors[2];
    for (int who = 0; who < threads; ++who) {
      actors[who].Make(world);
      schedule.Spawn(who == 0 ? "a" : "b",
                     [&, who, rounds] { AttachPollDetach(world, actors[who], who, rounds, /*polls=*/true); });
    }
    bool stopped = false;
    schedule.Spawn("stopper", [&] {
      StopTheWorld stop(world.threads);
      stopped = stop.Stop(MonotonicNow() + 1000);
      if (!stopped) return;
      world.Stopped(nullptr);
      for (int who = 0; who < threads; ++who) world.owned[who].Set(world.owned[who].Get() + 100);
      detsched::Point("stopped");
      world.Starting();
      stop.Start();
    });
    schedule.Run();
    ++*(stopped ? stopped_all : given_up);
    for (int who = 0; who < threads; ++who) {
      DETSCHED_CHECK(world.owned[who].Get() == 2 * rounds + (stopped ? 100 : 0));
    }
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, AStopWithADeadlineEverySchedule) {
  int given_up = 0;
  int stopped = 0;
  Options options = EverySchedule();
  options.usable_cpus = 2;  // on one the stopper yields once more than there are preemptions before it sleeps
  ExpectComplete(ExploreDeadline(options, 1, 1, &given_up, &stopped));
  EXPECT_GT(given_up, 0);
  EXPECT_GT(stopped, 0);
}

TEST_F(StopScheduleTest, AStopThatGivesUpLetsEverybodyGo) {
  int given_up = 0;
  int stopped = 0;
  ExpectWalks([&](const Options& options) { return ExploreDeadline(options, 2, 2, &given_up, &stopped); },
              6000);
  EXPECT_GT(given_up, 0);
  EXPECT_GT(stopped, 0);
}

// A stopper in a loop against a thread that wants to attach: bounded bypass (gh-151518). The last two stops wait for it
// to say so.
Result ExploreStarvation(const Options& options, int stops) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor actor;
    actor.Make(world);
    Atomic<uint32_t> attached{0};
    schedule.Spawn("waiter", [&] {
      actor.state->Bind();
      actor.state->Attach();
      attached.store(1, kSeqCst);
      actor.state->Detach();
    });
    schedule.Spawn("stopper", [&] {
      int bypassed = 0;
      for (int i = 0; i < stops; ++i) {
        StopTheWorld stop(world.threads);
        stop.Stop();
        world.Stopped(nullptr);
        // Once the thread has said that it waits, it gets in before the next stop but one.
        if (bypassed > 0) DETSCHED_CHECK(attached.load(kSeqCst) == 1);
        while (attached.load(kSeqCst) == 0 && actor.state->run_state() == RunState::kSuspended) {
          if (i < stops - 2) break;
          CpuRelax();
        }
        if (actor.state->run_state() == RunState::kSuspendedWaiting) ++bypassed;
        world.Starting();
        stop.Start();
      }
    });
    schedule.Run();
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, B059_AThreadThatWaitsIsBypassedOnceAtMost) {
  ExpectComplete(ExploreStarvation(EverySchedule(/*stale_reads=*/2), 2));
  ExpectComplete(ExploreStarvation(EveryStep(), 2));
  ExpectWalks([](const Options& options) { return ExploreStarvation(options, 4); }, 10'000);
  detsched::ScopedMutant mutant("gh_151518_resume_forgets_the_waiter");
  for (const Options& options : {EverySchedule(), Options::Random(20'000)}) {
    const Result broken = ExploreStarvation(options, options.strategy == Strategy::kExhaustive ? 2 : 4);
    EXPECT_EQ(broken.failure, Failure::kCheck) << broken.report;
  }
}

// --- Handshake

struct Shakes {
  int rounds = 1;  // of the target
  bool polls = true;
  int askers = 1;
  bool attached = kGilEnabled;  // the askers
  bool stops = false;           // another thread stops the world beside them
};

Result ExploreHandshake(const Options& options, const Shakes& shakes) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor target, askers[2], stopper;
    target.Make(world);
    schedule.Spawn("target", [&] { AttachPollDetach(world, target, 0, shakes.rounds, shakes.polls); });
    for (int i = 0; i < shakes.askers; ++i) {
      Actor& asker = askers[i];
      if (shakes.attached) asker.Make(world);
      schedule.Spawn("asker", [&] {
        const auto add = [](ThreadState&, void* argument) {
          auto& owned = *static_cast<Plain<int>*>(argument);
          owned.Set(owned.Get() + 100);
        };
        if (shakes.attached) asker.Enter();
        DETSCHED_CHECK(Handshake::Run(*target.state, add, &world.owned[0]) == HandshakeResult::kDone);
        if (shakes.attached) asker.state->Detach();
      });
    }
    if (shakes.stops) {
      if (kGilEnabled) stopper.Make(world);
      schedule.Spawn("stopper", [&] {
        if (kGilEnabled) stopper.Enter();
        StopAndLook(world, StopTheWorld(world.threads), 1, 1);
        if (kGilEnabled) stopper.state->Detach();
      });
    }
    schedule.Run();
    DETSCHED_CHECK(world.owned[0].Get() ==
                   100 * (shakes.askers + (shakes.stops ? 1 : 0)) + shakes.rounds * (shakes.polls ? 2 : 1));
    DeleteAll(world);
  });
}

TEST(TstateScheduleTest, HandshakeRunsOnceEverySchedule) {
  for (const bool polls : {false, true}) {
    ExpectComplete(ExploreHandshake(EverySchedule(/*stale_reads=*/2), {.polls = polls}));
    ExpectComplete(ExploreHandshake(EveryStep(), {.polls = polls}));
    if (!kGilEnabled) ExpectComplete(ExploreHandshake(EverySchedule(), {.polls = polls, .attached = true}));
  }
}

TEST(TstateScheduleTest, HandshakesBesideAStop) {
  ExpectWalks(
      [](const Options& options) {
        return ExploreHandshake(options, {.rounds = 2, .askers = 2, .stops = true});
      },
      8000);
}

TEST_F(StopScheduleTest, HandshakeRunsOnceAtASafePoint) {
  for (const bool polls : {false, true}) {
    ExpectWalks(
        [=](const Options& options) { return ExploreHandshake(options, {.rounds = 2, .polls = polls}); },
        5000);
  }
  for (const char* name : {"handshake_park_without_fence", "handshake_leaves_target_suspended"}) {
    detsched::ScopedMutant mutant(name);
    Result broken = ExploreHandshake(Options::Exhaustive(2), {.rounds = 2, .polls = false});
    if (broken.ok()) broken = ExploreHandshake(Options::Random(20'000), {.rounds = 2});
    EXPECT_EQ(broken.failure, Failure::kDeadlock) << name << ": " << broken.report;
  }
}

// --- QSBR

struct Reclaims {
  int readers = 1;
  int rounds = 1;
  bool clock = true;  // a third party moves it
  bool deferred = false;
};

// A reader follows a pointer; the writer unlinks the object and frees it when the goal is reached.
Result ExploreReclamation(const Options& options, const Reclaims& reclaims) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    const bool watched = world.CheckEachStep(schedule, options);
    Actor actors[2];
    Plain<int> object{7};
    Plain<int> other{8};
    Atomic<Plain<int>*> link{&object};
    detsched::Name(&link, "link");
    const Plain<int>* met[2] = {};  // by a reader that has not reported since; the model's, as what follows
    uint64_t goal = 0;
    bool freed = false;
    if (watched) {
      schedule.Invariant("nothing is freed that a reader has",
                         [&] { return !freed || (met[0] != &object && met[1] != &object); });
    }
    for (int i = 0; i < reclaims.readers; ++i) {
      Actor& actor = actors[i];
      actor.Make(world);
      schedule.Spawn("reader", [&, i] {
        actor.state->Bind();
        for (int round = 0; round < reclaims.rounds; ++round) {
          actor.state->Attach();
          const Plain<int>* const found = link.load(kAcquire);
          met[i] = found;
          if (watched) detsched::Point("has found it");
          const int value = found->Get();
          DETSCHED_CHECK(value == 7 || value == 8);
          met[i] = nullptr;
          actor.state->ReportQuiescent();
          actor.state->Detach();
        }
      });
    }
    if (reclaims.clock) schedule.Spawn("clock", [&] { world.threads.qsbr().Advance(); });
    schedule.Spawn("writer", [&] {
      Qsbr& qsbr = world.threads.qsbr();
      link.store(&other, kRelease);
      goal = reclaims.deferred ? qsbr.SharedNext() : qsbr.Advance();
      if (reclaims.deferred) qsbr.AdvanceTo(goal);
      for (int tries = 0; tries < 3 && !freed; ++tries) {
        freed = qsbr.Poll(goal);
        if (watched && freed) detsched::Point("frees");
        if (freed) object.Set(0);  // a race with any reader that still has it
        YieldCpu();
      }
    });
    schedule.Run();
    // Nobody is online: nothing holds the memory up any more.
    DETSCHED_CHECK(freed || world.threads.qsbr().Poll(goal));
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, B019_AReaderAndAWriterEverySchedule) {
  for (const bool deferred : {false, true}) {
    ExpectComplete(
        ExploreReclamation(EverySchedule(/*stale_reads=*/2), {.clock = false, .deferred = deferred}));
    ExpectComplete(ExploreReclamation(EveryStep(), {.clock = false, .deferred = deferred}));
  }
  detsched::ScopedMutant mutant("qsbr_poll_without_fence");
  const Result broken = ExploreReclamation(EveryStep(), {.clock = false});
  EXPECT_EQ(broken.failure, Failure::kInvariant) << broken.report;
}

TEST_F(StopScheduleTest, B019_AThirdPartyMovesTheClockEverySchedule) {
  for (const bool deferred : {false, true}) {
    ExpectComplete(ExploreReclamation(EverySchedule(), {.deferred = deferred}));
    ExpectComplete(ExploreReclamation(EveryStep(), {.deferred = deferred}));
  }
}

TEST_F(StopScheduleTest, B019_NothingIsFreedUnderAReader) {
  for (const bool deferred : {false, true}) {
    ExpectWalks(
        [=](const Options& options) {
          return ExploreReclamation(options, {.readers = 2, .rounds = 2, .deferred = deferred});
        },
        10'000);
  }
  for (const char* name : {"qsbr_poll_without_fence", "qsbr_offline_is_relaxed", "qsbr_online_is_relaxed",
                           "qsbr_shared_next_only_loads"}) {
    detsched::ScopedMutant mutant(name);
    const bool deferred = std::string_view(name) == "qsbr_shared_next_only_loads";
    const Result broken = ExploreReclamation(Options::Random(60'000), {.rounds = 2, .deferred = deferred});
    // Freed under a reader, or after it without knowing.
    EXPECT_TRUE(broken.failure == Failure::kInvariant || broken.failure == Failure::kRace)
        << name << ": " << broken.report;
  }
}

// --- The GIL

Result ExploreGil(const Options& options, int threads, int rounds, bool polls) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    if constexpr (!kGilEnabled) DETSCHED_CHECK(world.gil.AddEnableRequest());
    Actor actors[4];
    Plain<int> shared{0};
    for (int who = 0; who < threads; ++who) {
      Actor& actor = actors[who];
      actor.Make(world);
      schedule.Spawn("thread", [&] {
        actor.state->Bind();
        for (int i = 0; i < rounds; ++i) {
          actor.state->Attach();
          shared.Set(shared.Get() + 1);
          if (polls) {
            actor.state->Poll();
            shared.Set(shared.Get() + 1);
          }
          actor.state->Detach();
        }
      });
    }
    schedule.Run();
    DETSCHED_CHECK(shared.Get() == threads * rounds * (polls ? 2 : 1));
    DeleteAll(world);
  });
}

TEST(TstateScheduleTest, AttachUnderTheGilEverySchedule) {
  for (const bool polls : {false, true}) {
    ExpectComplete(ExploreGil(EverySchedule(/*stale_reads=*/2), 2, 1, polls));
    ExpectComplete(ExploreGil(EveryStep(), 2, 1, polls));
  }
}

TEST(TstateScheduleTest, AttachExcludesUnderTheGilAndEveryThreadGetsItsTurn) {
  for (const int threads : {2, 4}) {
    ExpectWalks([=](const Options& options) { return ExploreGil(options, threads, 2, /*polls=*/true); },
                threads == 2 ? 6000 : 3000);
  }
}

// B080: the GIL is switched on, with the world stopped, while another thread attaches.
Result ExploreEnable(const Options& options, int rounds) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor actors[2];
    Plain<int> shared{0};
    Atomic<uint32_t> on{0};
    actors[0].Make(world);
    actors[1].Make(world);
    schedule.Spawn("enabler", [&] {
      actors[0].state->Bind();
      {
        StopTheWorld stop(world.threads);
        stop.Stop();
        world.Stopped(nullptr);
        world.gil.AddEnableRequest();
        world.Starting();
        stop.Start();
      }
      on.store(1, kRelease);
      actors[0].state->Attach();
      shared.Set(shared.Get() + 1);
      actors[0].state->Detach();
    });
    schedule.Spawn("other", [&] {
      actors[1].state->Bind();
      for (int i = 0; i < rounds; ++i) {
        actors[1].state->Attach();
        if (actors[1].state->gil_holder().holds()) shared.Set(shared.Get() + 1);
        actors[1].state->Poll();
        DETSCHED_CHECK(on.load(kAcquire) == 0 || actors[1].state->gil_holder().holds() ||
                       actors[1].state->breaker().AnyPending());
        actors[1].state->Detach();
      }
    });
    schedule.Run();
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, B080_SwitchingTheGilOnEverySchedule) {
  ExpectComplete(ExploreEnable(EverySchedule(), 1));
  ExpectComplete(ExploreEnable(EveryStep(), 1));
}

TEST_F(StopScheduleTest, B080_AttachRacesWithSwitchingTheGilOn) {
  ExpectWalks([](const Options& options) { return ExploreEnable(options, 2); }, 10'000);
  detsched::ScopedMutant mutant("b080_attach_keeps_going_without_gil");
  const Result broken = ExploreEnable(Options::Random(40'000), 2);
  EXPECT_EQ(broken.failure, Failure::kCheck) << broken.report;
}

// --- The end

// A foreign thread makes a state while a finalizer takes the others' away: it is told to leave, or it comes later.
// Found by tstate_schedule_fuzz: shut down and removed in two steps, a state that came between them was deleted
// under its thread, which attached.
Result ExploreRemoval(const Options& options) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Mutex start;  // as the interpreter's
    Actor finalizer;
    finalizer.Make(world);
    schedule.Spawn("foreign", [&] {
      ThreadState* const thread = world.threads.New(Whence::kCApi);
      {
        const MutexLock lock(start);
        if (thread->must_exit()) return thread->DecRef();
        thread->Bind();
        world.Watch(thread);
      }
      thread->Attach();
      world.Leave(*thread);
    });
    schedule.Spawn("finalizer", [&] {
      finalizer.Enter();
      ThreadState* removed;
      {
        StopTheWorld stop(world.threads);
        stop.Stop();
        world.Stopped(finalizer.state);
        const MutexLock lock(start);
        removed = world.threads.RemoveAllExcept(finalizer.state, /*shut_down=*/true);
        world.WatchOnly(finalizer.state);
        world.Starting();
        stop.Start();
      }
      InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
      world.Leave(*finalizer.state);
    });
    schedule.Run();
    world.CheckPristine();
  });
}

TEST(TstateScheduleTest, Regression_StateMadeWhileTheOthersAreRemoved) {
  ExpectComplete(ExploreRemoval(EverySchedule()));
  ExpectWalks(&ExploreRemoval, 10'000);
}

// --- Threads that die

// What a thread wants of all others, or of the one that may be dead.
enum class Wish : uint8_t { kStop, kStopAll, kHandshake };

// Where a thread may die. Nobody waits for one that dies detached, or suspended by a stop, outside of Detach: before it
// attaches, in Attach, after Detach. Somebody waits for ever for one that dies
//  - attached: every stop, as CPython's does;
//  - in Detach, between the word and the tokens for which it has to account: a stopper that has fallen asleep does not look
//    again (CPython's, which looks every millisecond, would);
//  - asleep in Attach until a stop ends: it may come in before the next stop, which waits for it to do so (gh-151518).
// A thread ends, or hangs, where the runtime lets it, so in none of these. What dies in Attach otherwise holds up memory that
// waits for readers, as it may be online, and a finalizer that deletes its state as that of a living thread.
enum class MayDieIn : uint8_t { kSafePlaces, kAttached, kDetach, kSleep };

struct Dying {
  Wish wish = Wish::kStop;
  int wishes = 1;
  bool polls = false;
  detsched::Death death = detsched::Death::kHang;
  MayDieIn place = MayDieIn::kSafePlaces;
};

// A thread that dies at any of its steps beside one that stops the world, or shakes hands with it.
Result ExploreDeath(const Options& options, const Dying& dying, int* deaths = nullptr) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor victim;
    victim.Make(world);
    bool bound = false;   // the model's, as what follows
    bool outside = true;  // of Detach, and of a poll that may detach
    bool dead = false;
    int own = 0;
    int wishes = 0;
    const detsched::FiberId fiber = schedule.Spawn("victim", [&] {
      victim.state->Bind();
      bound = true;
      victim.state->Attach();
      for (const bool poll : {false, true}) {
        if (poll && !dying.polls) continue;
        outside = false;
        if (poll) victim.state->Poll();
        world.owned[0].Set(world.owned[0].Get() + 1);
        ++own;
      }
      victim.state->Detach();
      outside = true;
    });
    schedule.MaySignal(fiber, [&] {
      const RunState state = victim.state->run_state();
      const bool detached = state == RunState::kDetached || state == RunState::kSuspended;
      // Once the world is stopped all have accounted for themselves.
      const bool accounted = outside || world.stopped;
      const bool here = dying.place == MayDieIn::kSafePlaces ? bound && detached && accounted
                        : dying.place == MayDieIn::kAttached ? state == RunState::kAttached
                        : dying.place == MayDieIn::kDetach   ? detached && !accounted
                                                             : state == RunState::kSuspendedWaiting;
      if (!here) return;  // the same death comes some steps earlier or later
      dead = true;
      detsched::Kill(detsched::CurrentFiber(), dying.death);
    });
    schedule.Spawn("lives", [&] {
      for (; wishes < dying.wishes; ++wishes) {
        if (dying.wish == Wish::kHandshake) {
          const auto add = [](ThreadState&, void* argument) {
            auto& owned = *static_cast<Plain<int>*>(argument);
            owned.Set(owned.Get() + 100);
          };
          DETSCHED_CHECK(Handshake::Run(*victim.state, add, &world.owned[0]) == HandshakeResult::kDone);
        } else {
          StopAndLook(
              world,
              dying.wish == Wish::kStopAll ? StopTheWorld(world.registry) : StopTheWorld(world.threads), 1,
              1);
        }
      }
    });
    schedule.Run();
    DETSCHED_CHECK(wishes == dying.wishes);
    DETSCHED_CHECK(world.owned[0].Get() == 100 * wishes + own);
    DETSCHED_CHECK(dead || own == (dying.polls ? 2 : 1));
    if (deaths != nullptr && dead) ++*deaths;
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, AThreadThatDiesDetachedHoldsNobodyUp) {
  const auto expect_complete = [](const Options& options, const Dying& dying) {
    int deaths = 0;
    const Result result = ExploreDeath(options, dying, &deaths);
    ExpectComplete(result);
    EXPECT_GT(deaths, 1000);
  };
  Options every_step = EveryStep();
  every_step.stale_reads = 0;
  expect_complete(every_step, {.wish = Wish::kStop});
  expect_complete(every_step, {.wish = Wish::kStopAll});
  expect_complete(every_step, {.wish = Wish::kHandshake, .wishes = 2, .polls = true});
  Options one_preemption = EveryStep();
  one_preemption.preemption_bound = 1;
  expect_complete(one_preemption,
                  {.wish = Wish::kStop, .wishes = 2, .polls = true, .death = detsched::Death::kExit});
}

// What the protocol does not promise, so that the scenario above is seen to look.
TEST_F(StopScheduleTest, AThreadThatDiesAttachedInDetachOrAsleepHoldsUpStops) {
  const auto expect_held_up = [](const Dying& dying) {
    Options options = EverySchedule(/*stale_reads=*/0);
    options.shrink = false;
    const Result result = ExploreDeath(options, dying);
    EXPECT_EQ(result.failure, Failure::kDeadlock) << result.report;
  };
  for (const MayDieIn place : {MayDieIn::kAttached, MayDieIn::kDetach}) {
    for (const Wish wish : {Wish::kStop, Wish::kStopAll, Wish::kHandshake}) {
      expect_held_up({.wish = wish, .place = place});
    }
  }
  expect_held_up({.wish = Wish::kHandshake, .wishes = 2, .place = MayDieIn::kSleep});
}

// A daemon beside a finalizer that shuts it down: wherever it is it hangs when it wants in, and neither the finalizer's
// own way out nor a stop after it waits for the daemon.
Result ExploreDaemon(const Options& options, bool polls) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor daemon, finalizer;
    daemon.Make(world);
    finalizer.Make(world);
    Atomic<uint32_t> bound{0};
    bool over = false;  // the model's, as what follows
    bool went = false;
    bool ended = false;
    schedule.Spawn("daemon", [&] {
      daemon.state->Bind();
      bound.store(1, kRelease);
      for (int round = 0; round < 2; ++round) {
        daemon.state->Attach();
        DETSCHED_CHECK(!over);
        world.owned[0].Set(world.owned[0].Get() + 1);
        if (polls) {
          daemon.state->Poll();
          DETSCHED_CHECK(!over);
        }
        daemon.state->Detach();
      }
      went = true;
    });
    schedule.Spawn("finalizer", [&] {
      while (bound.load(kAcquire) == 0) CpuRelax();
      finalizer.Enter();
      ThreadState* removed;
      {
        StopTheWorld stop(world.threads);
        stop.Stop();
        world.Stopped(finalizer.state);
        removed = world.threads.RemoveAllExcept(finalizer.state, /*shut_down=*/true);
        world.owned[0].Set(world.owned[0].Get() + 100);
        world.WatchOnly(finalizer.state);
        over = true;
        world.Starting();
        stop.Start();
      }
      InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
      StopAndLook(world, StopTheWorld(world.registry), 1, 1);
      world.Leave(*finalizer.state);
      ended = true;
    });
    schedule.Run();
    DETSCHED_CHECK(ended);
    DETSCHED_CHECK(went == (schedule.hung() == 0));
    DETSCHED_CHECK(world.owned[0].Get() >= 200 && world.owned[0].Get() <= 202);
    world.CheckPristine();
  });
}

TEST(TstateScheduleTest, gh_87135_ADaemonThatHangsAtTheEndHoldsNobodyUp) {
  ExpectComplete(ExploreDaemon(EveryStep(), /*polls=*/false));
  ExpectComplete(ExploreDaemon(EverySchedule(/*stale_reads=*/0), /*polls=*/true));
  detsched::ScopedMutant mutant("gh_124878_removed_and_not_shut_down");
  Options options = EverySchedule();
  options.shrink = false;
  options.isolate = true;  // the state is freed under its thread
  const Result broken = ExploreDaemon(options, /*polls=*/false);
  EXPECT_FALSE(broken.ok());
  EXPECT_NE(broken.failure, Failure::kUsage) << broken.report;
}

// --- The list

enum class Look : uint8_t { kForEach, kFind, kSetAsyncException };

// A thread goes through the list while another one makes a state and deletes it: it meets no state that has gone, what
// it finds stays as long as it wants, and an exception that it leaves is taken or released.
Result ExploreTraversal(const Options& options, Look look) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor looker;
    looker.Make(world);
    Atomic<uint64_t> ident{0};
    Atomic<int> living{0};
    const ThreadState* met = nullptr;  // in a visit; the model's
    bool told = false;
    int taken = 0;
    schedule.Spawn("comes and goes", [&] {
      ident.store(CurrentThreadIdent(), kRelease);
      ThreadState& self = world.Enter();
      const ThreadState* const its = &self;
      if (self.breaker().IsSet(BreakerEvent::kAsyncException)) {
        if (self.data().async_exception.Take(self.breaker()) != nullptr) ++taken;
      }
      world.Leave(self);
      DETSCHED_CHECK(met != its);
    });
    schedule.Spawn("looks", [&] {
      while (ident.load(kAcquire) == 0) CpuRelax();
      switch (look) {
        case Look::kForEach: {
          int seen = 0;
          int own = 0;
          world.threads.ForEach([&](ThreadState& thread) {
            met = &thread;
            ++seen;
            own += &thread == looker.state;
            detsched::Point("visits");
            met = nullptr;
          });
          DETSCHED_CHECK(own == 1 && seen <= 2);
          break;
        }
        case Look::kFind: {
          ThreadState* const found = world.threads.Find(ident.load(kRelaxed));
          if (found == nullptr) break;
          detsched::Point("holds what it found");
          DETSCHED_CHECK(found->thread_id() == ident.load(kRelaxed));
          found->DecRef();
          break;
        }
        case Look::kSetAsyncException:
          looker.Enter();
          told = world.threads.SetAsyncException(ident.load(kRelaxed), MakeRef<Counted>(&living));
          looker.state->Detach();
          break;
      }
    });
    schedule.Run();
    DETSCHED_CHECK(living.load(kRelaxed) == 0);
    DETSCHED_CHECK(taken <= (told ? 1 : 0));
    DeleteAll(world);
  });
}

TEST(TstateScheduleTest, TS86_ATraversalBesideAStateThatComesAndGoesEverySchedule) {
  for (const Look look : {Look::kForEach, Look::kFind, Look::kSetAsyncException}) {
    ExpectComplete(ExploreTraversal(EverySchedule(/*stale_reads=*/2), look));
  }
}

// --- Fork

enum class Beside : uint8_t { kAttach, kNew, kHandshake, kStop, kStopAll };

// One thread stops all, forks, and in whichever process it is afterwards it stops and starts the world again,
// makes a state, and leaves. In the child the others are gone wherever they were, with what they held.
// `briefly`: it does less afterwards. Where a newborn does not touch what a stopper does, the invariant alone sees it run.
Result ExploreFork(Options options, const std::vector<Beside>& others, bool briefly = false,
                   bool newborn_touches = true) {
  options.fork = detsched::ForkSide::kEither;
  options.isolate = true;  // a failure leaves the parking lot in disorder
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Actor forker, actors[3];
    forker.Make(world);
    forker.state->IncRef();
    schedule.Spawn("forker", [&] {
      ThreadState& self = *forker.state;
      forker.Enter();
      static_cast<void>(world.Fork(self));
      StopAndLook(world, StopTheWorld(world.threads), 3, 1);
      if (!briefly) {
        StopAndLook(world, StopTheWorld(world.registry), 3, 1);
        ThreadState* const made = world.threads.New(Whence::kThreading);
        InterpreterThreads::Clear(*made);
        InterpreterThreads::Delete(made);
        self.Poll();
      }
      world.Leave(self);
    });
    for (size_t who = 0; who < others.size(); ++who) {
      Actor& actor = actors[who];
      Plain<int>& mine = world.owned[who];
      switch (others[who]) {
        case Beside::kAttach:
          actor.Make(world);
          schedule.Spawn("attaches", [&, who] {
            AttachPollDetach(world, actor, static_cast<int>(who), 1, /*polls=*/true);
          });
          break;
        case Beside::kNew:
          schedule.Spawn("newborn", [&] {
            ThreadState& self = world.Enter();
            if (newborn_touches) mine.Set(mine.Get() + 1);
            world.Leave(self);
          });
          break;
        case Beside::kHandshake:
          actor.Make(world);
          schedule.Spawn("asker", [&] {
            actor.Enter();
            static_cast<void>(Handshake::Run(
                *forker.state, [](ThreadState&, void*) {}, nullptr));
            mine.Set(mine.Get() + 1);
            actor.state->Detach();
          });
          break;
        case Beside::kStop:
        case Beside::kStopAll: {
          const bool all = others[who] == Beside::kStopAll;
          actor.Make(world);
          schedule.Spawn("stopper", [&, all] {
            actor.Enter();
            StopAndLook(world, all ? StopTheWorld(world.registry) : StopTheWorld(world.threads), 3, 1);
            actor.state->Detach();
          });
          break;
        }
      }
    }
    schedule.Run();
    int stops = briefly ? 1 : 2;
    for (const Beside other : others) stops += other == Beside::kStop || other == Beside::kStopAll;
    for (size_t who = 0; who < others.size() && !schedule.forked(); ++who) {
      int own = 0;
      if (others[who] == Beside::kAttach) own = 2;
      if (others[who] == Beside::kNew) own = newborn_touches ? 1 : 0;
      if (others[who] == Beside::kHandshake) own = 1;
      DETSCHED_CHECK(world.owned[who].Get() == 100 * stops + own);
    }
    DETSCHED_CHECK(!schedule.forked() || world.threads.size() == 0);
    DeleteAll(world);
    forker.state->DecRef();
  });
}

TEST(TstateScheduleTest, B029_ForkBesideAnotherThreadEverySchedule) {
  for (const Beside beside :
       {Beside::kAttach, Beside::kNew, Beside::kHandshake, Beside::kStop, Beside::kStopAll}) {
    ExpectComplete(ExploreFork(EverySchedule(/*stale_reads=*/0), {beside}, /*briefly=*/true));
  }
}

TEST(TstateScheduleTest, B029_NobodyElseIsAttachedAtAnyStepOfAFork) {
  Options every_step = EveryStep();
  every_step.stale_reads = 0;
  for (const Beside beside :
       {Beside::kAttach, Beside::kNew, Beside::kHandshake, Beside::kStop, Beside::kStopAll}) {
    ExpectComplete(ExploreFork(every_step, {beside}, /*briefly=*/true));
  }
  if constexpr (kGilEnabled) return;
  detsched::ScopedMutant mutant("stw_newborn_is_not_suspended");
  every_step.shrink = false;
  const Result broken = ExploreFork(every_step, {Beside::kNew}, /*briefly=*/true, /*newborn_touches=*/false);
  EXPECT_EQ(broken.failure, Failure::kInvariant) << broken.report;
}

TEST(TstateScheduleTest, B029_ForkBesideThreadsThatComeAskAndStop) {
  for (const std::vector<Beside>& others :
       {std::vector{Beside::kNew, Beside::kAttach, Beside::kStop},
        std::vector{Beside::kNew, Beside::kHandshake, Beside::kStopAll}}) {
    ExpectWalks([&](const Options& options) { return ExploreFork(options, others); }, 3000);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
