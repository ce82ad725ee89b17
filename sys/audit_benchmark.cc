// Raising an audit event with no hook, which every open() and import pays, and with 1 to 16 hooks.

#include <benchmark/benchmark.h>

#include <string_view>

#include "absl/status/status.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct World {
  World() {
    state.Bind();
    state.Attach();
  }
  ~World() {
    state.Detach();
    state.UnbindGilState();
  }
  Gil gil;
  InterpreterLink link{.gil = &gil};
  ThreadState state{link, Whence::kUnknown, 1};
  NativeAuditHooks native;
  Auditor auditor{native};
};

// What the loop around costs.
void BM_AuditEmptyLoop(benchmark::State& state) {
  absl::Status status;
  for (auto _ : state) benchmark::DoNotOptimize(status);
}

void BM_AuditNoHook(benchmark::State& state) {
  World world;
  Auditor* auditor = &world.auditor;
  for (auto _ : state) {
    benchmark::DoNotOptimize(auditor);
    absl::Status status = auditor->Audit("open", "sii", "path", 1, 2);
    benchmark::DoNotOptimize(status);
  }
}

void BM_AuditNativeHooks(benchmark::State& state) {
  World world;
  static int64_t seen = 0;
  for (int64_t i = 0; i < state.range(0); ++i) {
    (void)world.native.Add(
        [](std::string_view, const Ref<Tuple>&, void* count) {
          ++*static_cast<int64_t*>(count);
          return absl::OkStatus();
        },
        &seen, nullptr);
  }
  for (auto _ : state) {
    absl::Status status = world.auditor.Audit("open", "sii", "path", 1, 2);
    benchmark::DoNotOptimize(status);
  }
}

BENCHMARK(BM_AuditEmptyLoop);
BENCHMARK(BM_AuditNoHook);
BENCHMARK(BM_AuditNativeHooks)->ArgName("hooks")->Arg(1)->Arg(2)->Arg(4)->Arg(8)->Arg(16);

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
