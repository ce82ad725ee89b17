#include "pyrt/tstate/handshake.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int64_t kSpin = 10 * kNanosPerMicro;

}  // namespace

HandshakeResult Handshake::Run(ThreadState& target, Function function, void* argument, Deadline deadline) {
  ThreadState* const current = ThreadState::Current();
  if (current == &target) {
    function(target, argument);
    return HandshakeResult::kDone;
  }
  if constexpr (kGilEnabled) {
    PYRT_CHECK(current != nullptr && &current->gil() == &target.gil(), "Handshake::Run",
               "the caller must hold the GIL of the thread's interpreter (%s)", target.ToString().c_str());
    if (!target.listed_) return HandshakeResult::kGone;
    function(target, argument);
    return HandshakeResult::kDone;
  } else {
    InterpreterThreads& threads = *target.link().threads;
    ThreadRegistry& registry = threads.registry();
    PYRT_CHECK(internal::world_stops_held == 0, "Handshake::Run", "this thread has stopped the world");

    // The interpreter's mutex and the gate: nobody else suspends or resumes the target.
    StopTheWorld scope(threads);
    scope.CheckAttachment();
    if (!scope.EnterScope(deadline)) return HandshakeResult::kTimedOut;

    HandshakeOperation operation{.function = function, .argument = argument, .counter = {}};
    using Outcome = HandshakeOperation::Outcome;
    Outcome outcome = HandshakeOperation::kPending;
    {
      BasicMutexLock<HeadLock> lock(registry.head_lock());
      if (!target.listed_) {
        outcome = HandshakeOperation::kGone;
      } else if (target.word_.TrySuspend()) {
        outcome = HandshakeOperation::kSuspended;
      } else if (target.run_state() == RunState::kShuttingDown) {
        outcome = HandshakeOperation::kGone;
      } else {
        operation.counter.Start(1);
        target.handshake_.store(&operation, kRelaxed);  // published with the token
        target.stop_requests_.fetch_or(kStopHandshake, kAcqRel);
        target.breaker_.Set(BreakerEvent::kPleaseStop);
      }
    }
    // As in StopTheWorld: the target may have detached without seeing the token, until a fence was run.
    bool suspended_without_token = false;
    const auto take_if_detached = [&] {
      BasicMutexLock<HeadLock> lock(registry.head_lock());
      if (!target.listed_ || target.run_state() != RunState::kDetached || !target.word_.TrySuspend()) return;
      if (!target.ClaimStop(kStopHandshake)) {
        // The target has taken it: either it is about to suspend itself, or it ran the function some time ago and
        // has detached since. The outcome tells.
        suspended_without_token = true;
        return;
      }
      operation.outcome.Set(HandshakeOperation::kSuspended);
      operation.counter.Acknowledge();
    };
    if (outcome == HandshakeOperation::kPending) {
      const int64_t until = kDetsched ? 0 : MonotonicNow() + kSpin;
      do {
        take_if_detached();
        CpuRelax();
      } while (!operation.counter.Done() && MonotonicNow() < until);
      if (!operation.counter.Done()) {
        if (!PYRT_MUTANT(handshake_park_without_fence)) AsymmetricFence::Heavy();
        take_if_detached();
        if (!operation.counter.Park(deadline)) {
          if (target.ClaimStop(kStopHandshake)) {
            operation.counter.Acknowledge();  // nobody will look at the operation any more
          } else {
            operation.counter.Park(kNoDeadline);  // being answered right now
          }
        }
      }
      outcome = operation.outcome.Get();
    }
    const bool resume = outcome == HandshakeOperation::kSuspended || suspended_without_token;
    if (outcome == HandshakeOperation::kSuspended) function(target, argument);
    if (resume && !PYRT_MUTANT(handshake_leaves_target_suspended)) {
      if (target.word_.Resume()) FutexWake(target.word_.futex(), 1);
    }
    scope.DisownScope();
    switch (outcome) {
      case HandshakeOperation::kDone:
      case HandshakeOperation::kSuspended:
        return HandshakeResult::kDone;
      case HandshakeOperation::kGone:
        return HandshakeResult::kGone;
      case HandshakeOperation::kPending:
        break;
    }
    return HandshakeResult::kTimedOut;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
