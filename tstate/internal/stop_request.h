// What other threads want of a thread, as bits of its stop_requests word. Each bit is a token: it is handed
// out once, counted in a StopCounter, and whoever takes it away acknowledges it there. Nothing else decides
// who counts, so a thread that detaches, is suspended, deletes itself or is given up on (a deadline) at the
// same moment is counted once.

#ifndef PYRT_TSTATE_INTERNAL_STOP_REQUEST_H_
#define PYRT_TSTATE_INTERNAL_STOP_REQUEST_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/internal/stop_counter.h"

namespace pyrt::inline PYRT_VARIANT {

class ThreadState;

enum StopRequest : uint32_t {
  kStopInterpreter = 1,  // InterpreterLink::interpreter_stop
  kStopGlobal = 2,       // InterpreterLink::global_stop
  kStopHandshake = 4,    // ThreadState's handshake operation
};

// A function that wants to be run at a thread's next safe point.
struct HandshakeOperation {
  enum Outcome : uint32_t {
    kPending,
    kDone,       // the thread ran it
    kSuspended,  // the thread is suspended: the requester runs it and resumes the thread
    kGone,       // the thread was deleted first
  };

  void (*function)(ThreadState& thread, void* argument);
  void* argument;
  StopCounter counter;
  // Written before the acknowledgement, read after it.
  Plain<Outcome> outcome{kPending};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_STOP_REQUEST_H_
