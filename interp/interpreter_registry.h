// InterpreterRegistry: all interpreters of the process, and what they share.
//
// The list is newest first and guarded by the head lock. Ids begin at 0 (the main interpreter) and are never
// used again in one life of the runtime, also when a creation fails. The first interpreter that is created is
// the main one.
//
// The *main thread* is the OS thread that initialized the runtime, or in a forked child the one that forked.
// Signal handlers and main-only calls run on it, attached to the main interpreter, and nowhere else.
//
// CPython counterpart: _PyRuntimeState.interpreters, main_thread, main_tstate, ceval.pending_mainthread,
// signals.

#ifndef PYRT_INTERP_INTERPRETER_REGISTRY_H_
#define PYRT_INTERP_INTERPRETER_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/ceval_breaker/signals.h"
#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/brc.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt::inline PYRT_VARIANT {

// What the layers above and the host bring. All may be null. Called attached unless said otherwise, with no
// lock held.
struct InterpreterHooks {
  void* context = nullptr;
  // sys.audit without arguments. A failure of cpython.PyInterpreterState_New refuses the creation.
  absl::Status (*audit)(void* context, const char* event) = nullptr;
  // sys.unraisablehook: `what` is "Exception ignored ..." or null.
  void (*unraisable)(void* context, const absl::Status& error, const char* what,
                     const Ref<Object>& object) = nullptr;
  // How to merge reference counts of the host's objects; with `merge` the GIL-disabled build gives each interpreter
  // a Brc (Interpreter::QueueReference).
  BrcHooks references{};
  // The ExplicitMerge event (GIL-disabled build), after the thread's queue was merged, and the JitInvalidateCold
  // event.
  void (*merge_references)(void* context, ThreadState& thread) = nullptr;
  void (*sweep_executors)(void* context, ThreadState& thread) = nullptr;
  // Interpreter::ProcessDelayed (GIL-disabled build), for what is not queued with the thread.
  void (*process_delayed)(void* context, Interpreter& interp) = nullptr;
  // Inside Interpreter::Clear, when the thread states are cleared and the tables are not: whoever keeps objects
  // for the interpreter gives them up.
  void (*clear)(void* context, Interpreter& interp) = nullptr;
  // Waits for the interpreter's non-daemon threads (threading._shutdown). A failure ends the waiting.
  absl::Status (*join_threads)(void* context, Interpreter& interp) = nullptr;
  // How many threads of the interpreter the finalizer would have to join. Any state; takes no lock that is
  // held while running code.
  size_t (*joinable_threads)(void* context, Interpreter& interp) = nullptr;
};

// The id that an int names: TypeError "interpreter ID must be an int, got ...", ValueError "interpreter ID must be a
// non-negative int, got ...", OverflowError for one that no id can be. CPython: _PyInterpreterState_ObjectToID.
absl::StatusOr<int64_t> InterpreterIdFromObject(const Ref<Object>& object);

class InterpreterRegistry {
 public:
  InterpreterRegistry();
  ~InterpreterRegistry();  // no interpreter may be left
  InterpreterRegistry(const InterpreterRegistry&) = delete;
  InterpreterRegistry& operator=(const InterpreterRegistry&) = delete;

  ThreadRegistry& threads() { return threads_; }
  Signals& signals() { return signals_; }
  const InterpreterHooks& hooks() const { return hooks_; }
  // Before the first interpreter, or with the world stopped.
  void set_hooks(const InterpreterHooks& hooks) { hooks_ = hooks; }

  // Before the first interpreter: ids are given out from 0, and the calling thread is the main thread.
  // CPython: _PyInterpreterState_Enable.
  void Enable();
  bool enabled() const { return next_id_.load(kRelaxed) >= 0; }

  // A new interpreter, linked and configured. `creator` is the current thread state or null; with one, the
  // audit event is raised first. On failure nothing is linked, and the id is spent (RT-35). Any thread.
  // CPython: _PyInterpreterState_New and init_interp_settings.
  absl::StatusOr<Interpreter*> New(ThreadState* creator, const InterpreterConfig& config,
                                   InterpreterWhence whence, bool gil_enabled = kGilEnabled);

  // Unlinks and frees an interpreter that is cleared and has no thread states but, at most, the current one,
  // which is deleted. Fatal "remaining threads", "remaining subinterpreters", "NULL interpreter". The caller
  // is detached afterwards. CPython: PyInterpreterState_Delete.
  void Delete(Interpreter* interp);
  // Only unlinks it: in a forked child, of an interpreter that another thread of the parent may just have been changing.
  void Abandon(Interpreter* interp);

  Interpreter* main() const { return main_.load(kAcquire); }
  Interpreter* head();
  // The newest one that nobody makes or ends, claimed for the caller, who is going to end it; null if there is none.
  // `*others`: whether there is any but the main one.
  Interpreter* ClaimAnyButMain(bool* others);
  // Gives up an id reference (Interpreter::DecrefId). With the last one of a linked interpreter that nobody ends yet, this
  // is now claimed for the caller, who is going to end it; else null, also if there is no interpreter of that id.
  Interpreter* ReleaseIdAndClaim(int64_t id);
  Interpreter* UnlockedHead() const { return head_; }  // the caller holds the head lock
  size_t size();
  // The ids, newest first.
  std::vector<int64_t> Ids();

  // Null if there is none. The pointer is as good as what keeps the interpreter: an id reference, its
  // own thread, or nobody who deletes. CPython: _PyInterpreterState_LookUpID.
  Interpreter* Find(int64_t id);
  // The same, with InterpreterNotFoundError "unrecognized interpreter ID %lld".
  absl::StatusOr<Interpreter*> LookUpId(int64_t id);

  // ---- The main thread

  uint64_t main_thread_ident() const { return main_thread_.load(kRelaxed); }
  bool IsMainThread() const { return main_thread_ident() == CurrentThreadIdent(); }
  // Whether the thread may run signal handlers and main-only calls.
  bool IsMainThreadOfMainInterpreter(const ThreadState& thread) const {
    return thread.interp() == main() && IsMainThread();
  }
  ThreadState* main_thread_state() const { return main_thread_state_.load(kAcquire); }
  // Null before that state is deleted: returns when nobody uses its breaker any more.
  void SetMainThreadState(ThreadState* thread);

  // Queues a call for the main thread. Any thread, also without a state; async-signal-safe. CPython:
  // Py_AddPendingCall.
  PendingCalls::AddResult AddMainCall(PendingCalls::Function function, void* argument,
                                      PendingCalls::Flags flags = PendingCalls::kNoFlags) {
    return main_calls_.Add(function, argument, flags);
  }
  PendingCalls& main_calls() { return main_calls_; }

  // ---- The end

  // The thread state that finalizes the runtime, compared and never dereferenced; null while nobody does.
  bool IsFinalizing() const { return finalizing_.load(kRelaxed) != 0; }
  void SetFinalizing(const ThreadState* thread) {
    finalizing_thread_.store(thread == nullptr ? 0 : CurrentThreadIdent(), kRelaxed);
    finalizing_.store(reinterpret_cast<uintptr_t>(thread), kRelaxed);
  }
  // Whether `thread` may not go on: the runtime or its interpreter is finalizing on another thread (LC-34).
  bool MustExit(const ThreadState& thread) const;

  // All ids are forgotten and nothing is main: for the next life of the runtime (RT-3).
  void Reset();
  // How many ended interpreters some thread has not noticed the end of, so that their locks are still there.
  size_t lost();

  // ---- Fork. In the child, after the platform's, the parking lot's and threads().ReinitAfterFork().

  // `survivor`: the state of the thread that forked (may be null), `attached`: whether it was attached. Its
  // thread is the main thread from now on, and it is the main thread's state if it belongs to the main
  // interpreter (FK-1). GILs, queues, guards, signals are as in a process with one thread. The other states
  // are still listed: the caller removes them.
  void AfterForkInChild(ThreadState* survivor, bool attached);

 private:
  friend class Interpreter;

  void KeepOrFree(std::unique_ptr<InterpreterCore> core);
  void ReportUnraisable(const absl::Status& error, const char* what, const Ref<Object>& object);

  ThreadRegistry threads_;
  InterpreterHooks hooks_;
  Signals signals_;
  PendingCalls main_calls_;
  Interpreter* head_ = nullptr;  // guarded by the head lock
  Atomic<Interpreter*> main_{nullptr};
  Atomic<int64_t> next_id_{-1};
  Atomic<uint64_t> main_thread_{0};
  Atomic<ThreadState*> main_thread_state_{nullptr};
  Atomic<uintptr_t> finalizing_{0};
  Atomic<uint64_t> finalizing_thread_{0};
  // What threads that have not noticed yet may look at; guarded by the head lock.
  InterpreterCore* lost_ = nullptr;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_INTERP_INTERPRETER_REGISTRY_H_
