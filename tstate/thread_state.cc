#include "pyrt/tstate/thread_state.h"

#include <errno.h>

#include <cinttypes>
#include <cstdio>
#include <string>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/tstate/finalization_guards.h"

namespace pyrt::inline PYRT_VARIANT {

using internal::current_thread_state;
using internal::gilstate_thread_state;

// Attach, poll and detach touch one line and a half.
static_assert(kDetsched || sizeof(GilHolder) <= 40);

ThreadState::ThreadState(InterpreterLink& link, Whence whence, uint64_t id, QsbrSlot* slot, RunState initial)
    : breaker_(link.breaker_on_attach.load(kRelaxed)),
      word_(initial),
      link_(link),
      holder_(breaker_.word(), BreakerBit(BreakerEvent::kGilDropRequest)),
      qsbr_slot_(slot),
      id_(id),
      whence_(whence),
      data_(link.recursion_limit.load(kRelaxed)) {
  lifecycle_status_.Set(internal::kInitialized);
}

ThreadState::~ThreadState() {
  PYRT_CHECK(current_thread_state != this && !word_.attached(), "PyThreadState_Delete",
             "tstate %p is still current", static_cast<void*>(this));
  if (gilstate_thread_state == this) gilstate_thread_state = nullptr;
}

// What a thread does at its end with the states that it alone kept.
struct ThreadState::ThreadExit {
  ThreadState* kept = nullptr;  // chained by next_

  ~ThreadExit() {
    ThreadState* const last = std::exchange(gilstate_thread_state, nullptr);
    if (last != nullptr) last->LeaveSlotB(Tie::kEnded);
    while (kept != nullptr) std::exchange(kept, kept->next_)->DecRef();
  }

  // Of the calling thread, which runs the destructor from now on.
  static ThreadExit& Armed() {
    static thread_local ThreadExit thread_exit;
    return thread_exit;
  }
};

void ThreadState::KeepUntilThreadExit() {
  if constexpr (kDetsched) return;  // a fiber is not a thread of the operating system
  ThreadExit& thread_exit = ThreadExit::Armed();
  next_ = std::exchange(thread_exit.kept, this);
}

// `tie`: kNone, or kEnded at the end of the thread.
void ThreadState::LeaveSlotB(Tie tie) {
  owner_status_.Clear(internal::kBoundGilState);
  // Acquire and release: who deletes the state and its thread are done with it before it is freed.
  switch (tie_.exchange(tie, kAcqRel)) {
    case Tie::kDeleted:
      return DecRef();
    case Tie::kRemoved:
      return tie == Tie::kEnded ? DecRef() : KeepUntilThreadExit();
    default:
      return;
  }
}

void ThreadState::Bind() {
  const ThreadStatus before = status();
  PYRT_CHECK(before.is_alive() && !before.bound && !before.active, "_PyThreadState_Bind",
             "a thread state is bound once, while it is new (%s)", ToString().c_str());
  thread_id_.store(CurrentThreadIdent(), kRelaxed);
  native_thread_id_.store(CurrentNativeThreadId(), kRelaxed);
  owner_status_.Set(internal::kBound);
  if (link_.brc != nullptr) link_.brc->Register(data_.brc, thread_id(), breaker_);
  if (gilstate_thread_state == nullptr) BindGilState();
  if constexpr (!kDetsched) ThreadExit::Armed();
}

void ThreadState::BindGilState() {
  if (gilstate_thread_state != nullptr) gilstate_thread_state->LeaveSlotB(Tie::kNone);
  gilstate_thread_state = this;
  tie_.store(Tie::kSlotB, kRelaxed);
  owner_status_.Set(internal::kBoundGilState);
}

void ThreadState::UnbindGilState() {
  owner_status_.Clear(internal::kBoundGilState);
  if (gilstate_thread_state != this) return;
  gilstate_thread_state = nullptr;
  tie_.store(Tie::kNone, kRelaxed);  // nobody else deletes a state that its thread is unbinding
}

// --- Lifetime

void ThreadState::DecRef(int32_t count) {
  // As for any reference count: release our use, acquire everybody's before freeing.
  if (references_.fetch_sub(count, kAcqRel) != count) return;
  if (deleter_ != nullptr) deleter_(this);
}

void ThreadState::ShutDown() {
  if (word_.ShutDown()) FutexWake(word_.futex(), 1);
  link_.gil->RequestExit(holder_);
}

void ThreadState::ReinitAfterFork(bool attached) {
  word_.ReinitAfterFork(attached ? RunState::kAttached : RunState::kDetached);
  stop_requests_.store(0, kRelaxed);
  handshake_.store(nullptr, kRelaxed);
  breaker_.Clear(BreakerEvent::kPleaseStop);
  thread_id_.store(CurrentThreadIdent(), kRelaxed);  // some systems change it (gh-126688)
  native_thread_id_.store(CurrentNativeThreadId(), kRelaxed);
}

// --- Clearing

namespace {

void Warn(const char* what) { std::fprintf(stderr, "PyThreadState_Clear: warning: %s\n", what); }

}  // namespace

// CPython's order (TS-57). Each reference is taken out before it is released: its destructor may run code
// that looks at this state, uses Ensure and Release on it, or stops the world. No lock is held.
void ThreadState::ClearData() {
  if (link_.verbose) {
    if (data_.current_frame.load(kRelaxed) != nullptr) Warn("thread still has a frame");
    if (data_.current_exception != nullptr) {
      Warn("thread has an exception set");
      std::fprintf(stderr, "%s: %s\n", data_.current_exception->type().QualifiedName().c_str(),
                   data_.current_exception->Message().c_str());
    }
    if (!data_.exc_info.at_bottom()) Warn("thread still has a generator");
  }
  const auto release = [](auto& reference) { auto old = std::exchange(reference, nullptr); };
  release(data_.local_key);
  release(data_.local_sentinel);
  release(data_.running_loop);
  release(data_.dict);
  { Ref<Object> async = data_.async_exception.Take(breaker_); }
  release(data_.current_exception);
  { Ref<Error> handled = data_.exc_info.TakeBottom(); }
  data_.profile.function = nullptr;
  data_.trace.function = nullptr;
  release(data_.profile.object);
  release(data_.trace.object);
  release(data_.async_gen_firstiter);
  release(data_.async_gen_finalizer);
  release(data_.context);
  // Before the heaps go, and after everything that could have queued something for this thread here.
  if (link_.brc != nullptr) link_.brc->Unregister(data_.brc);
  data_.delayed_frees.Abandon(link_.qsbr);
  data_.heaps.Abandon(thread_id() == CurrentThreadIdent());
}

// --- Words for people

ThreadStatus ThreadState::status() const {
  ThreadStatus status;
  status.initialized = lifecycle_status_.Has(internal::kInitialized);
  status.bound = owner_status_.Has(internal::kBound);
  status.bound_gilstate = owner_status_.Has(internal::kBoundGilState);
  status.active = word_.attached();
  status.holds_gil = holder_.holds();
  status.finalizing = lifecycle_status_.Has(internal::kFinalizing);
  status.cleared = lifecycle_status_.Has(internal::kCleared);
  status.finalized = lifecycle_status_.Has(internal::kFinalized);
  status.unbound = status.bound && status.finalized;
  return status;
}

std::string ThreadState::ToString() const {
  char text[192];
  std::snprintf(text, sizeof(text),
                "thread state %p, id %" PRIu64 " of interpreter %p, bound to thread %#" PRIx64 ", %s, %s",
                static_cast<const void*>(this), id_, static_cast<void*>(link_.interp), thread_id(),
                RunStateName(word_.Get()), status().ToString().c_str());
  return text;
}

std::string ThreadState::Here() {
  char thread[32];
  std::snprintf(thread, sizeof(thread), "%#" PRIx64, CurrentThreadIdent());
  return std::string("this is thread ") + thread + "; attached here: " +
         (current_thread_state == nullptr ? "nothing" : current_thread_state->ToString());
}

void ThreadState::AttachMisuse() {
  Fatal("_PyThreadState_Attach", "%s (%s; %s)",
        current_thread_state != nullptr ? "non-NULL old thread state"
                                        : "a thread state is attached by the thread that it is bound to only",
        ToString().c_str(), Here().c_str());
}

void ThreadState::DetachMisuse() {
  Fatal("_PyThreadState_Detach", "this thread state is not attached on this thread (%s; %s)",
        ToString().c_str(), Here().c_str());
}

void ThreadState::NoCurrentThread(const char* function) {
  if constexpr (kGilEnabled) {
    Fatal(function,
          "the function must be called with the GIL held, after Python initialization and before Python "
          "finalization, but the GIL is released (the current Python thread state is NULL)");
  } else {
    Fatal(function,
          "the function must be called with an active thread state, after Python initialization and before "
          "Python "
          "finalization, but it was called without an active thread state. Are you trying to call the C API "
          "inside "
          "of a Py_BEGIN_ALLOW_THREADS block?");
  }
}

// --- Guards, of which a state may own one

void InterpreterGuard::Close() {
  InterpreterLink* const link = std::exchange(link_, nullptr);
  if (link != nullptr && generation_ == FinalizationGuards::generation()) link->guards->Release();
}

}  // namespace pyrt::inline PYRT_VARIANT
