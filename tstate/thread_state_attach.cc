// How a thread gets in and out when the inline half of thread_state.h is not enough.

#include <errno.h>

#include "pyrt/runtime/config/check.h"
#include "pyrt/tstate/internal/stop_counter.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

using internal::current_interpreter;
using internal::current_thread_state;
using internal::gilstate_thread_state;

// --- Attaching, the slow half

// Another state than this one was attached last on this thread, or this is a mistake.
void ThreadState::PrepareAttach() {
  if (current_thread_state != nullptr || thread_id_.load(kRelaxed) != CurrentThreadIdent()) [[unlikely]] {
    if (!PYRT_MUTANT(gh_105699_any_thread_may_attach)) AttachMisuse();
  }
  BindGilState();
}

void ThreadState::CancelAttach() {
  if (qsbr_slot_ != nullptr) link_.qsbr->Offline(*qsbr_slot_);
  current_thread_state = nullptr;
}

// Enters detached, or attached without a GIL that has been switched on meanwhile.
void ThreadState::AttachSlow() {
  const int saved_errno = errno;
  if (current_thread_state == this) DetachWord();
  Gil& gil = *link_.gil;
  for (;;) {
    if (gil.enabled() && gil.Take(holder_) == Gil::TakeResult::kMustExit) HangInsteadOfAttach();
    if (!TryAttachWord()) {
      // A thread that sleeps with the GIL could keep it from the one that would wake it.
      if (holder_.holds()) gil.Drop(holder_);
      if (!WaitUntilResumed()) continue;
      current_thread_state = this;
      if (qsbr_slot_ != nullptr) link_.qsbr->Online(*qsbr_slot_);
      if (!word_.TryAttachAfterWait()) {
        CancelAttach();
        continue;
      }
      AsymmetricFence::Light();
    }
    if (!gil.enabled() || holder_.holds() || PYRT_MUTANT(b080_attach_keeps_going_without_gil)) break;
    DetachWord();
  }
  errno = saved_errno;
}

// Whether threads that have yet to stop may be waiting for the CPU on which this one, which has stopped, could spin.
// A moment's guess.
bool ThreadState::StopNeedsThisCpu() const {
  for (const StopCounter* counter : {link_.interpreter_stop, link_.global_stop}) {
    if (counter == nullptr) continue;
    const uint32_t remaining = counter->remaining();
    const bool counted = remaining != 0 && remaining < StopCounter::kHandingOut / 2;
    // Besides those there are the stopper and this thread.
    if (counted && remaining + 2 > static_cast<uint32_t>(UsableCpus())) return true;
  }
  return false;
}

// Returns true when the thread was woken and may attach before anybody suspends it again, false when it
// should just try again.
//
// Who wakes us: whoever starts the world again (Resume), or the finalizer (ShutDown). A stopper that dies
// leaves the world stopped, as in CPython; its fork's child resumes its own thread.
bool ThreadState::WaitUntilResumed() {
  constexpr int kSpins = 200;  // about 2 us: a short stop ends before we have gone to sleep
  int spins = UsableCpus() > 1 && !StopNeedsThisCpu() ? kSpins : 0;
  if constexpr (kDetsched) spins = 1;
  for (;;) {
    switch (word_.Get()) {
      case RunState::kDetached:
        return false;
      case RunState::kDetachedWaiting:
        return true;
      case RunState::kShuttingDown:
        HangInsteadOfAttach();
      case RunState::kSuspended:
        if (spins-- > 0) {
          CpuRelax();
        } else {
          word_.BeginWait();
        }
        break;
      case RunState::kSuspendedWaiting:
        FutexWait(word_.futex(), static_cast<uint32_t>(RunState::kSuspendedWaiting), kNoDeadline);
        break;
      case RunState::kAttached:
        PYRT_UNREACHABLE("a waiting thread is attached: %s", ToString().c_str());
    }
  }
}

// The thread has detached and sees tokens. Taking one keeps its stopper, and with it everything that the link
// points to, until the acknowledgement.
void ThreadState::AcknowledgeStop() {
  for (const StopRequest request : {kStopInterpreter, kStopGlobal}) {
    if (!ClaimStop(request)) continue;
    // Fails where the stopper has suspended us and found the token gone.
    if (!PYRT_MUTANT(gh_116396_recorded_as_detached)) word_.TrySuspend();
    (request == kStopInterpreter ? link_.interpreter_stop : link_.global_stop)->Acknowledge();
  }
  if (ClaimStop(kStopHandshake)) {
    HandshakeOperation* const operation = handshake_.exchange(nullptr, kAcquire);
    word_.TrySuspend();
    operation->outcome.Set(HandshakeOperation::kSuspended);
    operation->counter.Acknowledge();
  }
}

void ThreadState::HandleStopRequest() {
  // First the bit, then the tokens; who asks does it the other way round.
  breaker_.Clear(BreakerEvent::kPleaseStop);
  const uint32_t requests = stop_requests_.load(kAcquire);
  if ((requests & kStopHandshake) != 0 && ClaimStop(kStopHandshake)) {
    HandshakeOperation* const operation = handshake_.exchange(nullptr, kAcquire);
    operation->function(*this, operation->argument);
    operation->outcome.Set(HandshakeOperation::kDone);
    operation->counter.Acknowledge();
  }
  if ((requests & (kStopInterpreter | kStopGlobal)) == 0) return;
  Detach();
  Attach();
}

void ThreadState::HandleDropRequest() {
  if constexpr (kGilEnabled) {
    attaching_.store(true, kRelaxed);  // while we hold the GIL: no fence needed
    word_.Detach();
    current_thread_state = nullptr;
    current_interpreter = nullptr;
    if (link_.gil->Yield(holder_) != Gil::TakeResult::kTaken) HangInsteadOfAttach();
    current_thread_state = this;
    word_.AttachUnderGil();
    FinishAttach();
    attaching_.store(false, kRelaxed);
  } else {
    if (!holder_.holds()) {
      breaker_.Clear(BreakerEvent::kGilDropRequest);
      return;
    }
    // Drop answers the request by passing the GIL on.
    Detach();
    Attach();
  }
}

int ThreadState::PollSlow() {
  PYRT_DCHECK(Current() == this);
  if (link_.handle_pending != nullptr) return link_.handle_pending(*this);
  const uintptr_t word = breaker_.Load();
  if ((word & BreakerBit(BreakerEvent::kPleaseStop)) != 0) HandleStopRequest();
  if ((word & BreakerBit(BreakerEvent::kExplicitMerge)) != 0) {
    breaker_.Clear(BreakerEvent::kExplicitMerge);
    if (link_.brc != nullptr) link_.brc->MergeOwn(data_.brc);
    ReportQuiescent();
  }
  if ((word & BreakerBit(BreakerEvent::kGilDropRequest)) != 0) HandleDropRequest();
  return 0;
}

// --- CPython's pairs

ThreadState* ThreadState::SaveThread() {
  ThreadState& current = Get("PyEval_SaveThread");
  current.Detach();
  return &current;
}

void ThreadState::RestoreThread(ThreadState* thread) {
  if (thread == nullptr) NoCurrentThread("PyEval_RestoreThread");
  thread->Attach();
}

void ThreadState::AcquireThread(ThreadState* thread) {
  if (thread == nullptr) NoCurrentThread("PyEval_AcquireThread");
  thread->Attach();
}

void ThreadState::ReleaseThread(ThreadState* thread) {
  if (thread == nullptr) NoCurrentThread("PyEval_ReleaseThread");
  thread->Detach();
}

ThreadState* ThreadState::Swap(ThreadState* next) {
  ThreadState* const before = Current();
  if (before != nullptr) before->Detach();
  if (next != nullptr) next->Attach();
  return before;
}

// The wait's context is shared by all threads, so who detached is kept in a slot of the thread's own.
namespace {
PYRT_THREAD_LOCAL(ThreadState*, detached_for_wait) = nullptr;
}  // namespace

const WaitHooks* ThreadState::DetachWhileWaiting() {
  static constexpr WaitHooks kHooks{
      .before_park =
          [](void*) {
            ThreadState* const current = Current();
            detached_for_wait = current;
            if (current != nullptr) current->Detach();
          },
      .after_park =
          [](void*) {
            ThreadState* const thread = detached_for_wait;
            detached_for_wait = nullptr;
            if (thread != nullptr) thread->Attach();
          },
  };
  return &kHooks;
}

namespace {
void (*hang_hook)() = nullptr;  // written before any thread reads it
}  // namespace

void ThreadState::SetHangHook(void (*hook)()) { hang_hook = hook; }

// The thread may not run any more. Whoever shut it down has taken it off the lists; the reference that the
// thread itself had goes here, and nothing of its stack is unwound (gh-87135).
void ThreadState::HangInsteadOfAttach() {
  current_thread_state = nullptr;
  if (gilstate_thread_state == this) gilstate_thread_state = nullptr;
  // Release: we are done with the interpreter.
  attaching_.store(false, kRelease);
  if (hang_hook != nullptr) hang_hook();  // after that store, for which a finalizer waits, be it with a lock
  DecRef();
  HangForever();
}

}  // namespace pyrt::inline PYRT_VARIANT
