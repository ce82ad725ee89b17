// CPython measured through its C API beside pyrt, one program per Python found (see python_repo.bzl).
//
// The names of the benchmarks are those of pyrt's where the operation is the same; bench/rows.py pairs them.
// The main thread is attached while a benchmark of one thread runs, and detached for those of contended
// threads.

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/contention.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/peers/cpython_host.h"

namespace pyrt_bench {
namespace {

PythonHost host;

// --- The current thread state

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

void BM_DetachAttach(benchmark::State& state) {
  Attached attached;
  for (auto _ : state) PyEval_RestoreThread(PyEval_SaveThread());
}
BENCHMARK(BM_DetachAttach);

void BM_DetachAttachBeside(benchmark::State& state) {
  MeasureAttachBeside(state, host, static_cast<int>(state.range(0)));
}
BENCHMARK(BM_DetachAttachBeside)->Apply(SleepersTo256);

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

void BM_ForcedSwitch(benchmark::State& state) {
  if (!kPythonHasGil) {
    state.SkipWithError("no GIL in this build");
    return;
  }
  MeasureForcedSwitches(state, host, static_cast<int>(state.range(0)), state.range(1));
}
BENCHMARK(BM_ForcedSwitch)->Apply(ForcedSwitchCases);

// CPython's waiters never spin; "asked" has the timing with which pyrt's do.
void BM_Grant(benchmark::State& state) {
  if (!kPythonHasGil) {
    state.SkipWithError("no GIL in this build");
    return;
  }
  MeasureGrant(state, host, state.range(0) != 0);
}
BENCHMARK(BM_Grant)->Apply(GrantCases);

void BM_Reattach(benchmark::State& state) {
  MeasureReattach(state, host, static_cast<int>(state.range(0)), 5000);
}
BENCHMARK(BM_Reattach)->ArgName("busy")->Arg(1)->Arg(4)->Apply(Watched);

// Not in the public API, but exported by the free-threaded builds that have it.
void BM_StopTheWorld(benchmark::State& state) {
  using Operation = void (*)(PyInterpreterState*);
  const auto stop = reinterpret_cast<Operation>(::dlsym(RTLD_DEFAULT, "_PyEval_StopTheWorld"));
  const auto start = reinterpret_cast<Operation>(::dlsym(RTLD_DEFAULT, "_PyEval_StartTheWorld"));
  if (kPythonHasGil || stop == nullptr || start == nullptr) {
    state.SkipWithError(kPythonHasGil ? "nothing to stop: this build has the GIL"
                                      : "_PyEval_StopTheWorld is not exported");
    return;
  }
  MeasureStops(
      state, host, static_cast<int>(state.range(0)), [stop] { stop(PyInterpreterState_Get()); },
      [start] { start(PyInterpreterState_Get()); });
}
BENCHMARK(BM_StopTheWorld)->Apply(StopCases);

// --- Pending calls

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

// --- The process

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
