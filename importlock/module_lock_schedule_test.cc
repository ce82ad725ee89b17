// Module locks on the deterministic scheduler: every pair of chains, rings, time-outs, forks, mistakes.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/importlock/schedule_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

constexpr int kModules = 4;
constexpr const char* kNames[kModules] = {"m0", "m1", "m2", "m3"};
constexpr const char* kThreads[] = {"a", "b", "c", "d"};

using Chain = std::vector<int>;

struct World {
  explicit World(Schedule& s, Watched watched = Watched::kNo) {
    if (watched == Watched::kYes)
      s.Invariant("each module has one owner at most", [this] { return OneOwnerEach(); });
  }

  // The body of chain[at] imports chain[at + 1], and so on.
  void Run(const Chain& chain, size_t at = 0) {
    if (at == chain.size()) return;
    const int module = chain[at];
    const detsched::FiberId self = detsched::CurrentFiber();
    ModuleLock lock(locks, kNames[module]);
    wants[self] = module;
    const ModuleLockStatus status = lock.Acquire(gil.hooks());
    // All that are part of a cycle stay where they are until this thread has given up.
    const bool cycle = LeadsTo(module, self);
    wants[self] = -1;
    if (status == ModuleLockStatus::kDeadlock) {
      DETSCHED_CHECK(cycle);
      ++deadlocks;
      return;
    }
    DETSCHED_CHECK(status == ModuleLockStatus::kAcquired);
    Body(module, [&] { Run(chain, at + 1); });
  }

  // Owns `module`. Without a GIL a second owner is a race; with it, it is a number that has changed.
  void Body(
      int module, const std::function<void()>& imports = [] {}) {
    const detsched::FiberId self = detsched::CurrentFiber();
    owns[self][module] = true;
    const int before = in_body[module].Get();
    gil.Detach();
    gil.Attach();
    imports();
    DETSCHED_CHECK(in_body[module].Get() == before);
    in_body[module].Set(before + 1);
    owns[self][module] = false;
  }

  void Thread(const Chain& chain) {
    const TestAttached attached(gil);
    Run(chain);
  }

  // In a forked child: nobody else is there.
  void OnlyThisThread() {
    for (int other = 0; other < kFibers; ++other) {
      if (other == detsched::CurrentFiber()) continue;
      wants[other] = -1;
      for (bool& one : owns[other]) one = false;
    }
  }

  // Whether whoever waits for `module` waits for `self`, by way of what each of the owners wants.
  bool LeadsTo(int module, int self) const {
    for (int steps = 0; steps < kFibers; ++steps) {
      int owner = -1;
      for (int i = 0; i < kFibers; ++i) {
        if (owns[i][module]) owner = i;
      }
      if (owner == self) return true;
      if (owner == -1 || wants[owner] == -1) return false;
      module = wants[owner];
    }
    return false;
  }

  bool OneOwnerEach() const {
    for (int module = 0; module < kModules; ++module) {
      int owners = 0;
      for (const auto& member : owns) owners += member[module];
      if (owners > 1) return false;
    }
    return true;
  }

  TestGil gil;
  ModuleLockRegistry locks;
  Plain<int> in_body[kModules];

  // The model.
  static constexpr int kFibers = 4;
  bool owns[kFibers][kModules] = {};
  int wants[kFibers] = {-1, -1, -1, -1};  // what it waits for, or is about to
  int deadlocks = 0;
};

// All chains of one to three different modules.
std::vector<Chain> Chains() {
  std::vector<Chain> chains;
  for (int a = 0; a < kModules; ++a) {
    chains.push_back({a});
    for (int b = 0; b < kModules; ++b) {
      if (b == a) continue;
      chains.push_back({a, b});
      for (int c = 0; c < kModules; ++c) {
        if (c != a && c != b) chains.push_back({a, b, c});
      }
    }
  }
  return chains;
}

// Whether some module comes before another in one chain and after it in the other: only then may waiting be
// endless.
bool CanDeadlock(const Chain& first, const Chain& second) {
  const auto before = [](const Chain& chain, int x, int y) {
    size_t ix = chain.size(), iy = chain.size();
    for (size_t i = 0; i < chain.size(); ++i) {
      if (chain[i] == x) ix = i;
      if (chain[i] == y) iy = i;
    }
    return ix < iy && iy < chain.size();
  };
  for (int x = 0; x < kModules; ++x) {
    for (int y = 0; y < kModules; ++y) {
      if (before(first, x, y) && before(second, y, x)) return true;
    }
  }
  return false;
}

std::string ToString(const Chain& chain) {
  std::string text;
  for (int module : chain) text += kNames[module];
  return text;
}

// Of two chains only the pattern counts: modules that the first one does not have are named in the order in which the
// second has them.
bool IsOneOfItsPattern(const Chain& first, const Chain& second) {
  int next = static_cast<int>(first.size());
  for (int module : second) {
    if (module > next) return false;
    if (module == next) ++next;
  }
  return true;
}

void Pair(Schedule& s, const Chain& first, const Chain& second) {
  World world(s);
  s.Spawn("a", [&] { world.Thread(first); });
  s.Spawn("b", [&] { world.Thread(second); });
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
  DETSCHED_CHECK(world.deadlocks <= (CanDeadlock(first, second) ? 1 : 0));
}

// The first is 0, 01 or 012, and not the longer one.
TEST(ModuleLockScheduleTest, EveryPairOfChainsExhaustively) {
  uint64_t schedules = 0;
  for (const Chain& first : {Chain{0}, Chain{0, 1}, Chain{0, 1, 2}}) {
    for (const Chain& second : Chains()) {
      if (second.size() < first.size() || !IsOneOfItsPattern(first, second)) continue;
      SCOPED_TRACE(ToString(first) + " beside " + ToString(second));
      schedules += ExpectComplete(Exhaustive(2), [&](Schedule& s) { Pair(s, first, second); });
      if (HasFailure()) return;
    }
  }
  RecordProperty("schedules", std::to_string(schedules));
}

void Crossed(Schedule& s) { Pair(s, {0, 1}, {1, 0}); }

// On two CPUs, where a waiter spins.
TEST(ModuleLockScheduleTest, CrossedPairAtBoundTwo) { ExpectComplete(Options::Exhaustive(2), Crossed); }

// Two wait for one: who is woken owns nothing yet.
void ThreeOfOne(Schedule& s) {
  World world(s);
  for (int i = 0; i < 3; ++i) {
    s.Spawn(kThreads[i], [&world] { world.Thread({0}); });
  }
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0 && world.deadlocks == 0);
  DETSCHED_CHECK(world.in_body[0].Get() == 3);
}

TEST(ModuleLockScheduleTest, ThreeThreadsAtOneModuleExhaustively) {
  ExpectComplete(Exhaustive(2), ThreeOfOne);
}

// B103: thread i owns i and wants i + 1. Who has to give up is the only one: its module is then free for the others.
void Ring(Schedule& s, int threads, Watched watched) {
  World world(s, watched);
  for (int i = 0; i < threads; ++i) {
    s.Spawn(kThreads[i], [&world, i, threads] { world.Thread({i, (i + 1) % threads}); });
  }
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
  DETSCHED_CHECK(world.deadlocks <= 1);
}

void RingOfThree(Schedule& s) { Ring(s, 3, Watched::kNo); }

TEST(ModuleLockScheduleTest, B103_RingOfThreeExhaustively) { ExpectComplete(Exhaustive(2), RingOfThree); }

TEST(ModuleLockScheduleTest, B103_RingsOfThreeAndFour) {
  for (int threads : {3, 4}) {
    ExpectOkByPct(20'000, [&](Schedule& s) { Ring(s, threads, Watched::kYes); });
  }
}

// B105: b and c form a cycle of their own; a only waits for one of them.
void ForeignCycle(Schedule& s, Watched watched) {
  World world(s, watched);
  s.Spawn("a", [&] { world.Thread({2, 0}); });
  s.Spawn("b", [&] { world.Thread({0, 1}); });
  s.Spawn("c", [&] { world.Thread({1, 0}); });
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
  DETSCHED_CHECK(world.deadlocks <= 1);
}

void ForeignCycleUnwatched(Schedule& s) { ForeignCycle(s, Watched::kNo); }

TEST(ModuleLockScheduleTest, B105_ForeignCycleExhaustively) {
  ExpectComplete(Exhaustive(2, /*stale_reads=*/0), ForeignCycleUnwatched);
}

TEST(ModuleLockScheduleTest, B105_ForeignCycle) {
  ExpectOkByPct(20'000, [](Schedule& s) { ForeignCycle(s, Watched::kYes); });
}

// Waits end early while an owner releases: the wake-up must not go with them.
void TimeOut(Schedule& s) {
  World world(s);
  s.Spawn("owner", [&] { world.Thread({0}); });
  for (const char* name : {"impatient", "patient"}) {
    s.Spawn(name, [&world, name] {
      const TestAttached attached(world.gil);
      ModuleLock lock(world.locks, kNames[0]);
      const bool patient = name[0] == 'p';
      const auto status = lock.Acquire(world.gil.hooks(), patient ? kForever : kNanosPerMicro);
      DETSCHED_CHECK(status == ModuleLockStatus::kAcquired ||
                     (status == ModuleLockStatus::kFailure && !patient));
      if (status == ModuleLockStatus::kAcquired) world.Body(0);
    });
  }
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
}

TEST(ModuleLockScheduleTest, TimedOutWaitersLoseNoWakeUp) {
  Options options = Exhaustive(2, /*stale_reads=*/0);
  options.early_timeouts = 1;
  ExpectComplete(options, TimeOut);
  ExpectOkByPct(10'000, TimeOut, [](Options& sampled) { sampled.early_timeouts = 2; });
}

// FK-7: whatever the others were at, the child can import every module, and owns what its thread owned.
void Fork(Schedule& s, const std::vector<Chain>& others, Watched watched) {
  World world(s, watched);
  for (size_t i = 0; i < others.size(); ++i) {
    s.Spawn(kThreads[i], [&, i] { world.Thread(others[i]); });
  }
  s.Spawn("forker", [&] {
    world.gil.Attach();
    {
      ModuleLock mine(world.locks, kNames[3]);
      DETSCHED_CHECK(mine.Acquire(world.gil.hooks()) == ModuleLockStatus::kAcquired);
      world.locks.BeforeFork();
      if (ForkProcess() == 0) {
        PlatformAfterForkInChild();
        ParkingLot::AfterForkInChild();
        world.OnlyThisThread();
        static_cast<void>(world.locks.AfterForkInChild());
        DETSCHED_CHECK(world.locks.size() == 1 && world.locks.Locked(kNames[3]));
        for (int i = 0; i < 3; ++i) {
          ModuleLock lock(world.locks, kNames[i]);
          DETSCHED_CHECK(lock.Acquire(world.gil.hooks()) == ModuleLockStatus::kAcquired);
        }
      } else {
        world.locks.AfterForkInParent();
      }
    }
    world.gil.Detach();
  });
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
}

void ForkBesideOne(Schedule& s) { Fork(s, {{1, 2}}, Watched::kNo); }
// The other one wants what the forker owns.
void ForkBesideWaiter(Schedule& s) { Fork(s, {{1, 3}}, Watched::kNo); }

TEST(ModuleLockScheduleTest, FK7_ForkBesideOneThreadExhaustively) {
  ExpectComplete(OnEitherSide(Exhaustive(2)), ForkBesideOne);
  ExpectComplete(OnEitherSide(Exhaustive(2)), ForkBesideWaiter);
}

TEST(ModuleLockScheduleTest, FK7_ForkOnBothSides) {
  const auto mishaps = [](Options& options) { options.fork = detsched::ForkSide::kEither; };
  ExpectOkByPct(
      10'000,
      [](Schedule& s) {
        Fork(s, {{1, 2}, {2, 0}, {0, 1}}, Watched::kYes);
      },
      mishaps);
}

void ExpectKilled(const std::string& mutant, void (*body)(Schedule&), Options options, Failure failure) {
  const detsched::ScopedMutant active(mutant);
  options.shrink = false;
  const auto result = Explore(Isolated(options), body);
  EXPECT_EQ(result.failure, failure) << mutant << "\n" << result.report;
}

TEST(ModuleLockScheduleTest, MutantsAreKilled) {
  ExpectKilled("module_lock_waiter_is_not_counted", Crossed, Options::Exhaustive(2), Failure::kDeadlock);
  ExpectKilled("b103_an_owner_that_waits_is_a_deadlock", RingOfThree, Exhaustive(2), Failure::kCheck);
  ExpectKilled("fk_7_locks_of_the_gone_stay", ForkBesideOne, OnEitherSide(Exhaustive(2)), Failure::kDeadlock);
  ExpectKilled("fk_7_frames_of_the_gone_stay", ForkBesideOne, OnEitherSide(Exhaustive(2)), Failure::kCheck);
  ExpectKilled("module_lock_barges_in_on_an_owner", ThreeOfOne, Exhaustive(2),
               kGilEnabled ? Failure::kCheck : Failure::kRace);
  if constexpr (!kGilEnabled) {  // with the GIL nobody else comes between
    ExpectKilled("module_lock_checks_apart_from_adding", Crossed, Options::Exhaustive(2), Failure::kDeadlock);
    ExpectKilled("bpo_38091_visits_twice", ForeignCycleUnwatched, Options::Pct(3, 20'000),
                 Failure::kLivelock);
  }
}

// gh-91351: a destructor or a signal handler that runs while its thread waits for a module imports another one, and waits
// for that too. Whoever closes a circle by way of the first wait must still see it.
struct Nesting {
  TestGil gil;
  ModuleLockRegistry locks;
  bool nested = false;
};

void ImportInsideAWait(Schedule& s) {
  Nesting world;
  WaitHooks hooks;
  hooks.context = &world;
  hooks.before_park = [](void* context) { static_cast<Nesting*>(context)->gil.Detach(); };
  hooks.after_park = [](void* context) { static_cast<Nesting*>(context)->gil.Attach(); };
  hooks.must_fail = [](void* context) {
    Nesting& nesting = *static_cast<Nesting*>(context);
    if (std::exchange(nesting.nested, true)) return false;
    ModuleLock inner(nesting.locks, kNames[2]);
    DETSCHED_CHECK(inner.Acquire(nesting.gil.hooks()) == ModuleLockStatus::kAcquired);
    return false;
  };
  int deadlocks = 0;
  const auto import_both = [&](int first, int second, const WaitHooks* wait) {
    const TestAttached attached(world.gil);
    ModuleLock outer(world.locks, kNames[first]);
    DETSCHED_CHECK(outer.Acquire(world.gil.hooks()) == ModuleLockStatus::kAcquired);
    world.gil.Detach();
    world.gil.Attach();
    ModuleLock inner(world.locks, kNames[second]);
    const ModuleLockStatus status = inner.Acquire(wait);
    DETSCHED_CHECK(status == ModuleLockStatus::kAcquired || status == ModuleLockStatus::kDeadlock);
    deadlocks += status == ModuleLockStatus::kDeadlock;
  };
  s.Spawn("nests", [&] { import_both(0, 1, &hooks); });
  s.Spawn("crosses", [&] { import_both(1, 0, world.gil.hooks()); });
  s.Spawn("keeps", [&] { import_both(2, 3, world.gil.hooks()); });
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0 && deadlocks <= 1);
}

TEST(ModuleLockScheduleTest, gh_91351_AnImportInsideAWaitHidesNoCircle) {
  ExpectOk(Options::Random(10'000), ImportInsideAWait);  // each lets the next one in, which is many switches
  ExpectOkByPct(5000, ImportInsideAWait);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
