// Detach and attach around a blocking call that did not block: nobody else wants the GIL.

#include <cstdint>

#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

// After some thousand uncontended takes a Gil is biased to its thread. The unbiased figure is that of threads
// which take turns: a fresh Gil per batch, each batch timed as a whole.
constexpr int kUnbiasedBatch = 2048;
constexpr int kPairsUntilBiased = 100'000;

void BM_DetachAttach(benchmark::State& state) {
  while (state.KeepRunningBatch(kUnbiasedBatch)) {
    PyrtHost host;
    PyrtHost::Thread self(host);
    self.Attach();
    const int64_t begin = NowNs();
    for (int i = 0; i < kUnbiasedBatch; ++i) {
      self.Detach();
      self.Attach();
    }
    // Manual time is per iteration of the outer loop, which counts kUnbiasedBatch.
    state.SetIterationTime(static_cast<double>(NowNs() - begin) * 1e-9);
    if (host.gil().Stats().bias_grants != 0) state.SkipWithError("the Gil was biased");
    self.Detach();
  }
}
BENCHMARK(BM_DetachAttach)->UseManualTime();

void BM_DetachAttachBiased(benchmark::State& state) {
  PyrtHost host;
  PyrtHost::Thread self(host);
  self.Attach();
  for (int i = 0; i < kPairsUntilBiased; ++i) {
    self.Detach();
    self.Attach();
  }
  for (auto _ : state) {
    self.Detach();
    self.Attach();
  }
  if (pyrt::kGilEnabled && host.gil().Stats().bias_grants == 0) state.SkipWithError("the Gil was not biased");
  self.Detach();
}
BENCHMARK(BM_DetachAttachBiased);

// The share of the Gil alone.
void BM_GilDropTake(benchmark::State& state) {
  while (state.KeepRunningBatch(kUnbiasedBatch)) {
    pyrt::Gil gil(true);
    pyrt::Atomic<uintptr_t> breaker{0};
    pyrt::GilHolder self(&breaker, 1);
    bool held = gil.Take(self) == pyrt::Gil::TakeResult::kTaken;
    const int64_t begin = NowNs();
    for (int i = 0; i < kUnbiasedBatch; ++i) {
      gil.Drop(self);
      held &= gil.Take(self) == pyrt::Gil::TakeResult::kTaken;
    }
    state.SetIterationTime(static_cast<double>(NowNs() - begin) * 1e-9);
    if (!held) state.SkipWithError("the Gil was not taken");
    gil.Drop(self);
    gil.Forget(self);
  }
}
BENCHMARK(BM_GilDropTake)->UseManualTime();

void BM_GilDropTakeBiased(benchmark::State& state) {
  pyrt::Gil gil(true);
  pyrt::Atomic<uintptr_t> breaker{0};
  pyrt::GilHolder self(&breaker, 1);
  bool held = gil.Take(self) == pyrt::Gil::TakeResult::kTaken;
  for (int i = 0; i < kPairsUntilBiased; ++i) {
    gil.Drop(self);
    held &= gil.Take(self) == pyrt::Gil::TakeResult::kTaken;
  }
  for (auto _ : state) {
    gil.Drop(self);
    held &= gil.Take(self) == pyrt::Gil::TakeResult::kTaken;
  }
  if (!held) state.SkipWithError("the Gil was not taken");
  gil.Drop(self);
  gil.Forget(self);
}
BENCHMARK(BM_GilDropTakeBiased);

}  // namespace
}  // namespace pyrt_bench
