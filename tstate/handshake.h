// Handshake: runs a function about one thread while that thread is at a safe point; nobody else is disturbed.
//
// If the thread is attached it runs the function itself, at its next poll; if it is detached, or detaches
// first, the caller runs it, and the thread cannot attach meanwhile. The function therefore must not depend
// on the OS thread that it runs on. It must not block, attach, detach, stop the world or run host code.
//
// Stops of the same interpreter, global stops and other handshakes in it wait.
//
// GIL-enabled build: the caller is attached to the thread's interpreter and holds the GIL, so the function is
// run at once.
//
// CPython has no counterpart (V15 has try-suspend for one detached thread); HotSpot's JEP 312 has.

#ifndef PYRT_TSTATE_HANDSHAKE_H_
#define PYRT_TSTATE_HANDSHAKE_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

enum class HandshakeResult : uint8_t {
  kDone,
  kGone,      // the thread was deleted before it came to a safe point
  kTimedOut,  // it came to none until the deadline; the function has not run and will not
};

class Handshake {
 public:
  using Function = void (*)(ThreadState& thread, void* argument);

  // Runs `function(target, argument)` once. The caller has a reference to `target`
  // (InterpreterThreads::Find), holds no lock of the runtime, and is attached to that interpreter or not at all. With itself as
  // target it runs the function at once. Everything that the target did before its safe point happens before
  // the function, which happens before what the target does next and before the return.
  static HandshakeResult Run(ThreadState& target, Function function, void* argument,
                             Deadline deadline = kNoDeadline) PYRT_NO_THREAD_SAFETY_ANALYSIS;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_HANDSHAKE_H_
