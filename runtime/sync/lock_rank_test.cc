#include "pyrt/runtime/sync/lock_rank.h"

#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using HeadLock = RankedMutex<LockRank::kHeadLock>;
using HandleLock = RankedMutex<LockRank::kThreadHandle>;
static_assert(sizeof(HeadLock) == 1);

TEST(LockRankTest, IncreasingOrderIsFine) {
  HeadLock head;
  HandleLock handle;
  {
    const RankedMutexLock<LockRank::kHeadLock> outer(head);
    EXPECT_TRUE(LockRankHeld(LockRank::kHeadLock));
    const RankedMutexLock<LockRank::kThreadHandle> inner(handle);
    EXPECT_TRUE(LockRankHeld(LockRank::kThreadHandle));
  }
  EXPECT_NE(LockRankHeld(LockRank::kHeadLock), kDebug) << "a release build does not know";
  AssertNoRankedLockHeld("LockRankTest");
  const RankedMutexLock<LockRank::kThreadHandle> alone(handle);
}

TEST(LockRankTest, FailedTryLeavesNoTrace) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  HeadLock head;
  head.Lock();
  std::thread([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    EXPECT_FALSE(head.TryLock());
    EXPECT_EQ(head.LockTimed(0), LockStatus::kFailure);
    AssertNoRankedLockHeld("LockRankTest");
  }).join();
  head.Unlock();
}

TEST(LockRankTest, EveryRankHasAName) {
  for (int rank = 0; rank <= static_cast<int>(LockRank::kSysDict); ++rank) {
    EXPECT_EQ(std::string(LockRankName(static_cast<LockRank>(rank))).substr(0, 1), "k") << rank;
  }
}

TEST(LockRankDeathTest, WrongOrder) {
  if (!kDebug) GTEST_SKIP() << "ranks are checked in debug builds";
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        HeadLock head;
        HandleLock handle;
        handle.Lock();
        head.Lock();
      }(),
      "lock order violated: taking kHeadLock while holding kThreadHandle");
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        HeadLock one;
        HeadLock other;
        one.Lock();
        other.TryLock();
      }(),
      "lock order violated: taking kHeadLock while holding kHeadLock");
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        HeadLock head;
        head.Lock();
        AssertNoRankedLockHeld("Attach");
      }(),
      "Attach: called while holding kHeadLock");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
