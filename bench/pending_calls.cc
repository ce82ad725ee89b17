// Pending calls as an evaluation loop pays for them: nothing to do, one call added and run, a hundred, and adding
// beside other producers.

#include "pyrt/ceval_breaker/pending_calls.h"

#include <cstdint>

#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"

namespace pyrt_bench {
namespace {

using pyrt::PendingCalls;

const ParkedThread parked_thread;

// The word and the queues that a thread of the main interpreter looks at.
struct OneThread {
  static void RaiseBit(void* breaker) {
    static_cast<pyrt::EvalBreaker*>(breaker)->Set(pyrt::BreakerEvent::kCallsToDo);
  }
  bool Run() { return handler.Run(breaker, /*is_main_thread=*/true).ok(); }

  pyrt::EvalBreaker breaker;
  PendingCalls calls{{.raise = &RaiseBit, .context = &breaker}};
  PendingCalls main_calls{
      {.limits = PendingCalls::kMainThreadLimits, .raise = &RaiseBit, .context = &breaker}};
  pyrt::PendingCallHandler handler{&calls, &main_calls};
};

absl::Status Count(void* count) {
  ++*static_cast<int64_t*>(count);
  return absl::OkStatus();
}

void BM_PendingCallsIdle(benchmark::State& state) {
  OneThread thread;
  benchmark::DoNotOptimize(&thread);
  for (auto _ : state) {
    if (!thread.Run()) [[unlikely]]
      state.SkipWithError("a pending call failed");
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_PendingCallsIdle);

void AddAndRun(benchmark::State& state, int calls) {
  OneThread thread;
  int64_t ran = 0;
  for (auto _ : state) {
    for (int i = 0; i < calls; ++i) thread.calls.Add(&Count, &ran);
    if (!thread.Run()) [[unlikely]]
      state.SkipWithError("a pending call failed");
  }
  if (ran != static_cast<int64_t>(state.iterations()) * calls) state.SkipWithError("a pending call was lost");
  state.SetItemsProcessed(ran);
}

void BM_PendingCallsAddRun(benchmark::State& state) { AddAndRun(state, 1); }
BENCHMARK(BM_PendingCallsAddRun);

void BM_PendingCallsAddRunHundred(benchmark::State& state) { AddAndRun(state, 100); }
BENCHMARK(BM_PendingCallsAddRunHundred);

void BM_PendingCallsProducers(benchmark::State& state) {
  static OneThread* shared = nullptr;
  static int64_t ran = 0;  // by the handler, of which there is one at a time
  if (state.thread_index() == 0) shared = new OneThread;
  int64_t added = 0;
  for (auto _ : state) {
    if (shared->calls.Add(&Count, &ran) == PendingCalls::AddResult::kAdded) {
      ++added;
    } else {
      benchmark::DoNotOptimize(shared->handler.Run(shared->breaker, false).ok());
    }
  }
  state.SetItemsProcessed(added);
  if (state.thread_index() == 0) {
    while (shared->handler.HasWork(false)) static_cast<void>(shared->handler.Run(shared->breaker, false));
    delete shared;
  }
}
BENCHMARK(BM_PendingCallsProducers)->Threads(1)->Threads(2)->Threads(4)->UseRealTime();

}  // namespace
}  // namespace pyrt_bench
