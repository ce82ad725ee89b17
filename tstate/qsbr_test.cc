#include "pyrt/tstate/qsbr.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/tstate/delayed_free.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(QsbrTest, B019_AGoalIsReachedWhenEveryThreadHasReportedOrDetached) {
  Qsbr qsbr;
  QsbrSlot* const a = qsbr.Reserve();
  QsbrSlot* const b = qsbr.Reserve();
  EXPECT_EQ(qsbr.wr_seq(), 1u);
  EXPECT_EQ(qsbr.rd_seq(), 1u);
  qsbr.Online(*a);
  qsbr.Online(*b);
  const uint64_t goal = qsbr.Advance();
  EXPECT_EQ(goal, 3u);  // odd, in steps of two (QS-1)
  EXPECT_FALSE(qsbr.Poll(goal));
  qsbr.Quiescent(*a);
  EXPECT_FALSE(qsbr.Poll(goal));
  qsbr.Offline(*b);
  EXPECT_TRUE(qsbr.Poll(goal));
  EXPECT_EQ(qsbr.rd_seq(), goal);
  qsbr.Online(*b);  // late comers do not take it back
  EXPECT_TRUE(qsbr.Poll(goal));
  qsbr.Offline(*a);
  qsbr.Offline(*b);
  qsbr.Release(a);
  qsbr.Release(b);
}

TEST(QsbrTest, APollerIsQuiescentItself) {
  Qsbr qsbr;
  QsbrSlot* const self = qsbr.Reserve();
  qsbr.Online(*self);
  const uint64_t goal = qsbr.Advance();
  EXPECT_FALSE(qsbr.Poll(goal));
  EXPECT_TRUE(qsbr.Poll(goal, self));
  qsbr.Offline(*self);
  qsbr.Release(self);
}

TEST(QsbrTest, ASharedGoalIsReachedByALaterStepOnly) {
  Qsbr qsbr;
  const uint64_t goal = qsbr.SharedNext();
  EXPECT_EQ(qsbr.wr_seq(), 1u);
  EXPECT_FALSE(qsbr.Poll(goal));
  qsbr.AdvanceTo(goal);
  EXPECT_EQ(qsbr.wr_seq(), goal);
  qsbr.AdvanceTo(goal);  // not beyond
  EXPECT_EQ(qsbr.wr_seq(), goal);
  EXPECT_TRUE(qsbr.Poll(goal));
}

TEST(QsbrTest, ComparisonsSurviveTheWrap) {
  EXPECT_TRUE(Qsbr::Before(UINT64_MAX, 1));
  EXPECT_FALSE(Qsbr::Before(1, UINT64_MAX));
  EXPECT_TRUE(Qsbr::AtMost(5, 5));
}

TEST(QsbrTest, B020_SlotsStayValidWhileTheDomainGrows) {
  Qsbr qsbr;
  QsbrSlot* const first = qsbr.Reserve();
  qsbr.Online(*first);
  std::vector<QsbrSlot*> others;
  for (int i = 0; i < 100; ++i) others.push_back(qsbr.Reserve());
  EXPECT_EQ(qsbr.capacity(), 8u + 16 + 32 + 64);
  const uint64_t goal = qsbr.Advance();
  EXPECT_FALSE(qsbr.Poll(goal));  // the first slot is still seen where it was
  qsbr.Quiescent(*first);
  EXPECT_TRUE(qsbr.Poll(goal));
  qsbr.Offline(*first);
  qsbr.Release(first);
  for (QsbrSlot* const slot : others) qsbr.Release(slot);
  EXPECT_EQ(qsbr.Reserve()->seq.load(kRelaxed), Qsbr::kOffline);  // and is used again
  EXPECT_EQ(qsbr.capacity(), 120u);
}

struct Item : DelayedFree {
  std::atomic<int>* freed;
};

Item* NewItem(std::atomic<int>* freed) {
  auto* const item = new Item;
  item->freed = freed;
  item->free = [](DelayedFree* self) {
    ++*static_cast<Item*>(self)->freed;
    delete static_cast<Item*>(self);
  };
  return item;
}

TEST(QsbrTest, B020_ChurnOfThreadsWhileOthersPollAndFreeConservesItems) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 60;
  constexpr int kItems = 50;
  std::atomic<int> freed{0};
  {
    Qsbr qsbr;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) {
          QsbrSlot* const slot = qsbr.Reserve();
          QsbrSlot* const extra[] = {qsbr.Reserve(), qsbr.Reserve(), qsbr.Reserve()};
          DelayedFrees frees;
          qsbr.Online(*slot);
          AsymmetricFence::Light();
          for (int i = 0; i < kItems; ++i) {
            frees.Free(*NewItem(&freed), &qsbr, slot);
            qsbr.Quiescent(*slot);
          }
          frees.Process(qsbr, slot);
          qsbr.Offline(*slot);
          frees.Abandon(&qsbr);
          qsbr.Release(slot);
          for (QsbrSlot* const one : extra) qsbr.Release(one);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(freed, kThreads * kRounds * kItems);
}

TEST(DelayedFreesTest, FreesAtOnceUnderTheGilAndInBatchesWithout) {
  std::atomic<int> freed{0};
  Qsbr qsbr;
  QsbrSlot* const reader = qsbr.Reserve();
  QsbrSlot* const writer = qsbr.Reserve();
  qsbr.Online(*reader);
  qsbr.Online(*writer);
  DelayedFrees frees;
  for (size_t i = 0; i < DelayedFrees::kPollEvery; ++i) frees.Free(*NewItem(&freed), &qsbr, writer);
  if constexpr (kGilEnabled) {
    EXPECT_EQ(freed, static_cast<int>(DelayedFrees::kPollEvery));
  } else {
    EXPECT_EQ(freed, 0);  // the reader may look at them
    EXPECT_EQ(frees.size(), DelayedFrees::kPollEvery);
    qsbr.Quiescent(*reader);
    EXPECT_TRUE(frees.Process(qsbr, writer));
    EXPECT_EQ(freed, static_cast<int>(DelayedFrees::kPollEvery));
    frees.Free(*NewItem(&freed), &qsbr, writer);
    frees.Abandon(&qsbr);
    EXPECT_EQ(frees.size(), 0u);
    DelayedFrees heir;
    qsbr.Quiescent(*reader);
    EXPECT_TRUE(heir.Process(qsbr, writer));
    EXPECT_EQ(freed, static_cast<int>(DelayedFrees::kPollEvery) + 1);
  }
  frees.Free(*NewItem(&freed), nullptr, nullptr);  // no domain: now
  EXPECT_EQ(frees.size(), 0u);
  qsbr.Offline(*reader);
  qsbr.Offline(*writer);
}

TEST(DelayedFreesTest, AThreadTakesOverWhatAnotherHasQueued) {
  std::atomic<int> freed{0};
  Qsbr qsbr;
  QsbrSlot* const self = qsbr.Reserve();
  qsbr.Online(*self);
  DelayedFrees own;
  DelayedFrees other;
  own.TakeFrom(other);
  EXPECT_EQ(own.size(), 0u);
  for (const size_t already : {0, 1}) {
    freed = 0;
    for (size_t i = 0; i < already; ++i) own.Free(*NewItem(&freed), &qsbr, self);
    for (int i = 0; i < 2; ++i) other.Free(*NewItem(&freed), &qsbr, nullptr);
    own.TakeFrom(other);
    EXPECT_EQ(other.size(), 0u);
    EXPECT_EQ(own.size(), kGilEnabled ? 0 : already + 2);
    EXPECT_TRUE(own.Process(qsbr, self));
    EXPECT_EQ(freed, static_cast<int>(already) + 2);
    EXPECT_TRUE(other.Process(qsbr, nullptr));
  }
  qsbr.Offline(*self);
  qsbr.Release(self);
}

TEST(DelayedFreesTest, FreeAllFreesWhatWasLeftBehindToo) {
  std::atomic<int> freed{0};
  Qsbr qsbr;
  QsbrSlot* const reader = qsbr.Reserve();
  qsbr.Online(*reader);
  DelayedFrees gone;
  DelayedFrees frees;
  gone.Free(*NewItem(&freed), &qsbr, nullptr);
  gone.Abandon(&qsbr);
  frees.Free(*NewItem(&freed), &qsbr, nullptr);
  frees.FreeAll(&qsbr);
  EXPECT_EQ(freed, 2);
  EXPECT_EQ(frees.size(), 0u);
  qsbr.Offline(*reader);
  qsbr.Release(reader);
}

TEST(QsbrTest, AForkedChildKeepsTheSurvivorsSlot) {
  Qsbr qsbr;
  QsbrSlot* const survivor = qsbr.Reserve();
  QsbrSlot* const dead = qsbr.Reserve();
  qsbr.Online(*survivor);
  qsbr.Online(*dead);
  qsbr.ReinitAfterFork(survivor);
  const uint64_t goal = qsbr.Advance();
  EXPECT_FALSE(qsbr.Poll(goal));
  EXPECT_TRUE(qsbr.Poll(goal, survivor));
  qsbr.Offline(*survivor);
  qsbr.Release(survivor);
}

// A thread without a state makes one, and the domain grows, while another one forks.
TEST(QsbrTest, QS8_AForkedChildHandsOutNoSlotThatScansDoNotVisit) {
  if constexpr (kTsan) GTEST_SKIP() << "ThreadSanitizer's own record of who holds what survives the fork";
  if constexpr (kAsan) GTEST_SKIP() << "a forked child waits for ever in AddressSanitizer's allocator";
  constexpr size_t kCapacity = Qsbr::kFirstChunk << 12;
  for (int i = 0; i < 50; ++i) {
    Qsbr qsbr;
    std::thread grows([&] {
      while (qsbr.capacity() < kCapacity) qsbr.Reserve();
    });
    while (qsbr.capacity() == 0) std::this_thread::yield();
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      qsbr.ReinitLockAfterFork();
      QsbrSlot* const slot = qsbr.Reserve();
      qsbr.Online(*slot);
      ::_exit(qsbr.Poll(qsbr.Advance()) ? 1 : 0);
    }
    grows.join();
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
}

TEST(QsbrDeathTest, SlotsAreReleasedOnceAndOffline) {
  Qsbr qsbr;
  QsbrSlot* const slot = qsbr.Reserve();
  qsbr.Online(*slot);
  EXPECT_DEATH(qsbr.Release(slot), "still attached");
  qsbr.Offline(*slot);
  qsbr.Release(slot);
  EXPECT_DEATH(qsbr.Release(slot), "not reserved");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
