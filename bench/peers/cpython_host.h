// CPython as a Host of bench/contention.h, through its public C API: 3.11 to 3.15, with or without a GIL.

#ifndef PYRT_BENCH_PEERS_CPYTHON_HOST_H_
#define PYRT_BENCH_PEERS_CPYTHON_HOST_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdint>

#ifdef Py_GIL_DISABLED
inline constexpr bool kPythonHasGil = false;
#else
inline constexpr bool kPythonHasGil = true;
#endif

namespace pyrt_bench {

// Prints the pending Python exception and ends the program: a peer that fails must not report a time.
[[noreturn]] void PythonFailed(const char* what);

// A new reference, or the end of the program.
inline PyObject* Must(PyObject* object, const char* what) {
  if (object == nullptr) PythonFailed(what);
  return object;
}

class PythonHost {
 public:
  class Thread;

  // Calls sys.setswitchinterval. The caller is detached.
  void SetIntervalUs(int64_t micros);
};

// A thread state on the calling OS thread, detached. CPython has no safe point that C code may call, so
// RunPolling runs the smallest Python loop there is, `while tick(): pass`, whose back edge polls; tick is a C
// function.
class PythonHost::Thread {
 public:
  explicit Thread(PythonHost&);
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  void Attach() { PyEval_RestoreThread(state_); }
  void Detach() { PyEval_SaveThread(); }

  template <typename Ticker>
  void RunPolling(Ticker& ticker) {
    RunLoop(&ticker, [](PyObject* self, PyObject*) -> PyObject* {
      auto* t = static_cast<Ticker*>(PyCapsule_GetPointer(self, nullptr));
      return PyBool_FromLong(t->Tick());
    });
  }

 private:
  static void RunLoop(void* ticker, PyCFunction tick);

  PyThreadState* state_;
};

// Attached from construction to destruction, whatever the main thread was; the process rests detached.
class Attached {
 public:
  Attached() : gil_(PyGILState_Ensure()) {}
  ~Attached() { PyGILState_Release(gil_); }

 private:
  PyGILState_STATE gil_;
};

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_PEERS_CPYTHON_HOST_H_
