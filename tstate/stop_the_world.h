// StopTheWorld: makes every other thread of an interpreter, or of all, stay out of it for a while.
//
//   {
//     StoppedWorld stopped(interpreter_threads);       // or of all: stopped(registry)
//     ...                                              // no other thread is attached, and none attaches
//   }                                                  // the others go on
//
//   stopper                                        another thread
//   ------------------------------------------     ---------------------------------------------------
//   take the scope's mutex, enter the gate
//   under the head lock, for each other thread:
//     detached: compare-and-swap to suspended      (in a system call; notices nothing)
//     attached: hand out a token, set PleaseStop   polls: detaches; or detaches anyway
//   spin on the counter, look at the words again   detach: word = detached; token? take it, suspend itself,
//   a little later: membarrier, look once more               count down
//   sleep                                          the last one wakes the stopper
//
// A detach has no fence, so a thread may detach without seeing its token. The stopper sees its word then, now
// or at the next look; before it sleeps it runs AsymmetricFence::Heavy(), after which no detach can miss a
// token. So there is no lock in the way of a thread that stops, and no re-scan by the clock (TS-91).
//
// Who waits for whom: the stopper for each token's taker, which takes no lock to get there; the thread for
// whoever starts the world. A thread that wants to attach while it is suspended says so in its word, and then
// attaches before it can be suspended again (gh-151518).
//
// While the world is stopped: do not run host code, attach, wait for anything that a stopped thread may own,
// or take a lock that is handed over to its waiters (gh-133130): a waiter may be suspended.
//
// With the GIL every thread but the holder is stopped already: in the GIL-enabled build all of this is empty
// (TS-98).
//
// CPython counterpart: _PyEval_StopTheWorld, _PyEval_StopTheWorldAll, stop_the_world, start_the_world.

#ifndef PYRT_TSTATE_STOP_THE_WORLD_H_
#define PYRT_TSTATE_STOP_THE_WORLD_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// The operations on one scope. Use StoppedWorld unless stop and start are in different functions (fork).
class StopTheWorld {
 public:
  // The threads of one interpreter. Stops of different interpreters overlap.
  explicit StopTheWorld(InterpreterThreads& threads)
      : registry_(threads.registry()), threads_(&threads), state_(threads.stop_state()) {}
  // All threads of all interpreters. Overlaps no other stop.
  explicit StopTheWorld(ThreadRegistry& registry)
      : registry_(registry), threads_(nullptr), state_(registry.global_stop()) {}

  // Returns when every other thread of the scope is detached or suspended. Not attached, or attached to an
  // interpreter of the scope (to another one is fatal: each could wait for the other). An attached caller is
  // detached while it waits for another stop to end, but stays attached while the others stop.
  // Nested: a thread that has stopped the scope, or everything, stops it again at no cost; one that has
  // stopped an interpreter may not stop all (fatal). No lock of the runtime may be held.
  void Stop() { static_cast<void>(Stop(kNoDeadline)); }

  // The same, but gives up at `deadline`: false, and whoever had stopped goes on. A thread that neither polls
  // nor detaches (a long native call) can hold a stop up for ever.
  [[nodiscard]] bool Stop(Deadline deadline)
      PYRT_NO_THREAD_SAFETY_ANALYSIS;  // holds the mutex beyond its end

  // Ends the innermost Stop of this object that returned true. On the same thread.
  void Start();

  // Whether the world of this scope is stopped, by whomever.
  bool stopped() const { return state_.stopped.load(kAcquire); }

  // In a forked child, where the others do not exist and the registry has been reinitialised: forgets the
  // stop.
  void ForgetAfterFork() {
    depth_ = 0;
    stopped_ = false;
    internal::world_stops_held = 0;
  }

 private:
  friend class Handshake;

  void CheckAttachment() const;
  bool EnterScope(Deadline deadline) PYRT_NO_THREAD_SAFETY_ANALYSIS;
  bool OwnScope(Deadline deadline) PYRT_NO_THREAD_SAFETY_ANALYSIS;
  void DisownScope() PYRT_NO_THREAD_SAFETY_ANALYSIS;
  template <typename Visitor>
  void ForEachOther(Visitor&& visit) PYRT_NO_THREAD_SAFETY_ANALYSIS;  // under the head lock
  bool TrySuspendWithToken(ThreadState& thread);
  void HandOutTokens();
  uint32_t LookAgain();
  bool WaitForOthers(Deadline deadline);
  void RollBack();
  void Resume();
  void Leave() PYRT_NO_THREAD_SAFETY_ANALYSIS;

  ThreadRegistry& registry_;
  InterpreterThreads* const threads_;  // null: all
  StopState& state_;
  int depth_ = 0;         // successful Stop()s outstanding
  bool stopped_ = false;  // the outermost one is not nested in another object's
};

// The world is stopped while this exists.
class StoppedWorld {
 public:
  explicit StoppedWorld(InterpreterThreads& threads) : stop_(threads) { stop_.Stop(); }
  explicit StoppedWorld(ThreadRegistry& registry) : stop_(registry) { stop_.Stop(); }
  ~StoppedWorld() { stop_.Start(); }
  StoppedWorld(const StoppedWorld&) = delete;
  StoppedWorld& operator=(const StoppedWorld&) = delete;

 private:
  StopTheWorld stop_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_STOP_THE_WORLD_H_
