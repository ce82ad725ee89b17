// What the schedule tests and the scheduled fuzz targets have in common: an interpreter without an
// interpreter, on the deterministic scheduler.

#ifndef PYRT_TSTATE_TSTATE_SCHEDULE_TEST_UTIL_H_
#define PYRT_TSTATE_TSTATE_SCHEDULE_TEST_UTIL_H_

#include "pyrt/gil/gil.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/finalization_guards.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// An interpreter, and what its attached threads own together: a race on it is a thread that runs while the
// world is stopped, or a stop that does not order.
struct ScheduleWorld {
  ScheduleWorld() : threads({.registry = &registry, .gil = &gil}) {
    gil.set_interval(1);
    threads.link().guards = &guards;
    detsched::Name(&gil, "gil");
    detsched::Name(&registry, "registry");
    detsched::Name(&threads, "threads");
  }

  // Before each schedule: no state's memory is left from the last one, so that all begin alike.
  static void Reset() { ThreadRegistry::SetAllocator(nullptr); }

  ThreadState& Enter() {
    ThreadState* const thread = threads.NewBound();
    detsched::Name(thread, "thread", static_cast<int>(thread->id()));
    thread->Attach();
    return *thread;
  }
  void Leave(ThreadState& thread) {
    InterpreterThreads::Clear(thread);
    InterpreterThreads::DeleteCurrent();
  }
  void CheckPristine() {
    DETSCHED_CHECK(threads.size() == 0);
    DETSCHED_CHECK(!threads.stop_state().requested.load(kRelaxed));
    DETSCHED_CHECK(threads.stop_state().counter.remaining() == 0);
    DETSCHED_CHECK(!registry.global_stop().requested.load(kRelaxed));
    DETSCHED_CHECK(registry.stop_gate().interpreters() == 0);
  }
  // At the end, on a single thread again, which must be attached to clear. `threads_are_gone`: none of them
  // hangs.
  void DeleteAll(bool threads_are_gone = true) {
    ThreadState& self = Enter();
    InterpreterThreads::DeleteRemoved(threads.RemoveAllExcept(&self), threads_are_gone);
    Leave(self);
    CheckPristine();
  }

  ThreadRegistry registry;
  Gil gil;
  FinalizationGuards guards;
  InterpreterThreads threads;
  Plain<int> owned[4];  // each thread's own, which it touches only while it is attached
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_TSTATE_SCHEDULE_TEST_UTIL_H_
