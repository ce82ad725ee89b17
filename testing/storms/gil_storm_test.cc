// Real threads, many of them, on the shipping Gil and Mutex: churn, oversubscription, forks, refused system
// calls. Each storm conserves a count that only the GIL guards, and leaves everything as it found it.

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/testing/storms/storm.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using storm::Actor;
using storm::Budget;

void ExpectTaken(Gil& gil, Actor& actor) { ASSERT_EQ(gil.Take(actor.holder), Gil::TakeResult::kTaken); }

// ---- Churn: threads are born, use the GIL a little, and go

void Churn(const Budget& budget) {
  Gil gil(/*enabled=*/true);
  gil.set_interval(20);
  uint64_t count = 0;  // guarded by the GIL
  uint64_t expected = 0;
  uint64_t threads = 0;
  do {
    // All at once, or each would be gone before the next one comes.
    std::atomic<int> unborn{16};
    std::vector<std::thread> batch;
    for (int i = 0; i < 16; ++i) {
      batch.emplace_back([&] {
        Actor self;
        unborn.fetch_sub(1);
        while (unborn.load() != 0) std::this_thread::yield();
        for (int uses = 0; uses < 20; ++uses) {
          ExpectTaken(gil, self);
          ++count;
          for (int work = 0; work < 30'000; ++work) std::atomic_signal_fence(std::memory_order_seq_cst);
          if (self.asked()) {
            EXPECT_EQ(gil.Yield(self.holder), Gil::TakeResult::kTaken);
          }
          gil.Drop(self.holder);
        }
        gil.Forget(self.holder);
      });
    }
    for (std::thread& thread : batch) thread.join();
    threads += batch.size();
    expected += 20 * batch.size();
  } while (!budget.spent());
  EXPECT_EQ(count, expected);
  EXPECT_FALSE(gil.locked());
  EXPECT_EQ(gil.Stats().waiting, 0u);
  // On one CPU a thread may be done before the next one runs.
  if (std::thread::hardware_concurrency() > 1) {
    EXPECT_GT(gil.Stats().switches, threads) << "nobody has met anybody";
  }
  std::cout << threads << " threads, " << gil.Stats().switches << " switches" << std::endl;
}

TEST(GilStormTest, ThreadChurn) { Churn(Budget()); }

// ---- Oversubscription: everybody gets on

void Oversubscribe(int threads, const Budget& budget) {
  Gil gil(/*enabled=*/true);
  gil.set_interval(100);
  uint64_t count = 0;  // guarded by the GIL
  std::vector<uint64_t> turns(threads);
  std::atomic<int> unserved{threads};
  {
    std::vector<std::thread> crowd;
    for (int i = 0; i < threads; ++i) {
      crowd.emplace_back([&, i] {
        Actor self;
        ExpectTaken(gil, self);
        // Nobody leaves before everybody has had a turn: one that starves shows as a test that does not end.
        do {
          if (turns[i]++ == 0) unserved.fetch_sub(1);
          for (int work = 0; work < 50; ++work) ++count;
          if (self.asked()) {
            EXPECT_EQ(gil.Yield(self.holder), Gil::TakeResult::kTaken);
          } else if (turns[i] % 64 == 0) {
            gil.Drop(self.holder);
            ExpectTaken(gil, self);
          }
        } while (unserved.load() > 0 || !budget.spent());
        gil.Drop(self.holder);
        gil.Forget(self.holder);
      });
    }
    for (std::thread& thread : crowd) thread.join();
  }
  uint64_t total = 0;
  for (const uint64_t turn : turns) {
    EXPECT_GT(turn, 0u);
    total += turn;
  }
  EXPECT_EQ(count, 50 * total);
  EXPECT_FALSE(gil.locked());
  std::cout << threads << " threads, " << total << " turns, " << gil.Stats().switches << " switches"
            << std::endl;
}

TEST(GilStormTest, TwoHundredAndFiftySixThreads) { Oversubscribe(256, Budget()); }

TEST(GilStormTest, TwoHundredAndFiftySixThreadsOnOneCpu) {
  const storm::OneCpu one;
  if (!one.set()) GTEST_SKIP() << "sched_setaffinity is refused here";
  Oversubscribe(256, Budget());
}

// ---- Forks, from whichever thread has the GIL, while others wait for it and hold other locks

struct ForkWorld {
  Gil gil{/*enabled=*/true};
  Mutex mutex;           // taken by everybody, with and without the GIL
  uint64_t count = 0;    // guarded by the GIL
  uint64_t guarded = 0;  // guarded by the mutex
};

// All that a process can do, in the child. Not gtest: a child has no business in the parent's report.
int LiveOn(ForkWorld& world, Actor& self, int depth) {
  PlatformAfterForkInChild();
  ParkingLot::AfterForkInChild();
  world.mutex.ReinitAfterFork();
  world.gil.ReinitAfterFork(&self.holder);
  for (int i = 0; i < 10; ++i) {
    if (world.gil.Take(self.holder) != Gil::TakeResult::kTaken) return 10;
    ++world.count;
    world.mutex.Lock();
    ++world.guarded;
    world.mutex.Unlock();
    world.gil.Drop(self.holder);
  }
  if constexpr (!kTsan) {  // which forbids threads in the child of a process with threads
    if (world.gil.Take(self.holder) != Gil::TakeResult::kTaken) return 11;
    std::thread thread([&world] {
      Actor other;
      if (world.gil.Take(other.holder) != Gil::TakeResult::kTaken) ::_exit(12);
      ++world.count;
      world.gil.Drop(other.holder);
      world.gil.Forget(other.holder);
    });
    world.gil.Drop(self.holder);
    thread.join();
  }
  if (depth == 0) return 0;
  if (world.gil.Take(self.holder) != Gil::TakeResult::kTaken) return 13;
  const pid_t child = ForkProcess();
  if (child == 0) {
    storm::WatchdogInChild(60);
    ::_exit(LiveOn(world, self, depth - 1));
  }
  world.gil.Drop(self.holder);
  if (child < 0) return errno == EAGAIN ? 0 : 14;
  return storm::WaitForChild(child) == "exit status 0" ? 0 : 15;
}

TEST(GilStormTest, ForkFromAnyThread) {
  const auto world = std::make_unique<ForkWorld>();
  world->gil.set_interval(50);
  const Budget budget;
  std::atomic<uint64_t> forks{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      Actor self;
      for (uint64_t round = 1; !stop.load(); ++round) {
        world->mutex.Lock();
        ++world->guarded;
        world->mutex.Unlock();
        ExpectTaken(world->gil, self);
        ++world->count;
        if (self.asked()) {
          EXPECT_EQ(world->gil.Yield(self.holder), Gil::TakeResult::kTaken);
        }
        pid_t child = -1;
        if ((round + static_cast<uint64_t>(i)) % 7 == 0) {
          child = ForkProcess();
          if (child == 0) {
            storm::WatchdogInChild(60);
            ::_exit(LiveOn(*world, self, i == 0 ? 1 : 0));
          }
        }
        world->gil.Drop(self.holder);
        if (child > 0) {
          EXPECT_EQ(storm::WaitForChild(child), "exit status 0");
          if (::testing::Test::HasFailure()) stop.store(true);
          forks.fetch_add(1);
        }
        if (budget.spent() && forks.load() > 0) stop.store(true);
      }
      world->gil.Forget(self.holder);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(world->gil.locked());
  EXPECT_GT(forks.load(), 0u);
  std::cout << forks.load() << " forks, " << world->count << " takes" << std::endl;
}

// ---- A kernel that refuses membarrier

// Runs in the process that the next test starts.
TEST(GilStormTest, ChildWithoutMembarrier) {
  if (!storm::WithoutMembarrier()) GTEST_SKIP() << "run by MembarrierRefused";
  EXPECT_EQ(::syscall(SYS_membarrier, 0, 0, 0), -1);
  EXPECT_FALSE(AsymmetricFence::IsAsymmetric());
  Churn(Budget());
  Oversubscribe(16, Budget());
}

TEST(GilStormTest, MembarrierRefused) {
  if (kTsan) GTEST_SKIP() << "both fences are read-modify-writes there, and membarrier is not asked for";
  const std::string end = storm::RunWithoutMembarrier("GilStormTest.ChildWithoutMembarrier");
  if (end == storm::kSeccompRefused) GTEST_SKIP() << end;
  EXPECT_EQ(end, "exit status 0");
}

// ---- pthread_create fails

TEST(GilStormTest, ThreadThatCannotStart) {
  std::atomic<int> ran{0};
  const auto body = [](void* counter) { static_cast<std::atomic<int>*>(counter)->fetch_add(1); };
  for (int i = 0; i < 100; ++i) {
    OsThread refused;
    EXPECT_NE(refused.Start(body, &ran, size_t{1} << 46), 0);  // no such stack can be had
  }
  EXPECT_EQ(ran.load(), 0);
  OsThread accepted;
  ASSERT_EQ(accepted.Start(body, &ran), 0);
  accepted.Join();
  EXPECT_EQ(ran.load(), 1);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
