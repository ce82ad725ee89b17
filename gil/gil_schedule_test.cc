// The shipping Gil on the deterministic scheduler: every interleaving of two threads, and of three that take and drop
// once, at preemption bound 2; longer runs and more threads by random walk and PCT; and for each mistake that history
// knows a mutant that must be found.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/gil/gil_test_util.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using TakeResult = Gil::TakeResult;

struct Actor : TestThread {
  // The model, written by the thread itself:
  bool has = false;   // from the return of its take to the call of its drop
  bool busy = false;  // inside an operation
};

// The Gil, what it protects, and its users.
struct World {
  explicit World(bool enabled = true) : gil(enabled) {
    gil.set_interval(1);
    detsched::Name(&gil, "gil");
    detsched::Name(&inside, "inside");
    for (int i = 0; i < 4; ++i) detsched::Name(&actors[i], "actor", i);
    current = this;
  }
  ~World() { current = nullptr; }

  TakeResult Take(Actor& self) {
    self.busy = true;
    return Took(self, gil.Take(self.holder));
  }
  TakeResult Yield(Actor& self) {
    self.has = false;
    self.busy = true;
    return Took(self, gil.Yield(self.holder));
  }
  TakeResult Took(Actor& self, TakeResult result) {
    self.has = result == TakeResult::kTaken;
    self.busy = false;
    return result;
  }
  void Drop(Actor& self) {
    self.has = false;
    self.busy = true;
    gil.Drop(self.holder);
    self.busy = false;
  }

  // What a thread does while it holds the GIL. Plain: two at once are a race.
  void Work(int& done) {
    inside.Set(inside.Get() + 1);
    ++done;
  }

  void TakeAndDrop(int who, int times) {
    Actor& self = actors[who];
    for (int i = 0; i < times; ++i) {
      DETSCHED_CHECK(Take(self) == TakeResult::kTaken);
      Work(done[who]);
      Drop(self);
    }
  }

  // A busy thread: polls and yields when asked.
  void HoldAndPoll(int who, int polls) {
    Actor& self = actors[who];
    DETSCHED_CHECK(Take(self) == TakeResult::kTaken);
    for (int i = 0; i < polls; ++i) {
      Work(done[who]);
      if (self.asked()) DETSCHED_CHECK(Yield(self) == TakeResult::kTaken);
    }
    Drop(self);
  }

  // Of the holder, or while nobody runs: who asks first switches the GIL on.
  void AddRequest() {
    const bool first = ++requests == 1;
    switched_on += first;
    DETSCHED_CHECK(gil.AddEnableRequest() == first);
  }
  // Of the holder, which the last one to ask for the GIL is no more.
  void RemoveRequest(Actor& self) {
    const bool last = --requests == 0;
    switched_off += last;
    self.has = !last;
    self.busy = true;
    DETSCHED_CHECK(gil.RemoveEnableRequest(self.holder) == last);
    self.busy = false;
    if (last) is_off.store(switched_off, kRelease);
  }
  // Of a thread without a request of its own. A take that came between the counter and the release succeeds: it then
  // holds a GIL that is off, and drops it.
  void TakeAndDropWhereItMayBeOff(int who) {
    Actor& self = actors[who];
    const int on_before = switched_on;
    const bool off = is_off.load(kAcquire) == switched_off && requests == 0;
    const TakeResult result = Take(self);
    DETSCHED_CHECK(result == TakeResult::kTaken || (result == TakeResult::kDisabled && switched_off != 0));
    if (off && on_before == switched_on) DETSCHED_CHECK(result == TakeResult::kDisabled);
    if (result != TakeResult::kTaken) return;
    Work(done[who]);
    Drop(self);
  }

  // Between operations GilHolder::holds is exact. Inside of one it may be a biased take that is about to be undone.
  bool AtMostOneHolds() const {
    int holders = 0;
    for (const Actor& actor : actors) {
      holders += actor.has;
      if (!actor.busy && actor.has != actor.holder.holds()) return false;
    }
    return holders <= 1;
  }

  void CheckPristine(int expected) {
    DETSCHED_CHECK(inside.Get() == expected);
    DETSCHED_CHECK(!gil.locked());
    DETSCHED_CHECK(gil.Stats().waiting == 0);
    for (Actor& actor : actors) gil.Forget(actor.holder);
  }
  int Done() const { return done[0] + done[1] + done[2] + done[3]; }

  static inline World* current = nullptr;  // of the schedule that runs

  Gil gil;
  Actor actors[4];
  Plain<int> inside{0};
  int done[4] = {};
  // The model of switching on and off:
  int requests = 0;       // to enable it, that stand or are being given
  int switched_on = 0;    // how often, counted as it begins
  int switched_off = 0;   // the same
  Atomic<int> is_off{0};  // how often it has been switched off, for a thread that sees it
};

// Looks after each step too, which switches sleep sets off: the shortest scenarios are exhausted with it, the others
// without.
Result ExploreStepByStep(const Options& options, void (*body)(Schedule&)) {
  return Explore(options, [body](Schedule& schedule) {
    World::current = nullptr;  // of a schedule that was abandoned
    schedule.Invariant("at most one holds the GIL",
                       [] { return World::current == nullptr || World::current->AtMostOneHolds(); });
    body(schedule);
  });
}

// As a scenario may have them: timeouts at any time, and both sides of a fork.
Options WithTimers(Options options, int early_timeouts = 1) {
  options.fork = detsched::ForkSide::kEither;
  options.early_timeouts = early_timeouts;
  return options;
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
Options Exhaustive(int bound, int stale_reads = 1) {
  Options options = Options::Exhaustive(bound);
  options.usable_cpus = 1;
  options.stale_reads = stale_reads;
  options.max_schedules = 1'000'000;
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

void ThreeTakers(Schedule& schedule) {
  World world;
  const NobodyWaitedForTheInterval timing(world);
  schedule.Spawn("first", [&] { world.TakeAndDrop(0, 1); });
  schedule.Spawn("second", [&] { world.TakeAndDrop(1, 1); });
  schedule.Spawn("third", [&] { world.TakeAndDrop(2, 1); });
  schedule.Run();
  timing.Check();
  world.CheckPristine(3);
}

// The word of the queue lock, which is private: a leaf, with which no thread hangs.
template <auto kLock, auto kWord>
struct Reveal {
  friend const Atomic<uint32_t>& QueueLockWord(const Gil& gil) { return (gil.*kLock).*kWord; }
};
template struct Reveal<&Gil::queue_lock_, &RawMutex::word_>;
const Atomic<uint32_t>& QueueLockWord(const Gil& gil);

// The waiter hangs at any of its steps outside of the queue lock: before it has asked, after, asleep, spinning, or with
// a GIL that it was just given. The holder lets go all the same.
void HolderAndWaiterThatHangs(Schedule& schedule) {
  World world;
  Actor& self = world.actors[0];
  DETSCHED_CHECK(world.Take(self) == TakeResult::kTaken);
  bool let_go = false;
  schedule.Spawn("holder", [&] {
    for (int polls = 0; polls < 2 && !self.asked(); ++polls) world.Work(world.done[0]);
    world.Drop(self);
    let_go = true;
  });
  const detsched::FiberId waiter = schedule.Spawn("waiter", [&] { world.TakeAndDrop(1, 1); });
  schedule.MaySignal(waiter, [&] {
    const Atomic<uint32_t>& lock = QueueLockWord(world.gil);
    if (lock.load(kRelaxed) != 0) return;  // the same death comes some steps earlier or later
    FutexWake(&lock, 1);                   // it may have been on its way to
    HangForever();
  });
  schedule.Run();
  DETSCHED_CHECK(let_go);
  if (schedule.hung() == 0) return world.CheckPristine(world.Done());
  world.gil.ReinitAfterFork(nullptr);  // of the queue that the dead thread stands in
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
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  Plain<bool> closing{false};  // guarded by the GIL
  bool left = false;
  schedule.Spawn("main", [&] {
    world.gil.RequestExit(world.actors[1].holder);
    closing.Set(true);
    world.Drop(world.actors[0]);
  });
  schedule.Spawn("daemon", [&] {
    TakeResult result = TakeResult::kTaken;
    while (result == TakeResult::kTaken) {
      result = world.Take(world.actors[1]);
      if (result != TakeResult::kTaken) break;
      DETSCHED_CHECK(!closing.Get());
      world.Drop(world.actors[1]);
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
      const TakeResult result = world.Take(world.actors[1]);
      DETSCHED_CHECK(result == (told ? TakeResult::kMustExit : result));
      if (result == TakeResult::kMustExit) return;
      world.Drop(world.actors[1]);
    }
  });
  schedule.Run();
  world.CheckPristine(0);
}

// gh-96387: the daemon asks the holder to drop and must then exit. The holder is left without a request.
void WaiterMustExitAfterAsking(Schedule& schedule) {
  World world;
  Signal left;
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  schedule.Spawn("main", [&] {
    while (!world.actors[0].asked()) YieldCpu();
    world.gil.RequestExit(world.actors[1].holder);
    left.Wait();
    DETSCHED_CHECK(!world.actors[0].asked());
    world.Drop(world.actors[0]);
  });
  schedule.Spawn("daemon", [&] {
    DETSCHED_CHECK(world.Take(world.actors[1]) == TakeResult::kMustExit);
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
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  schedule.Spawn("main", [&] {
    world.gil.RequestExit(world.actors[1].holder);
    left.Wait();
    world.Drop(world.actors[0]);
  });
  schedule.Spawn("daemon", [&] {
    DETSCHED_CHECK(world.Take(world.actors[1]) == TakeResult::kMustExit);
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
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  schedule.Spawn("main", [&] { world.Drop(world.actors[0]); });
  schedule.Spawn("finalizer", [&] { world.gil.RequestExit(world.actors[1].holder); });
  schedule.Spawn("daemon", [&] {
    if (world.Take(world.actors[1]) == TakeResult::kTaken) world.Drop(world.actors[1]);
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

// The parent goes on as if nothing had happened. In the child nobody waits, whoever did so before, and the GIL works
// between threads that are started there.
void ForkBeside(Schedule& schedule, int others) {
  World world;
  schedule.Spawn("forker", [&] {
    Actor& self = world.actors[0];
    DETSCHED_CHECK(world.Take(self) == TakeResult::kTaken);
    if (ForkProcess() != 0) {
      world.Drop(self);
      return;
    }
    PlatformAfterForkInChild();
    self.has = false;
    self.busy = true;
    world.gil.ReinitAfterFork(&self.holder);
    DETSCHED_CHECK(world.Take(self) == TakeResult::kTaken);
    OsThread thread;
    DETSCHED_CHECK(thread.Start([](void* its) { static_cast<World*>(its)->TakeAndDrop(3, 1); }, &world) == 0);
    world.Work(world.done[0]);
    if (self.asked()) DETSCHED_CHECK(world.Yield(self) == TakeResult::kTaken);
    world.Drop(self);
    thread.Join();
  });
  for (int i = 1; i <= others; ++i) {
    schedule.Spawn("other", [&world, i] { world.TakeAndDrop(i, 1); });
  }
  schedule.Run();
  if (!schedule.forked()) return world.CheckPristine(others);
  DETSCHED_CHECK(world.inside.Get() == world.Done());
  DETSCHED_CHECK(!world.gil.locked());
  DETSCHED_CHECK(world.gil.Stats().waiting == 0);
}
void ForkWithOneOther(Schedule& schedule) { ForkBeside(schedule, 1); }
void ForkWithWaiters(Schedule& schedule) { ForkBeside(schedule, 2); }

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

void InteractiveBesideBusyOnce(Schedule& schedule) {
  World world;
  world.gil.set_policy(SwitchPolicy::kInteractive);
  world.gil.set_interval(5000);
  schedule.Spawn("busy", [&] { world.HoldAndPoll(0, 2); });
  schedule.Spawn("io", [&] { world.TakeAndDrop(1, 1); });
  schedule.Run();
  world.CheckPristine(3);
}

void DisableBeside(Schedule& schedule, int waiters) {
  World world(/*enabled=*/false);
  world.AddRequest();
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  schedule.Spawn("main", [&] { world.RemoveRequest(world.actors[0]); });
  for (int i = 1; i <= waiters; ++i) {
    schedule.Spawn("waiter", [&world, i] { world.TakeAndDropWhereItMayBeOff(i); });
  }
  schedule.Run();
  world.CheckPristine(world.Done());
}
void DisableWithOneWaiter(Schedule& schedule) { DisableBeside(schedule, 1); }
void DisableWithWaiters(Schedule& schedule) { DisableBeside(schedule, 2); }

// The same without timers to fall back on.
void DisableReleasesEveryWaiter(Schedule& schedule) {
  World world(/*enabled=*/false);
  const NobodyWaitedForTheInterval timing(world);
  world.AddRequest();
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  schedule.Spawn("main", [&] { world.RemoveRequest(world.actors[0]); });
  for (int i = 1; i <= 2; ++i) {
    schedule.Spawn("waiter", [&world, i] { world.TakeAndDropWhereItMayBeOff(i); });
  }
  schedule.Run();
  timing.Check();
  world.CheckPristine(world.Done());
}

// Switched off, on again in a stopped world (those who take it are not attached yet), and off for good.
void OffOnOffBeside(Schedule& schedule, int takers) {
  World world(/*enabled=*/false);
  const NobodyWaitedForTheInterval timing(world);
  world.AddRequest();
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
  schedule.Spawn("main", [&] {
    world.RemoveRequest(world.actors[0]);
    world.AddRequest();
    DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
    world.Work(world.done[0]);
    world.RemoveRequest(world.actors[0]);
  });
  for (int i = 1; i <= takers; ++i) {
    schedule.Spawn("taker", [&world, i] { world.TakeAndDropWhereItMayBeOff(i); });
  }
  schedule.Run();
  timing.Check();
  world.CheckPristine(world.Done());
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kDisabled);
}
void OffOnOff(Schedule& schedule) { OffOnOffBeside(schedule, 1); }
void OffOnOffWithTakers(Schedule& schedule) { OffOnOffBeside(schedule, 2); }

// Whose request stands gets the GIL, whatever the other one does with its own, and the last to go switches it off.
void RequestersBeside(Schedule& schedule, int takers) {
  World world(/*enabled=*/false);
  const NobodyWaitedForTheInterval timing(world);
  world.AddRequest();
  schedule.Spawn("first", [&] {
    DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kTaken);
    world.Work(world.done[0]);
    world.RemoveRequest(world.actors[0]);
    if (world.actors[0].has) world.Drop(world.actors[0]);
  });
  schedule.Spawn("second", [&] {
    Actor& self = world.actors[1];
    if (world.Take(self) != TakeResult::kTaken) return DETSCHED_CHECK(world.switched_off != 0);
    // Where it got a GIL that is off it runs alone: only one that holds it would be in the way.
    world.AddRequest();
    world.Drop(self);
    DETSCHED_CHECK(world.Take(self) == TakeResult::kTaken);
    world.Work(world.done[1]);
    world.RemoveRequest(self);
    if (self.has) world.Drop(self);
  });
  for (int i = 2; i < 2 + takers; ++i) {
    schedule.Spawn("taker", [&world, i] { world.TakeAndDropWhereItMayBeOff(i); });
  }
  schedule.Run();
  timing.Check();
  DETSCHED_CHECK(world.requests == 0 && world.switched_off != 0);
  world.CheckPristine(world.Done());
  DETSCHED_CHECK(world.Take(world.actors[0]) == TakeResult::kDisabled);
}
void TwoRequesters(Schedule& schedule) { RequestersBeside(schedule, 0); }
void TwoRequestersAndATaker(Schedule& schedule) { RequestersBeside(schedule, 1); }

TEST(GilScheduleTest, TwoThreadsExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), TwoTakers));
  ExpectComplete(Explore(WithTimers(Exhaustive(2)), HolderAndWaiter));
}

TEST(GilScheduleTest, AtMostOneHoldsAtEachStepExhaustively) {
  ExpectComplete(ExploreStepByStep(Exhaustive(2), TwoTakers));
  ExpectComplete(ExploreStepByStep(WithTimers(Exhaustive(2)), HolderAndWaiter));
  ExpectComplete(ExploreStepByStep(Exhaustive(2), BiasedAndRevoker));
  ExpectComplete(ExploreStepByStep(WithTimers(Exhaustive(2), 0), ForkWithOneOther));
  if (kGilEnabled) return;
  ExpectComplete(ExploreStepByStep(Exhaustive(2), OffOnOff));
  ExpectComplete(ExploreStepByStep(Exhaustive(2), TwoRequesters));
}

// All but the first without older values.
TEST(GilScheduleTest, ThreeThreadsExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), ThreeTakers));
  const Options newest = Exhaustive(2, /*stale_reads=*/0);
  ExpectComplete(Explore(WithTimers(newest, 0), ForkWithWaiters));
  ExpectComplete(Explore(newest, InteractiveBesideBusy));
  if (kGilEnabled) return;
  ExpectComplete(Explore(newest, OffOnOffWithTakers));
  ExpectComplete(Explore(newest, TwoRequestersAndATaker));
}

// The invariant does without a Plain that two threads touch.
TEST(GilScheduleTest, TwoHoldersAreNoticedWithoutARace) {
  const detsched::ScopedMutant mutant("gil_biased_take_without_fence");
  Options options = Options::Random(30'000);
  options.shrink = false;
  const Result result = ExploreStepByStep(options, [](Schedule& schedule) {
    World world;
    for (const int who : {0, 1}) {
      schedule.Spawn("taker", [&world, who] {
        for (int i = 0; i < 4; ++i) {
          DETSCHED_CHECK(world.Take(world.actors[who]) == TakeResult::kTaken);
          detsched::Point("works");
          world.Drop(world.actors[who]);
        }
      });
    }
    schedule.Run();
  });
  EXPECT_EQ(result.failure, detsched::Failure::kInvariant) << result.report;
}

TEST(GilScheduleTest, AWaiterThatHangsExhaustively) {
  ExpectComplete(Explore(WithTimers(Exhaustive(1)), HolderAndWaiterThatHangs));
}

TEST(GilScheduleTest, InteractiveExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), InteractiveBesideBusyOnce));
}

TEST(GilScheduleTest, ForkExhaustively) {
  ExpectComplete(Explore(WithTimers(Exhaustive(2), 0), ForkWithOneOther));
}

TEST(GilScheduleTest, SwitchingOnAndOffExhaustively) {
  if (kGilEnabled) GTEST_SKIP() << "the GIL is always on";
  ExpectComplete(Explore(WithTimers(Exhaustive(2)), DisableWithOneWaiter));
  ExpectComplete(Explore(Exhaustive(2), DisableReleasesEveryWaiter));
  ExpectComplete(Explore(Exhaustive(2), OffOnOff));
  ExpectComplete(Explore(Exhaustive(2), TwoRequesters));
}

TEST(GilScheduleTest, BiasAndRevocationExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), BiasedAndRevoker));
  ExpectComplete(Explore(Exhaustive(2), TwoTakersTwice));
}

TEST(GilScheduleTest, ExitOfAWaiterExhaustively) {
  ExpectComplete(Explore(Exhaustive(2), WaiterMustExit));
  ExpectComplete(Explore(Exhaustive(2), WaiterMustExitAfterAsking));
  ExpectComplete(Explore(Exhaustive(2), WaiterMustExitWhileHeld));
  ExpectComplete(Explore(Exhaustive(2, /*stale_reads=*/2), OutsiderOrdersExit));
}

TEST(GilScheduleTest, FinalDropExhaustively) { ExpectComplete(Explore(Exhaustive(2), FinalDrop)); }

struct Scenario {
  const char* name;
  void (*body)(Schedule&);
  int early_timeouts = 0;  // where the interval matters, it may be over at any time
  // At depth 3. A tenth where two threads are exhausted at bound 2 besides; the four take twice as long as the others.
  uint64_t pct_schedules = 2'000;
};

class GilRandomScheduleTest : public ::testing::TestWithParam<Scenario> {};

TEST_P(GilRandomScheduleTest, RandomWalkWithSpinning) {
  Options options = WithTimers(Options::Random(3'000), GetParam().early_timeouts);
  options.spurious_wakeups = 2;
  ExpectOk(ExploreStepByStep(options, GetParam().body));
  // Time stands still while somebody runs, so that without these no spin ever lasts as long as it may.
  options.clock_jumps = 1;
  options.max_schedules = 2'000;
  ExpectOk(ExploreStepByStep(options, GetParam().body));
}

TEST_P(GilRandomScheduleTest, PctDepth3) {
  Options options = WithTimers(Options::Pct(3, GetParam().pct_schedules), GetParam().early_timeouts);
  options.usable_cpus = 1;
  ExpectOk(ExploreStepByStep(options, GetParam().body));
}

TEST_P(GilRandomScheduleTest, PctDepth2) {
  Options options = WithTimers(Options::Pct(2, 2'000), GetParam().early_timeouts);
  options.usable_cpus = 1;
  ExpectOk(ExploreStepByStep(options, GetParam().body));
}

TEST_P(GilRandomScheduleTest, WithoutMembarrier) {
  Options options = WithTimers(Options::Random(2'000), GetParam().early_timeouts);
  options.membarrier = false;
  ExpectOk(ExploreStepByStep(options, GetParam().body));
}

// A thread that is biased, or about to be, must leave.
void BiasedMustExit(Schedule& schedule) {
  World world;
  world.TakeAndDrop(1, 3);
  schedule.Spawn("main", [&] { world.gil.RequestExit(world.actors[1].holder); });
  schedule.Run();
  DETSCHED_CHECK(world.Take(world.actors[1]) == TakeResult::kMustExit);
}

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> scenarios = {
      {"TwoTakers", TwoTakers},
      {"TwoTakersTwice", TwoTakersTwice},
      {"HolderAndWaiter", HolderAndWaiter, 2},
      {"HolderAndWaiterThatHangs", HolderAndWaiterThatHangs, 2},
      {"FourThreads", FourThreads, 2, 30'000},
      {"BiasedAndRevoker", BiasedAndRevoker, 2},
      {"WaiterMustExit", WaiterMustExit, 2},
      {"WaiterMustExitAfterAsking", WaiterMustExitAfterAsking, 2},
      {"WaiterMustExitWhileHeld", WaiterMustExitWhileHeld},
      {"OneOfTwoWaitersMustExit", OneOfTwoWaitersMustExit, 0, 20'000},
      {"OutsiderOrdersExit", OutsiderOrdersExit},
      {"FinalDrop", FinalDrop, 2},
      {"BiasedMustExit", BiasedMustExit},
      {"ForkWithWaiters", ForkWithWaiters, 2, 20'000},
      {"InteractiveBesideBusy", InteractiveBesideBusy, 2, 20'000},
  };
  if (!kGilEnabled) {
    scenarios.push_back({"DisableWithWaiters", DisableWithWaiters, 2, 20'000});
    scenarios.push_back({"DisableReleasesEveryWaiter", DisableReleasesEveryWaiter});
    scenarios.push_back({"OffOnOffWithTakers", OffOnOffWithTakers, 0, 20'000});
    scenarios.push_back({"TwoRequestersAndATaker", TwoRequestersAndATaker, 0, 20'000});
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
    const Result result = ExploreStepByStep(options, GetParam().body);
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
      {"gil_child_keeps_the_queue", ForkWithWaiters, 2},
  };
  if (!kGilEnabled) {
    mutants.push_back({"gi_33_disable_wakes_one", DisableReleasesEveryWaiter});
    mutants.push_back({"gil_disable_keeps_the_word", OffOnOffWithTakers});
    mutants.push_back({"gil_first_to_disable_decides", TwoRequestersAndATaker});
  }
  return mutants;
}

INSTANTIATE_TEST_SUITE_P(All, GilMutantTest, ::testing::ValuesIn(Mutants()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
