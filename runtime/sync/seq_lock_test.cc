#include "pyrt/runtime/sync/seq_lock.h"

#include <atomic>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(SeqLockTest, Numbers) {
  SeqLock lock;
  const uint32_t begin = lock.BeginRead();
  EXPECT_EQ(begin, 0u);
  EXPECT_TRUE(lock.EndRead(begin));
  lock.WriteLock();
  EXPECT_EQ(lock.sequence(), 1u);
  EXPECT_FALSE(lock.EndRead(begin));
  lock.WriteAbandon();
  EXPECT_TRUE(lock.EndRead(begin)) << "nothing was written";
  lock.WriteLock();
  lock.WriteUnlock();
  EXPECT_EQ(lock.sequence(), 2u);
  EXPECT_FALSE(lock.EndRead(begin));
  EXPECT_FALSE(lock.ReinitAfterFork());
  lock.WriteLock();
  EXPECT_TRUE(lock.ReinitAfterFork()) << "half written";
  EXPECT_EQ(lock.sequence(), 0u);
}

TEST(SeqLockTest, B016_TornReadIsNeverAccepted) {
  SeqLock lock;
  SeqLockCell<uint64_t> left{0}, right{0};
  std::atomic<long> accepted{0};
  std::atomic<uint64_t> writes{0};
  const Deadline deadline = DeadlineAfter(kStressTime);
  RunThreads(4, [&](int i) {
    uint64_t last = 0;
    while (MonotonicNow() < deadline) {
      if (i < 2) {
        lock.WriteLock();
        left.Write(left.Read() + 1);
        right.Write(right.Read() + 1);
        lock.WriteUnlock();
        ++writes;
      } else {
        const uint32_t begin = lock.BeginRead();
        const uint64_t a = left.Read();
        const uint64_t b = right.Read();
        if (!lock.EndRead(begin)) continue;
        EXPECT_EQ(a, b);
        EXPECT_GE(a, last) << "went backwards";
        last = a;
        ++accepted;
      }
    }
  });
  EXPECT_EQ(left.Read(), writes);
  EXPECT_EQ(right.Read(), writes);
  EXPECT_EQ(lock.sequence(), static_cast<uint32_t>(2 * writes));
  EXPECT_GT(accepted, 0);
}

TEST(SeqLockDeathTest, UnlockWithoutLock) {
  EXPECT_DEATH(SeqLock().WriteUnlock(), "SeqLock::WriteUnlock: no write in progress .sequence 0.");
  EXPECT_DEATH(SeqLock().WriteAbandon(), "SeqLock::WriteAbandon: no write in progress");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
