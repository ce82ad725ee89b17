#include "pyrt/runtime/sync/rw_mutex.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(RwMutexTest, B014_StateSequence) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  RwMutex mutex;
  std::atomic<bool> written{false}, finish{false};
  mutex.WriteLock();
  EXPECT_EQ(mutex.bits(), 1u);
  mutex.WriteUnlock();
  EXPECT_EQ(mutex.bits(), 0u);
  mutex.ReadLock();
  mutex.ReadLock();
  EXPECT_EQ(mutex.bits(), 8u);
  std::thread writer([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.WriteLock();
    written = true;
    EXPECT_TRUE(Eventually([&] { return finish.load(); }));
    mutex.WriteUnlock();
  });
  ASSERT_TRUE(EventuallyParked(&mutex));
  EXPECT_EQ(mutex.bits(), 10u);
  mutex.ReadUnlock();
  EXPECT_EQ(mutex.bits(), 6u);
  mutex.ReadUnlock();
  EXPECT_TRUE(Eventually([&] { return written.load(); }));
  EXPECT_EQ(mutex.bits(), 3u);
  finish = true;
  writer.join();
  mutex.ReadLock();
  mutex.ReadLock();
  EXPECT_EQ(mutex.bits(), 8u);
  mutex.ReadUnlock();
  mutex.ReadUnlock();
  EXPECT_EQ(mutex.bits(), 0u);
}

TEST(RwMutexTest, B015_NewReaderBlocksBehindAParkedWriter) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  RwMutex mutex;
  std::atomic<bool> written{false};
  mutex.ReadLock();
  std::thread writer([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.WriteLock();
    written = true;
    mutex.WriteUnlock();
  });
  ASSERT_TRUE(EventuallyParked(&mutex));
  std::thread reader([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.ReadLock();
    EXPECT_TRUE(written) << "the writer was first";
    mutex.ReadUnlock();
  });
  ASSERT_TRUE(EventuallyParked(&mutex, 2)) << "although only readers hold it";
  EXPECT_EQ(mutex.bits(), 6u);
  mutex.ReadUnlock();
  writer.join();
  reader.join();
  EXPECT_EQ(mutex.bits(), 0u);
}

TEST(RwMutexTest, StressReadersSeeWholeWrites) {
  RwMutex mutex;
  long left = 0, right = 0;
  std::atomic<long> writes{0}, reads{0};
  const Deadline deadline = DeadlineAfter(kStressTime);
  RunThreads(6, [&](int i) {
    while (MonotonicNow() < deadline) {
      if (i < 2) {
        const WriterLock lock(mutex);
        ++left;
        ++right;
        ++writes;
      } else {
        const ReaderLock lock(mutex);
        EXPECT_EQ(left, right);
        ++reads;
      }
    }
  });
  EXPECT_EQ(left, writes);
  EXPECT_EQ(mutex.bits(), 0u);
}

TEST(RwMutexTest, ForkedChildResetsIt) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  static RwMutex mutex;
  mutex.ReadLock();
  std::thread writer([]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.WriteLock();
    mutex.WriteUnlock();
  });
  EXPECT_TRUE(EventuallyParked(&mutex));
  EXPECT_TRUE(TrueInForkedChild([] {
    mutex.ReinitAfterFork();
    const WriterLock lock(mutex);
    return mutex.bits() == 1;
  }));
  mutex.ReadUnlock();
  writer.join();
}

TEST(RwMutexDeathTest, UnlockOfUnlocked) {
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        RwMutex mutex;
        mutex.ReadUnlock();
      }(),
      "unlocking a mutex that has no reader");
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        RwMutex mutex;
        mutex.ReadLock();
        mutex.WriteUnlock();
      }(),
      kTsan ? "unlock of an unlocked mutex" : "unlocking a mutex that is not write-locked .word 4.");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
