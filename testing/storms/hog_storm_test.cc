// Threads that hog: callbacks that keep the GIL for long without a poll, on CPUs that others use up as well.

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <iostream>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/testing/storms/storm.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using storm::Actor;
using storm::Budget;

// Burns CPU for so long by the wall, as a callback of a C library does.
void Burn(int64_t nanos) {
  const int64_t until = MonotonicNow() + nanos;
  while (MonotonicNow() < until) std::atomic_signal_fence(std::memory_order_seq_cst);
}

// One idle-priority thread per CPU that never sleeps. Whoever is not runnable at once waits behind them.
class Hogs {
 public:
  Hogs() {
    const int cpus = std::max(1, UsableCpus());
    for (int i = 0; i < cpus; ++i) {
      threads_.emplace_back([this] {
        const sched_param none{};
        if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) refused_.store(true);
        while (!stop_.load(std::memory_order_relaxed)) std::atomic_signal_fence(std::memory_order_seq_cst);
      });
    }
  }
  ~Hogs() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }
  bool refused() const { return refused_.load(); }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<bool> refused_{false};
  std::vector<std::thread> threads_;
};

// A thread runs callbacks of 100 ms with the GIL and polls after each, for as long as it likes; others want the GIL
// for a moment. The bound is in callbacks, not in time: what a waiter may have to sit through is the one that is
// under way when it comes, and one more if its request came too late for the poll, which takes the interval of 5 ms.
// Twice that is granted to a loaded machine, on which a waiter may not get a CPU for the length of a callback.
TEST(HogStormTest, OthersSitThroughFewCallbacks) {
  constexpr int kWaiters = 3;
  constexpr uint64_t kBound = 4;
  constexpr int64_t kCallback = 100'000'000;
  const Hogs hogs;
  const Budget budget;
  Gil gil(/*enabled=*/true);
  std::atomic<uint64_t> callbacks{0}, turns{0}, worst{0};
  std::atomic<int> waiters{kWaiters};
  std::thread busy([&] {
    Actor self;
    ASSERT_EQ(gil.Take(self.holder), Gil::TakeResult::kTaken);
    while (waiters.load() > 0) {
      Burn(kCallback);
      callbacks.fetch_add(1);
      if (self.asked()) {
        ASSERT_EQ(gil.Yield(self.holder), Gil::TakeResult::kTaken);
      }
    }
    gil.Drop(self.holder);
    gil.Forget(self.holder);
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < kWaiters; ++i) {
    threads.emplace_back([&] {
      Actor self;
      do {
        const uint64_t before = callbacks.load();
        ASSERT_EQ(gil.Take(self.holder), Gil::TakeResult::kTaken);
        const uint64_t waited = callbacks.load() - before;
        gil.Drop(self.holder);
        turns.fetch_add(1);
        for (uint64_t so_far = worst.load();
             waited > so_far && !worst.compare_exchange_weak(so_far, waited);) {
        }
        std::this_thread::yield();
      } while (!budget.spent());
      gil.Forget(self.holder);
      waiters.fetch_sub(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  busy.join();
  EXPECT_GE(turns.load(), static_cast<uint64_t>(kWaiters));
  EXPECT_LE(worst.load(), kBound);
  std::cout << callbacks.load() << " callbacks of 100 ms, " << turns.load() << " turns of others, at most "
            << worst.load() << " callbacks sat through"
            << (hogs.refused() ? "; SCHED_IDLE is refused here" : "") << std::endl;
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
