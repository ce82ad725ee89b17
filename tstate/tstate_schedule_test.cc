// The shipping attach, detach, stop-the-world, handshake, QSBR and deletion on the deterministic scheduler, and
// for each line whose absence has been a bug somewhere a mutant that must be found. What only threads without a
// GIL can do is explored in that build; the GIL-enabled build explores the rest.

#include <memory>
#include <string>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/handshake.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

using World = ScheduleWorld;

Options Base(Options options) {
  options.reset = &ScheduleWorld::Reset;
  return options;
}

// States are made before the threads start, so that schedules are about attaching.
struct Actor {
  void Make(World& world) { state = world.threads.New(Whence::kThreading); }
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
    for (int who = 0; who < threads; ++who) world.owned[who].Set(world.owned[who].Get() + 100);
    stop.Start();
  }
}

void DeleteAll(World& world) { world.DeleteAll(); }

Result ExploreStop(Options options, int threads, int rounds, bool polls, bool global, int times = 1) {
  return Explore(Base(std::move(options)), [=](Schedule& schedule) {
    World world;
    Actor actors[4];
    static constexpr const char* kNames[] = {"a", "b", "c", "d"};
    for (int who = 0; who < threads; ++who) {
      actors[who].Make(world);
      schedule.Spawn(kNames[who], [&, who] { AttachPollDetach(world, actors[who], who, rounds, polls); });
    }
    schedule.Spawn("stopper", [&] {
      StopAndLook(world, global ? StopTheWorld(world.registry) : StopTheWorld(world.threads), threads, times);
    });
    schedule.Run();
    for (int who = 0; who < threads; ++who) {
      DETSCHED_CHECK(world.owned[who].Get() == rounds * (polls ? 2 : 1) + 100 * times);
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
      const Result result = ExploreStop(Options::Exhaustive(2), 1, 1, polls, global);
      EXPECT_TRUE(result.ok()) << result.report;
      EXPECT_TRUE(result.complete);
    }
  }
}

TEST_F(StopScheduleTest, B055_ManyThreads) {
  const Result random = ExploreStop(Options::Random(3000), 3, 2, true, false, 2);
  EXPECT_TRUE(random.ok()) << random.report;
  const Result pct = ExploreStop(Options::Pct(3, 3000), 3, 2, true, true, 2);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

TEST_F(StopScheduleTest, B055_WithMishaps) {
  Options options = Options::Random(2000);
  options.spurious_wakeups = 2;
  options.weak_cas_failures = 2;
  const Result result = ExploreStop(std::move(options), 2, 2, true, false, 2);
  EXPECT_TRUE(result.ok()) << result.report;
  options = Options::Random(1000);
  options.membarrier = false;
  const Result fenced = ExploreStop(std::move(options), 2, 2, true, false, 2);
  EXPECT_TRUE(fenced.ok()) << fenced.report;
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
    Result result = ExploreStop(Options::Exhaustive(2), 1, 1, false, false);
    if (result.ok()) result = ExploreStop(Options::Exhaustive(2), 1, 1, true, false);
    EXPECT_EQ(result.failure, mutation.failure) << mutation.mutant << ": " << result.report;
  }
}

// --- Deletion

Result ExploreDeletion(Options options) {
  return Explore(Base(std::move(options)), [](Schedule& schedule) {
    World world;
    schedule.Spawn("leaver", [&] {
      ThreadState& thread = world.Enter();
      world.owned[0].Set(1);
      world.Leave(thread);
    });
    schedule.Spawn("stopper", [&] {
      StoppedWorld stopped(world.threads);
      world.owned[1].Set(1);
    });
    schedule.Run();
    world.CheckPristine();
  });
}

TEST_F(StopScheduleTest, B058_AThreadThatDeletesItselfCompletesTheStop) {
  const Result result = ExploreDeletion(Options::Random(4000));
  EXPECT_TRUE(result.ok()) << result.report;
  detsched::ScopedMutant mutant("stw_deletion_is_not_an_acknowledgement");
  const Result broken = ExploreDeletion(Options::Random(20'000));
  EXPECT_EQ(broken.failure, Failure::kDeadlock) << broken.report;
}

// --- Several stoppers, deadlines, starvation

TEST_F(StopScheduleTest, B056_StoppersExcludeEachOtherAndAnAttachedOneIsStopped) {
  const Result result = Explore(Base(Options::Random(3000)), [](Schedule& schedule) {
    World world;
    Plain<int> stopped_all{0};
    Actor actor;
    actor.Make(world);
    schedule.Spawn("attached", [&] {
      actor.state->Bind();
      actor.state->Attach();
      {
        StoppedWorld stopped(world.threads);
        stopped_all.Set(stopped_all.Get() + 1);
      }
      actor.state->Poll();
      actor.state->Detach();
    });
    schedule.Spawn("global", [&] {
      StoppedWorld stopped(world.registry);
      stopped_all.Set(stopped_all.Get() + 1);
    });
    schedule.Spawn("detached", [&] {
      StoppedWorld stopped(world.threads);
      stopped_all.Set(stopped_all.Get() + 1);
    });
    schedule.Run();
    DETSCHED_CHECK(stopped_all.Get() == 3);
    DeleteAll(world);
  });
  EXPECT_TRUE(result.ok()) << result.report;
}

TEST_F(StopScheduleTest, AStopThatGivesUpLetsEverybodyGo) {
  Options options = Options::Random(4000);
  options.early_timeouts = 2;
  int given_up = 0;
  const Result result = Explore(Base(std::move(options)), [&](Schedule& schedule) {
    World world;
    Actor actors[2];
    actors[0].Make(world);
    actors[1].Make(world);
    schedule.Spawn("a", [&] { AttachPollDetach(world, actors[0], 0, 2, true); });
    schedule.Spawn("b", [&] { AttachPollDetach(world, actors[1], 1, 1, true); });
    bool stopped = false;
    schedule.Spawn("stopper", [&] {
      StopTheWorld stop(world.threads);
      stopped = stop.Stop(MonotonicNow() + 1000);
      if (stopped) {
        world.owned[0].Set(world.owned[0].Get() + 100);
        world.owned[1].Set(world.owned[1].Get() + 100);
        stop.Start();
      }
    });
    schedule.Run();
    if (!stopped) ++given_up;
    DETSCHED_CHECK(world.owned[0].Get() == 4 + (stopped ? 100 : 0));
    DeleteAll(world);
  });
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_GT(given_up, 0);
}

// A stopper in a loop against a thread that wants to attach: bounded bypass (gh-151518).
Result ExploreStarvation(Options options) {
  return Explore(Base(std::move(options)), [](Schedule& schedule) {
    World world;
    Actor actor;
    actor.Make(world);
    Plain<bool> waits{false};
    Atomic<uint32_t> attached{0};
    schedule.Spawn("waiter", [&] {
      actor.state->Bind();
      actor.state->Attach();
      attached.store(1, kSeqCst);
      actor.state->Detach();
    });
    schedule.Spawn("stopper", [&] {
      int bypassed = 0;
      for (int i = 0; i < 4; ++i) {
        StopTheWorld stop(world.threads);
        stop.Stop();
        // Once the thread has said that it waits, it gets in before the next stop but one.
        if (bypassed > 0) DETSCHED_CHECK(attached.load(kSeqCst) == 1);
        while (attached.load(kSeqCst) == 0 && actor.state->run_state() == RunState::kSuspended) {
          if (i < 2) break;
          CpuRelax();
        }
        if (actor.state->run_state() == RunState::kSuspendedWaiting) ++bypassed;
        stop.Start();
      }
    });
    schedule.Run();
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, B059_AThreadThatWaitsIsBypassedOnceAtMost) {
  const Result result = ExploreStarvation(Options::Random(4000));
  EXPECT_TRUE(result.ok()) << result.report;
  detsched::ScopedMutant mutant("gh_151518_resume_forgets_the_waiter");
  const Result broken = ExploreStarvation(Options::Random(20'000));
  EXPECT_FALSE(broken.ok());
  EXPECT_EQ(broken.failure, Failure::kCheck) << broken.report;
}

// --- Handshake

Result ExploreHandshake(Options options, bool polls) {
  return Explore(Base(std::move(options)), [=](Schedule& schedule) {
    World world;
    Actor actor;
    actor.Make(world);
    schedule.Spawn("target", [&, polls] { AttachPollDetach(world, actor, 0, 2, polls); });
    schedule.Spawn("asker", [&] {
      const auto add = [](ThreadState&, void* argument) {
        auto& owned = *static_cast<Plain<int>*>(argument);
        owned.Set(owned.Get() + 100);
      };
      DETSCHED_CHECK(Handshake::Run(*actor.state, add, &world.owned[0]) == HandshakeResult::kDone);
    });
    schedule.Run();
    DETSCHED_CHECK(world.owned[0].Get() == 100 + (polls ? 4 : 2));
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, HandshakeRunsOnceAtASafePoint) {
  for (const bool polls : {false, true}) {
    const Result result = ExploreHandshake(Options::Random(4000), polls);
    EXPECT_TRUE(result.ok()) << result.report;
  }
  for (const char* name : {"handshake_park_without_fence", "handshake_leaves_target_suspended"}) {
    detsched::ScopedMutant mutant(name);
    Result broken = ExploreHandshake(Options::Exhaustive(2), false);
    if (broken.ok()) broken = ExploreHandshake(Options::Random(20'000), true);
    EXPECT_EQ(broken.failure, Failure::kDeadlock) << name << ": " << broken.report;
  }
}

// --- QSBR

// A reader follows a pointer; the writer unlinks the object and frees it when the goal is reached.
Result ExploreReclamation(Options options, bool deferred) {
  return Explore(Base(std::move(options)), [=](Schedule& schedule) {
    World world;
    Actor actor;
    actor.Make(world);
    Plain<int> object{7};
    Plain<int> other{8};
    Atomic<Plain<int>*> link{&object};
    detsched::Name(&link, "link");
    schedule.Spawn("reader", [&] {
      actor.state->Bind();
      for (int i = 0; i < 2; ++i) {
        actor.state->Attach();
        const int value = link.load(kAcquire)->Get();
        DETSCHED_CHECK(value == 7 || value == 8);
        actor.state->ReportQuiescent();
        actor.state->Detach();
      }
    });
    schedule.Spawn("clock", [&] { world.threads.qsbr().Advance(); });
    schedule.Spawn("writer", [&, deferred] {
      Qsbr& qsbr = world.threads.qsbr();
      link.store(&other, kRelease);
      const uint64_t goal = deferred ? qsbr.SharedNext() : qsbr.Advance();
      if (deferred) qsbr.AdvanceTo(goal);
      for (int tries = 0; tries < 3; ++tries) {
        if (qsbr.Poll(goal)) {
          object.Set(0);  // a race with any reader that still has it
          break;
        }
        YieldCpu();
      }
    });
    schedule.Run();
    DeleteAll(world);
  });
}

TEST_F(StopScheduleTest, B019_NothingIsFreedUnderAReader) {
  for (const bool deferred : {false, true}) {
    const Result result = ExploreReclamation(Options::Random(6000), deferred);
    EXPECT_TRUE(result.ok()) << result.report;
  }
  for (const char* name : {"qsbr_poll_without_fence", "qsbr_offline_is_relaxed", "qsbr_online_is_relaxed"}) {
    detsched::ScopedMutant mutant(name);
    const Result broken = ExploreReclamation(Options::Random(60'000), false);
    EXPECT_EQ(broken.failure, Failure::kRace) << name << " survived";
  }
  detsched::ScopedMutant mutant("qsbr_shared_next_only_loads");
  const Result broken = ExploreReclamation(Options::Random(60'000), true);
  EXPECT_EQ(broken.failure, Failure::kRace) << broken.report;
}

// --- Both builds

TEST(TstateScheduleTest, AttachExcludesUnderTheGilAndEveryThreadGetsItsTurn) {
  const Result result = Explore(Base(Options::Random(3000)), [](Schedule& schedule) {
    World world;
    if constexpr (!kGilEnabled) DETSCHED_CHECK(world.gil.AddEnableRequest());
    Actor actors[2];
    Plain<int> shared{0};
    for (Actor& actor : actors) {
      actor.Make(world);
      schedule.Spawn("thread", [&] {
        actor.state->Bind();
        for (int i = 0; i < 2; ++i) {
          actor.state->Attach();
          shared.Set(shared.Get() + 1);
          actor.state->Poll();
          shared.Set(shared.Get() + 1);
          actor.state->Detach();
        }
      });
    }
    schedule.Run();
    DETSCHED_CHECK(shared.Get() == 8);
    DeleteAll(world);
  });
  EXPECT_TRUE(result.ok()) << result.report;
}

// B080: the GIL is switched on, with the world stopped, while another thread attaches.
Result ExploreEnable(Options options) {
  return Explore(Base(std::move(options)), [](Schedule& schedule) {
    World world;
    Actor actors[2];
    Plain<int> shared{0};
    Atomic<uint32_t> on{0};
    actors[0].Make(world);
    actors[1].Make(world);
    schedule.Spawn("enabler", [&] {
      actors[0].state->Bind();
      {
        StoppedWorld stopped(world.threads);
        world.gil.AddEnableRequest();
      }
      on.store(1, kRelease);
      actors[0].state->Attach();
      shared.Set(shared.Get() + 1);
      actors[0].state->Detach();
    });
    schedule.Spawn("other", [&] {
      actors[1].state->Bind();
      for (int i = 0; i < 2; ++i) {
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

TEST_F(StopScheduleTest, B080_AttachRacesWithSwitchingTheGilOn) {
  const Result result = ExploreEnable(Options::Random(6000));
  EXPECT_TRUE(result.ok()) << result.report;
  detsched::ScopedMutant mutant("b080_attach_keeps_going_without_gil");
  const Result broken = ExploreEnable(Options::Random(40'000));
  EXPECT_EQ(broken.failure, Failure::kCheck) << broken.report;
}

// A foreign thread makes a state while a finalizer takes the others' away: it is told to leave, or it comes later.
// Found by tstate_schedule_fuzz: shut down and removed in two steps, a state that came between them was deleted
// under its thread, which attached.
TEST(TstateScheduleTest, Regression_StateMadeWhileTheOthersAreRemoved) {
  const Result result = Explore(Base(Options::Random(6000)), [](Schedule& schedule) {
    World world;
    Mutex start;  // as the interpreter's
    schedule.Spawn("foreign", [&] {
      ThreadState* const thread = world.threads.New(Whence::kCApi);
      {
        const MutexLock lock(start);
        if (thread->must_exit()) return thread->DecRef();
        thread->Bind();
      }
      thread->Attach();
      world.Leave(*thread);
    });
    schedule.Spawn("finalizer", [&] {
      ThreadState& thread = world.Enter();
      ThreadState* removed;
      {
        const StoppedWorld stopped(world.threads);
        const MutexLock lock(start);
        removed = world.threads.RemoveAllExcept(&thread, /*shut_down=*/true);
      }
      InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
      world.Leave(thread);
    });
    schedule.Run();
    world.CheckPristine();
  });
  EXPECT_TRUE(result.ok()) << result.report;
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
