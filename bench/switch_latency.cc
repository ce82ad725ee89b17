// How long it takes until another thread runs: forced switches, grants, and an I/O thread that wants back.

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/contention.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/gil/switch_policy.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

void BM_ForcedSwitch(benchmark::State& state) {
  if (!pyrt::kGilEnabled) {
    state.SkipWithError("no GIL in this build");
    return;
  }
  PyrtHost host;
  MeasureForcedSwitches(state, host, static_cast<int>(state.range(0)), state.range(1));
}
BENCHMARK(BM_ForcedSwitch)->Apply(ForcedSwitchCases);

void BM_Grant(benchmark::State& state) {
  if (!pyrt::kGilEnabled) {
    state.SkipWithError("no GIL in this build");
    return;
  }
  PyrtHost host;
  MeasureGrant(state, host, state.range(0) != 0);
}
BENCHMARK(BM_Grant)->Apply(GrantCases);

void BM_Reattach(benchmark::State& state) {
  PyrtHost host;
  host.SetPolicy(state.range(1) != 0 ? pyrt::SwitchPolicy::kInteractive : pyrt::SwitchPolicy::kInterval);
  MeasureReattach(state, host, static_cast<int>(state.range(0)), 5000);
}
BENCHMARK(BM_Reattach)
    ->ArgNames({"busy", "interactive"})
    ->ArgsProduct({{1, 4}, {0, 1}})
    ->Iterations(1)
    ->UseManualTime();

}  // namespace
}  // namespace pyrt_bench
