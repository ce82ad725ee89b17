// Pending calls as an evaluation loop pays for them: nothing to do, one call added and run, and adding beside
// other producers. A second thread is alive throughout, because glibc drops the lock prefix without one.

#include <thread>

#include "benchmark/benchmark.h"

#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct OneThread {
  static void RaiseBit(void* breaker) { static_cast<EvalBreaker*>(breaker)->Set(BreakerEvent::kCallsToDo); }

  EvalBreaker breaker;
  PendingCalls calls{{.raise = &RaiseBit, .context = &breaker}};
  PendingCalls main_calls{
      {.limits = PendingCalls::kMainThreadLimits, .raise = &RaiseBit, .context = &breaker}};
  PendingCallHandler handler{&calls, &main_calls};
};

absl::Status Nothing(void*) { return absl::OkStatus(); }

class ParkedThread {
 public:
  ParkedThread()
      : thread_([this] {
          while (word_.load(kAcquire) == 0) FutexWait(&word_, 0, kNoDeadline);
        }) {}
  ~ParkedThread() {
    word_.store(1, kRelease);
    FutexWake(&word_, 1);
  }

 private:
  Atomic<uint32_t> word_{0};
  std::jthread thread_;
};

void BM_PendingCallsIdle(benchmark::State& state) {
  ParkedThread parked;
  OneThread thread;
  for (auto _ : state) benchmark::DoNotOptimize(thread.handler.Run(thread.breaker, true).ok());
}
BENCHMARK(BM_PendingCallsIdle);

void BM_PendingCallsAddAndRun(benchmark::State& state) {
  ParkedThread parked;
  OneThread thread;
  for (auto _ : state) {
    thread.calls.Add(&Nothing, nullptr);
    benchmark::DoNotOptimize(thread.handler.Run(thread.breaker, true).ok());
  }
}
BENCHMARK(BM_PendingCallsAddAndRun);

void BM_PendingCallsAddAndRunHundred(benchmark::State& state) {
  ParkedThread parked;
  OneThread thread;
  for (auto _ : state) {
    for (int i = 0; i < 100; ++i) thread.calls.Add(&Nothing, nullptr);
    benchmark::DoNotOptimize(thread.handler.Run(thread.breaker, true).ok());
  }
  state.SetItemsProcessed(state.iterations() * 100);
}
BENCHMARK(BM_PendingCallsAddAndRunHundred);

OneThread* shared = nullptr;

void BM_PendingCallsProducers(benchmark::State& state) {
  if (state.thread_index() == 0) shared = new OneThread;
  int64_t added = 0;
  for (auto _ : state) {
    if (shared->calls.Add(&Nothing, nullptr) == PendingCalls::AddResult::kAdded) {
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
}  // namespace pyrt::inline PYRT_VARIANT
