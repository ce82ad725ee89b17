// What the schedule tests and the scheduled fuzz targets have in common: an interpreter without an
// interpreter, on the deterministic scheduler.

#ifndef PYRT_TSTATE_TSTATE_SCHEDULE_TEST_UTIL_H_
#define PYRT_TSTATE_TSTATE_SCHEDULE_TEST_UTIL_H_

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/finalization_guards.h"
#include "pyrt/tstate/stop_the_world.h"
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
    Watch(thread);
    thread->Attach();
    return *thread;
  }
  void Leave(ThreadState& thread) {
    Unwatch(&thread);  // its memory may go
    InterpreterThreads::Clear(thread);
    InterpreterThreads::DeleteCurrent();
  }

  // Forks as a runtime does it, with everything stopped and the head lock held, and starts the world again.
  // On the thread of `self`, attached. True in the child, where that thread is the only one, and no other
  // state is left.
  bool Fork(ThreadState& self) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    StopTheWorld stop(registry);
    stop.Stop();
    Stopped(&self);
    registry.head_lock().Lock();
    const bool child = ForkProcess() == 0;
    if (!child) {
      registry.head_lock().Unlock();
      Starting();
      stop.Start();
      return false;
    }
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    registry.ReinitAfterFork();
    LockRankForgetAfterFork();
    stop.ForgetAfterFork();
    gil.ReinitAfterFork(&self.gil_holder());
    threads.ReinitAfterFork(&self, /*attached=*/true);
    if (gil.enabled()) DETSCHED_CHECK(gil.Take(self.gil_holder()) == Gil::TakeResult::kTaken);
    WatchOnly(&self);
    Starting();
    InterpreterThreads::DeleteRemoved(threads.RemoveAllExcept(&self), /*threads_are_gone=*/true);
    DETSCHED_CHECK(threads.size() == 1);
    return true;
  }

  // --- Model: who has the world stopped, and whom that concerns. Bare fields: each function is part of one
  // step.

  void Watch(const ThreadState* thread) {
    for (const ThreadState*& one : watched) {
      if (one != nullptr) continue;
      one = thread;
      return;
    }
    detsched::Fail("more than %d states are watched", kWatched);
  }
  void Unwatch(const ThreadState* thread) {
    for (const ThreadState*& one : watched) {
      if (one == thread) one = nullptr;
    }
  }
  // Before the states of the others go, by a finalizer or in a forked child.
  void WatchOnly(const ThreadState* thread) {
    for (const ThreadState*& one : watched) one = nullptr;
    Watch(thread);
  }
  // Right after Stop has returned, right before Start. `own`: what is attached on the thread that has stopped
  // the world, null if nothing.
  void Stopped(const ThreadState* own) {
    DETSCHED_CHECK(!stopped);
    stopped = true;
    stopper = own;
  }
  void Starting() {
    DETSCHED_CHECK(stopped);
    stopped = false;
    stopper = nullptr;
  }
  // While somebody has the world stopped nobody else is attached; and with the GIL two never are.
  bool Excludes() const {
    int attached = 0;
    for (const ThreadState* thread : watched) {
      if (thread == nullptr || !thread->attached()) continue;
      if (stopped && thread != stopper) return false;
      ++attached;
    }
    return !kGilEnabled || attached <= 1;
  }
  // After each step. An invariant switches sleep sets off, so that an exhaustive search must want to do without them.
  // Whether it is looked at, and a scenario may add its own.
  bool CheckEachStep(detsched::Schedule& schedule, const detsched::Options& options) {
    if (options.strategy == detsched::Strategy::kExhaustive && options.sleep_sets) return false;
    schedule.Invariant("a stopped world is one thread's", [this] { return Excludes(); });
    return true;
  }

  void CheckPristine() {
    DETSCHED_CHECK(!stopped);
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

  static constexpr int kWatched = 8;
  const ThreadState* watched[kWatched] = {};
  const ThreadState* stopper = nullptr;
  bool stopped = false;
};

// Whatever is explored.
inline detsched::Options Base(detsched::Options options) {
  options.reset = &ScheduleWorld::Reset;
  return options;
}

// Every schedule of two threads with two preemptions: on one CPU, where nobody spins, and with one older value unless
// said otherwise, so that there are few enough to require that all of them were explored.
inline detsched::Options EverySchedule(int stale_reads = 1) {
  detsched::Options options = Base(detsched::Options::Exhaustive(2));
  options.stale_reads = stale_reads;
  options.usable_cpus = 1;
  options.max_schedules = 1'000'000;
  return options;
}

// The same with the invariants, which are looked at after each step.
inline detsched::Options EveryStep() {
  detsched::Options options = EverySchedule();
  options.sleep_sets = false;
  return options;
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_TSTATE_SCHEDULE_TEST_UTIL_H_
