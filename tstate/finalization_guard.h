// Guards that keep an interpreter from finalizing (PEP 788), and views that name one without keeping it.
//
// CPython counterpart: PyInterpreterGuard, PyInterpreterView.

#ifndef PYRT_TSTATE_FINALIZATION_GUARD_H_
#define PYRT_TSTATE_FINALIZATION_GUARD_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/finalization_guards.h"
#include "pyrt/tstate/internal/interpreter_guard.h"  // IWYU pragma: export
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt::inline PYRT_VARIANT {

// How ids of interpreters are resolved; the interpreter layer installs one. Lookups are made under the head
// lock.
struct InterpreterDirectory {
  ThreadRegistry* registry = nullptr;
  // The link of a live interpreter, null if there is none of that id. Must not lock or call back.
  InterpreterLink* (*find)(int64_t id) = nullptr;
};
void SetInterpreterDirectory(const InterpreterDirectory* directory);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_FINALIZATION_GUARD_H_
