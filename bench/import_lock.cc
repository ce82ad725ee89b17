// The import lock: a pair, a pair inside another, a pair fought over by many threads, and what the usual locks take.

#include "pyrt/importlock/import_lock.h"

#include <mutex>

#include "absl/synchronization/mutex.h"
#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/recursive_mutex.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

// As CPython's caller does: the result of the release is looked at.
void Pair(pyrt::ImportLock& lock, benchmark::State& state) {
  lock.Acquire();
  if (!lock.Release().ok()) state.SkipWithError("the import lock was not ours");
}

// The GIL-enabled build's lock relies on the GIL, which a single thread does not need to exclude anybody.
void BM_ImportLock(benchmark::State& state) {
  pyrt::ImportLock lock;
  benchmark::DoNotOptimize(&lock);
  for (auto _ : state) {
    Pair(lock, state);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_ImportLock);

void BM_ImportLockReentry(benchmark::State& state) {
  pyrt::ImportLock lock;
  benchmark::DoNotOptimize(&lock);
  const pyrt::ImportLockScope outer(lock);
  for (auto _ : state) {
    Pair(lock, state);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_ImportLockReentry);

// Attached threads that wait detached, as imports do.
void BM_ImportLockThreads(benchmark::State& state) {
  PyrtHost host;
  pyrt::ImportLock lock;
  MeasureThroughput(state, host, static_cast<int>(state.range(0)), [&lock](int) {
    return [&lock] {
      lock.Acquire(pyrt::ThreadState::DetachWhileWaiting());
      PYRT_CHECK(lock.Release().ok(), "BM_ImportLockThreads", "the import lock was not ours");
    };
  });
}
BENCHMARK(BM_ImportLockThreads)->Apply(ThreadsTo64);

// Comparators.
void BM_ImportLockRecursiveMutex(benchmark::State& state) {
  pyrt::RecursiveMutex lock;
  for (auto _ : state) {
    lock.Lock();
    lock.Unlock();
  }
}
BENCHMARK(BM_ImportLockRecursiveMutex);

void BM_ImportLockStdRecursiveMutex(benchmark::State& state) {
  std::recursive_mutex lock;
  for (auto _ : state) {
    lock.lock();
    lock.unlock();
  }
}
BENCHMARK(BM_ImportLockStdRecursiveMutex);

void BM_ImportLockAbslMutex(benchmark::State& state) {
  absl::Mutex lock;
  for (auto _ : state) {
    lock.Lock();
    lock.Unlock();
  }
}
BENCHMARK(BM_ImportLockAbslMutex);

}  // namespace
}  // namespace pyrt_bench
