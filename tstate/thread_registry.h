// ThreadRegistry: all thread states of the process, by interpreter; their birth and death.
//
//   ThreadRegistry (one)            head lock, the global stop
//     InterpreterThreads (each)     link, ids, list (newest first), the interpreter's stop, QSBR
//       ThreadState                 references: one for the list, one for its OS thread
//
//   New -> Bind -> ... -> Clear -> Delete / DeleteCurrent       by the thread or its owner
//   RemoveAllExcept -> (world starts) -> DeleteRemoved          by a finalizer or in a forked child
//
// The head lock guards the lists and nothing else. Nobody detaches, calls back, allocates or frees under it
// (gh-102126, gh-96071).
//
// CPython counterpart: _PyRuntime.interpreters.mutex, PyInterpreterState.threads, _PyThreadState_New,
// PyThreadState_Clear, PyThreadState_Delete, _PyThreadState_DeleteCurrent, _PyThreadState_RemoveExcept.

#ifndef PYRT_TSTATE_THREAD_REGISTRY_H_
#define PYRT_TSTATE_THREAD_REGISTRY_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/tstate/internal/stop_gate.h"
#include "pyrt/tstate/internal/stop_state.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/qsbr.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

class InterpreterThreads;

using HeadLock = RankedMutex<LockRank::kHeadLock>;

// Outlives every thread state.
class ThreadRegistry {
 public:
  constexpr ThreadRegistry() = default;
  ThreadRegistry(const ThreadRegistry&) = delete;
  ThreadRegistry& operator=(const ThreadRegistry&) = delete;

  // The interpreter layer guards its own list of interpreters with it too.
  HeadLock& head_lock() PYRT_RETURN_CAPABILITY(head_lock_) { return head_lock_; }
  StopState& global_stop() { return global_stop_; }
  StopGate& stop_gate() { return stop_gate_; }

  // Where states come from: null restores the default, operator new. The functions must not fail in odd ways:
  // null means that memory is short. Before the first state, and the same again in every later life of a process
  // in which threads may still hold states. Also gives the one block that is kept for the next state back.
  struct Allocator {
    void* (*allocate)(size_t size, size_t alignment);
    void (*deallocate)(void* memory, size_t size, size_t alignment);
  };
  static void SetAllocator(const Allocator* allocator);
  // Memory of it for other state structures: interpreters, handles. Null when memory is short. Any thread.
  static void* AllocateState(size_t size, size_t alignment);
  static void DeallocateState(void* memory, size_t size, size_t alignment);

  // In a forked child, before anything else of tstate: no lock is held, nothing is stopped. The lists are as
  // the parent's were; InterpreterThreads::RemoveAllExcept prunes them.
  void ReinitAfterFork();

 private:
  friend class InterpreterThreads;
  friend class StopTheWorld;

  HeadLock head_lock_;
  StopState global_stop_;
  StopGate stop_gate_;
  InterpreterThreads* first_ PYRT_GUARDED_BY(head_lock_) = nullptr;
};

// The thread states of one interpreter, and the link that they have to it.
class InterpreterThreads {
 public:
  struct Options {
    ThreadRegistry* registry = nullptr;
    Gil* gil = nullptr;
    Interpreter* interp = nullptr;
    int (*handle_pending)(ThreadState& thread) = nullptr;
    uintptr_t instrumentation_version = 0;
    int32_t recursion_limit = RecursionCounter::kDefaultLimit;
  };

  explicit InterpreterThreads(const Options& options);
  // No state may be on the list.
  ~InterpreterThreads();
  InterpreterThreads(const InterpreterThreads&) = delete;
  InterpreterThreads& operator=(const InterpreterThreads&) = delete;

  InterpreterLink& link() { return link_; }
  ThreadRegistry& registry() { return registry_; }
  Qsbr& qsbr() { return qsbr_; }
  StopState& stop_state() { return stop_state_; }

  // An unbound state on the list; null when memory is short, and then nothing has changed (B067). Ids start
  // at 1 and are never used again (bpo-39776). While the world is stopped it starts suspended (TS-18). Any
  // thread, attached or not; takes the head lock. CPython: _PyThreadState_New.
  ThreadState* New(Whence whence);
  // The same, bound to the calling thread. CPython: PyThreadState_New.
  ThreadState* NewBound(Whence whence = Whence::kUnknown);

  // Gives up everything that the state refers to; destructors run, on this thread. Attached to the state's
  // interpreter; may detach. Then Delete. CPython: PyThreadState_Clear.
  static void Clear(ThreadState& thread);
  // Frees a cleared state that is attached nowhere and that its thread will not use again. Any thread; takes
  // the head lock. Fatal "tstate %p is still current". CPython: PyThreadState_Delete.
  static void Delete(ThreadState* thread);
  // Frees the cleared, attached state of this thread, which is detached afterwards. The interpreter may be
  // freed by another thread from the moment that the GIL is dropped. CPython: _PyThreadState_DeleteCurrent.
  static void DeleteCurrent();

  // Takes every state but `keep` (may be null) off the list and returns them, chained. The caller has stopped
  // the world, or is alone. CPython: _PyThreadState_RemoveExcept.
  // With `shut_down` they may never attach again, as after ShutDownAllExcept: in one with the removal, so that
  // a state which a thread is just making is either not on the list yet, or is shut down as well.
  ThreadState* RemoveAllExcept(ThreadState* keep, bool shut_down = false);
  // Clears and frees what RemoveAllExcept returned, with the world running: destructors run.
  // `threads_are_gone` in a forked child: no OS thread has a reference any more but the caller, to its own states, which
  // hang it when it wants one back. Attached to the interpreter.
  // CPython: _PyThreadState_DeleteList.
  static void DeleteRemoved(ThreadState* list, bool threads_are_gone);
  // The states of the others may never attach again: their threads hang. The caller holds the GIL or has
  // stopped the world.
  void ShutDownAllExcept(ThreadState* keep);

  // Visits the list, newest first, under the head lock: the visitor may look, set atomics and breaker bits.
  template <typename Visitor>
  void ForEach(Visitor&& visit) {
    HeadLockGuard guard(registry_.head_lock_);
    UnlockedForEach(visit);
  }
  // The same; the caller holds the head lock.
  template <typename Visitor>
  void UnlockedForEach(Visitor&& visit) {
    for (ThreadState* thread = first_; thread != nullptr; thread = thread->next_) visit(*thread);
  }
  size_t size();
  uint64_t last_id();

  // How many states that DeleteRemoved has dealt with are still their threads': those may not have noticed, and
  // this object must stay until they have. Any thread; acquires what they did.
  int32_t lost_states() const { return lost_states_.load(kAcquire); }

  // The first state on the list that is bound to `ident`, with a reference for the caller (DecRef it); null
  // if there is none.
  ThreadState* Find(uint64_t ident);

  // Leaves `exception` (null withdraws) for the thread of `ident` and sets its breaker bit, both under the
  // head lock, so that the thread cannot go in between (TS-86). What was there before is released without it.
  // True if there is such a thread in this interpreter. Attached. CPython: PyThreadState_SetAsyncExc.
  bool SetAsyncException(uint64_t ident, Ref<Object> exception);

  // Sets or clears a breaker bit of every thread. CPython: _Py_set_eval_breaker_bit_all.
  void SetOnAll(BreakerEvent event);
  void ClearOnAll(BreakerEvent event);

  // In a forked child, after the registry's: the interpreter goes on with `survivor` (null if the thread that
  // forked has no state here). `attached`: whether it was attached in the parent.
  void ReinitAfterFork(ThreadState* survivor, bool attached);

 private:
  friend class ThreadRegistry;
  friend class StopTheWorld;

  using HeadLockGuard = BasicMutexLock<HeadLock>;

  void Link(ThreadState& thread);
  void Unlink(ThreadState& thread);
  static void FinishDelete(ThreadState& thread);
  static void ReleaseSlot(ThreadState& thread);
  static void FreeLost(ThreadState* thread);

  InterpreterLink link_;
  ThreadRegistry& registry_;
  StopState stop_state_;
  Qsbr qsbr_;
  InterpreterThreads* next_;
  InterpreterThreads* previous_;
  ThreadState* first_ = nullptr;  // guarded by the head lock, as the two below
  uint64_t last_id_ = 0;
  size_t size_ = 0;
  Atomic<int32_t> lost_states_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_THREAD_REGISTRY_H_
