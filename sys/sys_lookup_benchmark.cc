// Looking an attribute of sys up: by a constant name, by a name that must be hashed, and as the PySys_*
// functions do, on 1 to 16 threads. The comparators are what other tables cost on the same machine.

#include <benchmark/benchmark.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/qsbr.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// One interpreter with a sys module of the usual size, for all benchmarks.
struct World {
  World() {
    for (int i = 0; i < 100; ++i) dict.Set("attribute_" + std::to_string(i), Int::Of(1000 + i));
    dict.Set("stdout", Tuple::Of({Int::Of(1), Int::Of(2)}));
    dict.Set("flag", True());
    for (const auto& [name, value] : dict.Snapshot()) guarded.emplace(name, value);
  }
  static World& Get() {
    static World* const world = new World;
    return *world;
  }
  Gil gil;
  Qsbr qsbr;
  InterpreterLink link{.gil = &gil, .qsbr = kGilEnabled ? nullptr : &qsbr};
  SysDict dict;
  std::mutex mutex;
  std::unordered_map<std::string, Ref<Object>> guarded;
};

constexpr int64_t kBatch = 1000;

// Runs `body` kBatch times per round, attached during the round only: the benchmark's own barriers are met detached, or a
// thread that holds the GIL would wait there for one that wants it.
template <typename Body>
void RunAttached(benchmark::State& state, Body body) {
  ThreadState thread(World::Get().link, Whence::kUnknown, 1 + static_cast<uint64_t>(state.thread_index()),
                     kGilEnabled ? nullptr : World::Get().qsbr.Reserve());
  thread.Bind();
  while (state.KeepRunningBatch(kBatch)) {
    thread.Attach();
    for (int64_t i = 0; i < kBatch; ++i) {
      body();
      benchmark::DoNotOptimize(thread.Poll());
    }
    thread.Detach();
  }
  thread.UnbindGilState();
}

void BM_SysGetObjectConstantName(benchmark::State& state) {
  static constexpr SysName kStdout("stdout");
  SysDict& dict = World::Get().dict;
  RunAttached(state, [&] {
    Ref<Object> value = SysGetObject(&dict, kStdout);
    benchmark::DoNotOptimize(value);
  });
}

void BM_SysGetObjectByString(benchmark::State& state) {
  SysDict& dict = World::Get().dict;
  const char* name = "stdout";
  RunAttached(state, [&] {
    benchmark::DoNotOptimize(name);
    Ref<Object> value = SysGetObject(&dict, name);
    benchmark::DoNotOptimize(value);
  });
}

// An immortal value: no count to write, so this scales whatever the number of threads.
void BM_SysGetObjectImmortalValue(benchmark::State& state) {
  static constexpr SysName kFlag("flag");
  SysDict& dict = World::Get().dict;
  RunAttached(state, [&] {
    Ref<Object> value = SysGetObject(&dict, kFlag);
    benchmark::DoNotOptimize(value);
  });
}

void BM_SysGetAttrStatus(benchmark::State& state) {
  static constexpr SysName kStdout("stdout");
  SysDict& dict = World::Get().dict;
  RunAttached(state, [&] {
    absl::StatusOr<Ref<Object>> value = SysGetAttr(&dict, kStdout);
    benchmark::DoNotOptimize(value);
  });
}

void BM_MutexAndUnorderedMap(benchmark::State& state) {
  World& world = World::Get();
  const std::string name = "stdout";
  RunAttached(state, [&] {
    std::lock_guard<std::mutex> lock(world.mutex);
    Ref<Object> value = world.guarded.find(name)->second;
    benchmark::DoNotOptimize(value);
  });
}

#define PYRT_THREADS ->Threads(1)->Threads(2)->Threads(4)->Threads(8)->Threads(16)->UseRealTime()
BENCHMARK(BM_SysGetObjectConstantName) PYRT_THREADS;
BENCHMARK(BM_SysGetObjectByString) PYRT_THREADS;
BENCHMARK(BM_SysGetObjectImmortalValue) PYRT_THREADS;
BENCHMARK(BM_SysGetAttrStatus) PYRT_THREADS;
BENCHMARK(BM_MutexAndUnorderedMap)->Threads(1)->UseRealTime();

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
