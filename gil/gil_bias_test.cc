// The bias, the policies, enabling and what the statistics promise.

#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/gil/gil_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using TakeResult = Gil::TakeResult;

void Cycle(Gil& gil, TestThread& thread, int times) {
  for (int i = 0; i < times; ++i) {
    ASSERT_EQ(gil.Take(thread.holder), TakeResult::kTaken);
    gil.Drop(thread.holder);
  }
}

TEST(GilBiasTest, ManyUncontendedTakesBiasTheGilAndAnotherThreadRevokesIt) {
  Gil gil(kOn);
  TestThread first, second;
  Cycle(gil, first, 5'000);
  EXPECT_EQ(gil.Stats().bias_grants, 1u);
  EXPECT_FALSE(gil.locked());
  ASSERT_EQ(gil.Take(first.holder), TakeResult::kTaken);
  EXPECT_TRUE(gil.locked());
  gil.Drop(first.holder);

  Cycle(gil, second, 1);
  EXPECT_EQ(gil.Stats().bias_revocations, 1u);
  EXPECT_EQ(gil.switch_number(), 2u);
  // The next bias has to be earned twice over.
  Cycle(gil, first, 5'000);
  EXPECT_EQ(gil.Stats().bias_grants, 1u);
  Cycle(gil, first, 5'000);
  EXPECT_EQ(gil.Stats().bias_grants, 2u);
}

TEST(GilBiasTest, ABiasedHoldIsRevokedWhileItLasts) {
  Gil gil(kOn);
  gil.set_interval(1);
  TestThread first;
  Cycle(gil, first, 5'000);
  ASSERT_EQ(gil.Stats().bias_grants, 1u);
  ASSERT_EQ(gil.Take(first.holder), TakeResult::kTaken);
  int turns = 0;
  std::thread other([&] {
    TestThread self;
    ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
    ++turns;
    gil.Drop(self.holder);
    gil.Forget(self.holder);
  });
  ASSERT_TRUE(Eventually([&] { return first.asked(); }));
  EXPECT_TRUE(gil.locked());
  ASSERT_EQ(gil.Yield(first.holder), TakeResult::kTaken);
  EXPECT_EQ(turns, 1);
  gil.Drop(first.holder);
  other.join();
}

// Revocation against biased takes and drops, from both sides, as fast as the machine allows.
TEST(GilBiasTest, RevocationsLoseNeitherExclusionNorTheGil) {
  Gil gil(kOn);
  int64_t counter = 0;
  int64_t expected = 0;
  TestThread main;
  for (int round = 0; round < 8; ++round) {
    std::atomic<bool> stop{false};
    int64_t by_other = 0;
    std::thread other([&] {
      TestThread self;
      while (!stop) {
        ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
        ++counter;
        ++by_other;
        gil.Drop(self.holder);
        for (int i = 0; i < 30'000; ++i) CpuRelax();
      }
      gil.Forget(self.holder);
    });
    for (int i = 0; i < 200'000; ++i) {
      ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
      ++counter;
      if (main.asked()) {
        ASSERT_EQ(gil.Yield(main.holder), TakeResult::kTaken);
      }
      gil.Drop(main.holder);
    }
    stop = true;
    other.join();
    expected += 200'000 + by_other;
  }
  EXPECT_EQ(counter, expected);
}

TEST(GilBiasTest, AHolderThatMustExitLosesItsBias) {
  Gil gil(kOn);
  TestThread main;
  Cycle(gil, main, 5'000);
  ASSERT_EQ(gil.Stats().bias_grants, 1u);
  gil.RequestExit(main.holder);
  EXPECT_EQ(gil.Take(main.holder), TakeResult::kMustExit);
}

TEST(GilStatsTest, UncontendedUseMakesNoSystemCall) {
  Gil gil(kOn);
  TestThread main;
  Cycle(gil, main, 10'000);
  const GilStats stats = gil.Stats();
  EXPECT_EQ(stats.parks, 0u);
  EXPECT_EQ(stats.wakes, 0u);
  EXPECT_EQ(stats.fences, 0u);
}

TEST(GilStatsTest, AHandOffCostsAtMostOneWakeAndFewWaits) {
  Gil gil(kOn);
  gil.set_interval(200);
  constexpr int kThreads = 4;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      TestThread self;
      ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
      while (!stop) {
        if (self.asked()) {
          ASSERT_EQ(gil.Yield(self.holder), TakeResult::kTaken);
        }
      }
      gil.Drop(self.holder);
      gil.Forget(self.holder);
    });
  }
  const int64_t start = MonotonicNow();
  ASSERT_TRUE(Eventually([&] { return gil.Stats().handoffs > 300; }));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const GilStats stats = gil.Stats();
  // The tail looks once an interval, whether or not the holder ran at all in it.
  const uint64_t intervals =
      static_cast<uint64_t>((MonotonicNow() - start) / kNanosPerMicro) / gil.interval() + 1;
  // Per switch: the tail wakes the head when it is due, the holder wakes it again if it did not spin long
  // enough.
  EXPECT_LE(stats.wakes, 2 * stats.switches + intervals + 20);
  EXPECT_LE(stats.parks, 3 * stats.switches + intervals + 20);
  EXPECT_LE(stats.fences, stats.contended_takes + 1);
}

TEST(GilStatsTest, HooksHearWhatHappensAndCostTheFastPath) {
  struct Counts {
    int ready = 0, acquired = 0, released = 0;
  } counts;
  GilHooks hooks;
  hooks.context = &counts;
  hooks.ready = [](void* context, const GilHolder&) { ++static_cast<Counts*>(context)->ready; };
  hooks.acquired = [](void* context, const GilHolder&) { ++static_cast<Counts*>(context)->acquired; };
  hooks.released = [](void* context, const GilHolder&) { ++static_cast<Counts*>(context)->released; };
  Gil gil(kOn);
  TestThread main;
  Cycle(gil, main, 5'000);  // biased: installing hooks must end that
  gil.SetHooks(&hooks);
  Cycle(gil, main, 10);
  gil.SetHooks(nullptr);
  Cycle(gil, main, 10);
  EXPECT_EQ(counts.ready, 10);
  EXPECT_EQ(counts.acquired, 10);
  EXPECT_EQ(counts.released, 10);
}

TEST(GilStatsTest, TheForcedHookMayLookAtTheGil) {
  struct Seen {
    Gil* gil;
    uint64_t waiting = 0;
    bool holds = false, requests = true;
  };
  Gil gil(kOn);
  gil.set_interval(1);
  Seen seen{&gil};
  GilHooks hooks;
  hooks.context = &seen;
  hooks.forced = [](void* context, const GilHolder& holder) {
    Seen& seen = *static_cast<Seen*>(context);
    seen.waiting = seen.gil->Stats().waiting;
    seen.holds = holder.holds();
    seen.requests = holder.requesting();  // gh-142207: never both
  };
  gil.SetHooks(&hooks);
  TestThread main, other;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  std::thread waiter([&] {
    ASSERT_EQ(gil.Take(other.holder), TakeResult::kTaken);
    gil.Drop(other.holder);
  });
  ASSERT_TRUE(Eventually([&] { return main.asked(); }));
  ASSERT_EQ(gil.Yield(main.holder), TakeResult::kTaken);
  gil.Drop(main.holder);
  waiter.join();
  gil.SetHooks(nullptr);
  EXPECT_EQ(seen.waiting, 1u);
  EXPECT_TRUE(seen.holds);
  EXPECT_FALSE(seen.requests);
}

TEST(GilEnableTest, AThreadThatMustExitIsToldSoAlsoWhileTheGilIsOff) {
  if (kGilEnabled) GTEST_SKIP() << "the GIL is always on in this build";
  Gil gil(/*enabled=*/false);
  TestThread main;
  gil.RequestExit(main.holder);
  EXPECT_EQ(gil.Take(main.holder), TakeResult::kMustExit);
  EXPECT_EQ(gil.Yield(main.holder), TakeResult::kMustExit);
}

TEST(GilEnableTest, B079_EnableAndDisableReturnWhetherTheyChangedIt) {
  if (kGilEnabled) GTEST_SKIP() << "the GIL is always on in this build";
  Gil gil(/*enabled=*/false);
  TestThread main;
  EXPECT_EQ(gil.Take(main.holder), TakeResult::kDisabled);
  EXPECT_TRUE(gil.AddEnableRequest());   // GI-34: transient -> 1
  EXPECT_FALSE(gil.AddEnableRequest());  // transient -> 0
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_FALSE(gil.RemoveEnableRequest(main.holder));  // disable -> 0
  EXPECT_TRUE(gil.RemoveEnableRequest(main.holder));   // disable -> 1
  EXPECT_FALSE(gil.enabled());
  EXPECT_FALSE(main.holder.holds());

  EXPECT_TRUE(gil.AddEnableRequest());
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_TRUE(gil.EnableForGood());
  EXPECT_FALSE(gil.EnableForGood());
  EXPECT_FALSE(gil.RemoveEnableRequest(main.holder)) << "GI-36: permanent is permanent";
  gil.Drop(main.holder);
}

TEST(GilEnableTest, B079_DisablingReleasesEveryWaiter) {
  if (kGilEnabled) GTEST_SKIP() << "the GIL is always on in this build";
  Gil gil(/*enabled=*/false);
  TestThread main;
  ASSERT_TRUE(gil.AddEnableRequest());
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  std::atomic<int> released{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&] {
      TestThread self;
      if (gil.Take(self.holder) == TakeResult::kDisabled) ++released;
      gil.Forget(self.holder);
    });
  }
  ASSERT_TRUE(Eventually([&] { return gil.Stats().waiting == 5; }));
  EXPECT_TRUE(gil.RemoveEnableRequest(main.holder));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(released, 5) << "GI-33: with a condition variable a missing chain strands n-1 threads";
}

TEST(InteractiveBudgetTest, PreemptionsCostWhatTheyTakeAndCreditComesBackWithTime) {
  InteractiveBudget budget;
  int64_t now = 1'000'000'000;
  ASSERT_TRUE(budget.MayPreempt(now));
  budget.Pay(now, InteractiveBudget::kCapacity + 1'000);
  EXPECT_FALSE(budget.MayPreempt(now));
  now += 1'000 * InteractiveBudget::kRefillDivisor;
  EXPECT_FALSE(budget.MayPreempt(now)) << "a balance of exactly nothing is no credit";
  now += InteractiveBudget::kRefillDivisor;
  EXPECT_TRUE(budget.MayPreempt(now));
  budget.Pay(now, 3'600 * kNanosPerSecond);
  EXPECT_EQ(budget.tokens(), -InteractiveBudget::kDeepestDebt);
  now += 3'600 * kNanosPerSecond;
  EXPECT_TRUE(budget.MayPreempt(now));
  EXPECT_EQ(budget.tokens(), InteractiveBudget::kCapacity);
}

TEST(InteractiveBudgetTest, ABusyThreadKeepsItsShareOverAnyLongStretch) {
  InteractiveBudget budget;
  int64_t now = 1;
  int64_t lost = 0;
  const int64_t end = 20 * kNanosPerSecond;
  while (now < end) {
    if (budget.MayPreempt(now)) {
      lost += 50'000;
      now += 50'000;
      budget.Pay(now, 50'000);
    }
    now += 1'000;
  }
  EXPECT_LE(static_cast<double>(lost), 0.05 * static_cast<double>(end));
  EXPECT_GE(static_cast<double>(lost), 0.03 * static_cast<double>(end));
}

TEST(GilPolicyTest, AnInteractiveThreadIsGrantedWithoutWaitingForTheInterval) {
  // Each time with a fresh Gil: on a machine that is busy one grant may use up what it may cost the other thread.
  for (int i = 0; i < 5; ++i) {
    Gil gil(kOn);
    gil.set_interval(5'000'000);  // five seconds: whoever waits for it fails the test
    gil.set_policy(SwitchPolicy::kInteractive);
    std::atomic<bool> stop{false};
    std::atomic<bool> busy_runs{false};
    std::thread busy([&] {
      TestThread self;
      ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
      while (!stop) {
        busy_runs = true;
        if (self.asked()) {
          ASSERT_EQ(gil.Yield(self.holder), TakeResult::kTaken);
        }
      }
      gil.Drop(self.holder);
      gil.Forget(self.holder);
    });
    ASSERT_TRUE(Eventually([&] { return busy_runs.load(); }));
    TestThread io;
    const int64_t start = MonotonicNow();
    ASSERT_EQ(gil.Take(io.holder), TakeResult::kTaken);
    EXPECT_LT(MonotonicNow() - start, 2 * kNanosPerSecond);
    gil.Drop(io.holder);
    EXPECT_EQ(gil.Stats().preemptions, 1u);
    stop = true;
    busy.join();
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
