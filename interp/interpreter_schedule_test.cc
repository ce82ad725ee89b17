// Interpreters on the deterministic scheduler: their list against whoever walks it, their end against calls that
// still come, and the main thread across a fork.

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

Options Base(Options options) {
  options.reset = [] { ThreadRegistry::SetAllocator(nullptr); };
  return options;
}

// A thread of the scenario, joined at its end.
class Fiber {
 public:
  explicit Fiber(std::function<void()> body) : body_(std::move(body)) {
    const auto run = [](void* self) { static_cast<Fiber*>(self)->body_(); };
    DETSCHED_CHECK(thread_.Start(run, this) == 0);
  }
  ~Fiber() { thread_.Join(); }

 private:
  const std::function<void()> body_;
  OsThread thread_;
};

// A registry with its main interpreter. The fiber that makes it is the main thread.
struct World {
  World() {
    static_cast<void>(None());
    static_cast<void>(Raise(ErrorType::RuntimeError(), "no").ok());
    registry.Enable();
    main = *registry.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime);
    detsched::Name(&registry, "registry");
    detsched::Name(&main->gil(), "gil");
  }
  ThreadState& Enter(Interpreter& interp) {
    ThreadState* const thread = interp.threads().NewBound(Whence::kUnknown);
    thread->Attach();
    return *thread;
  }
  void Leave(ThreadState& thread) {
    InterpreterThreads::Clear(thread);
    InterpreterThreads::DeleteCurrent();
  }
  // Another interpreter is born, used, and ends; the caller is attached to nothing.
  void LiveOnce() {
    const auto created = registry.New(nullptr, InterpreterConfig::Isolated(), InterpreterWhence::kCApi);
    DETSCHED_CHECK(created.ok());
    ThreadState& thread = Enter(**created);
    thread.Poll();
    (*created)->Clear(thread);
    registry.Delete(*created);
  }
  // As the finalizer, which is alone.
  void End() {
    ThreadState& thread = Enter(*main);
    main->Clear(thread);
    registry.Delete(main);
  }

  InterpreterRegistry registry;
  Interpreter* main = nullptr;
};

// ---- The list

// One thread creates and ends, one walks: it sees the main interpreter always, ids that fall, none twice.
void WalkBesideCreation(Schedule& s) {
  World world;
  s.Spawn("creator", [&] {
    world.LiveOnce();
    world.LiveOnce();
  });
  s.Spawn("walker", [&] {
    for (int i = 0; i < 2; ++i) {
      const std::vector<int64_t> ids = world.registry.Ids();
      DETSCHED_CHECK(!ids.empty() && ids.size() <= 2 && ids.back() == 0);
      DETSCHED_CHECK(std::is_sorted(ids.rbegin(), ids.rend()));
      const size_t size = world.registry.size();
      DETSCHED_CHECK(size == 1 || size == 2);
      DETSCHED_CHECK(world.registry.Find(0) == world.main);
      DETSCHED_CHECK(world.registry.Find(3) == nullptr);
    }
  });
  s.Run();
  DETSCHED_CHECK(world.registry.Ids() == std::vector<int64_t>{0});
  world.End();
}

TEST(InterpreterScheduleTest, IN22_TheListBesideCreationAndEnd) {
  const Result exhaustive = Explore(Base(Options::Exhaustive(1)), WalkBesideCreation);
  EXPECT_TRUE(exhaustive.ok()) << exhaustive.report;
  EXPECT_TRUE(exhaustive.complete);
  const Result pct = Explore(Base(Options::Pct(3, 2000)), WalkBesideCreation);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

// The world stops, all of it, while interpreters come and go and a thread of the main one runs: nobody runs
// inside the stop, whichever list its interpreter was on. With the GIL the stop is empty, and each interpreter
// has a GIL: what is explored then is the registry.
void StopBesideCreation(Schedule& s) {
  World world;
  Plain<int> owned{0};
  s.Spawn("creator", [&] { world.LiveOnce(); });
  s.Spawn("worker", [&] {
    ThreadState& thread = world.Enter(*world.main);
    owned.Set(owned.Get() + 1);
    thread.Poll();
    world.Leave(thread);
  });
  s.Spawn("stopper", [&] {
    ThreadState* const thread = kGilEnabled ? &world.Enter(*world.main) : nullptr;
    {
      StoppedWorld stopped(world.registry.threads());
      owned.Set(owned.Get() + 100);
      DETSCHED_CHECK(world.registry.size() >= 1);
    }
    if (thread != nullptr) world.Leave(*thread);
  });
  s.Run();
  DETSCHED_CHECK(owned.Get() == 101);
  world.End();
}

TEST(InterpreterScheduleTest, B055_AStopOfAllBesideCreationAndEnd) {
  const Result random = Explore(Base(Options::Random(2000)), StopBesideCreation);
  EXPECT_TRUE(random.ok()) << random.report;
  const Result pct = Explore(Base(Options::Pct(3, 2000)), StopBesideCreation);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

// ---- Pending calls against the end of their interpreter (EB-34)

struct CountedCall {
  static absl::Status Run(void* argument) {
    auto& self = *static_cast<CountedCall*>(argument);
    self.ran.Set(self.ran.Get() + 1);
    return absl::OkStatus();
  }
  Plain<int> ran{0};
  bool accepted = false;
};

// The finalizer is the main thread. Calls come from threads without a state: each is run once or refused.
void CallsBesideTheEnd(Schedule& s) {
  s.Spawn("finalizer", [] {
    World world;
    CountedCall calls[3];
    ThreadState& thread = world.Enter(*world.main);
    world.registry.SetMainThreadState(&thread);
    StopTheWorld stop(world.registry.threads());
    {
      Fiber any([&] {
        const auto added = world.main->pending_calls().Add(&CountedCall::Run, &calls[0]);
        calls[0].accepted = added == PendingCalls::AddResult::kAdded;
      });
      Fiber for_main([&] {
        for (int i = 1; i < 3; ++i) {
          const auto added = world.registry.AddMainCall(&CountedCall::Run, &calls[i]);
          calls[i].accepted = added == PendingCalls::AddResult::kAdded;
        }
      });
      world.main->PreFinalize(thread, stop, {});
      world.main->SetFinalizing(thread);
      stop.Start();
    }
    for (const CountedCall& call : calls) DETSCHED_CHECK(call.ran.Get() == (call.accepted ? 1 : 0));
    world.main->Clear(thread);
    world.registry.Delete(world.main);
  });
  s.Run();
}

TEST(InterpreterScheduleTest, EB34_CallsBesideTheEndRunOnceOrAreRefused) {
  const Result random = Explore(Base(Options::Random(2000)), CallsBesideTheEnd);
  EXPECT_TRUE(random.ok()) << random.report;
  const Result pct = Explore(Base(Options::Pct(3, 2000)), CallsBesideTheEnd);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

// Who holds a guard finds the interpreter working: a call that it adds is accepted, and run before the end.
void GuardBesideTheEnd(Schedule& s) {
  s.Spawn("finalizer", [] {
    World world;
    CountedCall call;
    ThreadState& thread = world.Enter(*world.main);
    world.registry.SetMainThreadState(&thread);
    StopTheWorld stop(world.registry.threads());
    {
      Fiber guarded([&] {
        if (!world.main->guards().TryAcquire()) return;
        const auto added = world.main->pending_calls().Add(&CountedCall::Run, &call);
        DETSCHED_CHECK(added == PendingCalls::AddResult::kAdded);
        call.accepted = true;
        world.main->guards().Release();
      });
      world.main->PreFinalize(thread, stop, {});
      world.main->SetFinalizing(thread);
      stop.Start();
    }
    DETSCHED_CHECK(call.ran.Get() == (call.accepted ? 1 : 0));
    world.main->Clear(thread);
    world.registry.Delete(world.main);
  });
  s.Run();
}

TEST(InterpreterScheduleTest, EB34_AGuardKeepsTheQueueOpen) {
  const Result random = Explore(Base(Options::Random(2000)), GuardBesideTheEnd);
  EXPECT_TRUE(random.ok()) << random.report;
  const Result pct = Explore(Base(Options::Pct(3, 2000)), GuardBesideTheEnd);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

// ---- A new thread against the end of its interpreter (TS-80)

void StartBesideTheEnd(Schedule& s) {
  s.Spawn("finalizer", [] {
    World world;
    ThreadState& thread = world.Enter(*world.main);
    Plain<int> inside{0};
    ThreadState* const fresh = world.main->threads().New(Whence::kThreadingDaemon);
    OsThread os_thread;  // not joined: it may hang
    struct Start {
      ThreadState* state;
      Plain<int>* inside;
    } start{fresh, &inside};
    const auto body = [](void* argument) {
      const Start& start = *static_cast<Start*>(argument);
      if (!Interpreter::BindNewThread(*start.state)) {
        start.state->DecRef();
        return;
      }
      start.state->Attach();
      start.inside->Set(start.inside->Get() + 1);
      InterpreterThreads::Clear(*start.state);
      InterpreterThreads::DeleteCurrent();
    };
    DETSCHED_CHECK(os_thread.Start(body, &start) == 0);
    os_thread.Detach();
    thread.Poll();
    ThreadState* removed = nullptr;
    {
      StoppedWorld stopped(world.main->threads());
      world.main->SetFinalizing(thread);
      removed = world.main->TakeOtherThreads(thread);
    }
    InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
    // From here on nobody else gets in.
    inside.Set(inside.Get() + 100);
    world.main->Clear(thread);
    world.registry.Delete(world.main);
    // What the thread still looks at stands on this stack and in the registry.
    HangForever();
  });
  s.Run();
}

TEST(InterpreterScheduleTest, TS80_AThreadThatStartsWhileItsInterpreterEnds) {
  const Result random = Explore(Base(Options::Random(2000)), StartBesideTheEnd);
  EXPECT_TRUE(random.ok()) << random.report;
  const Result pct = Explore(Base(Options::Pct(3, 2000)), StartBesideTheEnd);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

// ---- Fork: the thread that forks is the child's main thread, whoever was the parent's (FK-1)

void ForkFromAWorker(Schedule& s) {
  s.Spawn("main", [] {
    World world;
    CountedCall call;
    InterpreterRegistry& registry = world.registry;
    ThreadState& main_thread = world.Enter(*world.main);
    registry.SetMainThreadState(&main_thread);
    main_thread.Detach();
    bool in_child = false;
    {
      Fiber worker([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        ThreadState& thread = world.Enter(*world.main);
        // As runtime/fork.cc does it.
        StopTheWorld stop(registry.threads());
        stop.Stop();
        registry.threads().head_lock().Lock();
        in_child = ForkProcess() == 0;
        if (!in_child) {
          registry.threads().head_lock().Unlock();
          stop.Start();
          world.Leave(thread);
          return;
        }
        PlatformAfterForkInChild();
        ParkingLot::AfterForkInChild();
        registry.threads().ReinitAfterFork();
        LockRankRelease(LockRank::kHeadLock);
        stop.ForgetAfterFork();
        registry.AfterForkInChild(&thread, /*attached=*/true);
        InterpreterThreads::DeleteRemoved(world.main->threads().RemoveAllExcept(&thread),
                                          /*threads_are_gone=*/true);
        DETSCHED_CHECK(registry.IsMainThread());
        DETSCHED_CHECK(registry.main_thread_state() == &thread);
        // Its word is the one that a call for the main thread raises.
        DETSCHED_CHECK(registry.AddMainCall(&CountedCall::Run, &call) == PendingCalls::AddResult::kAdded);
        DETSCHED_CHECK(thread.Poll() == 0);
        DETSCHED_CHECK(call.ran.Get() == 1);
        world.main->Clear(thread);
        registry.Delete(world.main);
      });
      // Beside it, on and off; in the child this thread is gone.
      for (int i = 0; i < 2; ++i) {
        main_thread.Attach();
        main_thread.Poll();
        main_thread.Detach();
      }
    }
    main_thread.Attach();
    world.main->Clear(main_thread);
    registry.Delete(world.main);
  });
  s.Run();
}

TEST(InterpreterScheduleTest, FK1_WhoForksIsTheMainThreadOfTheChild) {
  for (const auto side : {detsched::ForkSide::kChild, detsched::ForkSide::kParent}) {
    Options options = Base(Options::Random(1500));
    options.fork = side;
    const Result result = Explore(options, ForkFromAWorker);
    EXPECT_TRUE(result.ok()) << result.report;
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
