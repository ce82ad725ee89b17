// Looking an attribute of sys up: by a constant name, by a name that must be hashed, and with the error forms; from
// one thread and from many.

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/sys_dict.h"

namespace pyrt_bench {
namespace {

using pyrt::Object;
using pyrt::Ref;

const ParkedThread parked_thread;

// The attribute that the figures look up: as CPython's sys.path, one object for all, whose count they share.
constexpr char kPath[] = "path";

// A sys module of the usual size.
struct World {
  World() {
    for (int i = 0; i < 100; ++i) dict.Set("attribute_" + std::to_string(i), pyrt::Int::Of(1000 + i));
    dict.Set(kPath, pyrt::Tuple::Of({pyrt::Int::Of(1), pyrt::Int::Of(2)}));
    dict.Set("flag", pyrt::True());
  }
  PyrtHost host;
  pyrt::SysDict dict;
};

World& Shared() {
  static World* const world = new World;
  return *world;
}

// As the PySys_* functions do it, out of line.
void BM_SysAttribute(benchmark::State& state) {
  World& world = Shared();
  const AttachedThread self(world.host);
  const char* name = kPath;
  for (auto _ : state) {
    InRegister(name);
    benchmark::DoNotOptimize(name);
    const Ref<Object> value = pyrt::SysGetObject(&world.dict, name);
    InRegister(value.get());
  }
}
BENCHMARK(BM_SysAttribute);

void BM_SysAttributeConstant(benchmark::State& state) {
  static constexpr pyrt::SysName kName(kPath);
  World& world = Shared();
  const AttachedThread self(world.host);
  for (auto _ : state) {
    const Ref<Object> value = pyrt::SysGetObject(&world.dict, kName);
    InRegister(value.get());
  }
}
BENCHMARK(BM_SysAttributeConstant);

void BM_SysAttributeStatus(benchmark::State& state) {
  static constexpr pyrt::SysName kName(kPath);
  World& world = Shared();
  const AttachedThread self(world.host);
  for (auto _ : state) {
    const absl::StatusOr<Ref<Object>> value = pyrt::SysGetAttr(&world.dict, kName);
    if (!value.ok()) [[unlikely]]
      state.SkipWithError("sys.path is lost");
  }
}
BENCHMARK(BM_SysAttributeStatus);

// Comparator: what a program without pyrt would write.
void BM_SysAttributeMutexAndMap(benchmark::State& state) {
  std::mutex mutex;
  std::unordered_map<std::string, Ref<Object>> map;
  for (const auto& [name, value] : Shared().dict.Snapshot()) map.emplace(name, value);
  const std::string name = kPath;
  for (auto _ : state) {
    std::lock_guard<std::mutex> lock(mutex);
    const Ref<Object> value = map.find(name)->second;
    InRegister(value.get());
  }
}
BENCHMARK(BM_SysAttributeMutexAndMap);

void MeasureThreads(benchmark::State& state, pyrt::SysName name) {
  World& world = Shared();
  MeasureThroughput(state, world.host, static_cast<int>(state.range(0)), [&world, name](int) {
    return [&world, name] {
      const Ref<Object> value = pyrt::SysGetObject(&world.dict, name);
      InRegister(value.get());
    };
  });
}

// All threads want the same mortal object: its reference count is what they share.
void BM_SysAttributeThreads(benchmark::State& state) { MeasureThreads(state, kPath); }
BENCHMARK(BM_SysAttributeThreads)->Apply(ThreadsTo16);

// An immortal object, such as True: nothing is written.
void BM_SysAttributeImmortalThreads(benchmark::State& state) { MeasureThreads(state, "flag"); }
BENCHMARK(BM_SysAttributeImmortalThreads)->Apply(ThreadsTo16);

}  // namespace
}  // namespace pyrt_bench
