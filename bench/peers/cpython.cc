// CPython measured through its C API beside pyrt, one program per Python found (see python_repo.bzl).
//
// The names of the benchmarks are those of pyrt's where the operation is the same; bench/rows.py pairs them.
// The main thread is attached while a benchmark of one thread runs, and detached for those of contended
// threads.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

#include "benchmark/benchmark.h"

#include "pyrt/bench/contention.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/peers/cpython_host.h"

namespace pyrt_bench {
namespace {

PythonHost host;

// Attached from construction to destruction, whatever the main thread was; the process rests detached.
class Attached {
 public:
  Attached() : gil_(PyGILState_Ensure()) {}
  ~Attached() { PyGILState_Release(gil_); }

 private:
  PyGILState_STATE gil_;
};

// --- The current thread state
// --------------------------------------------------------------------------------

void BM_CurrentThread(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) InRegister(PyThreadState_Get());
}
BENCHMARK(BM_CurrentThread);

void BM_CurrentThreadUnchecked(benchmark::State& state) {
  Attached attached;
#if PY_VERSION_HEX >= 0x030D0000
  for (auto _ : state) InRegister(PyThreadState_GetUnchecked());
#else
  for (auto _ : state) InRegister(_PyThreadState_UncheckedGet());
#endif
}
BENCHMARK(BM_CurrentThreadUnchecked);

// --- Detach, attach, ensure
// ----------------------------------------------------------------------------------

void BM_DetachAttach(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) PyEval_RestoreThread(PyEval_SaveThread());
}
BENCHMARK(BM_DetachAttach);

void BM_EnsureNested(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) PyGILState_Release(PyGILState_Ensure());
}
BENCHMARK(BM_EnsureNested);

void BM_EnsureFromDetached(benchmark::State& state) {
  for (auto _ : state) PyGILState_Release(PyGILState_Ensure());
}
BENCHMARK(BM_EnsureFromDetached);

void BM_ThreadStateNewDelete(benchmark::State& state) {
  Attached attached;
  PyInterpreterState* interpreter = PyInterpreterState_Get();
  for (auto _ : state) {
    PyThreadState* thread = PyThreadState_New(interpreter);
    PyThreadState_Clear(thread);
    PyThreadState_Delete(thread);
  }
}
BENCHMARK(BM_ThreadStateNewDelete);

// --- Contention
// ----------------------------------------------------------------------------------------------

void BM_ForcedSwitch(benchmark::State& state) {
  if (!kPythonHasGil) {
    state.SkipWithError("no GIL in this build");
    return;
  }
  MeasureForcedSwitches(state, host, static_cast<int>(state.range(0)), state.range(1));
}
BENCHMARK(BM_ForcedSwitch)
    ->ArgNames({"pollers", "interval_us"})
    ->ArgsProduct({{2, 4, 8}, {1, 50, 5000}})
    ->Iterations(1)
    ->UseManualTime();

// CPython's waiters never spin; "asked" has the timing with which pyrt's do.
void BM_Grant(benchmark::State& state) {
  if (!kPythonHasGil) {
    state.SkipWithError("no GIL in this build");
    return;
  }
  const bool asked = state.range(0) != 0;
  MeasureGrant(state, host, asked ? 1 : 100'000, asked ? 4 : 200);
}
BENCHMARK(BM_Grant)->ArgName("asked")->Arg(0)->Arg(1)->Iterations(1)->UseManualTime();

void BM_Reattach(benchmark::State& state) {
  MeasureReattach(state, host, static_cast<int>(state.range(0)), 5000);
}
BENCHMARK(BM_Reattach)->ArgName("busy")->Arg(1)->Arg(4)->Iterations(1)->UseManualTime();

// --- Pending calls
// -------------------------------------------------------------------------------------------

void BM_PendingCallsIdle(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) {
    if (Py_MakePendingCalls() != 0) PythonFailed("Py_MakePendingCalls");
  }
}
BENCHMARK(BM_PendingCallsIdle);

void BM_PendingCallsAddRun(benchmark::State& state) {
  Attached attached;
  int64_t ran = 0;
  for (auto _ : state) {
    Py_AddPendingCall([](void* argument) { return ++*static_cast<int64_t*>(argument), 0; }, &ran);
    if (Py_MakePendingCalls() != 0) PythonFailed("Py_MakePendingCalls");
  }
  if (ran != static_cast<int64_t>(state.iterations())) state.SkipWithError("a pending call was lost");
}
BENCHMARK(BM_PendingCallsAddRun);

// --- Imports
// -------------------------------------------------------------------------------------------------

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

// `with _ModuleLockManager(name): pass`, in Python because it is Python: 64 uses per call.
void BM_ModuleLock(benchmark::State& state) {
  Attached attached;
  constexpr int kUses = 64;
  PyObject* globals = Must(PyDict_New(), "PyDict_New");
  PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins());
  const std::string source =
      "from importlib._bootstrap import _ModuleLockManager\n"
      "def use(range=range, Manager=_ModuleLockManager):\n"
      "    for _ in range(" +
      std::to_string(kUses) +
      "):\n"
      "        with Manager('pyrt_bench_no_such_module'):\n"
      "            pass\n";
  Py_DECREF(Must(PyRun_String(source.c_str(), Py_file_input, globals, globals), "_ModuleLockManager"));
  PyObject* use = PyDict_GetItemString(globals, "use");
  while (state.KeepRunningBatch(kUses)) Py_DECREF(Must(PyObject_CallNoArgs(use), "_ModuleLockManager"));
  Py_DECREF(globals);
}
BENCHMARK(BM_ModuleLock);

void BM_ModuleLookup(benchmark::State& state) {
  Attached attached;
  PyObject* name = Must(PyUnicode_InternFromString("sys"), "a string");
  for (auto _ : state) Py_DECREF(Must(PyImport_GetModule(name), "PyImport_GetModule"));
  Py_DECREF(name);
}
BENCHMARK(BM_ModuleLookup);

void BM_ImportCached(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) Py_DECREF(Must(PyImport_ImportModule("sys"), "PyImport_ImportModule"));
}
BENCHMARK(BM_ImportCached);

// --- sys
// -----------------------------------------------------------------------------------------------------

void BM_SysAttribute(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) InRegister(PySys_GetObject("path"));
}
BENCHMARK(BM_SysAttribute);

void BM_AuditNoHook(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) {
    if (PySys_Audit("pyrt.bench", nullptr) != 0) PythonFailed("PySys_Audit");
  }
}
BENCHMARK(BM_AuditNoHook);

// --- The process
// ---------------------------------------------------------------------------------------------

// What a reader must know of the Python measured: a debug build or one without PGO is a weaker peer.
void AddPythonContext() {
  benchmark::AddCustomContext("python_version", Py_GetVersion());
  benchmark::AddCustomContext("python_gil", kPythonHasGil ? "enabled" : "disabled");
  PyObject* globals = Must(PyDict_New(), "PyDict_New");
  PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins());
  constexpr char kSource[] =
      "try:\n"
      "    import sysconfig\n"
      "    flags = sysconfig.get_config_vars('CONFIG_ARGS', 'PY_CORE_CFLAGS', 'PY_CORE_LDFLAGS', "
      "'PY_LDFLAGS')\n"
      "    args = ' '.join(f for f in flags if f)\n"
      "    build = []\n"
      "    if '--enable-optimizations' in args or '-fprofile-use' in args: build.append('PGO')\n"
      "    if '--with-lto' in args or '-flto' in args: build.append('LTO')\n"
      "    if '--with-pydebug' in args: build.append('debug')\n"
      "    build = ' + '.join(build) or 'PGO and LTO not stated by sysconfig'\n"
      "except Exception as error:\n"
      "    build = 'unknown build: %s' % error\n";
  Py_DECREF(Must(PyRun_String(kSource, Py_file_input, globals, globals), "sysconfig"));
  const char* build = PyUnicode_AsUTF8(PyDict_GetItemString(globals, "build"));
  benchmark::AddCustomContext("python_build", build != nullptr ? build : "unknown");
  Py_DECREF(globals);
}

void Initialize() {
  PyConfig config;
  PyConfig_InitIsolatedConfig(&config);
#ifdef PYRT_PEER_HOME
  // Else CPython looks for its library beside the first python3 of the PATH, which may be another one.
  PyConfig_SetBytesString(&config, &config.home, PYRT_PEER_HOME);
#endif
  const PyStatus status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status)) Py_ExitStatusException(status);
}

}  // namespace
}  // namespace pyrt_bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  const pyrt_bench::ParkedThread parked_thread;
  pyrt_bench::Initialize();
  pyrt_bench::AddPythonContext();
  PyThreadState* main_thread = PyEval_SaveThread();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  PyEval_RestoreThread(main_thread);
  return Py_FinalizeEx() < 0 ? 1 : 0;
}
