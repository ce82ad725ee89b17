// Raising an audit event: with no hook, which every open() and import pays, from one thread and from many, and with
// 1 to 16 native hooks.

#include "pyrt/sys/audit.h"

#include <cstdint>
#include <string_view>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/runtime/config/check.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

// A thread of an interpreter; the hooks are this benchmark's own.
struct World {
  PyrtHost host;
  pyrt::NativeAuditHooks native;
  pyrt::Auditor auditor{native};
};

bool RaiseEvent(pyrt::Auditor* auditor) { return auditor->Audit("pyrt.bench", "sii", "path", 1, 2).ok(); }

void BM_AuditNoHook(benchmark::State& state) {
  World world;
  const AttachedThread self(world.host);
  pyrt::Auditor* const auditor = &world.auditor;
  InRegister(auditor);
  for (auto _ : state) {
    if (!RaiseEvent(auditor)) [[unlikely]]
      state.SkipWithError("the event was refused");
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_AuditNoHook);

void BM_AuditHooks(benchmark::State& state) {
  World world;
  const AttachedThread self(world.host);
  int64_t seen = 0;
  for (int64_t i = 0; i < state.range(0); ++i) {
    if (!world.native
             .Add(
                 [](std::string_view, const pyrt::Ref<pyrt::Tuple>&, void* count) {
                   ++*static_cast<int64_t*>(count);
                   return absl::OkStatus();
                 },
                 &seen, nullptr)
             .ok()) {
      state.SkipWithError("a hook was refused");
    }
  }
  for (auto _ : state) {
    if (!RaiseEvent(&world.auditor)) [[unlikely]]
      state.SkipWithError("the event was refused");
  }
  if (seen != static_cast<int64_t>(state.iterations()) * state.range(0))
    state.SkipWithError("an event was lost");
}
BENCHMARK(BM_AuditHooks)->Apply(HooksTo16);

void BM_AuditNoHookThreads(benchmark::State& state) {
  World world;
  MeasureThroughput(state, world.host, static_cast<int>(state.range(0)), [&world](int) {
    return [auditor = &world.auditor] {
      PYRT_CHECK(RaiseEvent(auditor), "BM_AuditNoHookThreads", "the event was refused");
      benchmark::ClobberMemory();
    };
  });
}
BENCHMARK(BM_AuditNoHookThreads)->Apply(ThreadsTo16);

}  // namespace
}  // namespace pyrt_bench
