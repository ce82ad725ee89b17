// ThreadData: what a thread state keeps that is not about running: see ThreadState::data().
//
// Unless a member says otherwise it belongs to the thread itself, while attached, or to a party that excludes
// the thread (a stopped world, ThreadRegistry's Clear).

#ifndef PYRT_TSTATE_INTERNAL_THREAD_DATA_H_
#define PYRT_TSTATE_INTERNAL_THREAD_DATA_H_

#include <cstdint>

#include "pyrt/ceval_breaker/async_exception.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/brc.h"
#include "pyrt/tstate/data_stack.h"
#include "pyrt/tstate/delayed_free.h"
#include "pyrt/tstate/exc_info.h"
#include "pyrt/tstate/internal/interpreter_guard.h"
#include "pyrt/tstate/recursion.h"
#include "pyrt/tstate/thread_heaps.h"

namespace pyrt::inline PYRT_VARIANT {

class ThreadState;

// A native trace or profile function; what `frame` and `event` mean is the host's affair. 0, or -1 with the
// current exception set. CPython: Py_tracefunc.
using TraceFunction = int (*)(Object* object, void* frame, int event, Object* argument);

struct ThreadHook {
  TraceFunction function = nullptr;
  Ref<Object> object;
};

struct ThreadData {
  explicit ThreadData(int32_t recursion_limit) : recursion(recursion_limit) {}

  RecursionCounter recursion;

  // The exception that is being raised, and those that are being handled.
  Ref<Error> current_exception;
  ExcInfoStack exc_info;

  // Any thread may set it (ThreadRegistry::SetAsyncException); the thread takes it.
  AsyncException async_exception;

  // Tracing and profiling. `tracing` > 0 while a hook runs, so that it is not traced itself (SY-61).
  ThreadHook trace;
  ThreadHook profile;
  int32_t tracing = 0;
  int32_t what_event = -1;

  // The host's current frame, null outside its code; a borrowed pointer, never cleared (TS-58).
  Atomic<void*> current_frame{nullptr};

  // contextvars: the current context, and a version that changes with it.
  Ref<Object> context;
  uint64_t context_version = 1;

  // Extensions' per-thread data; made on demand (PyThreadState_GetDict).
  Ref<Dict> dict;

  // Python's threading.local, asyncio's running loop, async generator hooks.
  Ref<Object> local_key;
  Ref<Object> local_sentinel;
  Ref<Object> running_loop;
  Ref<Object> async_gen_firstiter;
  Ref<Object> async_gen_finalizer;
  int32_t coroutine_origin_tracking_depth = 0;

  DataStack data_stack;
  ThreadHeaps heaps;
  DelayedFrees delayed_frees;
  BrcThread brc;

  // Ensure and Release: see gil_state.h. The counter starts at 1 (TS-17), so that a release never deletes a
  // state that no ensure has made.
  int32_t gilstate_counter = 1;
  bool made_by_ensure = false;  // by PyGILState's
  int32_t ensure_counter = 0;
  bool delete_on_release = false;
  InterpreterGuard owned_guard;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_THREAD_DATA_H_
