// Stopping the world beside busy, polling threads: time from the call to the moment that nobody runs, and from the
// start to its return. In the GIL-enabled build both are nothing.

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"

#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

double Percentile(const std::vector<int64_t>& sorted, double p) {
  if (sorted.empty()) return 0;
  return static_cast<double>(sorted[static_cast<size_t>(p * static_cast<double>(sorted.size() - 1))]);
}

void BM_StopTheWorld(benchmark::State& state) {
  TestInterpreter interpreter;
  std::atomic<bool> end{false};
  std::vector<std::thread> threads;
  std::atomic<int> ready{0};
  for (int64_t i = 0; i < state.range(0); ++i) {
    threads.emplace_back([&] {
      TestThread self(interpreter);
      ++ready;
      while (!end.load(std::memory_order_relaxed)) self->Poll();
    });
  }
  if constexpr (!kGilEnabled) {
    while (ready < state.range(0)) std::this_thread::yield();
  }
  std::vector<int64_t> latencies;
  {
    StopTheWorld stop(interpreter.threads);
    for (auto _ : state) {
      const int64_t before = MonotonicNow();
      stop.Stop();
      latencies.push_back(MonotonicNow() - before);
      stop.Start();
      // The busy threads get going before the next stop.
      for (int i = 0; i < 200; ++i) CpuRelax();
    }
  }
  end = true;
  for (std::thread& thread : threads) thread.join();
  std::sort(latencies.begin(), latencies.end());
  state.counters["stop_p50_ns"] = Percentile(latencies, 0.5);
  state.counters["stop_p99_ns"] = Percentile(latencies, 0.99);
  state.counters["stop_max_ns"] = Percentile(latencies, 1);
  state.counters["parks"] = static_cast<double>(interpreter.threads.stop_state().parks.load(kRelaxed));
}
BENCHMARK(BM_StopTheWorld)->ArgName("busy")->Arg(0)->Arg(1)->Arg(2)->Arg(4)->Arg(8)->Arg(16)->UseRealTime();

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
