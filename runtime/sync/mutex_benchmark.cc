// What a lock costs alone and under contention, beside std::mutex and absl::Mutex in the same process.
//
// A second thread stays parked throughout: glibc leaves out the lock prefix of its own mutex while a process
// has only ever had one thread, which no user of these locks has. Counters of contended rows: jain is 1 where
// all threads got the same share and 1/threads where one got all. With more threads than CPUs the rows say
// more about the scheduler.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "benchmark/benchmark.h"

#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/raw_mutex.h"
#include "pyrt/runtime/sync/recursive_mutex.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct StdMutex {
  std::mutex mutex;
  void Lock() { mutex.lock(); }
  void Unlock() { mutex.unlock(); }
};
struct AbslMutex {
  absl::Mutex mutex;
  void Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Lock(); }
  void Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mutex.Unlock(); }
};

void KeepASecondThread() {
  static const bool started = [] {
    std::thread([] {
      const Atomic<uint32_t> never(0);
      for (;;) static_cast<void>(FutexWait(&never, 0, kNoDeadline));
    }).detach();
    return true;
  }();
  benchmark::DoNotOptimize(started);
}

template <typename AnyMutex>
void BM_MutexUncontended(benchmark::State& state) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  KeepASecondThread();
  AnyMutex mutex;
  for (auto _ : state) {
    mutex.Lock();
    benchmark::ClobberMemory();
    mutex.Unlock();
  }
}
BENCHMARK_TEMPLATE(BM_MutexUncontended, Mutex);
BENCHMARK_TEMPLATE(BM_MutexUncontended, RecursiveMutex);
BENCHMARK_TEMPLATE(BM_MutexUncontended, RawMutex);
BENCHMARK_TEMPLATE(BM_MutexUncontended, StdMutex);
BENCHMARK_TEMPLATE(BM_MutexUncontended, AbslMutex);

void BM_RecursiveMutexReentry(benchmark::State& state) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  RecursiveMutex mutex;
  mutex.Lock();
  for (auto _ : state) {
    mutex.Lock();
    benchmark::ClobberMemory();
    mutex.Unlock();
  }
  mutex.Unlock();
}
BENCHMARK(BM_RecursiveMutexReentry);

void Work(int64_t steps) {
  for (int64_t i = 0; i < steps; ++i) benchmark::DoNotOptimize(i);
}

// For 10 ms each thread does: lock, a little work, unlock, other work. One iteration is one such stretch; the
// time per turn and the shares are counters.
template <typename AnyMutex>
void BM_MutexContended(benchmark::State& state) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  const auto threads = static_cast<size_t>(state.range(0));
  const int64_t inside = state.range(1);
  const int64_t outside = state.range(2);
  double turns = 0;
  double nanos = 0;
  double jain = 0;
  for (auto _ : state) {
    AnyMutex mutex;
    std::vector<double> shares(threads);
    std::vector<std::thread> running;
    std::atomic<size_t> ready{0};
    std::atomic<bool> stop{false};
    for (size_t i = 0; i < threads; ++i) {
      running.emplace_back([&, i]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        ++ready;
        while (ready.load() < threads) YieldCpu();
        int64_t done = 0;
        while (!stop.load(std::memory_order_relaxed)) {
          mutex.Lock();
          Work(inside);
          mutex.Unlock();
          Work(outside);
          ++done;
        }
        shares[i] = static_cast<double>(done);
      });
    }
    while (ready.load() < threads) YieldCpu();
    const int64_t start = MonotonicNow();
    const Atomic<uint32_t> never(0);
    while (FutexWait(&never, 0, start + 10 * kNanosPerMilli) != FutexResult::kTimedOut) {
    }
    stop = true;
    nanos += static_cast<double>(MonotonicNow() - start);
    for (std::thread& thread : running) thread.join();
    double sum = 0;
    double squares = 0;
    for (double share : shares) {
      sum += share;
      squares += share * share;
    }
    turns += sum;
    jain += sum * sum / (static_cast<double>(threads) * squares);
  }
  state.counters["ns_per_turn"] = nanos / turns;
  state.counters["jain"] = jain / static_cast<double>(state.iterations());
}

// {threads, work inside, work outside}: a lock that is hardly ever free, and one that mostly is.
void ContendedArguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"threads", "inside", "outside"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (int64_t threads : {1, 2, 4, 8}) {
    benchmark->Args({threads, 20, 20})->Args({threads, 20, 1000});
  }
}
BENCHMARK_TEMPLATE(BM_MutexContended, Mutex)->Apply(ContendedArguments);
BENCHMARK_TEMPLATE(BM_MutexContended, RawMutex)->Apply(ContendedArguments);
BENCHMARK_TEMPLATE(BM_MutexContended, StdMutex)->Apply(ContendedArguments);
BENCHMARK_TEMPLATE(BM_MutexContended, AbslMutex)->Apply(ContendedArguments);

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
