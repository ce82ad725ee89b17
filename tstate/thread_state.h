// ThreadState: a thread of the operating system as one interpreter sees it.
//
//   New -> Bind -> (Attach -> Detach)* -> Clear -> Delete
//
// A thread may touch its interpreter only while it is *attached*: Current() is its state then, and null
// otherwise. Attached means holding the interpreter's GIL in the GIL-enabled build; in the GIL-disabled build
// it means that nobody who stops the world goes on without this thread's consent. Around everything that may
// block, detach (DetachedScope); at every loop back edge, Poll().
//
//   call            not bound   detached, other thread's   detached, mine   attached here   attached elsewhere
//   Bind            binds       fatal                      fatal            fatal           fatal
//   Attach          fatal       fatal                      attaches         fatal           fatal
//   Detach, Poll    fatal       fatal                      fatal            ok              fatal
//
// Three thread-local slots per OS thread: A, the attached state (Current); B, the state that Ensure would use
// (GilState), which outlives detaching; C, the interpreter of slot A.
//
// Happens-before: with the GIL, what Gil promises. Without it, whatever a stopper does while the world is
// stopped happens after what each stopped thread did, and before what it does once it runs again.
//
// None of this is signal-safe but Current(), GilState(), Poll()'s fast path and the getters.
//
// CPython counterpart: PyThreadState, _PyThreadState_Attach, _PyThreadState_Detach, tstate_wait_attach.

#ifndef PYRT_TSTATE_THREAD_STATE_H_
#define PYRT_TSTATE_THREAD_STATE_H_

#include <cstdint>
#include <string>

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/gil/gil.h"
#include "pyrt/gil/gil_holder.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"
#include "pyrt/tstate/internal/critical_section_node.h"
#include "pyrt/tstate/internal/stop_request.h"
#include "pyrt/tstate/internal/thread_data.h"
#include "pyrt/tstate/internal/thread_state_word.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/thread_status.h"

namespace pyrt::inline PYRT_VARIANT {

class ThreadState;

namespace internal {
PYRT_THREAD_LOCAL(ThreadState*, current_thread_state) = nullptr;   // slot A
PYRT_THREAD_LOCAL(ThreadState*, gilstate_thread_state) = nullptr;  // slot B
PYRT_THREAD_LOCAL(Interpreter*, current_interpreter) = nullptr;    // slot C
// How many scopes this thread has stopped (StopTheWorld).
PYRT_THREAD_LOCAL(uint32_t, world_stops_held) = 0;
}  // namespace internal

class alignas(64) ThreadState {
 public:
  // An unbound state. `id` is unique in its interpreter and greater than 0. `slot` was reserved in link.qsbr,
  // or is null if there is none; the destructor gives it back. Any thread; does not block or allocate. Use
  // ThreadRegistry::New; this constructor alone serves tests and hosts with their own lists. CPython:
  // init_threadstate.
  ThreadState(InterpreterLink& link, Whence whence, uint64_t id, QsbrSlot* slot = nullptr,
              RunState initial = RunState::kDetached);
  ThreadState(const ThreadState&) = delete;
  ThreadState& operator=(const ThreadState&) = delete;
  ~ThreadState();  // detached, and current nowhere

  // The state that is attached on this thread, null if none. One thread-local load. CPython:
  // _PyThreadState_GET, PyThreadState_GetUnchecked.
  static ThreadState* Current() { return internal::current_thread_state; }
  // Fatal when detached. CPython: PyThreadState_Get.
  static ThreadState& Get(const char* function = "PyThreadState_Get") {
    ThreadState* const current = Current();
    if (current == nullptr) [[unlikely]]
      NoCurrentThread(function);
    return *current;
  }
  // Slot B: the state that was attached last on this thread and still exists. CPython:
  // PyGILState_GetThisThreadState.
  static ThreadState* GilState() { return internal::gilstate_thread_state; }
  // Slot C, null when detached. CPython: _PyInterpreterState_GET without the pointer chase.
  static Interpreter* CurrentInterpreter() { return internal::current_interpreter; }

  // --- Attaching

  // Ties the state to the calling thread, for good: thread ident, native id, stack bounds, heaps. Slot B too
  // if it is empty. CPython: _PyThreadState_Bind.
  void Bind();

  // Attaches on the thread that the state is bound to; nothing may be attached there. Blocks until the GIL is
  // free, the world runs and nobody hinders it. Does not return, ever, if the state may not run any more
  // (finalization): nothing is unwound (gh-87135). Preserves errno. Uncontended: what Gil::Take costs, or one
  // compare-and-swap. CPython: _PyThreadState_Attach, PyEval_RestoreThread.
  void Attach() {
    // Only a state that is bound to this thread is ever in its slot B.
    if (internal::current_thread_state != nullptr || internal::gilstate_thread_state != this) [[unlikely]]
      PrepareAttach();
    // Pairs with DeleteRemoved, which shuts the state down, runs Heavy(), and waits for `attaching_` before the
    // interpreter may go: either it sees us, or we see that we may not touch what the link points to (gh-124619).
    attaching_.store(true, kRelaxed);
    AsymmetricFence::Light();
    if (must_exit()) [[unlikely]]
      HangInsteadOfAttach();
    if constexpr (kGilEnabled) {
      if (link_.gil->Take(holder_) != Gil::TakeResult::kTaken) [[unlikely]]
        HangInsteadOfAttach();
      internal::current_thread_state = this;
      word_.AttachUnderGil();
    } else {
      // The GIL is looked at again after the compare-and-swap: it is switched on while the world is stopped,
      // so a thread that attaches afterwards acquires that, and one that attached before is stopped first
      // (B080).
      if (link_.gil->enabled() || !TryAttachWord() || link_.gil->enabled()) [[unlikely]] {
        AttachSlow();
      }
    }
    FinishAttach();
    attaching_.store(false, kRelaxed);  // attached: nobody shuts us down now
    if constexpr (!kGilEnabled) {
      // Afterwards, because this may detach and wait for whoever has the section's lock, be it for ever.
      if (critical_sections_ != 0) [[unlikely]]
        ResumeCriticalSection();
    }
  }

  // Detaches; this thread may not touch the interpreter until it attaches again. Never waits for other
  // threads but for short internal locks. Preserves errno. CPython: _PyThreadState_Detach, PyEval_SaveThread.
  void Detach() {
    if (internal::current_thread_state != this) [[unlikely]]
      DetachMisuse();
    if constexpr (kGilEnabled) {
      word_.Detach();
      internal::current_thread_state = nullptr;
      internal::current_interpreter = nullptr;
      link_.gil->Drop(holder_);
    } else {
      if (critical_sections_ != 0) [[unlikely]]
        SuspendCriticalSections();
      DetachWord();
    }
  }

  bool attached() const { return word_.attached(); }

  // The poll of an evaluation loop: one relaxed load and a predictable branch; with something pending, the
  // interpreter's handler. 0, or -1 with the current exception set: the caller unwinds. Attached. May run
  // anything, detach and attach. CPython: the check of eval_breaker, _Py_HandlePending.
  int Poll() {
    if (!breaker_.AnyPending()) [[likely]]
      return 0;
    return PollSlow();
  }

  // PleaseStop: waits out a stopped world, runs a handshake. First in the handler's order. Attached; detaches
  // and attaches if there is something to wait for.
  void HandleStopRequest();
  // GilDropRequest: gives the GIL to who asked and returns when it is back. Attached; detaches and attaches.
  void HandleDropRequest();
  // Says that this thread holds no pointer into lock-free tables. Attached; GIL-disabled build.
  void ReportQuiescent() {
    if constexpr (!kGilEnabled) {
      if (qsbr_slot_ != nullptr) link_.qsbr->Quiescent(*qsbr_slot_);
    }
  }

  // CPython's call pairs. `thread` null, or no current state, is fatal with CPython's text.
  static ThreadState* SaveThread();                // PyEval_SaveThread
  static void RestoreThread(ThreadState* thread);  // PyEval_RestoreThread
  static void AcquireThread(ThreadState* thread);  // PyEval_AcquireThread
  static void ReleaseThread(ThreadState* thread);  // PyEval_ReleaseThread
  // Detaches what is attached and attaches `next`; either may be null. Returns what was attached. CPython:
  // PyThreadState_Swap.
  static ThreadState* Swap(ThreadState* next);

  // For waits in runtime/sync: detaches the current state, if one is attached, while the thread sleeps. The
  // object lives for ever; the hooks do nothing on a detached thread.
  static const WaitHooks* DetachWhileWaiting();
  // Called on a thread that hangs at an attach, for ever, just before that: detached, with its states still there, and
  // maybe without an interpreter. Before the first state.
  static void SetHangHook(void (*hook)());

  // --- What a state is

  InterpreterLink& link() const { return link_; }
  Interpreter* interp() const { return link_.interp; }
  Gil& gil() const { return *link_.gil; }
  uint64_t id() const { return id_; }
  EvalBreaker& breaker() { return breaker_; }
  const EvalBreaker& breaker() const { return breaker_; }
  GilHolder& gil_holder() { return holder_; }
  const GilHolder& gil_holder() const { return holder_; }
  QsbrSlot* qsbr_slot() const { return qsbr_slot_; }

  // 0 until bound; kept after unbinding, for debuggers (TS-34). Any thread.
  uint64_t thread_id() const { return thread_id_.load(kRelaxed); }
  uint64_t native_thread_id() const { return native_thread_id_.load(kRelaxed); }

  RunState run_state() const { return word_.Get(); }
  ThreadStatus status() const;
  Whence whence() const { return whence_.load(kRelaxed); }
  void set_whence(Whence whence) { whence_.store(whence, kRelaxed); }

  // May this state never attach again? CPython: _PyThreadState_MustExit.
  bool must_exit() const { return word_.Get() == RunState::kShuttingDown; }
  // Of a state that is kept only until its thread notices.
  bool deleted() const { return lifecycle_status_.Has(internal::kFinalized); }

  // "thread state 7 of interpreter 0x..., bound to thread 140..., attached, initialized|bound|active".
  std::string ToString() const;
  // "this is thread 0x7f...; attached here: thread state 7 of ...": the other half of what a message about misuse
  // needs. Any thread.
  static std::string Here();

  // Everything of the thread that is not about running: exceptions, recursion, hooks, stacks, heaps.
  ThreadData& data() { return data_; }
  const ThreadData& data() const { return data_; }

  // --- Lifetime (ThreadRegistry)

  // The state is shared by the registry and its OS thread; a new one has a reference for each (TS-65). The
  // last DecRef frees it in the way that its maker chose.
  void IncRef() { references_.fetch_add(1, kRelaxed); }
  void DecRef(int32_t count = 1);
  void set_deleter(void (*deleter)(ThreadState* thread)) { deleter_ = deleter; }

  // The finalizer, which holds the GIL or has stopped the world: the thread may never attach again; it hangs,
  // now if it is waiting (TS-77). Idempotent.
  void ShutDown();

  // In a forked child, on the only thread: refreshes what the process change has touched. `attached` says
  // whether the state was attached when fork was called. The GIL is reinitialised by its owner.
  void ReinitAfterFork(bool attached);

  // Slot B := this state, or nothing if it is this state. The thread itself.
  void BindGilState();
  void UnbindGilState();

 private:
  friend class StopTheWorld;
  friend class Handshake;
  friend class ThreadRegistry;
  friend class InterpreterThreads;
  friend class CriticalSection;
  friend class ThreadStateTestPeer;

  void FinishAttach() {
    internal::current_interpreter = link_.interp;
    const uintptr_t wanted = link_.breaker_on_attach.load(kRelaxed);
    breaker_.RefreshOnAttach((wanted & BreakerBit(BreakerEvent::kCallsToDo)) != 0,
                             wanted & EvalBreaker::kVersionMask);
  }

  // GIL-disabled build: slot A, QSBR and the word, in CPython's order (TS-27). The Light() completes
  // Qsbr::Online.
  bool TryAttachWord() {
    internal::current_thread_state = this;
    if (qsbr_slot_ != nullptr) link_.qsbr->Online(*qsbr_slot_);
    if (word_.TryAttach()) [[likely]] {
      AsymmetricFence::Light();
      return true;
    }
    CancelAttach();
    return false;
  }

  // GIL-disabled build: the reverse. Pairs with StopTheWorld: it hands out tokens, then looks at our word;
  // we write the word, then look for a token. If neither sees the other (we are between the two and the
  // processor has not published the store), the stopper finds the word detached as soon as it looks again,
  // and it runs Heavy() before it stops looking.
  void DetachWord() {
    if (qsbr_slot_ != nullptr) link_.qsbr->Offline(*qsbr_slot_);
    word_.Detach();
    internal::current_thread_state = nullptr;
    internal::current_interpreter = nullptr;
    if (holder_.holds()) [[unlikely]]
      link_.gil->Drop(holder_);
    AsymmetricFence::Light();
    if (stop_requests_.load(kRelaxed) != 0 && !PYRT_MUTANT(stw_detach_ignores_requests)) [[unlikely]]
      AcknowledgeStop();
  }

  // Who gives up the thread's reference to a state that is deleted. Settled by one exchange each of the thread, when slot
  // B names another state or the thread ends, and of who deletes:
  enum class Tie : uint8_t {
    kNone,     // not in slot B: nobody but the thread, when it attaches the state and hangs; else it stays
    kSlotB,    // the thread will give it up
    kEnded,    // the thread has ended: whoever deletes
    kDeleted,  // by another thread: the thread, as soon as slot B names another state
    kRemoved,  // by a finalizer: the thread, when it ends; or when it attaches the state and hangs, so that not before
  };
  void LeaveSlotB(Tie tie);
  // The caller, which is the state's thread, keeps the reference until it ends, or hangs as above.
  struct ThreadExit;
  void KeepUntilThreadExit();

  void CancelAttach();
  void ClearData();
  [[gnu::cold]] void AttachSlow();
  [[gnu::cold]] bool WaitUntilResumed();
  bool StopNeedsThisCpu() const;
  [[gnu::cold]] void AcknowledgeStop();
  [[gnu::cold]] int PollSlow();
  [[gnu::cold]] void BeginCriticalSectionSlow(CriticalSectionNode& node, Mutex* first, Mutex* second);
  void LockCriticalSection(CriticalSectionNode& node, Mutex* first, Mutex* second);
  void EndCriticalSection(CriticalSectionNode& node);
  [[gnu::cold]] void SuspendCriticalSections();
  [[gnu::cold]] void ResumeCriticalSection();
  void PrepareAttach();
  [[noreturn, gnu::cold]] void AttachMisuse();
  [[noreturn, gnu::cold]] void DetachMisuse();
  [[noreturn, gnu::cold]] void HangInsteadOfAttach();
  [[noreturn, gnu::cold]] static void NoCurrentThread(const char* function);
  // Takes the token away; true if it was there, and the caller acknowledges.
  bool ClaimStop(StopRequest request) { return (stop_requests_.fetch_and(~request, kAcqRel) & request) != 0; }

  // The line that attach, poll and detach touch.
  EvalBreaker breaker_;
  ThreadStateWord word_;
  Atomic<uint32_t> stop_requests_{0};  // StopRequest tokens
  InterpreterLink& link_;
  GilHolder holder_;

  // And the next one.
  Atomic<uint64_t> thread_id_{0};
  Atomic<bool> attaching_{false};  // between the beginning of an Attach and its end, or the hang
  QsbrSlot* qsbr_slot_;
  uintptr_t critical_sections_ = 0;  // the top section, tagged; the thread itself
  uint64_t id_;
  Atomic<uint64_t> native_thread_id_{0};
  Atomic<HandshakeOperation*> handshake_{nullptr};
  Atomic<Whence> whence_;
  internal::StatusWord owner_status_;
  internal::StatusWord lifecycle_status_;
  Atomic<int32_t> references_{2};
  Atomic<Tie> tie_{Tie::kNone};
  void (*deleter_)(ThreadState*) = nullptr;

  // The list of the interpreter's states, guarded by the head lock of the registry; later of the states that
  // were removed together, or that their thread keeps until it ends.
  ThreadState* previous_ = nullptr;
  ThreadState* next_ = nullptr;
  bool listed_ = false;

  ThreadData data_;
};

// Detaches for a blocking call: everything between must keep its hands off the interpreter.
//
//   { DetachedScope detached; bytes = read(fd, buffer, size); }
//
// CPython: Py_BEGIN_ALLOW_THREADS, Py_END_ALLOW_THREADS.
class DetachedScope {
 public:
  DetachedScope() : thread_(ThreadState::SaveThread()) {}
  explicit DetachedScope(ThreadState& current) : thread_(&current) { current.Detach(); }
  ~DetachedScope() { thread_->Attach(); }
  DetachedScope(const DetachedScope&) = delete;
  DetachedScope& operator=(const DetachedScope&) = delete;

 private:
  ThreadState* const thread_;
};

// Attaches `thread` for a scope, and goes back to what was attached before (possibly nothing).
class AttachedScope {
 public:
  explicit AttachedScope(ThreadState& thread) : thread_(&thread), before_(ThreadState::Swap(&thread)) {}
  ~AttachedScope() {
    thread_->Detach();
    if (before_ != nullptr) before_->Attach();
  }
  AttachedScope(const AttachedScope&) = delete;
  AttachedScope& operator=(const AttachedScope&) = delete;

 private:
  ThreadState* const thread_;
  ThreadState* const before_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_THREAD_STATE_H_
