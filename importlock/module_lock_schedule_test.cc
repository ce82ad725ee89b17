// Module locks on the deterministic scheduler: every pair of chains, rings, time-outs, forks, mistakes.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Schedule;

constexpr int kModules = 4;
constexpr const char* kNames[kModules] = {"m0", "m1", "m2", "m3"};
constexpr const char* kThreads[] = {"a", "b", "c", "d"};

using Chain = std::vector<int>;

Options Isolated(Options options) {
  options.isolate = true;  // a failure leaves the parking lot in disorder
  return options;
}

struct World {
  TestGil gil;
  ModuleLockRegistry locks;
  Plain<int> in_body[kModules];
  Atomic<int> deadlocks{0};

  // The body of chain[at] imports chain[at + 1], and so on.
  void Run(const Chain& chain, size_t at = 0) {
    if (at == chain.size()) return;
    const int module = chain[at];
    ModuleLock lock(locks, kNames[module]);
    const ModuleLockStatus status = lock.Acquire(gil.hooks());
    if (status == ModuleLockStatus::kDeadlock) {
      deadlocks.fetch_add(1, kRelaxed);
      return;
    }
    DETSCHED_CHECK(status == ModuleLockStatus::kAcquired);
    // A race here, or a wrong number, is a second owner. Detached between: another thread may run.
    const int before = in_body[module].Get();
    gil.Detach();
    gil.Attach();
    Run(chain, at + 1);
    in_body[module].Set(before + 1);
  }

  void Thread(const Chain& chain) {
    const TestAttached attached(gil);
    Run(chain);
  }
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

void Pair(Schedule& s, const Chain& first, const Chain& second) {
  World world;
  s.Spawn("a", [&] { world.Thread(first); });
  s.Spawn("b", [&] { world.Thread(second); });
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
  DETSCHED_CHECK(world.deadlocks.load(kRelaxed) <= (CanDeadlock(first, second) ? 1 : 0));
}

// Of two chains only the pattern counts, not the modules' numbers: the first is 0, 01 or 012.
TEST(ModuleLockScheduleTest, EveryPairOfChainsExhaustively) {
  uint64_t schedules = 0;
  for (const Chain& first : {Chain{0}, Chain{0, 1}, Chain{0, 1, 2}}) {
    for (const Chain& second : Chains()) {
      const auto result =
          Explore(Isolated(Options::Exhaustive(1)), [&](Schedule& s) { Pair(s, first, second); });
      schedules += result.schedules;
      ASSERT_TRUE(result.ok()) << ToString(first) << " beside " << ToString(second) << "\n" << result.report;
      ASSERT_TRUE(result.complete);
    }
  }
  RecordProperty("schedules", std::to_string(schedules));
}

void Crossed(Schedule& s) { Pair(s, {0, 1}, {1, 0}); }

TEST(ModuleLockScheduleTest, CrossedPairAtBoundTwo) {
  const auto result = Explore(Isolated(Options::Exhaustive(2)), Crossed);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete) << result.schedules;
}

// B103: thread i owns i and wants i + 1.
void Ring(Schedule& s, int threads) {
  World world;
  for (int i = 0; i < threads; ++i) {
    s.Spawn(kThreads[i], [&world, i, threads] { world.Thread({i, (i + 1) % threads}); });
  }
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
}

TEST(ModuleLockScheduleTest, B103_RingsOfThreeAndFour) {
  for (int threads : {3, 4}) {
    const auto result = Explore(Isolated(Options::Pct(3, 4000)), [&](Schedule& s) { Ring(s, threads); });
    EXPECT_TRUE(result.ok()) << result.report;
  }
}

// B105: b and c form a cycle of their own; a only waits for one of them.
void ForeignCycle(Schedule& s) {
  World world;
  s.Spawn("a", [&] { world.Thread({2, 0}); });
  s.Spawn("b", [&] { world.Thread({0, 1}); });
  s.Spawn("c", [&] { world.Thread({1, 0}); });
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
  DETSCHED_CHECK(world.deadlocks.load(kRelaxed) <= 1);
}

TEST(ModuleLockScheduleTest, B105_ForeignCycle) {
  const auto result = Explore(Isolated(Options::Pct(3, 4000)), ForeignCycle);
  EXPECT_TRUE(result.ok()) << result.report;
}

// Waits end early while an owner releases: the wake-up must not go with them.
void TimeOut(Schedule& s) {
  World world;
  s.Spawn("owner", [&] { world.Thread({0}); });
  for (const char* name : {"impatient", "patient"}) {
    s.Spawn(name, [&world, name] {
      const TestAttached attached(world.gil);
      ModuleLock lock(world.locks, kNames[0]);
      const bool patient = name[0] == 'p';
      const auto status = lock.Acquire(world.gil.hooks(), patient ? kForever : kNanosPerMicro);
      DETSCHED_CHECK(status == ModuleLockStatus::kAcquired || !patient);
    });
  }
  s.Run();
  DETSCHED_CHECK(world.locks.size() == 0);
}

Options EarlyTimeouts() {
  Options options = Options::Exhaustive(2);
  options.early_timeouts = 1;
  options.max_schedules = 20'000;
  return options;
}

TEST(ModuleLockScheduleTest, TimedOutWaitersLoseNoWakeUp) {
  const auto result = Explore(Isolated(EarlyTimeouts()), TimeOut);
  EXPECT_TRUE(result.ok()) << result.report;
}

// FK-7: whatever the others were at, the child can import every module, and owns what its thread owned.
void Fork(Schedule& s) {
  World world;
  s.Spawn("a", [&] { world.Thread({1, 2}); });
  s.Spawn("b", [&] { world.Thread({2, 0}); });
  s.Spawn("forker", [&] {
    world.gil.Attach();
    {
      ModuleLock mine(world.locks, kNames[3]);
      DETSCHED_CHECK(mine.Acquire(world.gil.hooks()) == ModuleLockStatus::kAcquired);
      world.locks.BeforeFork();
      if (ForkProcess() == 0) {
        PlatformAfterForkInChild();
        ParkingLot::AfterForkInChild();
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

TEST(ModuleLockScheduleTest, FK7_ForkOnBothSides) {
  Options options = Options::Pct(3, 5000);
  options.fork = detsched::ForkSide::kEither;
  const auto result = Explore(Isolated(options), Fork);
  EXPECT_TRUE(result.ok()) << result.report;
}

void ExpectKilled(const std::string& mutant, void (*body)(Schedule&), Options options, Failure failure) {
  const detsched::ScopedMutant active(mutant);
  options.shrink = false;
  const auto result = Explore(Isolated(options), body);
  EXPECT_EQ(result.failure, failure) << mutant << "\n" << result.report;
}

TEST(ModuleLockScheduleTest, MutantsAreKilled) {
  ExpectKilled("module_lock_waiter_is_not_counted", Crossed, Options::Exhaustive(2), Failure::kDeadlock);
  if constexpr (!kGilEnabled) {  // with the GIL nobody else comes between
    ExpectKilled("module_lock_checks_apart_from_adding", Crossed, Options::Exhaustive(2), Failure::kDeadlock);
    ExpectKilled("bpo_38091_visits_twice", ForeignCycle, Options::Pct(3, 20'000), Failure::kLivelock);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
