// Native code that does not know whether its thread is attached: Ensure and Release, both families, from each state
// before.

#include <cstdint>

#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/gil_state.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

// As in attach_detach.cc: a fresh Gil is biased to nobody.
constexpr int kUnbiasedBatch = 2048;

void Pair() {
  const pyrt::GilStateBefore before = pyrt::GilStateEnsure();
  benchmark::ClobberMemory();
  pyrt::GilStateRelease(before);
}

void BM_EnsureNested(benchmark::State& state) {
  PyrtHost host;
  const AttachedThread self(host);
  for (auto _ : state) Pair();
}
BENCHMARK(BM_EnsureNested);

void BM_EnsureFromDetached(benchmark::State& state) {
  while (state.KeepRunningBatch(kUnbiasedBatch)) {
    PyrtHost host;
    const PyrtHost::Thread self(host);
    Pair();  // the thread's state is the one that Ensure finds from the first attach on
    const int64_t begin = NowNs();
    for (int i = 0; i < kUnbiasedBatch; ++i) Pair();
    state.SetIterationTime(static_cast<double>(NowNs() - begin) * 1e-9);
    if (host.gil().Stats().bias_grants != 0) state.SkipWithError("the Gil was biased");
  }
}
BENCHMARK(BM_EnsureFromDetached)->UseManualTime();

void BM_EnsureFromDetachedBiased(benchmark::State& state) {
  PyrtHost host;
  const PyrtHost::Thread self(host);
  for (int i = 0; i < 100'000; ++i) Pair();
  for (auto _ : state) Pair();
  if (pyrt::kGilEnabled && host.gil().Stats().bias_grants == 0) state.SkipWithError("the Gil was not biased");
}
BENCHMARK(BM_EnsureFromDetachedBiased);

// The main interpreter of the process, for those who ask for it by name.
PyrtHost& Main() {
  static PyrtHost* const host = [] {
    auto* const made = new PyrtHost;
    static pyrt::InterpreterDirectory directory{
        &made->registry(), [](int64_t id) { return id == 0 ? &Main().threads().link() : nullptr; }};
    pyrt::SetInterpreterDirectory(&directory);
    return made;
  }();
  return *host;
}

// A foreign thread that calls in once: its state is made and deleted.
void BM_EnsureUnknownThread(benchmark::State& state) {
  Main();
  for (auto _ : state) Pair();
}
BENCHMARK(BM_EnsureUnknownThread);

void GuardedPair(const pyrt::InterpreterGuard& guard) {
  const pyrt::EnsureToken token = pyrt::EnsureAttached(guard);
  benchmark::ClobberMemory();
  pyrt::ReleaseAttached(token);
}

void BM_EnsureGuardedNested(benchmark::State& state) {
  const AttachedThread self(Main());
  const pyrt::InterpreterGuard guard = pyrt::InterpreterGuard::FromView(pyrt::InterpreterView::FromMain());
  for (auto _ : state) GuardedPair(guard);
}
BENCHMARK(BM_EnsureGuardedNested);

void BM_EnsureGuardedFromDetached(benchmark::State& state) {
  PyrtHost::Thread self(Main());
  const pyrt::InterpreterGuard guard = pyrt::InterpreterGuard::FromView(pyrt::InterpreterView::FromMain());
  for (auto _ : state) GuardedPair(guard);
}
BENCHMARK(BM_EnsureGuardedFromDetached);

}  // namespace
}  // namespace pyrt_bench
