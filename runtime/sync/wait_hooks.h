// What a thread does around a wait: give the GIL away, take it back, look at signals, give up at shutdown.
//
// runtime/sync lies below thread states, so it knows none of that; a caller that has a thread state passes a
// WaitHooks. A null pointer waits without detaching and cannot be interrupted.
//
//   CPython                      here
//   _PY_LOCK_DONT_DETACH         hooks == nullptr, or before_park == nullptr
//   _PY_LOCK_DETACH              before_park detaches if the thread is attached, after_park undoes just that
//   _PY_LOCK_HANDLE_SIGNALS      interrupted runs pending signal handlers; true: one of them failed
//   _PY_FAIL_IF_INTERRUPTED      interrupted returns true
//   _PY_LOCK_PYTHONLOCK          must_fail asks whether the runtime is finalizing, and sets the error
//
// No hook is looked at on a fast path.

#ifndef PYRT_RUNTIME_SYNC_WAIT_HOOKS_H_
#define PYRT_RUNTIME_SYNC_WAIT_HOOKS_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

struct WaitHooks {
  // Passed to each function below.
  void* context = nullptr;

  // before_park runs when this thread is about to sleep and is already queued (a wake-up is not lost);
  // after_park when it is no longer queued. Both or none. No lock of runtime/sync is held. They may block,
  // and lock other locks; they may not wait for the same address. after_park may never return (a daemon
  // thread of a finalized runtime): nothing points to the thread's stack then, but an ownership that was
  // handed to the thread stays with it.
  void (*before_park)(void* context) = nullptr;
  void (*after_park)(void* context) = nullptr;

  // A signal handler ran during the wait. True ends the wait with LockStatus::kInterrupted; null and false
  // resume it. Runs after after_park.
  bool (*interrupted)(void* context) = nullptr;

  // Asked before each sleep. True ends the wait with LockStatus::kFailure instead of sleeping.
  bool (*must_fail)(void* context) = nullptr;
};

// How a lock call ended. CPython: PyLockStatus, with its values.
enum class LockStatus : int {
  kFailure = 0,      // timed out, or WaitHooks::must_fail said so
  kAcquired = 1,     //
  kInterrupted = 2,  // WaitHooks::interrupted said so
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_WAIT_HOOKS_H_
