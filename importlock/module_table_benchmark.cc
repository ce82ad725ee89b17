// Looking a module up, and importing one that is there already, from 1 to 64 threads; memory per module.

#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "pyrt/importlock/importer_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TestInterpreter& Shared() {
  static auto* const interpreter = [] {
    auto* const made = new TestInterpreter;
    made->host.record = false;
    for (int i = 0; i < 1000; ++i) made->finder->Add("module" + std::to_string(i));
    const InterpreterAttached attached(*made);
    for (int i = 0; i < 1000; ++i) {
      benchmark::DoNotOptimize(made->importer->Import("module" + std::to_string(i)).ok());
    }
    return made;
  }();
  return *interpreter;
}

void BM_ModuleTableLookup(benchmark::State& state) {
  TestInterpreter& interpreter = Shared();
  const ModuleTable& table = interpreter.importer->modules();
  for (auto _ : state) benchmark::DoNotOptimize(table.Get("module500"));
}
BENCHMARK(BM_ModuleTableLookup);

// The GIL-disabled build's readers that write nothing.
void BM_ModuleTablePeek(benchmark::State& state) {
  const ModuleTable& table = Shared().importer->modules();
  for (auto _ : state) benchmark::DoNotOptimize(table.Peek("module500"));
}
BENCHMARK(BM_ModuleTablePeek)->ThreadRange(1, kGilEnabled ? 1 : 64)->UseRealTime();

void BM_ImportCached(benchmark::State& state) {
  Importer& importer = *Shared().importer;
  for (auto _ : state) benchmark::DoNotOptimize(importer.Import("module500"));
}
BENCHMARK(BM_ImportCached);

// Each thread its own module: what scales. One module for all shares a reference count.
void BM_ImportCachedThreads(benchmark::State& state) {
  Importer& importer = *Shared().importer;
  const std::string name = "module" + std::to_string(state.range(0) == 0 ? 0 : state.thread_index() * 7);
  for (auto _ : state) benchmark::DoNotOptimize(importer.Import(name));
}
BENCHMARK(BM_ImportCachedThreads)
    ->ArgName("different")
    ->Arg(0)
    ->Arg(1)
    ->ThreadRange(1, kGilEnabled ? 1 : 64)
    ->UseRealTime();

// A cold import with an empty body.
void BM_ImportCold(benchmark::State& state) {
  TestInterpreter& interpreter = Shared();
  InterpreterAttached attached(interpreter);
  for (auto _ : state) {
    benchmark::DoNotOptimize(interpreter.importer->Import("module1"));
    interpreter.importer->modules().Remove("module1");
    attached.Quiescent();
  }
}
BENCHMARK(BM_ImportCold);

void BM_ModuleTableMemory(benchmark::State& state) {
  const auto modules = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    ImmediateReclaimer reclaimer;
    ModuleTable table(reclaimer);
    for (size_t i = 0; i < modules; ++i) table.Set("package.module" + std::to_string(i), None());
    state.counters["bytes_per_module"] =
        static_cast<double>(table.MemoryUsage()) / static_cast<double>(modules);
  }
}
BENCHMARK(BM_ModuleTableMemory)->Arg(1000)->Arg(100000)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
