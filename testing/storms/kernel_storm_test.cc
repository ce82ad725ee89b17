// A kernel at its worst: futex waits that return for nothing or because of a signal, and a wall clock that jumps.

#include <time.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/testing/storms/lying_kernel.h"
#include "pyrt/testing/storms/storm.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using pyrt_storm::LyingKernel;
using storm::Actor;
using storm::Budget;

// Threads that take, yield and drop the GIL, lock a mutex, and wait with deadlines for one that is never unlocked.
// Nobody is let in by a lie, nobody is forgotten, no deadline is early.
void Contend(const Budget& budget) {
  constexpr int kThreads = 8;
  Gil gil(/*enabled=*/true);
  gil.set_interval(50);
  Mutex mutex;
  Mutex held;  // by this thread, all the time
  held.Lock();
  uint64_t under_gil = 0, under_mutex = 0;  // guarded by the one and the other
  std::atomic<uint64_t> expected_gil{0}, expected_mutex{0}, deadlines{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      LyingKernel::WatchThisThread(true);
      Actor self;
      do {
        ASSERT_EQ(gil.Take(self.holder), Gil::TakeResult::kTaken);
        ++under_gil;
        for (int work = 0; work < 20; ++work) std::atomic_signal_fence(std::memory_order_seq_cst);
        if (self.asked()) {
          ASSERT_EQ(gil.Yield(self.holder), Gil::TakeResult::kTaken);
        }
        ++under_gil;
        gil.Drop(self.holder);
        expected_gil.fetch_add(2);
        mutex.Lock();
        ++under_mutex;
        mutex.Unlock();
        expected_mutex.fetch_add(1);
        if (i == 0) {
          const int64_t before = MonotonicNow();
          ASSERT_EQ(held.LockTimed(1'000'000), LockStatus::kFailure);
          ASSERT_GE(MonotonicNow() - before, 1'000'000) << "a lie ended the wait before its time";
          deadlines.fetch_add(1);
        }
      } while (!budget.spent());
      gil.Forget(self.holder);
      LyingKernel::WatchThisThread(false);
    });
  }
  for (std::thread& thread : threads) thread.join();
  held.Unlock();
  EXPECT_EQ(under_gil, expected_gil.load());
  EXPECT_EQ(under_mutex, expected_mutex.load());
  EXPECT_GT(deadlines.load(), 0u);
  EXPECT_FALSE(gil.locked());
  EXPECT_EQ(gil.Stats().waiting, 0u);
}

TEST(KernelStormTest, FutexWaitsThatReturnForNothing) {
  const LyingKernel lying(8);
  Contend(Budget());
  EXPECT_GT(lying.answered(), 0u) << "nobody waited, or not through here";
  std::cout << lying.waits() << " waits, " << lying.answered() << " answered with a lie" << std::endl;
}

// gh-112606, bpo-41710: the wall clock runs wild, and nobody of pyrt's has so much as looked at it.
TEST(KernelStormTest, AWallClockThatJumps) {
  const LyingKernel kernel(0);
  std::atomic<bool> stop{false};
  std::thread jumper([&] {
    for (int64_t hours = 1; !stop.load(); hours = -hours * 3 % 1000) {
      LyingKernel::SetWallClockOffset(3600 * hours);
      std::this_thread::yield();
    }
    LyingKernel::SetWallClockOffset(0);
  });
  Contend(Budget());
  stop.store(true);
  jumper.join();
  EXPECT_EQ(kernel.wall_clock_reads(), 0u);
  EXPECT_EQ(kernel.on_the_wall_clock(), 0u) << "a futex wait with FUTEX_CLOCK_REALTIME";
  // The shim works: who does ask is counted.
  LyingKernel::WatchThisThread(true);
  static_cast<void>(::time(nullptr));
  static_cast<void>(std::chrono::system_clock::now());
  LyingKernel::WatchThisThread(false);
  EXPECT_EQ(kernel.wall_clock_reads(), 2u);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
