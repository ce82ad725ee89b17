// The import lock without contention: a pair, a pair inside another, and what the usual locks take for it.

#include "pyrt/importlock/import_lock.h"

#include <mutex>

#include "absl/synchronization/mutex.h"
#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"

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
