// InterpreterLink: what a thread state knows of its interpreter, which lies in a layer above.
//
// The interpreter owns one link, fills it in before it creates its first thread state, and keeps it, and all
// that it points to, until the last of its states is deleted. A test needs only a Gil:
//
//   Gil gil;
//   InterpreterLink link{.gil = &gil};
//   ThreadState state(link, Whence::kUnknown, 1);
//   state.Bind();
//   state.Attach();
//
// CPython counterpart: PyThreadState.interp, of which ceval, gc and the runtime are reached.

#ifndef PYRT_TSTATE_INTERPRETER_LINK_H_
#define PYRT_TSTATE_INTERPRETER_LINK_H_

#include <cstdint>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/internal/stop_counter.h"
#include "pyrt/tstate/qsbr.h"

namespace pyrt::inline PYRT_VARIANT {

class Brc;                 // brc.h
class Interpreter;         // of the layer above; opaque here
class FinalizationGuards;  // finalization_guard.h
class InterpreterThreads;  // thread_registry.h
class ThreadState;

struct alignas(64) InterpreterLink {
  // The line that attach reads.

  // The interpreter's GIL, its own or the main interpreter's. Never null, never changed while a state exists.
  Gil* gil = nullptr;

  // What a breaker must say when its thread attaches: the instrumentation version in EvalBreaker's version
  // bits, and EvalBreaker's CallsToDo bit while the interpreter's queue of pending calls is not empty
  // (EB-10). Written by the interpreter, any thread; the bit is set after the call was queued.
  Atomic<uintptr_t> breaker_on_attach{0};

  // GIL-disabled build: null, or the reclamation domain of the interpreter's lock-free tables.
  Qsbr* qsbr = nullptr;

  // GIL-disabled build: null, or the queues of references to objects of other threads; every state that is bound is
  // registered there until it is cleared.
  Brc* brc = nullptr;

  Interpreter* interp = nullptr;

  // The slow half of ThreadState::Poll(), called attached, on the thread. 0, or -1 with the thread's current
  // exception set. Null: ThreadState::HandleEventsOfThread() and nothing else.
  int (*handle_pending)(ThreadState& thread) = nullptr;

  // Whom a thread tells that it has stopped: owned by the StopTheWorld of the interpreter and by the
  // runtime's. Null where nobody stops it.
  StopCounter* interpreter_stop = nullptr;
  StopCounter* global_stop = nullptr;

  // The list that the interpreter's states are on; null for a state outside of any.
  InterpreterThreads* threads = nullptr;

  // The interpreter's id, and the guards that keep it from finalizing (null: it gives out none).
  int64_t id = 0;
  FinalizationGuards* guards = nullptr;

  // Warn on stderr about states that are cleared while in use (TS-56). CPython: the -v option.
  bool verbose = false;

  // The limit that a new state's recursion counter starts with.
  Atomic<int32_t> recursion_limit{1000};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERPRETER_LINK_H_
