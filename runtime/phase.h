// The phase that the process' runtime is in: what IsInitialized and IsFinalizing answer, and what a fatal
// error prints.
//
//   nothing yet -> preinitializing -> preinitialized -> core initialized -> initialized -> finalizing
//                                                                ^                              |
//                                                                +---- next Initialize ---------+
//
// "Finalizing" outlives finalization until the next Initialize (RT-14): threads that come too late still
// learn that they are late.
//
// Any thread may ask, with or without a thread state, also from a signal handler. The initializing and the
// finalizing thread write.
//
// CPython counterpart: _PyRuntimeState.preinitializing, preinitialized, core_initialized, initialized,
// _finalizing, _finalizing_id; fatal_error_dump_runtime.

#ifndef PYRT_RUNTIME_PHASE_H_
#define PYRT_RUNTIME_PHASE_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class PhaseFlags {
 public:
  Atomic<bool> preinitializing{false};
  Atomic<bool> preinitialized{false};
  Atomic<bool> core_initialized{false};
  Atomic<bool> initialized{false};
  // The finalizing thread's state, as an address that is compared and never dereferenced, and its ident:
  // the finalizing thread may switch to another state of its own meanwhile (gh-109793).
  Atomic<uintptr_t> finalizing{0};
  Atomic<uint64_t> finalizing_thread{0};
};

// One per process.
inline constinit PhaseFlags process_phase;

// "initialized", "core initialized", "finalizing", ... Async-signal-safe.
const char* PhaseName();

// "Python runtime state: initialized\n" to `fd`. Async-signal-safe.
void PrintPhase(int fd);

// Makes fatal errors print the phase. Idempotent.
void InstallPhaseFatalHook();

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_PHASE_H_
