#include "pyrt/runtime/sync/raw_mutex.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

static_assert(sizeof(RawMutex) == 4);

TEST(RawMutexTest, TryLockAndUnlock) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  RawMutex mutex;
  ASSERT_TRUE(mutex.TryLock());
  EXPECT_TRUE(mutex.IsLocked());
  std::thread([&] {
    const bool got = mutex.TryLock();
    EXPECT_FALSE(got);
    if (got) mutex.Unlock();
  }).join();
  mutex.Unlock();
  EXPECT_FALSE(mutex.IsLocked());
}

TEST(RawMutexTest, StressConservesACount) {
  RawMutex mutex;
  long counter = 0;
  std::atomic<long> expected{0};
  const Deadline deadline = DeadlineAfter(kStressTime);
  RunThreads(8, [&](int) {
    long mine = 0;
    while (MonotonicNow() < deadline) {
      const RawMutexLock lock(mutex);
      ++counter;
      ++mine;
    }
    expected += mine;
  });
  EXPECT_EQ(counter, expected);
  EXPECT_FALSE(mutex.IsLocked());
}

TEST(RawMutexTest, ForkedChildResetsIt) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  static RawMutex mutex;
  std::atomic<bool> held{false}, finish{false};
  std::thread owner([&] {
    const RawMutexLock lock(mutex);
    held = true;
    EXPECT_TRUE(Eventually([&] { return finish.load(); }));
  });
  EXPECT_TRUE(Eventually([&] { return held.load(); }));
  EXPECT_TRUE(TrueInForkedChild([] {
    mutex.ReinitAfterFork();
    const RawMutexLock lock(mutex);
    return mutex.IsLocked();
  }));
  finish = true;
  owner.join();
}

TEST(RawMutexDeathTest, UnlockOfUnlocked) {
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        RawMutex mutex;
        mutex.Unlock();
      }(),
      kTsan ? "unlock of an unlocked mutex" : "unlocking mutex that is not locked");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
