#include "pyrt/gil/gil.h"

#include <errno.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/gil/gil_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using TakeResult = Gil::TakeResult;

TEST(GilTest, B068_OneHolderAtATimeAndDropHappensBeforeTake) {
  Gil gil(kOn);
  constexpr int kThreads = 4;
  constexpr int kRounds = 20'000;
  int counter = 0;  // plain: a data race would show under ThreadSanitizer, a lost update everywhere
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      TestThread self;
      for (int round = 0; round < kRounds; ++round) {
        ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
        ++counter;
        if (self.asked()) {
          ASSERT_EQ(gil.Yield(self.holder), TakeResult::kTaken);
        }
        gil.Drop(self.holder);
      }
      gil.Forget(self.holder);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, kThreads * kRounds);
  EXPECT_FALSE(gil.locked());
  EXPECT_EQ(gil.Stats().waiting, 0u);
}

TEST(GilTest, B069_ADropIsRequestedAfterOneIntervalAndNotBefore) {
  Gil gil(kOn);
  constexpr int64_t kIntervalMicros = 30'000;
  gil.set_interval(kIntervalMicros);
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  Atomic<int64_t> started{0};
  std::thread waiter([&] {
    TestThread self;
    started.store(MonotonicNow(), kRelease);
    ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
    gil.Drop(self.holder);
    gil.Forget(self.holder);
  });
  ASSERT_TRUE(Eventually([&] { return main.asked(); }));
  EXPECT_GE(MonotonicNow() - started.load(kAcquire), kIntervalMicros * kNanosPerMicro);
  gil.Drop(main.holder);
  waiter.join();
}

TEST(GilTest, B070_ASwitchStartsTheIntervalAnew) {
  Gil gil(kOn);
  constexpr int64_t kInterval = 200 * kNanosPerMilli;
  gil.set_interval(kInterval / kNanosPerMicro);
  TestThread first, second;
  ASSERT_EQ(gil.Take(first.holder), TakeResult::kTaken);
  std::thread waiter([&] {
    TestThread self;
    ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
    gil.Drop(self.holder);
    gil.Forget(self.holder);
  });
  ASSERT_TRUE(Eventually([&] { return gil.Stats().parks >= 1; }));
  // Half an interval in, another thread barges in while the waiter still wakes up. Should the waiter win that
  // race, the test has nothing to say.
  std::this_thread::sleep_for(std::chrono::nanoseconds(kInterval / 2));
  gil.Drop(first.holder);
  const bool barged = gil.Take(second.holder) == TakeResult::kTaken && gil.Stats().waiting == 1;
  const int64_t switched = MonotonicNow();
  if (barged) {
    ASSERT_TRUE(Eventually([&] { return second.asked(); }));
    EXPECT_GE(MonotonicNow() - switched, kInterval - 20 * kNanosPerMilli);
  }
  gil.Drop(second.holder);
  waiter.join();
  gil.Forget(first.holder);
  gil.Forget(second.holder);
}

TEST(GilTest, B071_AnAnsweredRequestIsASwitchBeforeTheDropReturns) {
  Gil gil(kOn);
  gil.set_interval(1);
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  const uint64_t before = gil.switch_number();
  std::thread waiter([&] {
    TestThread self;
    ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
    gil.Drop(self.holder);
    gil.Forget(self.holder);
  });
  ASSERT_TRUE(Eventually([&] { return main.asked(); }));
  gil.Drop(main.holder);
  EXPECT_EQ(gil.switch_number(), before + 1);
  EXPECT_FALSE(main.asked());
  waiter.join();
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_EQ(gil.switch_number(), before + 2);
  gil.Drop(main.holder);
}

TEST(GilTest, B071_YieldPassesTheGilToTheWaiterAndComesBack) {
  Gil gil(kOn);
  gil.set_interval(1);
  TestThread main;
  int turns = 0;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  std::thread waiter([&] {
    TestThread self;
    ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
    ++turns;
    gil.Drop(self.holder);
    gil.Forget(self.holder);
  });
  ASSERT_TRUE(Eventually([&] { return main.asked(); }));
  ASSERT_EQ(gil.Yield(main.holder), TakeResult::kTaken);
  EXPECT_EQ(turns, 1);
  EXPECT_TRUE(main.holder.holds());
  gil.Drop(main.holder);
  waiter.join();
}

TEST(GilTest, YieldWithNobodyWaitingKeepsTheGilAndClearsTheRequest) {
  Gil gil(kOn);
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  main.word.fetch_or(TestThread::kDropBit, kSeqCst);
  EXPECT_EQ(gil.Yield(main.holder), TakeResult::kTaken);
  EXPECT_FALSE(main.asked());
  EXPECT_TRUE(gil.locked());
  gil.Drop(main.holder);
}

TEST(GilTest, B072_AVoluntaryDropDoesNotWaitAndTheSameThreadMakesNoSwitch) {
  Gil gil(kOn);
  TestThread main;
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
    gil.Drop(main.holder);
  }
  EXPECT_EQ(gil.switch_number(), 1u);
}

TEST(GilTest, B073_TheSwitchNumberCountsChangesOfHolder) {
  Gil gil(kOn);
  TestThread first, second;
  EXPECT_EQ(gil.switch_number(), 0u);
  for (uint64_t switches = 1; switches <= 6; ++switches) {
    TestThread& next = switches % 2 == 1 ? first : second;
    ASSERT_EQ(gil.Take(next.holder), TakeResult::kTaken);
    EXPECT_EQ(gil.last_holder(), &next.holder);
    EXPECT_EQ(gil.switch_number(), switches);
    gil.Drop(next.holder);
  }
}

TEST(GilTest, B074_AWaiterThatMustExitWithdrawsItsRequest) {
  Gil gil(kOn);
  gil.set_interval(1);
  TestThread main, daemon;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  Atomic<bool> left{false};
  std::thread thread([&] {
    EXPECT_EQ(gil.Take(daemon.holder), TakeResult::kMustExit);
    left.store(true, kRelease);
  });
  ASSERT_TRUE(Eventually([&] { return main.asked(); }));
  gil.RequestExit(daemon.holder);
  ASSERT_TRUE(Eventually([&] { return left.load(kAcquire); }));
  thread.join();
  EXPECT_FALSE(main.asked()) << "gh-96387: the holder would wait for a switch that cannot happen";
  EXPECT_GE(gil.Stats().withdrawn, 1u);
  EXPECT_EQ(gil.Yield(main.holder), TakeResult::kTaken);
  gil.Drop(main.holder);
  EXPECT_EQ(gil.Take(daemon.holder), TakeResult::kMustExit) << "for good";
}

TEST(GilTest, B074_AHolderThatMustExitLosesTheGilAtItsNextYield) {
  Gil gil(kOn);
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  gil.RequestExit(main.holder);
  EXPECT_EQ(gil.Yield(main.holder), TakeResult::kMustExit);
  EXPECT_FALSE(gil.locked());
}

TEST(GilTest, B075_AfterAFinalDropTheNextHolderMayFreeEverything) {
  for (int round = 0; round < 2'000; ++round) {
    auto gil = std::make_unique<Gil>(kOn);
    auto leaver = std::make_unique<TestThread>();
    ASSERT_EQ(gil->Take(leaver->holder), TakeResult::kTaken);
    std::thread heir([&gil, &leaver] {
      TestThread self;
      ASSERT_EQ(gil->Take(self.holder), TakeResult::kTaken);
      gil->Forget(leaver->holder);
      leaver.reset();  // AddressSanitizer sees what the other thread still touches
      gil->DropFinal(self.holder);
      gil.reset();
    });
    gil->DropFinal(leaver->holder);
    heir.join();
  }
}

TEST(GilTest, B077_ErrnoSurvivesTakeDropAndYield) {
  Gil gil(kOn);
  gil.set_interval(1);
  std::atomic<bool> stop{false};
  std::thread other([&] {
    TestThread self;
    while (!stop) {
      ASSERT_EQ(gil.Take(self.holder), TakeResult::kTaken);
      gil.Drop(self.holder);
    }
    gil.Forget(self.holder);
  });
  TestThread main;
  for (int i = 0; i < 2'000; ++i) {
    errno = 4711;
    ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
    ASSERT_EQ(errno, 4711);
    ASSERT_EQ(gil.Yield(main.holder), TakeResult::kTaken);
    ASSERT_EQ(errno, 4711);
    gil.Drop(main.holder);
    ASSERT_EQ(errno, 4711);
  }
  stop = true;
  other.join();
}

TEST(GilTest, IntervalOfZeroMeansOneAndAnyThreadMaySetIt) {
  Gil gil(kOn);
  EXPECT_EQ(gil.interval(), Gil::kDefaultIntervalMicros);
  gil.set_interval(0);
  EXPECT_EQ(gil.interval(), 1u);  // GI-14
  std::thread setter([&] {        // gh-130605: the setter raced with take_gil
    for (uint64_t i = 1; i < 1'000; ++i) gil.set_interval(i);
  });
  TestThread main;
  for (int i = 0; i < 1'000; ++i) {
    ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
    gil.Drop(main.holder);
  }
  setter.join();
  EXPECT_EQ(gil.interval(), 999u);
}

TEST(GilTest, AfterForkTheGilIsFreeAndKeepsItsSettings) {
  Gil gil(kOn);
  gil.set_interval(77);
  TestThread main, other;
  ASSERT_EQ(gil.Take(other.holder), TakeResult::kTaken);  // a thread that does not exist in the child
  const uint64_t switches = gil.switch_number();
  gil.ReinitAfterFork(&main.holder);
  EXPECT_EQ(gil.interval(), 77u);
  EXPECT_EQ(gil.switch_number(), switches);
  EXPECT_EQ(gil.last_holder(), nullptr);
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  gil.Drop(main.holder);
}

TEST(GilTest, AHolderThatIsGoneIsForgotten) {
  Gil gil(kOn);
  {
    TestThread gone;
    ASSERT_EQ(gil.Take(gone.holder), TakeResult::kTaken);
    gil.Drop(gone.holder);
    EXPECT_EQ(gil.last_holder(), &gone.holder);
    gil.Forget(gone.holder);
  }
  EXPECT_EQ(gil.last_holder(), nullptr);
}

TEST(GilTest, ToStringDecodesTheState) {
  Gil gil(kOn);
  EXPECT_THAT(gil.ToString(), testing::HasSubstr("free"));
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_THAT(gil.ToString(),
              testing::AllOf(testing::HasSubstr("held"), testing::HasSubstr("switch number 1")));
  gil.Drop(main.holder);
}

TEST(GilDeathTest, B076_DroppingAFreeGilIsFatal) {
  if (!kGilEnabled)
    GTEST_SKIP() << "without a GIL, a drop of what was not taken is how a detach looks (GI drop 1)";
  Gil gil;
  TestThread main;
  EXPECT_DEATH(gil.Drop(main.holder), "Fatal Python error: drop_gil: drop_gil: GIL is not locked.*free");
  EXPECT_DEATH(static_cast<void>(gil.Yield(main.holder)), "GIL is not locked");
}

TEST(GilDeathTest, TakingItTwiceIsFatal) {
  Gil gil(kOn);
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_DEATH(static_cast<void>(gil.Take(main.holder)),
               "Gil::Take: this thread holds the GIL already.*held");
  gil.Drop(main.holder);
  for (int i = 0; i < 5'000; ++i) {  // until it is biased
    ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
    gil.Drop(main.holder);
  }
  ASSERT_EQ(gil.Stats().bias_grants, AsymmetricFence::IsAsymmetric() ? 1u : 0u);
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_DEATH(static_cast<void>(gil.Take(main.holder)), "Gil::Take: this thread holds the GIL already");
  gil.Drop(main.holder);
}

TEST(GilDeathTest, ForgettingAHolderThatHoldsIsFatal) {
  Gil gil(kOn);
  TestThread main;
  ASSERT_EQ(gil.Take(main.holder), TakeResult::kTaken);
  EXPECT_DEATH(gil.Forget(main.holder), "holds the GIL; it may not be freed");
  gil.Drop(main.holder);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
