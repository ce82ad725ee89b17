// Ensure and Release against Finalize on the deterministic scheduler: a foreign thread gets in and out, is refused,
// or hangs; it is never half in, and it touches nothing of an interpreter that has gone.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <set>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/gil_state.h"
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
using detsched::Watched;

// The main interpreter as foreign threads see it, and its end.
struct World {
  World() {
    Build();
    link = &threads->link();
    directory = {&registry, [](int64_t) { return link; }};
    SetInterpreterDirectory(&directory);
  }
  ~World() {
    link = nullptr;
    SetInterpreterDirectory(nullptr);
  }

  void Build() {
    gil.emplace();
    gil->set_interval(1);
    if (threads.has_value()) return;
    threads.emplace(InterpreterThreads::Options{.registry = &registry, .gil = &*gil});
    threads->link().guards = &guards;
  }
  ThreadState& Enter() {
    ThreadState* const thread = threads->NewBound();
    thread->Attach();
    return *thread;
  }
  // Waits for guards as a finalizer does, attached in between. Afterwards there are none, for ever.
  void CloseGuards() {
    while (!guards.CloseIfNone()) guards.WaitUntilNone(kNoDeadline, ThreadState::DetachWhileWaiting());
  }
  // The others may never attach again, and their states are gone. Attached.
  void TakeTheOthers(ThreadState& self) {
    ThreadState* removed = nullptr;
    {
      StoppedWorld stopped(*threads);
      threads->ShutDownAllExcept(&self);
      removed = threads->RemoveAllExcept(&self);
      may_be_attached = 1;
    }
    InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
  }
  // After each step: never two under one GIL, and after the end the finalizer alone.
  void CheckEachStep(Schedule& schedule) {
    schedule.Invariant("nobody is attached beside the GIL's holder, or after the end", [this] {
      if (!threads.has_value()) return true;  // being freed
      int attached = 0;
      threads->UnlockedForEach([&](const ThreadState& thread) { attached += thread.attached(); });
      return attached <= may_be_attached;
    });
  }
  void DeleteSelf(ThreadState& self) {
    InterpreterThreads::Clear(self);
    InterpreterThreads::DeleteCurrent();
  }
  // The interpreter's memory is somebody else's from now on: an access to what stood there races. The list stays for
  // threads that have not noticed yet, as their last word goes there (lost_states).
  void FreeInterpreter() {
    if (threads->lost_states() == 0) threads.reset();
    gil.reset();
    Build();
  }

  ThreadRegistry registry;
  FinalizationGuards guards;
  InterpreterDirectory directory;
  std::optional<Gil> gil;
  std::optional<InterpreterThreads> threads;
  int may_be_attached = kGilEnabled ? 1 : std::numeric_limits<int>::max();
  static inline InterpreterLink* link = nullptr;
};

void Walk(void (*scenario)(Schedule&), uint64_t schedules) {
  ExpectWalks([=](const Options& options) { return Explore(Base(options), scenario); }, schedules);
}

// Foreign threads ensure while the interpreter finalizes: in or out, never half (TS-47).
void EnsureBesideTheEnd(Schedule& schedule, int threads, Watched watched = Watched::kNo) {
  World world;
  if (watched == Watched::kYes) world.CheckEachStep(schedule);
  Plain<int> inside[2];
  int ensured = 0;
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn("foreign", [&, i] {
      const EnsureToken token = EnsureAttachedFromView(InterpreterView::FromMain());
      if (!token) return;
      inside[i].Set(inside[i].Get() + 1);
      ++ensured;
      ReleaseAttached(token);
    });
  }
  schedule.Spawn("finalizer", [&] {
    while (!world.guards.CloseIfNone()) world.guards.WaitUntilNone(kNoDeadline, nullptr);
    world.may_be_attached = 0;
    for (Plain<int>& one : inside) one.Set(one.Get() + 100);
    DETSCHED_CHECK(world.threads->size() == 0);
  });
  schedule.Run();
  DETSCHED_CHECK(inside[0].Get() + inside[1].Get() == 200 + ensured);
  DETSCHED_CHECK(world.threads->size() == 0);
}

TEST(GilStateScheduleTest, B061_EnsureWithAGuardRacesWithFinalization) {
  ExpectComplete(Explore(EverySchedule(/*stale_reads=*/2), [](Schedule& s) { EnsureBesideTheEnd(s, 1); }));
  ExpectComplete(Explore(EveryStep(), [](Schedule& s) { EnsureBesideTheEnd(s, 1, Watched::kYes); }));
  Walk([](Schedule& s) { EnsureBesideTheEnd(s, 1); }, 10'000);
  Walk([](Schedule& s) { EnsureBesideTheEnd(s, 2); }, 10'000);
}

// Foreign threads, the last of which nests if one is to, against a finalizer that is attached while it waits
// and frees the interpreter in the end. A refusal is for good.
void ForeignThreads(Schedule& schedule, int threads, bool one_nests, Watched watched = Watched::kNo) {
  World world;
  if (watched == Watched::kYes) world.CheckEachStep(schedule);
  Plain<int> inside{0};
  int ensured = 0;
  for (int i = 0; i < threads; ++i) {
    const bool nests = one_nests && i == threads - 1;
    schedule.Spawn(nests ? "nests" : "foreign", [&, nests] {
      const EnsureToken outer = EnsureAttachedFromView(InterpreterView::FromMain());
      if (!outer) {
        DETSCHED_CHECK(!EnsureAttachedFromView(InterpreterView::FromMain()));
        return;
      }
      if (nests) {
        // Inside one that holds a guard another is never refused.
        const EnsureToken inner = EnsureAttachedFromView(InterpreterView::FromMain());
        DETSCHED_CHECK(static_cast<bool>(inner));
        ReleaseAttached(inner);
      }
      if constexpr (kGilEnabled) inside.Set(inside.Get() + 1);
      ++ensured;
      ReleaseAttached(outer);
    });
  }
  schedule.Spawn("finalizer", [&] {
    ThreadState& self = world.Enter();
    world.CloseGuards();
    world.may_be_attached = 1;
    if constexpr (kGilEnabled) inside.Set(inside.Get() + 100);
    DETSCHED_CHECK(world.threads->size() == 1);
    world.DeleteSelf(self);
    World::link = nullptr;
    world.FreeInterpreter();
  });
  schedule.Run();
  if constexpr (kGilEnabled) DETSCHED_CHECK(inside.Get() == 100 + ensured);
}

TEST(GilStateScheduleTest, B061_OneForeignThreadEverySchedule) {
  ExpectComplete(Explore(EverySchedule(), [](Schedule& s) { ForeignThreads(s, 1, /*one_nests=*/false); }));
  ExpectComplete(Explore(EverySchedule(), [](Schedule& s) { ForeignThreads(s, 1, /*one_nests=*/true); }));
  ExpectComplete(
      Explore(EveryStep(), [](Schedule& s) { ForeignThreads(s, 1, /*one_nests=*/false, Watched::kYes); }));
}

TEST(GilStateScheduleTest, B061_TwoForeignThreadsEverySchedule) {
  ExpectComplete(Explore(EverySchedule(/*stale_reads=*/0), [](Schedule& s) { EnsureBesideTheEnd(s, 2); }));
}

TEST(GilStateScheduleTest, B061_ForeignThreadsAndAnInterpreterThatIsFreed) {
  Walk([](Schedule& s) { ForeignThreads(s, 2, /*one_nests=*/true); }, 10'000);
  Walk([](Schedule& s) { ForeignThreads(s, 3, /*one_nests=*/true); }, 5'000);
}

// PyGILState_Ensure has no way to fail: who comes too late hangs, in Ensure, and nobody waits for it.
void EnsureThatCannotFail(Schedule& schedule, int threads, int rounds, Watched watched = Watched::kNo) {
  World world;
  if (watched == Watched::kYes) world.CheckEachStep(schedule);
  Plain<int> inside{0};
  int ensured = 0;
  for (int i = 0; i < threads; ++i) {
    schedule.Spawn("foreign", [&, rounds] {
      for (int round = 0; round < rounds; ++round) {
        const GilStateBefore before = GilStateEnsure();
        if (kGilEnabled || threads == 1) inside.Set(inside.Get() + 1);
        ++ensured;
        GilStateRelease(before);
      }
    });
  }
  schedule.Spawn("finalizer", [&] {
    ThreadState& self = world.Enter();
    world.CloseGuards();
    world.TakeTheOthers(self);
    // Nobody is inside any more, and nobody gets in.
    inside.Set(inside.Get() + 100);
    DETSCHED_CHECK(world.threads->size() == 1);
    world.DeleteSelf(self);
  });
  schedule.Run();
  if (kGilEnabled || threads == 1) DETSCHED_CHECK(inside.Get() == 100 + ensured);
  DETSCHED_CHECK((schedule.hung() == 0) == (ensured == threads * rounds));
}

TEST(GilStateScheduleTest, gh_87135_EnsureAgainstTheEndEverySchedule) {
  ExpectComplete(Explore(EverySchedule(), [](Schedule& s) { EnsureThatCannotFail(s, 1, 1); }));
  ExpectComplete(Explore(EveryStep(), [](Schedule& s) { EnsureThatCannotFail(s, 1, 1, Watched::kYes); }));
}

TEST(GilStateScheduleTest, gh_87135_EnsureHangsWhenItComesTooLate) {
  Walk([](Schedule& s) { EnsureThatCannotFail(s, 1, 2); }, 10'000);
  Walk([](Schedule& s) { EnsureThatCannotFail(s, 3, 1); }, 5'000);
}

// A thread that has a state is on its way into Attach while its interpreter ends and is freed: either the finalizer
// waits for it, or it sees that it may not touch what its link points to (gh-124619).
void AttachAgainstTheEnd(Schedule& schedule) {
  World world;
  ThreadState* const state = world.threads->New(Whence::kThreadingDaemon);
  Atomic<uint32_t> bound{0};
  schedule.Spawn("late", [&] {
    state->Bind();
    bound.store(1, kRelease);
    state->Attach();
    world.DeleteSelf(*state);
  });
  schedule.Spawn("finalizer", [&] {
    while (bound.load(kAcquire) == 0) CpuRelax();
    ThreadState& self = world.Enter();
    world.TakeTheOthers(self);
    world.DeleteSelf(self);
    world.FreeInterpreter();
  });
  schedule.Run();
}

TEST(GilStateScheduleTest, gh_124619_AnInterpreterIsNotFreedUnderAThreadThatAttaches) {
  ExpectComplete(Explore(EverySchedule(), AttachAgainstTheEnd));
  Walk(AttachAgainstTheEnd, 10'000);
}

TEST(GilStateScheduleTest, gh_124619_WithoutTheFenceItIs) {
  detsched::ScopedMutant mutant("gh_124619_delete_without_fence");
  Options options = Base(Options::Pct(3, 200'000));
  options.shrink = false;
  options.isolate = true;  // memory that has gone may also end the process
  const Result broken = Explore(options, AttachAgainstTheEnd);
  std::printf("without the fence: found in schedule %d\n", static_cast<int>(broken.schedules));
  EXPECT_TRUE(broken.failure == Failure::kRace || broken.failure == Failure::kCrash) << broken.report;
}

// ---- A thread that waits for its turn to stop the world while a finalizer has it stopped, for so long that the turn is
// handed over: the thread is shut down and hangs, and may not keep what it was handed, which the next stop needs.
enum class Turn { kInterpreter, kEverywhere, kHandshake };

void StopAgainstTheEnd(Schedule& schedule, Turn turn) {
  World world;
  ThreadState* const state = world.threads->New(Whence::kThreadingDaemon);
  const auto stop_for_long = [&] {
    StopTheWorld stop =
        turn == Turn::kEverywhere ? StopTheWorld(world.registry) : StopTheWorld(*world.threads);
    stop.Stop();
    detsched::AdvanceTime(2 * kNanosPerMilli);
    stop.Start();
  };
  Atomic<uint32_t> bound{0};
  Atomic<ThreadState*> finalizer{nullptr};
  schedule.Spawn("daemon", [&] {
    state->Bind();
    bound.store(1, kRelease);
    while (turn == Turn::kHandshake && finalizer.load(kAcquire) == nullptr) CpuRelax();
    state->Attach();
    if (turn == Turn::kHandshake) {
      Handshake::Run(
          *finalizer.load(kRelaxed), [](ThreadState&, void*) {}, nullptr);
    } else {
      stop_for_long();
    }
    world.DeleteSelf(*state);
  });
  schedule.Spawn("finalizer", [&] {
    while (bound.load(kAcquire) == 0) CpuRelax();
    ThreadState& self = world.Enter();
    self.IncRef();
    finalizer.store(&self, kRelease);
    ThreadState* removed = nullptr;
    {
      StoppedWorld stopped(world.registry);
      detsched::AdvanceTime(2 * kNanosPerMilli);
      world.threads->ShutDownAllExcept(&self);
      removed = world.threads->RemoveAllExcept(&self);
    }
    InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
    stop_for_long();
    world.DeleteSelf(self);
  });
  schedule.Run();
  finalizer.load(kRelaxed)->DecRef();
}

TEST(GilStateScheduleTest, gh_133130_WhoHangsKeepsNoTurnToStopTheWorld) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "stop-the-world is empty with the GIL";
  for (const Turn turn : {Turn::kInterpreter, Turn::kEverywhere, Turn::kHandshake}) {
    const auto explore = [=](const Options& options) {
      return Explore(Base(options), [=](Schedule& s) { StopAgainstTheEnd(s, turn); });
    };
    ExpectComplete(explore(EverySchedule()));
    ExpectWalks(explore, 4000);
  }
}

// ---- Threads that end, one of them while it holds a GIL that others want (gh-119369): it takes the head lock and
// QSBR's, which nobody holds while he waits for the GIL.
void EndingWithTheGil(Schedule& schedule, int visits) {
  World world;
  if constexpr (!kGilEnabled) DETSCHED_CHECK(world.gil->AddEnableRequest());
  ThreadState* const stays = world.threads->New(Whence::kThreading);
  for (const char* name : {"a", "b"}) {
    schedule.Spawn(name, [&] {
      ThreadState& thread = world.Enter();
      DETSCHED_CHECK(thread.gil_holder().holds());
      thread.Poll();
      world.DeleteSelf(thread);
    });
  }
  schedule.Spawn("visitor", [&, visits] {
    // Under the head lock, attached or not, beside births and deaths.
    for (int i = 0; i < visits; ++i) {
      std::vector<const ThreadState*> seen;
      world.threads->ForEach([&](ThreadState& thread) { seen.push_back(&thread); });
      // Once each: who was there all the time, and at most the two others.
      DETSCHED_CHECK(std::count(seen.begin(), seen.end(), stays) == 1);
      DETSCHED_CHECK(std::set(seen.begin(), seen.end()).size() == seen.size() && seen.size() <= 3);
      ThreadState* const unborn = world.threads->New(Whence::kThreading);
      ThreadState& thread = world.Enter();
      InterpreterThreads::Clear(*unborn);
      InterpreterThreads::Delete(unborn);
      world.DeleteSelf(thread);
    }
  });
  schedule.Run();
  DETSCHED_CHECK(world.threads->size() == 1 && !world.gil->locked());
  ThreadState& self = world.Enter();
  InterpreterThreads::Clear(*stays);
  InterpreterThreads::Delete(stays);
  world.DeleteSelf(self);
  DETSCHED_CHECK(world.threads->size() == 0);
}

TEST(GilStateScheduleTest, gh_119369_AThreadThatEndsHoldsTheGil) {
  Options three_threads = EverySchedule();
  three_threads.preemption_bound = 1;
  ExpectComplete(Explore(three_threads, [](Schedule& s) { EndingWithTheGil(s, 1); }));
  Walk([](Schedule& s) { EndingWithTheGil(s, 2); }, 6000);
}

// ---- What an attach and a detach cost that nobody hinders, in atomic operations: the one figure of speed that does
// not depend on the machine. A server that does nothing else loses what is added here (gh-134637).
uint64_t StepsOf(int pairs) {
  const Result result = Explore(Base(Options::Exhaustive(0)), [pairs](Schedule& schedule) {
    World world;
    schedule.Spawn("thread", [&world, pairs] {
      ThreadState& thread = world.Enter();
      for (int i = 0; i < pairs; ++i) {
        thread.Detach();
        thread.Attach();
      }
      world.DeleteSelf(thread);
    });
    schedule.Run();
  });
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_EQ(result.schedules, 1u);
  return result.steps;
}

TEST(GilStateScheduleTest, gh_134637_AnAttachAndADetachCostSoManyAtomicOperations) {
  const uint64_t cost = StepsOf(12) - StepsOf(11);
  std::printf("a detach and an attach: %d atomic operations and fences\n", static_cast<int>(cost));
  EXPECT_LE(cost, kGilEnabled ? 20u : 19u);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
