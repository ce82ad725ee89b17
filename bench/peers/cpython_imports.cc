// CPython's imports, sys and audit events, measured through its C API; the rest is in cpython.cc.
//
// The benchmark with audit hooks stands last: CPython cannot remove one.

#include <dlfcn.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/peers/cpython_host.h"

namespace pyrt_bench {
namespace {

PythonHost host;

// A reference that is given back attached.
class Owned {
 public:
  explicit Owned(PyObject* object) : object_(object) {}
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  ~Owned() { Py_XDECREF(object_); }
  Owned& operator=(Owned&&) = delete;
  PyObject* get() const { return object_; }

 private:
  PyObject* object_;
};

Owned NewName(const std::string& text) {
  return Owned(Must(PyUnicode_InternFromString(text.c_str()), "a string"));
}

std::string ModuleName(int i) { return "package_module" + std::to_string(i); }

// The module of the i-th of some threads, which sys.modules then has: its own, or one for all.
std::string ModuleOfThread(bool own, int i) {
  const std::string name = own ? ModuleName(i) : "collections";
  if (own && PyImport_AddModule(name.c_str()) == nullptr) PythonFailed("PyImport_AddModule");
  if (!own) Py_DECREF(Must(PyImport_ImportModule(name.c_str()), "collections"));
  return name;
}

// --- Memory, first: as imports.cc does

constexpr int kMany = 100'000;

void BM_ModuleMemory(benchmark::State& state) {
  Attached attached;
  PyObject* modules = Must(PyDict_New(), "PyDict_New");  // as sys.modules; kept for good
  MeasureMemory(state, kMany, [modules](int i) {
    const Owned name(Must(PyUnicode_FromString(ModuleName(i).c_str()), "a string"));
    const Owned module(Must(PyModule_NewObject(name.get()), "PyModule_NewObject"));
    if (PyDict_SetItem(modules, name.get(), module.get()) != 0) PythonFailed("PyDict_SetItem");
  });
}
BENCHMARK(BM_ModuleMemory)->Apply(Watched);

// A _ModuleLock lives as long as somebody has it; a list has these, owned by this thread.
void BM_ModuleLockMemory(benchmark::State& state) {
  constexpr int kLocks = kMany / 10;
  Attached attached;
  const Owned bootstrap(Must(PyImport_ImportModule("importlib._bootstrap"), "importlib._bootstrap"));
  const Owned get(Must(PyObject_GetAttrString(bootstrap.get(), "_get_module_lock"), "_get_module_lock"));
  PyObject* held = Must(PyList_New(kLocks), "PyList_New");  // kept for good
  MeasureMemory(state, kLocks, [&](int i) {
    // Names of its own: they stay locked.
    const std::string name = "held_" + ModuleName(i);
    PyObject* lock = Must(PyObject_CallFunction(get.get(), "s", name.c_str()), "_get_module_lock");
    Py_DECREF(Must(PyObject_CallMethod(lock, "acquire", nullptr), "_ModuleLock.acquire"));
    PyList_SET_ITEM(held, i, lock);
  });
}
BENCHMARK(BM_ModuleLockMemory)->Apply(Watched);

// --- Imports

// The function that a builtin method descriptor calls, without the call machinery.
struct RawFunction {
  PyCFunction call;
  PyObject* self;

  RawFunction(const char* module_name, const char* name) {
    PyObject* module = Must(PyImport_ImportModule(module_name), module_name);
    PyObject* function = Must(PyObject_GetAttrString(module, name), name);
    if (!PyCFunction_Check(function)) PythonFailed(name);
    call = PyCFunction_GET_FUNCTION(function);
    self = PyCFunction_GET_SELF(function);
    Py_DECREF(module);  // sys.modules keeps it; `function` is kept for the life of the process
  }
  void operator()() const { Py_DECREF(Must(call(self, nullptr), "an _imp function")); }
};

// _PyImport_AcquireLock where the library exports it, else the C function behind _imp.acquire_lock, which
// adds the reference count of None and, from 3.12, one look at the interpreter.
class ImportLockPair {
 public:
  ImportLockPair() : acquire_("_imp", "acquire_lock"), release_("_imp", "release_lock") {
#if PY_VERSION_HEX < 0x030C0000
    exported_acquire_ = reinterpret_cast<void (*)()>(::dlsym(RTLD_DEFAULT, "_PyImport_AcquireLock"));
    exported_release_ = reinterpret_cast<int (*)()>(::dlsym(RTLD_DEFAULT, "_PyImport_ReleaseLock"));
#endif
  }
  bool exported() const { return exported_acquire_ != nullptr && exported_release_ != nullptr; }
  template <bool kExported>
  void Use() const {
    if constexpr (kExported) {
      exported_acquire_();
      exported_release_();
    } else {
      acquire_();
      release_();
    }
  }
  void Acquire() const { acquire_(); }
  void Release() const { release_(); }

  void Measure(benchmark::State& state) const {
    if (exported()) {
      for (auto _ : state) Use<true>();
    } else {
      for (auto _ : state) Use<false>();
    }
  }

 private:
  RawFunction acquire_;
  RawFunction release_;
  void (*exported_acquire_)() = nullptr;
  int (*exported_release_)() = nullptr;
};

void BM_ImportLock(benchmark::State& state) {
  Attached attached;
  ImportLockPair().Measure(state);
}
BENCHMARK(BM_ImportLock);

void BM_ImportLockReentry(benchmark::State& state) {
  Attached attached;
  const ImportLockPair lock;
  lock.Acquire();
  lock.Measure(state);
  lock.Release();
}
BENCHMARK(BM_ImportLockReentry);

// `uses` times `with _ModuleLockManager(name): pass`, in Python because it is Python.
Owned ModuleLockUser(int uses, const std::string& name) {
  PyObject* globals = Must(PyDict_New(), "PyDict_New");
  PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins());
  const std::string source =
      "from importlib._bootstrap import _ModuleLockManager\n"
      "def use(range=range, Manager=_ModuleLockManager):\n"
      "    for _ in range(" +
      std::to_string(uses) +
      "):\n"
      "        with Manager('" +
      name +
      "'):\n"
      "            pass\n";
  Py_DECREF(Must(PyRun_String(source.c_str(), Py_file_input, globals, globals), "_ModuleLockManager"));
  PyObject* use = PyDict_GetItemString(globals, "use");
  Py_INCREF(use);
  Py_DECREF(globals);
  return Owned(use);
}

void BM_ModuleLock(benchmark::State& state) {
  Attached attached;
  constexpr int kUses = 64;
  const Owned use = ModuleLockUser(kUses, "pyrt_bench_no_such_module");
  while (state.KeepRunningBatch(kUses)) Py_DECREF(Must(PyObject_CallNoArgs(use.get()), "_ModuleLockManager"));
}
BENCHMARK(BM_ModuleLock);

void BM_ModuleLookup(benchmark::State& state) {
  Attached attached;
  const Owned name = NewName("sys");
  for (auto _ : state) Py_DECREF(Must(PyImport_GetModule(name.get()), "PyImport_GetModule"));
}
BENCHMARK(BM_ModuleLookup);

void BM_ImportCached(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) Py_DECREF(Must(PyImport_ImportModule("sys"), "PyImport_ImportModule"));
}
BENCHMARK(BM_ImportCached);

// --- Imports on many threads

void BM_ImportLockThreads(benchmark::State& state) {
  MeasureThroughput(state, host, static_cast<int>(state.range(0)), [](int) {
    return [lock = ImportLockPair()] {
      lock.Acquire();
      lock.Release();
    };
  });
}
BENCHMARK(BM_ImportLockThreads)->Apply(ThreadsTo64);

void BM_ModuleLockThreads(benchmark::State& state) {
  const bool own = state.range(0) != 0;
  MeasureThroughput(state, host, static_cast<int>(state.range(1)), [own](int i) {
    return [use = ModuleLockUser(1, ModuleName(own ? i : 0))] {
      Py_DECREF(Must(PyObject_CallNoArgs(use.get()), "_ModuleLockManager"));
    };
  });
}
BENCHMARK(BM_ModuleLockThreads)->Apply(ModulesOfThreadsTo64);

void BM_ModuleLookupThreads(benchmark::State& state) {
  const bool own = state.range(0) != 0;
  MeasureThroughput(state, host, static_cast<int>(state.range(1)), [own](int i) {
    return [name = NewName(ModuleOfThread(own, i))] {
      Py_DECREF(Must(PyImport_GetModule(name.get()), "PyImport_GetModule"));
    };
  });
}
BENCHMARK(BM_ModuleLookupThreads)->Apply(ModulesOfThreadsTo64);

void BM_ImportCachedThreads(benchmark::State& state) {
  const bool own = state.range(0) != 0;
  MeasureThroughput(state, host, static_cast<int>(state.range(1)), [own](int i) {
    return [name = ModuleOfThread(own, i)] {
      Py_DECREF(Must(PyImport_ImportModule(name.c_str()), "PyImport_ImportModule"));
    };
  });
}
BENCHMARK(BM_ImportCachedThreads)->Apply(ModulesOfThreadsTo64);

// --- Many modules

PyObject* SysModules() {
  PyObject* modules = PySys_GetObject("modules");  // borrowed
  if (modules == nullptr) PythonFailed("sys.modules");
  return modules;
}

void BM_ModuleLookupAmong(benchmark::State& state) {
  Attached attached;
  PyObject* modules = SysModules();
  std::vector<Owned> names;
  for (int i = 0; i < static_cast<int>(state.range(0)); ++i) {
    names.push_back(NewName(ModuleName(i)));
    const Owned module(Must(PyModule_NewObject(names.back().get()), "PyModule_NewObject"));
    if (PyDict_SetItem(modules, names.back().get(), module.get()) != 0) PythonFailed("sys.modules");
  }
  Stride next(names.size());
  for (auto _ : state) Py_DECREF(Must(PyImport_GetModule(names[next()].get()), "PyImport_GetModule"));
  for (const Owned& name : names) PyDict_DelItem(modules, name.get());
}
BENCHMARK(BM_ModuleLookupAmong)->Apply(ModulesTo100000);

// --- sys

void BM_SysAttribute(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) InRegister(PySys_GetObject("path"));
}
BENCHMARK(BM_SysAttribute);

bool AuditWithArguments() { return PySys_Audit("pyrt.bench", "sii", "path", 1, 2) == 0; }

void BM_AuditNoHook(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) {
    if (!AuditWithArguments()) PythonFailed("PySys_Audit");
  }
}
BENCHMARK(BM_AuditNoHook);

void BM_SysAttributeThreads(benchmark::State& state) {
  MeasureThroughput(state, host, static_cast<int>(state.range(0)),
                    [](int) { return [] { InRegister(PySys_GetObject("path")); }; });
}
BENCHMARK(BM_SysAttributeThreads)->Apply(ThreadsTo16);

void BM_AuditNoHookThreads(benchmark::State& state) {
  MeasureThroughput(state, host, static_cast<int>(state.range(0)), [](int) {
    return [] {
      if (!AuditWithArguments()) PythonFailed("PySys_Audit");
    };
  });
}
BENCHMARK(BM_AuditNoHookThreads)->Apply(ThreadsTo16);

void BM_AuditHooks(benchmark::State& state) {
  static int64_t hooks = 0;
  static int64_t seen = 0;
  Attached attached;
  for (; hooks < state.range(0); ++hooks) {
    if (PySys_AddAuditHook(
            [](const char*, PyObject*, void* count) { return ++*static_cast<int64_t*>(count), 0; }, &seen) !=
        0) {
      PythonFailed("PySys_AddAuditHook");
    }
  }
  if (hooks > state.range(0)) {
    state.SkipWithError("more hooks are installed, and CPython cannot remove one");
    return;
  }
  const int64_t before = seen;
  for (auto _ : state) {
    if (!AuditWithArguments()) PythonFailed("PySys_Audit");
  }
  if (seen - before != static_cast<int64_t>(state.iterations()) * hooks)
    state.SkipWithError("an event was lost");
}
BENCHMARK(BM_AuditHooks)->Apply(HooksTo16);

}  // namespace
}  // namespace pyrt_bench
