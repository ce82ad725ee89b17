// What an import costs that has nothing to do: the module lock, the lookup, the import of a module that is there; how
// they scale with threads and modules, and what a module and a lock take of memory.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/importlock/qsbr_reclaimer.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt_bench {
namespace {

using pyrt::Object;
using pyrt::Ref;

const ParkedThread parked_thread;

constexpr char kModule[] = "collections";

// Finds every name, and its modules have nothing to do.
class EmptyModules final : public pyrt::Finder {
 public:
  absl::StatusOr<Ref<pyrt::ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                                 const Object*) override {
    pyrt::ModuleSpec::Options options;
    options.loader = pyrt::MakeRef<EmptyBody>();
    return pyrt::ModuleSpec::New(name, std::move(options));
  }

 private:
  class EmptyBody final : public pyrt::Loader {
   public:
    absl::Status Exec(const Ref<pyrt::ModuleSpec>&, const Ref<Object>&) override { return absl::OkStatus(); }
  };
};

class DetachingHost final : public pyrt::ImportHost {
 public:
  const pyrt::WaitHooks* Hooks() override { return pyrt::ThreadState::DetachWhileWaiting(); }
};

// An interpreter with an importer and as many modules as a small program has.
struct World {
  World() : importer(pyrt::MakeRef<pyrt::Importer>(import_host, Reclaimer())) {
    importer->set_meta_path(pyrt::List::Of({pyrt::MakeRef<EmptyModules>()}));
    const AttachedThread self(host);
    PYRT_CHECK(importer->Import(kModule).ok(), "World", "no module");
    for (int i = 0; i < 200; ++i) PYRT_CHECK(importer->Import(Name(i)).ok(), "World", "no module");
  }
  static std::string Name(int i) { return "package_module" + std::to_string(i); }
  pyrt::Reclaimer& Reclaimer() {
    if constexpr (pyrt::kGilEnabled) return immediate;
    return delayed;
  }

  PyrtHost host;
  pyrt::ImmediateReclaimer immediate;
  pyrt::QsbrReclaimer delayed{host.threads().qsbr()};
  DetachingHost import_host;
  Ref<pyrt::Importer> importer;
};

World& Shared() {
  static World* const world = new World;
  return *world;
}

// A name that the compiler does not know.
std::string_view Hidden(const char* name) {
  benchmark::DoNotOptimize(name);
  return name;
}

// --- Memory, by what the process has more of afterwards. First of all, in a process that has freed nothing yet; what
// is made is never freed, so that the next figure does not get it again.

constexpr int kMany = 100'000;

// A module without attributes of its own and its place in the table; without a spec.
void BM_ModuleMemory(benchmark::State& state) {
  AttachedThread self(Shared().host);
  auto* const table = new pyrt::ModuleTable(Shared().Reclaimer());
  MeasureMemory(state, kMany, [&](int i) {
    const std::string name = World::Name(i);
    table->Set(name, pyrt::Module::New(name));
    // The arrays that the table has outgrown.
    self.state().ReportQuiescent();
    if (!pyrt::kGilEnabled && i + 1 == kMany) Shared().delayed.Collect();
  });
  static const pyrt::ModuleTable* kept;
  kept = table;
  benchmark::DoNotOptimize(kept);
}
BENCHMARK(BM_ModuleMemory)->Apply(Watched);

// A lock that somebody uses: there is no other. Fewer, because the registry is made for as many locks as imports nest.
void BM_ModuleLockMemory(benchmark::State& state) {
  constexpr int kLocks = kMany / 10;
  const AttachedThread self(Shared().host);
  auto* const locks = new pyrt::ModuleLockRegistry;
  auto* const held = new std::vector<std::pair<std::string, pyrt::ModuleLock*>>(kLocks);
  for (int i = 0; i < kLocks; ++i) (*held)[static_cast<size_t>(i)].first = World::Name(i);
  MeasureMemory(state, kLocks, [&](int i) {
    auto& [name, lock] = (*held)[static_cast<size_t>(i)];
    lock = new pyrt::ModuleLock(*locks, name);
    PYRT_CHECK(lock->Acquire() == pyrt::ModuleLockStatus::kAcquired, "BM_ModuleLockMemory", "not acquired");
  });
  static std::vector<std::pair<std::string, pyrt::ModuleLock*>>* kept;
  kept = held;
  benchmark::DoNotOptimize(kept);
}
BENCHMARK(BM_ModuleLockMemory)->Apply(Watched);

// --- Module locks

void UseModuleLock(pyrt::ModuleLockRegistry& locks, std::string_view name) {
  pyrt::ModuleLock lock(locks, name);
  PYRT_CHECK(lock.Acquire(pyrt::ThreadState::DetachWhileWaiting()) == pyrt::ModuleLockStatus::kAcquired,
             "UseModuleLock", "not acquired");
}

void BM_ModuleLock(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  for (auto _ : state) UseModuleLock(Shared().importer->module_locks(), Hidden(kModule));
}
BENCHMARK(BM_ModuleLock);

void BM_ModuleLockReentry(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  pyrt::ModuleLockRegistry& locks = Shared().importer->module_locks();
  pyrt::ModuleLock outer(locks, kModule);
  benchmark::DoNotOptimize(outer.Acquire());
  for (auto _ : state) UseModuleLock(locks, Hidden(kModule));
}
BENCHMARK(BM_ModuleLockReentry);

// As deep imports hold them: one more lock beside `held` others of the thread.
void BM_ModuleLockBesideHeld(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  pyrt::ModuleLockRegistry locks;
  std::vector<std::string> names;
  for (int i = 0; i < static_cast<int>(state.range(0)); ++i) names.push_back(World::Name(i));
  std::vector<std::unique_ptr<pyrt::ModuleLock>> held;
  for (const std::string& name : names) {
    held.push_back(std::make_unique<pyrt::ModuleLock>(locks, name));
    benchmark::DoNotOptimize(held.back()->Acquire());
  }
  for (auto _ : state) UseModuleLock(locks, Hidden(kModule));
}
BENCHMARK(BM_ModuleLockBesideHeld)->ArgName("held")->Arg(1)->Arg(100)->Arg(10'000);

// --- Lookup and cached import

void LookUp(std::string_view name) {
  const absl::StatusOr<Ref<Object>> module = Shared().importer->GetModule(name);
  PYRT_CHECK(module.ok() && *module != nullptr, "LookUp", "no module");
}

void Import(std::string_view name) {
  const absl::StatusOr<Ref<Object>> module = Shared().importer->Import(name);
  PYRT_CHECK(module.ok(), "Import", "no module");
}

void BM_ModuleLookup(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  for (auto _ : state) LookUp(Hidden(kModule));
}
BENCHMARK(BM_ModuleLookup);

// The table alone: with a reference to the module, and without.
void BM_ModuleTableGet(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  for (auto _ : state) benchmark::DoNotOptimize(Shared().importer->modules().Get(Hidden(kModule)));
}
BENCHMARK(BM_ModuleTableGet);

void BM_ModuleTablePeek(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  for (auto _ : state) InRegister(Shared().importer->modules().Peek(Hidden(kModule)));
}
BENCHMARK(BM_ModuleTablePeek);

void BM_ImportCached(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  for (auto _ : state) Import(Hidden(kModule));
}
BENCHMARK(BM_ImportCached);

// A whole import with an empty body.
void BM_ImportCold(benchmark::State& state) {
  AttachedThread self(Shared().host);
  for (auto _ : state) {
    Import(kModule);
    Shared().importer->modules().Remove(kModule);
    self.state().ReportQuiescent();
  }
  Import(kModule);
}
BENCHMARK(BM_ImportCold);

// --- Threads

template <typename Operation>
void MeasureThreads(benchmark::State& state, Operation operation) {
  const bool own = state.range(0) != 0;
  MeasureThroughput(state, Shared().host, static_cast<int>(state.range(1)), [own, operation](int i) {
    return [operation, name = own ? World::Name(i) : std::string(kModule)] { operation(name); };
  });
}

void BM_ModuleLockThreads(benchmark::State& state) {
  MeasureThreads(state,
                 [](std::string_view name) { UseModuleLock(Shared().importer->module_locks(), name); });
}
BENCHMARK(BM_ModuleLockThreads)->Apply(ModulesOfThreadsTo64);

void BM_ModuleLookupThreads(benchmark::State& state) { MeasureThreads(state, &LookUp); }
BENCHMARK(BM_ModuleLookupThreads)->Apply(ModulesOfThreadsTo64);

void BM_ImportCachedThreads(benchmark::State& state) { MeasureThreads(state, &Import); }
BENCHMARK(BM_ImportCachedThreads)->Apply(ModulesOfThreadsTo64);

// --- Many modules

// Looks up one of `modules` after the other, in an order that no cache foresees.
void BM_ModuleLookupAmong(benchmark::State& state) {
  const AttachedThread self(Shared().host);
  pyrt::ModuleTable table(Shared().Reclaimer());
  std::vector<std::string> names;
  for (int i = 0; i < static_cast<int>(state.range(0)); ++i) {
    names.push_back(World::Name(i));
    table.Set(names.back(), pyrt::Module::New(names.back()));
  }
  Stride next(names.size());
  for (auto _ : state) benchmark::DoNotOptimize(table.Get(names[next()]));
}
BENCHMARK(BM_ModuleLookupAmong)->Apply(ModulesTo100000);

}  // namespace
}  // namespace pyrt_bench
