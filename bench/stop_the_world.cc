// Stopping the world beside busy, polling threads. With the GIL every thread but the holder is stopped already.

#include "pyrt/tstate/stop_the_world.h"

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

void BM_StopTheWorld(benchmark::State& state) {
  if (pyrt::kGilEnabled) {
    state.SkipWithError("nothing to stop: this build has the GIL");
    return;
  }
  PyrtHost host;
  pyrt::StopTheWorld world(host.threads());
  MeasureStops(
      state, host, static_cast<int>(state.range(0)), [&world] { world.Stop(); }, [&world] { world.Start(); });
}
BENCHMARK(BM_StopTheWorld)->Apply(StopCases);

}  // namespace
}  // namespace pyrt_bench
