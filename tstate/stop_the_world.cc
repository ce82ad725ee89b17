#include "pyrt/tstate/stop_the_world.h"

#include <algorithm>
#include <array>
#include <cinttypes>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// How long the stopper looks before it sleeps. With a CPU for every thread that is to stop the answer comes
// within a microsecond; with fewer, spinning keeps a CPU from the ones that are waited for.
// So where CPUs are short the stopper gives its own away between looks, which costs less than sleeping and being
// woken, as long as the others need little time to come to a poll.
constexpr int64_t kSpin = 50 * kNanosPerMicro;
constexpr int kLooksPerScan = 64;  // about 1 us

constexpr Deadline kAtOnce = 0;  // long past: own it now or not at all

Timeout Remaining(Deadline deadline) {
  if (deadline == kNoDeadline) return kForever;
  const int64_t now = MonotonicNow();
  return deadline > now ? deadline - now : 0;
}

}  // namespace

template <typename Visitor>
void StopTheWorld::ForEachOther(Visitor&& visit) {
  const auto visit_interpreter = [&](InterpreterThreads& threads) {
    for (ThreadState* thread = threads.first_; thread != nullptr; thread = thread->next_) {
      if (thread != state_.requester) visit(*thread);
    }
  };
  if (threads_ != nullptr) return visit_interpreter(*threads_);
  for (InterpreterThreads* threads = registry_.first_; threads != nullptr; threads = threads->next_) {
    visit_interpreter(*threads);
  }
}

// The head lock is held. True if the thread's token was taken here, on behalf of the thread.
bool StopTheWorld::TrySuspendWithToken(ThreadState& thread) {
  // If the thread took its token in the meantime it counts down itself, and finds that it is suspended.
  return thread.word_.TrySuspend() && thread.ClaimStop(threads_ != nullptr ? kStopInterpreter : kStopGlobal);
}

void StopTheWorld::HandOutTokens() {
  const StopRequest token = threads_ != nullptr ? kStopInterpreter : kStopGlobal;
  uint32_t outstanding = 0;
  {
    BasicMutexLock<HeadLock> lock(registry_.head_lock_);
    state_.requested.store(true, kRelaxed);
    state_.counter.Start(StopCounter::kHandingOut);
    ForEachOther([&](ThreadState& thread) {
      // A thread that is detached needs no token: it cannot do anything before it attaches.
      if (thread.word_.TrySuspend()) return;
      const RunState state = thread.run_state();
      // Suspended: born under an earlier moment of this very stop. Shutting down: never runs again.
      if (state == RunState::kSuspended || state == RunState::kSuspendedWaiting ||
          state == RunState::kShuttingDown) {
        return;
      }
      // First the token, then the bit, then a look at the word; the thread does the reverse.
      thread.stop_requests_.fetch_or(token, kAcqRel);
      thread.breaker_.Set(BreakerEvent::kPleaseStop);
      if (!TrySuspendWithToken(thread)) ++outstanding;
    });
  }
  state_.counter.Acknowledge(StopCounter::kHandingOut - outstanding);
}

// Suspends whoever has detached without seeing its token; returns how many.
uint32_t StopTheWorld::LookAgain() {
  uint32_t found = 0;
  {
    BasicMutexLock<HeadLock> lock(registry_.head_lock_);
    ForEachOther([&](ThreadState& thread) {
      if (thread.run_state() == RunState::kDetached && TrySuspendWithToken(thread)) ++found;
    });
  }
  if (found != 0) state_.counter.Acknowledge(found);
  return found;
}

bool StopTheWorld::WaitForOthers(Deadline deadline) {
  StopCounter& counter = state_.counter;
  if (counter.Done()) return true;
  const bool a_cpu_each = counter.remaining() < static_cast<uint32_t>(UsableCpus());
  const int64_t until = kDetsched ? 0 : std::min<int64_t>(deadline, MonotonicNow() + kSpin);
  do {
    for (int look = 0; look < (kDetsched ? 1 : kLooksPerScan); ++look) {
      if (counter.Done()) return true;
      CpuRelax();
    }
    LookAgain();
    if (!a_cpu_each) YieldCpu();
  } while (MonotonicNow() < until);
  if (counter.Done()) return true;

  // From here on every detach sees its token, or has already shown us its word.
  if (!PYRT_MUTANT(stw_park_without_fence)) AsymmetricFence::Heavy();
  LookAgain();
  state_.parks.store(state_.parks.load(kRelaxed) + 1, kRelaxed);
  return counter.Park(deadline);
}

bool StopTheWorld::Stop(Deadline deadline) {
  if constexpr (kGilEnabled) {
    if (depth_ == 0) CheckAttachment();
    ++depth_;
    return true;
  }
  const uint64_t self = CurrentThreadIdent();
  // Only this thread writes its own ident there, so a relaxed look is exact.
  if (depth_ > 0 || state_.owner.load(kRelaxed) == self ||
      registry_.global_stop_.owner.load(kRelaxed) == self) {
    ++depth_;
    return true;
  }
  // Two threads that each have one interpreter stopped and want more would wait for each other.
  PYRT_CHECK(internal::world_stops_held == 0, "_PyEval_StopTheWorld",
             "this thread has stopped another interpreter; stop everything first, or start that one");
  CheckAttachment();
  if (!EnterScope(deadline)) return false;
  state_.requester = ThreadState::Current();
  state_.owner.store(self, kRelaxed);
  internal::world_stops_held = 1;
  HandOutTokens();
  // Attached, if it is: to attach again may take a mutex that a stopped thread owns (gh-118332).
  const bool leaves = PYRT_MUTANT(gh_118332_stopper_detaches_while_it_waits) && state_.requester != nullptr;
  if (leaves) state_.requester->Detach();
  if (!WaitForOthers(deadline)) {
    RollBack();
    return false;
  }
  if (leaves) state_.requester->Attach();
  state_.stops.store(state_.stops.load(kRelaxed) + 1, kRelaxed);
  state_.stopped.store(true, kRelease);
  stopped_ = true;
  ++depth_;
  return true;
}

void StopTheWorld::Start() {
  PYRT_CHECK(depth_ > 0, "_PyEval_StartTheWorld", "the world was not stopped by this StopTheWorld");
  if (--depth_ > 0 || !stopped_) return;
  if constexpr (!kGilEnabled) {
    PYRT_CHECK(state_.owner.load(kRelaxed) == CurrentThreadIdent(), "_PyEval_StartTheWorld",
               "the world is started by the thread that stopped it (stopped by %#" PRIx64
               ", this is %#" PRIx64 ")",
               state_.owner.load(kRelaxed), CurrentThreadIdent());
    stopped_ = false;
    Resume();
    Leave();
  }
}

// Takes back the tokens that nobody has taken. Those that were taken are counted down by their takers, which
// are a few instructions away from it; only then may the suspended go on.
void StopTheWorld::RollBack() {
  const StopRequest token = threads_ != nullptr ? kStopInterpreter : kStopGlobal;
  uint32_t taken_back = 0;
  {
    BasicMutexLock<HeadLock> lock(registry_.head_lock_);
    ForEachOther([&](ThreadState& thread) {
      if (thread.ClaimStop(token)) ++taken_back;
    });
  }
  if (taken_back != 0) state_.counter.Acknowledge(taken_back);
  state_.counter.Park(kNoDeadline);
  state_.rollbacks.store(state_.rollbacks.load(kRelaxed) + 1, kRelaxed);
  Resume();
  Leave();
}

void StopTheWorld::Resume() {
  // Woken after the head lock is released, for they will want it; beyond that many, before.
  std::array<const Atomic<uint32_t>*, 64> sleepers;
  size_t count = 0;
  {
    BasicMutexLock<HeadLock> lock(registry_.head_lock_);
    state_.stopped.store(false, kRelaxed);
    state_.requested.store(false, kRelaxed);
    ForEachOther([&](ThreadState& thread) {
      const RunState state = thread.run_state();
      if (state != RunState::kSuspended && state != RunState::kSuspendedWaiting) return;
      if (!thread.word_.Resume()) return;
      // Only the address is used: the thread may run, end and be freed from here on.
      if (count == sleepers.size()) {
        FutexWake(thread.word_.futex(), 1);
      } else {
        sleepers[count++] = thread.word_.futex();
      }
    });
  }
  for (size_t i = 0; i < count; ++i) FutexWake(sleepers[i], 1);
}

void StopTheWorld::Leave() {
  internal::world_stops_held = 0;
  state_.requester = nullptr;
  state_.owner.store(0, kRelaxed);
  DisownScope();
}

// A thread that waits, attached to one interpreter, for the threads of another would not stop for those of them that wait
// for it in their turn; with GILs it holds one that does not keep them from running.
void StopTheWorld::CheckAttachment() const {
  const ThreadState* const current = ThreadState::Current();
  if (threads_ == nullptr || current == nullptr || current->link().threads == threads_) return;
  PYRT_CHECK(
      kGilEnabled && &current->gil() == threads_->link().gil, "_PyEval_StopTheWorld",
      "this thread is attached to another interpreter than the one that it stops or shakes hands in; detach "
      "first, or stop everything (%s)",
      ThreadState::Here().c_str());
}

// Owns the scope: nobody else stops, starts or shakes hands in it. Detaches while it waits.
//
// As long as we own what we belong to nobody can suspend us or shut us down. Who did so before, while we waited, must not
// find it owned by a thread that hangs: neither lets go of what was handed to it (gh-133130).
bool StopTheWorld::EnterScope(Deadline deadline) {
  ThreadState* const current = ThreadState::Current();
  if (current == nullptr) return OwnScope(deadline);
  if (OwnScope(kAtOnce)) return true;
  current->Detach();
  const bool owned = OwnScope(deadline);
  if (owned && current->must_exit() && !PYRT_MUTANT(gh_133130_who_hangs_keeps_its_turn)) DisownScope();
  current->Attach();
  return owned;
}

// The mutex of the scope, and the gate. Neither attaches nor detaches.
bool StopTheWorld::OwnScope(Deadline deadline) {
  if (!state_.mutex.TryLock()) {
    if (deadline == kAtOnce) return false;
    if (state_.mutex.LockTimed(Remaining(deadline)) != LockStatus::kAcquired) return false;
  }
  const bool entered = threads_ != nullptr ? registry_.stop_gate_.EnterInterpreter(deadline)
                                           : registry_.stop_gate_.EnterGlobal(deadline);
  if (!entered) state_.mutex.Unlock();
  return entered;
}

void StopTheWorld::DisownScope() {
  if (threads_ != nullptr) {
    registry_.stop_gate_.LeaveInterpreter();
  } else {
    registry_.stop_gate_.LeaveGlobal();
  }
  state_.mutex.Unlock();
}

}  // namespace pyrt::inline PYRT_VARIANT
