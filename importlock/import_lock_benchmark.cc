// The import lock's figures: a pair and a re-entry, uncontended, and a pair fought over by many threads.
//
// One more thread is alive throughout, because glibc drops the lock prefix of a process that has only ever
// had one.

#include <benchmark/benchmark.h>

#include <mutex>
#include <thread>

#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/sync/recursive_mutex.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class SecondThread {
 public:
  SecondThread() : thread_([this] { end_.Wait(); }) {}
  ~SecondThread() {
    end_.Notify();
    thread_.join();
  }

 private:
  Event end_;
  std::thread thread_;
};

void BM_ImportLockPair(benchmark::State& state) {
  const SecondThread second;
  ImportLock lock;
  for (auto _ : state) {
    lock.Acquire();
    benchmark::DoNotOptimize(lock);
    benchmark::DoNotOptimize(lock.Release().ok());
  }
}
BENCHMARK(BM_ImportLockPair);

void BM_ImportLockReentry(benchmark::State& state) {
  const SecondThread second;
  ImportLock lock;
  lock.Acquire();
  for (auto _ : state) {
    lock.Acquire();
    benchmark::DoNotOptimize(lock);
    benchmark::DoNotOptimize(lock.Release().ok());
  }
  lock.Release().IgnoreError();
}
BENCHMARK(BM_ImportLockReentry);

void BM_RecursiveMutexPair(benchmark::State& state) {
  const SecondThread second;
  RecursiveMutex mutex;
  for (auto _ : state) {
    mutex.Lock();
    benchmark::DoNotOptimize(mutex);
    mutex.Unlock();
  }
}
BENCHMARK(BM_RecursiveMutexPair);

void BM_StdRecursiveMutexPair(benchmark::State& state) {
  const SecondThread second;
  std::recursive_mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    benchmark::DoNotOptimize(mutex);
    mutex.unlock();
  }
}
BENCHMARK(BM_StdRecursiveMutexPair);

// Every thread attaches (takes a mutex in the GIL-enabled build), does a pair and detaches, as an import that
// misses would.
void BM_ImportLockContended(benchmark::State& state) {
  static TestGil gil;
  static ImportLock lock;
  for (auto _ : state) {
    const TestAttached attached(gil);
    lock.Acquire(gil.hooks());
    benchmark::DoNotOptimize(lock);
    benchmark::DoNotOptimize(lock.Release().ok());
  }
}
BENCHMARK(BM_ImportLockContended)->ThreadRange(1, 64)->UseRealTime();

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
