// Interpreters on the deterministic scheduler: their list against whoever walks it, calls against threads that attach,
// the end against calls that still come, and the main thread across a fork.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
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
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::ExpectPct;
using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using detsched::Watched;

Options Base(Options options) {
  options.reset = [] { ThreadRegistry::SetAllocator(nullptr); };
  return options;
}

// One CPU, so that nobody spins.
Options Exhaustive(int preemption_bound, int stale_reads = 1) {
  Options options = Base(Options::Exhaustive(preemption_bound));
  options.stale_reads = stale_reads;
  options.usable_cpus = 1;
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
  World(Schedule& s, Watched watched) : World() {
    if (watched == Watched::kNo) return;
    s.Invariant("one main interpreter, the last of the list, and none that has ended", [this] {
      int64_t above = std::numeric_limits<int64_t>::max();
      for (const Interpreter* interp = registry.UnlockedHead(); interp != nullptr; interp = interp->next()) {
        // Newest first, so none is there twice.
        if (interp->id() >= above || std::count(ended.begin(), ended.end(), interp->id()) != 0) return false;
        above = interp->id();
        if ((interp == main) != (interp->next() == nullptr)) return false;
      }
      return above == 0 && registry.main() == main;
    });
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
    const int64_t id = (*created)->id();
    (*created)->Clear(thread);
    registry.Delete(*created);
    ended.push_back(id);
  }
  // As the finalizer, which is alone.
  void End() {
    ThreadState& thread = Enter(*main);
    main->Clear(thread);
    registry.Delete(main);
  }

  InterpreterRegistry registry;
  Interpreter* main = nullptr;
  std::vector<int64_t> ended;  // ids
};

// ---- The list

// One thread creates and ends, one walks: it sees the main interpreter always, ids that fall, none twice.
template <int kTimes, Watched kWatched>
void WalkBesideCreation(Schedule& s) {
  World world(s, kWatched);
  s.Spawn("creator", [&] {
    for (int i = 0; i < kTimes; ++i) world.LiveOnce();
  });
  s.Spawn("walker", [&] {
    for (int i = 0; i < kTimes; ++i) {
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
  ExpectComplete(Explore(Exhaustive(2), WalkBesideCreation<1, Watched::kYes>));
  ExpectPct(WalkBesideCreation<2, Watched::kYes>, 5000, Base);
}

// The world stops, all of it, while interpreters come and go and a thread of the main one runs: nobody runs
// inside the stop, whichever list its interpreter was on. With the GIL the stop is empty, and each interpreter
// has a GIL: what is explored then is the registry.
template <bool kWithWorker, Watched kWatched>
void StopBesideCreation(Schedule& s) {
  World world(s, kWatched);
  Plain<int> owned{0};
  s.Spawn("creator", [&] { world.LiveOnce(); });
  if (kWithWorker) {
    s.Spawn("worker", [&] {
      ThreadState& thread = world.Enter(*world.main);
      owned.Set(owned.Get() + 1);
      thread.Poll();
      world.Leave(thread);
    });
  }
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
  DETSCHED_CHECK(owned.Get() == (kWithWorker ? 101 : 100));
  world.End();
}

TEST(InterpreterScheduleTest, B055_AStopOfAllBesideCreationAndEnd) {
  ExpectComplete(Explore(Exhaustive(2), StopBesideCreation<false, Watched::kNo>));
  ExpectComplete(Explore(Exhaustive(1, /*stale_reads=*/0), StopBesideCreation<true, Watched::kNo>));
  ExpectOk(Explore(Base(Options::Random(2000)), StopBesideCreation<true, Watched::kYes>));
  ExpectPct(StopBesideCreation<true, Watched::kYes>, 5000, Base);
}

// ---- Pending calls against threads that attach (EB-10, EB-12)

struct CountedCall {
  static absl::Status Run(void* argument) {
    auto& self = *static_cast<CountedCall*>(argument);
    self.ran.Set(self.ran.Get() + 1);
    return absl::OkStatus();
  }
  Plain<int> ran{0};
  bool accepted = false;
};

// A call comes while one thread has just run the last one, and another attaches for the first time: it has been run,
// or every thread will look at its next poll, also one that is yet to come.
void CallBesideAttach(Schedule& s) {
  World world;
  CountedCall calls[2];
  PendingCalls& queue = world.main->pending_calls();
  InterpreterThreads& threads = world.main->threads();
  const auto add = [&](CountedCall& call) {
    DETSCHED_CHECK(queue.Add(&CountedCall::Run, &call) == PendingCalls::AddResult::kAdded);
  };
  add(calls[0]);
  s.Spawn("consumer", [&] {
    // The states stay, so that their words can be looked at.
    ThreadState& thread = world.Enter(*world.main);
    Fiber producer([&] { add(calls[1]); });
    Fiber newcomer([&] {
      ThreadState& fresh = world.Enter(*world.main);
      DETSCHED_CHECK(fresh.Poll() == 0);
      fresh.Detach();
    });
    DETSCHED_CHECK(thread.Poll() == 0);
    thread.Detach();
  });
  s.Run();
  const auto has_bit = [](uintptr_t word) { return (word & BreakerBit(BreakerEvent::kCallsToDo)) != 0; };
  if (!queue.IsEmpty()) {
    DETSCHED_CHECK(has_bit(threads.link().breaker_on_attach.load(kRelaxed)));
    threads.ForEach([&](ThreadState& thread) { DETSCHED_CHECK(has_bit(thread.breaker().Load())); });
  }
  ThreadState& last = world.Enter(*world.main);
  DETSCHED_CHECK(last.Poll() == 0);
  for (const CountedCall& call : calls) DETSCHED_CHECK(call.ran.Get() == 1);
  InterpreterThreads::DeleteRemoved(threads.RemoveAllExcept(&last), /*threads_are_gone=*/true);
  world.main->Clear(last);
  world.registry.Delete(world.main);
}

TEST(InterpreterScheduleTest, EB12_ACallReachesWhoeverAttaches) {
  ExpectComplete(Explore(Exhaustive(2, /*stale_reads=*/0), CallBesideAttach));
  ExpectPct(CallBesideAttach, 10'000, Base);
}

// ---- Pending calls against the end of their interpreter (EB-34)

// The finalizer is the main thread. Calls come from threads without a state, or from one: each is run once or refused.
template <int kProducers>
void CallsBesideTheEnd(Schedule& s) {
  s.Spawn("finalizer", [] {
    World world;
    CountedCall calls[3];
    ThreadState& thread = world.Enter(*world.main);
    world.registry.SetMainThreadState(&thread);
    StopTheWorld stop(world.registry.threads());
    const auto for_any = [&] {
      const auto added = world.main->pending_calls().Add(&CountedCall::Run, &calls[0]);
      calls[0].accepted = added == PendingCalls::AddResult::kAdded;
    };
    const auto for_main = [&](int i) {
      const auto added = world.registry.AddMainCall(&CountedCall::Run, &calls[i]);
      calls[i].accepted = added == PendingCalls::AddResult::kAdded;
    };
    {
      std::optional<Fiber> other;
      if (kProducers == 2) other.emplace(for_any);
      Fiber producer([&] {
        for_main(1);
        kProducers == 1 ? for_any() : for_main(2);
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
  ExpectComplete(Explore(Exhaustive(2), CallsBesideTheEnd<1>));
  ExpectComplete(Explore(Exhaustive(2, /*stale_reads=*/0), CallsBesideTheEnd<2>));
  ExpectOk(Explore(Base(Options::Random(2000)), CallsBesideTheEnd<2>));
  ExpectPct(CallsBesideTheEnd<2>, 5000, Base);
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
  ExpectComplete(Explore(Exhaustive(2), GuardBesideTheEnd));
  ExpectOk(Explore(Base(Options::Random(2000)), GuardBesideTheEnd));
  ExpectPct(GuardBesideTheEnd, 5000, Base);
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
  ExpectComplete(Explore(Exhaustive(2), StartBesideTheEnd));
  ExpectOk(Explore(Base(Options::Random(2000)), StartBesideTheEnd));
  ExpectPct(StartBesideTheEnd, 5000, Base);
}

// ---- Fork: the thread that forks is the child's main thread, whoever was the parent's (FK-1)

template <int kRounds>
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
      for (int i = 0; i < kRounds; ++i) {
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
  const auto with_fork = [](Options options) {
    options.fork = detsched::ForkSide::kEither;
    return options;
  };
  ExpectComplete(Explore(with_fork(Exhaustive(2)), ForkFromAWorker<1>));
  ExpectOk(Explore(with_fork(Base(Options::Random(2000))), ForkFromAWorker<2>));
  ExpectPct([&](const Options& options) { return Explore(with_fork(Base(options)), ForkFromAWorker<2>); },
            5000);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
