#include "pyrt/bench/peers/cpython_host.h"

#include <cstdio>
#include <cstdlib>

namespace pyrt_bench {

void PythonFailed(const char* what) {
  std::fprintf(stderr, "cpython peer: %s failed\n", what);
  if (PyErr_Occurred()) PyErr_Print();
  std::exit(1);
}

void PythonHost::SetIntervalUs(int64_t micros) {
  const PyGILState_STATE gil = PyGILState_Ensure();
  PyObject* function = PySys_GetObject("setswitchinterval");  // borrowed
  if (function == nullptr) PythonFailed("sys.setswitchinterval");
  Py_DECREF(
      Must(PyObject_CallFunction(function, "d", static_cast<double>(micros) * 1e-6), "setswitchinterval"));
  PyGILState_Release(gil);
}

// PyGILState_Ensure would find the main thread's own state on the main thread; the measurements want exactly
// this, a state that the thread keeps and detaches and attaches by hand.
PythonHost::Thread::Thread(PythonHost&) {
  PyGILState_Ensure();
  state_ = PyEval_SaveThread();
}

PythonHost::Thread::~Thread() {
  PyEval_RestoreThread(state_);
  // The state of Ensure in the constructor: unlocked on the threads of a measurement and on a detached main
  // thread alike.
  PyGILState_Release(PyGILState_UNLOCKED);
}

void PythonHost::Thread::RunLoop(void* ticker, PyCFunction tick) {
  PyMethodDef method = {"tick", tick, METH_NOARGS, nullptr};
  PyObject* capsule = Must(PyCapsule_New(ticker, nullptr, nullptr), "PyCapsule_New");
  PyObject* function = Must(PyCFunction_New(&method, capsule), "PyCFunction_New");
  // A function with tick as a default argument: a fast local, nothing shared between the threads, so that a
  // free-threaded build is not measured on the reference count of a global.
  PyObject* globals = Must(PyDict_New(), "PyDict_New");
  if (PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()) != 0 ||
      PyDict_SetItemString(globals, "tick", function) != 0) {
    PythonFailed("the loop's globals");
  }
  constexpr char kSource[] =
      "def poll(tick):\n"
      "    while tick():\n"
      "        pass\n"
      "poll(tick)\n";
  Py_DECREF(Must(PyRun_String(kSource, Py_file_input, globals, globals), "the polling loop"));
  PyDict_Clear(globals);
  Py_DECREF(globals);
  Py_DECREF(function);
  Py_DECREF(capsule);
}

}  // namespace pyrt_bench
