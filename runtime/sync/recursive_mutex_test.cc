#include "pyrt/runtime/sync/recursive_mutex.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(RecursiveMutexTest, B013_LevelIsZeroAtDepthOne) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  RecursiveMutex mutex;
  EXPECT_EQ(mutex.owner(), 0u);
  mutex.Lock();
  EXPECT_EQ(mutex.level(), 0u);
  EXPECT_EQ(mutex.owner(), CurrentThreadIdent());
  mutex.Lock();
  EXPECT_EQ(mutex.level(), 1u);
  EXPECT_TRUE(mutex.TryLock());
  EXPECT_EQ(mutex.LockTimed(0), LockStatus::kAcquired);
  EXPECT_EQ(mutex.level(), 3u);
  for (int level = 2; level >= 0; --level) {
    mutex.Unlock();
    EXPECT_EQ(mutex.level(), static_cast<size_t>(level));
    EXPECT_TRUE(mutex.IsOwnedByCurrentThread());
  }
  mutex.Unlock();
  EXPECT_FALSE(mutex.IsLocked());
  EXPECT_EQ(mutex.owner(), 0u);
}

TEST(RecursiveMutexTest, OthersAreKeptOut) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  RecursiveMutex mutex;
  mutex.Lock();
  std::thread([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    EXPECT_FALSE(mutex.IsOwnedByCurrentThread());
    EXPECT_FALSE(mutex.TryLock());
    EXPECT_EQ(mutex.LockTimed(0), LockStatus::kFailure);
    EXPECT_EQ(mutex.LockTimed(kNanosPerMilli), LockStatus::kFailure);
    EXPECT_FALSE(mutex.TryUnlock());
  }).join();
  EXPECT_TRUE(mutex.TryUnlock());
  EXPECT_FALSE(mutex.TryUnlock());
}

TEST(RecursiveMutexTest, ForkedChildKeepsOrDropsOwnership) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  static RecursiveMutex mutex;
  mutex.Lock();
  mutex.Lock();
  std::thread waiter([]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    mutex.Unlock();
  });
  EXPECT_TRUE(Eventually([] { return ParkingLot::CountParked(&mutex) == 1; }));
  EXPECT_TRUE(TrueInForkedChild([]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.ReinitAfterFork(true);
    if (!mutex.IsOwnedByCurrentThread() || mutex.level() != 1) return false;
    mutex.Unlock();
    mutex.Unlock();
    return !mutex.IsLocked();
  }));
  EXPECT_TRUE(TrueInForkedChild([]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.ReinitAfterFork(false);
    return !mutex.IsLocked() && mutex.owner() == 0 && mutex.level() == 0 && mutex.TryLock();
  }));
  mutex.Unlock();
  mutex.Unlock();
  waiter.join();
}

TEST(RecursiveMutexTest, StressConservesACount) {
  RecursiveMutex mutex;
  long counter = 0;
  std::atomic<long> expected{0};
  const Deadline deadline = DeadlineAfter(kStressTime);
  RunThreads(4, [&](int i) {
    long mine = 0;
    while (MonotonicNow() < deadline) {
      const RecursiveMutexLock outer(mutex);
      [&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        for (int depth = 0; depth < i; ++depth) mutex.Lock();
        EXPECT_EQ(mutex.level(), static_cast<size_t>(i));
        for (int depth = 0; depth < i; ++depth) mutex.Unlock();
      }();
      ++counter;
      ++mine;
    }
    expected += mine;
  });
  EXPECT_EQ(counter, expected);
  EXPECT_FALSE(mutex.IsLocked());
  EXPECT_EQ(mutex.level(), 0u);
}

TEST(RecursiveMutexDeathTest, B013_UnlockByAForeigner) {
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        RecursiveMutex mutex;
        mutex.Lock();
        std::thread([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }).join();
      }(),
      "unlocking a recursive mutex that is not owned by the current thread");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
