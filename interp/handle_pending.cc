#include <string>
#include <utility>
#include <vector>

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr uintptr_t kCallsBit = BreakerBit(BreakerEvent::kCallsToDo);

// The class or instance that PyThreadState_SetAsyncExc was given, as an exception to raise.
Ref<Error> AsError(const Ref<Object>& exception) {
  if (Error* error = As<Error>(exception)) return Ref<Error>::Share(error);
  if (const ErrorType* type = As<ErrorType>(exception)) return Error::New(*type, std::vector<Ref<Object>>{});
  return Error::New(ErrorType::TypeError(), "an asynchronous exception must be an exception or its type");
}

}  // namespace

int Interpreter::Fail(ThreadState& thread, const absl::Status& status) {
  thread.data().current_exception = ErrorFromStatus(status);
  return -1;
}

// The word that attaching threads copy says whether the queue is empty. Cleared with a look afterwards, as
// the bit in a thread's word is: whoever comes last, the producer's fetch_or or this, knows of the other. A thread
// that attached in between has not got the bit, and would leave the call to those that have it, be they asleep.
void Interpreter::UpdateCallsOnAttach() {
  Atomic<uintptr_t>& word = threads().link().breaker_on_attach;
  // While calls wait it stays: raising it again would bring a thread back at every poll while another one handles.
  if ((word.load(kRelaxed) & kCallsBit) == 0 || !calls_.IsEmpty()) return;
  word.fetch_and(~kCallsBit, kSeqCst);
  if (!calls_.IsEmpty() && !PYRT_MUTANT(calls_on_attach_without_second_look)) RaiseCalls(this);
}

// For PendingCalls: first what threads find that attach from now on, then those that are there. In a GIL
// build one of them at most is attached; a bit in the word of a detached thread saves it the look when it
// attaches.
void Interpreter::RaiseCalls(void* context) {
  Interpreter& self = *static_cast<Interpreter*>(context);
  if (self.core_ == nullptr) return;
  self.threads().link().breaker_on_attach.fetch_or(kCallsBit, kSeqCst);
  self.threads().SetOnAll(BreakerEvent::kCallsToDo);
}

int Interpreter::HandlePending(ThreadState& thread) {
  Interpreter& self = *thread.interp();
  InterpreterRegistry& registry = self.registry_;
  const InterpreterHooks& hooks = registry.hooks();
  EvalBreaker& breaker = thread.breaker();
  // One look: what is set from here on waits for the next poll.
  const uintptr_t word = breaker.Load();
  const auto has = [word](BreakerEvent event) { return (word & BreakerBit(event)) != 0; };

  // First of all, before anything that could allocate (EB-16).
  if (has(BreakerEvent::kPleaseStop)) thread.HandleStopRequest();

  if (has(BreakerEvent::kSignalsPending)) {
    breaker.Clear(BreakerEvent::kSignalsPending);
    if (registry.IsMainThreadOfMainInterpreter(thread)) {
      if (absl::Status status = registry.signals().Run(breaker); !status.ok())
        return self.Fail(thread, status);
    }
  }

  if (has(BreakerEvent::kCallsToDo)) {
    const absl::Status status = self.call_handler_.Run(breaker, registry.IsMainThread());
    self.UpdateCallsOnAttach();
    if (!status.ok()) return self.Fail(thread, status);
  }

  if constexpr (!kGilEnabled) {
    if (has(BreakerEvent::kExplicitMerge)) {
      breaker.Clear(BreakerEvent::kExplicitMerge);
      if (self.brc() != nullptr) self.brc()->MergeOwn(thread.data().brc);
      if (hooks.merge_references != nullptr) hooks.merge_references(hooks.context, thread);
    }
    // Each poll that comes here holds no pointer into a lock-free table (EB-8).
    thread.ReportQuiescent();
  }

  if (has(BreakerEvent::kGcScheduled)) {
    breaker.Clear(BreakerEvent::kGcScheduled);
    self.gc_.Run();
  }

  if (has(BreakerEvent::kJitInvalidateCold)) {
    breaker.Clear(BreakerEvent::kJitInvalidateCold);
    if (hooks.sweep_executors != nullptr) hooks.sweep_executors(hooks.context, thread);
  }

  if (has(BreakerEvent::kGilDropRequest)) thread.HandleDropRequest();

  // Last, so that a raised exception does not skip a hand-over.
  if (has(BreakerEvent::kAsyncException)) {
    if (Ref<Object> exception = thread.data().async_exception.Take(breaker); exception != nullptr) {
      thread.data().current_exception = AsError(exception);
      return -1;
    }
  }
  return 0;
}

int Interpreter::CheckSignals(ThreadState& thread) {
  Interpreter& self = *thread.interp();
  EvalBreaker& breaker = thread.breaker();
  if (breaker.IsSet(BreakerEvent::kGcScheduled)) {
    breaker.Clear(BreakerEvent::kGcScheduled);
    self.gc_.Run();
  }
  if (breaker.IsSet(BreakerEvent::kAsyncException)) {  // gh-144748
    if (Ref<Object> exception = thread.data().async_exception.Take(breaker); exception != nullptr) {
      thread.data().current_exception = AsError(exception);
      return -1;
    }
  }
  if (!self.registry_.IsMainThreadOfMainInterpreter(thread)) return 0;
  const absl::Status status = self.registry_.signals().Run(breaker);
  return status.ok() ? 0 : self.Fail(thread, status);
}

int Interpreter::MakePendingCalls(ThreadState& thread) {
  Interpreter& self = *thread.interp();
  InterpreterRegistry& registry = self.registry_;
  if (!registry.IsMainThreadOfMainInterpreter(thread)) return 0;
  if (absl::Status status = registry.signals().Run(thread.breaker()); !status.ok()) {
    return self.Fail(thread, status);
  }
  const absl::Status status = self.call_handler_.Run(thread.breaker(), /*is_main_thread=*/true);
  self.UpdateCallsOnAttach();
  return status.ok() ? 0 : self.Fail(thread, status);
}

void Interpreter::FinishPendingCalls(ThreadState& thread, int max_rounds) {
  const bool is_main_thread = registry_.IsMainThread();
  for (int round = 0; call_handler_.HasWork(is_main_thread); ++round) {
    if (round == max_rounds) {
      // A call that adds itself again would keep the process from ending (EB-33).
      const absl::Status endless = absl::ResourceExhaustedError(
          "pending calls keep adding pending calls: " + std::to_string(max_rounds) +
          " rounds at finalization did not end it; the rest is dropped");
      call_handler_.Drop(thread.breaker(), is_main_thread);
      Report(endless, nullptr);
      break;
    }
    const absl::Status status = call_handler_.Run(thread.breaker(), is_main_thread);
    if (!status.ok()) Report(status, nullptr);
    if (call_handler_.HasHandler()) {
      if (call_handler_.IsHandling(thread.breaker())) {
        // The call that finalizes is itself the handler, and nobody else may run the rest.
        call_handler_.Drop(thread.breaker(), is_main_thread);
        Report(absl::FailedPreconditionError("finalized inside a pending call; those behind it are dropped"),
               nullptr);
        break;
      }
      --round;
    }
    // Another thread may be in the middle of a call, or of adding one, for which it may need this CPU: without a pause
    // the rounds would be over before it gets it, and its call be taken for one that adds itself.
    if (call_handler_.HasWork(is_main_thread)) {
      DetachedScope detached(thread);
      YieldCpu();
    }
  }
  UpdateCallsOnAttach();
}

}  // namespace pyrt::inline PYRT_VARIANT
