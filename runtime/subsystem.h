// Subsystem: what a layer above the interpreters (imports, sys, a host) wants to do at each step of the
// runtime's life.
//
// The runtime calls and knows nothing else of them, so that no layer depends on another one for its start and
// its end. Functions are called in the order of registration on the way up and in the reverse order on the way
// down; each may be null. No lock is held. "Attached" means attached to the interpreter of the call.
//
// CPython counterpart: the calls that init_interp_main, finalize_modules, finalize_interp_clear and
// PyOS_BeforeFork spell out.

#ifndef PYRT_RUNTIME_SUBSYSTEM_H_
#define PYRT_RUNTIME_SUBSYSTEM_H_

#include "absl/status/status.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

struct Subsystem {
  const char* name = "";
  void* context = nullptr;

  // Each interpreter, attached, on the way up. A failure undoes the creation.
  absl::Status (*init_core)(void* context, Interpreter& interp) = nullptr;
  absl::Status (*init_main)(void* context, Interpreter& interp) = nullptr;

  // On the way down, attached. `flush`: standard streams of the main interpreter; false if something could not
  // be written (it reports that itself), which becomes Finalize's -1. Called twice.
  bool (*flush)(void* context, Interpreter& interp) = nullptr;
  void (*finalize_modules)(void* context, Interpreter& interp) = nullptr;
  // Inside the interpreter's clear, after its audit event and its low-level exit callbacks: drop every
  // reference to its objects.
  void (*clear_interpreter)(void* context, Interpreter& interp) = nullptr;
  // Once, after the main interpreter was cleared; the current thread state still exists. Audit hooks go here.
  void (*finalize_process)(void* context) = nullptr;

  // Around fork, attached, for the interpreter that forks. `before_fork` may block and detach (import lock); the others
  // may not fail, nor wait for long: they hold the head lock. Locks that threads hold or wait for while attached are
  // taken and given back in the stopped world: taken before, they would keep it from stopping. In the child all is put
  // in order before the states of the parent's threads are cleared; `reinit_after_fork` for each other interpreter,
  // which may be half made or half ended, and whose threads were stopped or detached.
  void (*before_fork)(void* context, Interpreter& interp) = nullptr;
  void (*before_fork_stopped)(void* context, Interpreter& interp) = nullptr;
  void (*after_fork_in_parent)(void* context, Interpreter& interp) = nullptr;
  void (*after_fork_in_child)(void* context, Interpreter& interp) = nullptr;
  void (*reinit_after_fork)(void* context, Interpreter& interp) = nullptr;

  // Interpreter::ProcessDelayed (GIL-disabled build): frees what readers of a lock-free table cannot see any more.
  // Attached; runs destructors.
  void (*process_delayed)(void* context, Interpreter& interp) = nullptr;

  // Raises the audit event; a failure refuses what is audited. Attached. CPython: PySys_Audit.
  absl::Status (*audit)(void* context, const char* event, Args arguments) = nullptr;
  // Shows what cannot be raised, and a warning ("RuntimeWarning", its text), unless RuntimeOptions does it
  // itself. Of several subsystems the last one that can does; `unraisable` returns false if it cannot now. The
  // error of a warning is one that was made an exception. Attached. CPython: PyErr_WriteUnraisable, PyErr_WarnEx.
  bool (*unraisable)(void* context, const absl::Status& error, const char* what,
                     const Ref<Object>& object) = nullptr;
  absl::Status (*warn)(void* context, const char* category, const char* text) = nullptr;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SUBSYSTEM_H_
