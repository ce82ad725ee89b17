#include "pyrt/ceval_breaker/pending_calls.h"

namespace pyrt::inline PYRT_VARIANT {

PendingCalls::~PendingCalls() { DropAll(); }

size_t PendingCalls::DropAll() {
  size_t dropped = 0;
  Call call;
  while (ring_.Pop(&call) == CallRing<Call>::PopResult::kPopped) {
    if ((call.flags & kFreeArgument) != 0) options_.free(call.argument);
    ++dropped;
  }
  return dropped;
}

PendingCalls::AddResult PendingCalls::Add(Function function, void* argument, Flags flags) {
  const auto pushed = ring_.Push(Call{function, argument, flags});
  if (pushed == CallRing<Call>::PushResult::kClosed) return AddResult::kClosed;
  // Also when full (EB-22): the bit may have been lost to a pass that was cut short by a failure.
  if (!PYRT_MUTANT(pending_add_does_not_raise)) Raise();
  return pushed == CallRing<Call>::PushResult::kFull ? AddResult::kFull : AddResult::kAdded;
}

absl::Status PendingCalls::RunPass() {
  for (uint32_t i = 0; i < options_.limits.max_per_pass; ++i) {
    Call call;
    if (ring_.Pop(&call) != CallRing<Call>::PopResult::kPopped) break;
    if (call.function == nullptr) continue;  // its producer did not survive a fork
    absl::Status status = call.function(call.argument);
    if ((call.flags & kFreeArgument) != 0) options_.free(call.argument);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool PendingCallHandler::BecomeHandler(EvalBreaker& self) {
  const uintptr_t me = reinterpret_cast<uintptr_t>(&self);
  for (;;) {
    uintptr_t handler = 0;
    // Acquire pairs with the release of the handler before: the rings' heads are its.
    if (handler_.compare_exchange_strong(handler, me, kAcquire, kRelaxed)) return true;
    if ((handler & ~kAgain) == me) {
      // CPython sets the handler's bit and then clears the caller's, which are one bit here: whatever it
      // stood for is forgotten (B091).
      if (PYRT_MUTANT(nested_run_clears_the_bit)) self.Clear(BreakerEvent::kCallsToDo);
      return false;
    }
    // A thread that kept its bit would come here at every poll until the handler is done (gh-118095).
    if (!PYRT_MUTANT(gh_118095_bit_stays_beside_a_handler)) self.Clear(BreakerEvent::kCallsToDo);
    // Tells the handler, which may be beyond its last look into the queues, to look once more. Not by setting
    // the bit in its word: its thread state could be freed under our hands as soon as it has left. An
    // exchange even if kAgain is set already: the release of this very thread must reach the handler,
    // because the call that this thread was woken for may be known to no other.
    if (PYRT_MUTANT(gh_95820_no_again)) return false;
    if (handler_.compare_exchange_strong(handler, handler | kAgain, kRelease, kRelaxed)) return false;
    // The handler has left meanwhile, or another came: from the beginning.
  }
}

absl::Status PendingCallHandler::RunSlow(EvalBreaker& self, bool is_main_thread) {
  if (!BecomeHandler(self)) return absl::OkStatus();
  // Before the first look into a queue, so that a call added from now on raises the bit again (EB-17).
  self.Clear(BreakerEvent::kCallsToDo);
  // On any thread: calls that only the main thread runs starve while it blocks (gh-104812).
  const bool runs = is_main_thread || !PYRT_MUTANT(gh_104812_only_the_main_thread_runs_calls);
  absl::Status status = runs ? calls_->RunPass() : absl::OkStatus();
  if (status.ok() && is_main_thread && main_calls_ != nullptr) status = main_calls_->RunPass();

  // gh-138731: on every way out, also with an error.
  if (PYRT_MUTANT(gh_138731_error_keeps_handler) && !status.ok()) return status;
  Leave(self);
  // The bit of this thread even if nothing is left: the error handler's first poll may as well look.
  if (!status.ok()) self.Set(BreakerEvent::kCallsToDo);
  return status;
}

void PendingCallHandler::Leave(EvalBreaker& self) {
  // Release hands the rings to the next handler; acquire makes visible what those saw that left kAgain.
  const uintptr_t guard = handler_.exchange(0, kAcqRel);
  if (guard != reinterpret_cast<uintptr_t>(&self) || HasWork(/*is_main_thread=*/true)) RaiseWhatIsLeft();
}

void PendingCallHandler::RaiseWhatIsLeft() const {
  // For each queue on the threads that may run it: what is left in the main queue may be waiting for the main
  // thread, which this one need not be (EB-28).
  if (!calls_->IsEmpty()) calls_->Raise();
  if (main_calls_ != nullptr && !main_calls_->IsEmpty()) main_calls_->Raise();
}

size_t PendingCallHandler::Drop(EvalBreaker& self, bool is_main_thread) {
  const bool nested = IsHandling(self);
  if (!nested && !BecomeHandler(self)) return 0;
  size_t dropped = calls_->DropAll();
  if (is_main_thread && main_calls_ != nullptr) dropped += main_calls_->DropAll();
  if (!nested) Leave(self);
  return dropped;
}

void PendingCallHandler::Forget(const EvalBreaker& self) {
  uintptr_t handler = handler_.load(kRelaxed);
  while ((handler & ~kAgain) == reinterpret_cast<uintptr_t>(&self)) {
    if (handler_.compare_exchange_weak(handler, 0, kAcqRel, kRelaxed)) return RaiseWhatIsLeft();
  }
}

void PendingCallHandler::AfterForkInChild(const EvalBreaker* survivor) {
  if (PYRT_MUTANT(eb_35_handler_survives_fork)) return;
  if (survivor != nullptr && IsHandling(*survivor)) return;
  handler_.store(0, kRelaxed);
  if (PYRT_MUTANT(eb_35_child_is_not_told)) return;
  RaiseWhatIsLeft();  // threads that met the handler have cleared their bits and relied on it
}

}  // namespace pyrt::inline PYRT_VARIANT
