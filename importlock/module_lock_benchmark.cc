// What a module lock costs: uncontended, re-entered, by many threads on different modules and on one.

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/importlock/module_lock.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

void BM_ModuleLockUse(benchmark::State& state) {
  ModuleLockRegistry locks;
  for (auto _ : state) {
    ModuleLock lock(locks, "package.module");
    benchmark::DoNotOptimize(lock.Acquire());
  }
}
BENCHMARK(BM_ModuleLockUse);

void BM_ModuleLockReentry(benchmark::State& state) {
  ModuleLockRegistry locks;
  ModuleLock outer(locks, "package.module");
  benchmark::DoNotOptimize(outer.Acquire());
  for (auto _ : state) {
    ModuleLock lock(locks, "package.module");
    benchmark::DoNotOptimize(lock.Acquire());
  }
}
BENCHMARK(BM_ModuleLockReentry);

// As deep imports hold them: the cost of one more lock beside `held` others.
void BM_ModuleLockUseBesideHeld(benchmark::State& state) {
  ModuleLockRegistry locks;
  std::vector<std::string> names;
  for (int64_t i = 0; i < state.range(0); ++i) names.push_back("package.module" + std::to_string(i));
  std::vector<std::unique_ptr<ModuleLock>> held;
  for (const std::string& name : names) {
    held.push_back(std::make_unique<ModuleLock>(locks, name));
    benchmark::DoNotOptimize(held.back()->Acquire());
  }
  for (auto _ : state) {
    ModuleLock lock(locks, "package.module");
    benchmark::DoNotOptimize(lock.Acquire());
  }
}
BENCHMARK(BM_ModuleLockUseBesideHeld)->ArgName("held")->Arg(1)->Arg(100)->Arg(10000);

void BM_ModuleLockDifferentModules(benchmark::State& state) {
  static TestGil gil;
  static ModuleLockRegistry locks;
  const std::string name = "package.module" + std::to_string(state.thread_index());
  for (auto _ : state) {
    const TestAttached attached(gil);
    ModuleLock lock(locks, name);
    benchmark::DoNotOptimize(lock.Acquire(gil.hooks()));
  }
}
BENCHMARK(BM_ModuleLockDifferentModules)->ThreadRange(1, 64)->UseRealTime();

void BM_ModuleLockOneModule(benchmark::State& state) {
  static TestGil gil;
  static ModuleLockRegistry locks;
  for (auto _ : state) {
    const TestAttached attached(gil);
    ModuleLock lock(locks, "package.module");
    benchmark::DoNotOptimize(lock.Acquire(gil.hooks()));
  }
}
BENCHMARK(BM_ModuleLockOneModule)->ThreadRange(1, 64)->UseRealTime();

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
