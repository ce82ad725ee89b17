#include "pyrt/gil/gil.h"

#include <errno.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A head that has been passed over by barging threads for this long gets the next drop handed to it.
constexpr int64_t kBargingLimit = kNanosPerMilli;

// How often a spinning waiter looks before it reads the clock: about 16 * 10 ns between reads of 17 ns.
constexpr int kLooksPerClockRead = kDetsched ? 1 : 16;

}  // namespace

// --- Taking

// The fast path has the word and something out of the ordinary to do.
Gil::TakeResult Gil::FinishTake(GilHolder& holder) {
  if (holder.exiting_.load(kRelaxed)) [[unlikely]] {
    // The third check of take_gil (bpo-36475): the thread that set exiting_ held the GIL at the time, so we
    // have seen it.
    DropFinal(holder);
    return TakeResult::kMustExit;
  }
  SetHolder(holder);
  if (HasStaleRequest(holder)) ClearStaleRequest(holder);
  if (bias_countdown_.Get() == 0) {
    GrantBias(holder);
  } else {
    bias_countdown_.Set(bias_countdown_.Get() - 1);
  }
  return TakeResult::kTaken;
}

Gil::TakeResult Gil::TakeSlow(GilHolder& holder) {
  if (holder.hold_.load(kRelaxed) != GilHolder::kNone) {
    Fatal("Gil::Take", "this thread holds the GIL already; a GIL is not recursive (%s)", ToString().c_str());
  }
  const int saved_errno = errno;
  holder.requesting_.store(true, kRelaxed);
  Emit(&GilHooks::ready, holder);

  queue_lock_.Lock();
  if (holder.converted_ && !PYRT_MUTANT(gil_conversion_overlooked)) {
    // RevokeBias took our attempt at a biased take for a hold and left us the GIL.
    holder.converted_ = false;
    queue_lock_.Unlock();
    errno = saved_errno;
    return Acquired(holder);
  }
  if (holder.exiting_.load(kRelaxed) || !enabled()) {
    queue_lock_.Unlock();
    errno = saved_errno;
    return Leave(holder, Refusal(holder));
  }
  RevokeBias();
  if (TryAcquireWord()) {
    queue_lock_.Unlock();
    errno = saved_errno;
    return Acquired(holder);
  }

  const int64_t now = MonotonicNow();
  GilWaiter waiter(holder);
  waiter.interactive =
      policy() == SwitchPolicy::kInteractive && !holder.gave_up_forced_ && budget_.MayPreempt(now);
  holder.gave_up_forced_ = false;
  ++stats_.contended_takes;
  Enqueue(waiter, now);

  const TakeResult result = Wait(waiter);
  errno = saved_errno;
  return result == TakeResult::kTaken ? Acquired(holder) : Leave(holder, result);
}

// The caller has word_, by its own doing or by a grant.
Gil::TakeResult Gil::Acquired(GilHolder& holder) {
  holder.requesting_.store(false, kRelaxed);
  holder.hold_.store(GilHolder::kPlain, kRelaxed);
  if (holder.exiting_.load(kRelaxed) && !PYRT_MUTANT(bpo_36475_no_check_after_take)) [[unlikely]] {
    DropFinal(holder);
    return TakeResult::kMustExit;
  }
  SetHolder(holder);
  if (HasStaleRequest(holder)) ClearStaleRequest(holder);
  Emit(&GilHooks::acquired, holder);
  return TakeResult::kTaken;
}

Gil::TakeResult Gil::Leave(GilHolder& holder, TakeResult result) {
  // Release: the thread does not touch this Gil any more, which may be freed once that is known.
  holder.requesting_.store(false, kRelease);
  return result;
}

bool Gil::TryAcquireWord() {
  uint32_t expected = kFree;
  return word_.compare_exchange_strong(expected, kHeld, kAcquire, kRelaxed);
}

void Gil::SetHolder(GilHolder& holder) {
  if (last_holder_.load(kRelaxed) == &holder) return;
  // Release: a waiter that asks reaches into the holder (RequestDrop).
  last_holder_.store(&holder, kRelease);
  switch_number_.store(switch_number_.load(kRelaxed) + 1, kRelaxed);
  bias_countdown_.Set(bias_threshold_.load(kRelaxed));
}

void Gil::ClearStaleRequest(GilHolder& holder) {
  queue_lock_.Lock();
  // A head that has asked this very holder keeps its request; the next poll answers it.
  if (queue_.empty() || !queue_.head()->requested) ClearRequest(holder);
  queue_lock_.Unlock();
}

void Gil::ClearRequest(GilHolder& holder) {
  if (holder.drop_requested()) holder.drop_request_word_->fetch_and(~holder.drop_request_bit_, kSeqCst);
}

// --- Waiting

void Gil::Enqueue(GilWaiter& waiter, int64_t now) {
  const bool first = queue_.empty();
  waiter.arrived = now;
  queue_.Insert(waiter, waiter.interactive || waiter.preempted);
  waiter.holder.waiter_ = &waiter;
  if (queue_.IsHead(waiter)) waiter.head_since = now;
  if (first) {
    // An owner that took the word before this store may still drop it without seeing us.
    owners_see_waiters_ = false;
    RestartInterval(now);
  }
  waiting_.store(queue_.size(), kRelaxed);
}

void Gil::Dequeue(GilWaiter& waiter, int64_t now) {
  const bool was_head = queue_.IsHead(waiter);
  queue_.Remove(waiter);
  waiter.holder.waiter_ = nullptr;
  if (queue_.spinner == &waiter) queue_.spinner = nullptr;
  if (was_head && !queue_.empty()) queue_.head()->head_since = now;
  waiting_.store(queue_.size(), kRelaxed);

  const uint64_t waited = static_cast<uint64_t>(std::max<int64_t>(now - waiter.arrived, 1));
  const size_t bucket = static_cast<size_t>(std::bit_width(waited)) - 1;
  ++stats_.wait_histogram[std::min(bucket, stats_.wait_histogram.size() - 1)];
}

// The waiter has caught the word itself.
void Gil::DequeueAsHolder(GilWaiter& waiter, int64_t now) {
  Dequeue(waiter, now);
  SetHolder(waiter.holder);
  PayForPreemption(waiter.holder, now);
}

// Waits until the GIL is granted to `waiter`, or it may take it, or it must leave. Enters with the queue lock
// held and the waiter queued; returns with neither.
//
// Who wakes us: the holder that passes the GIL to us (kGranted); the holder that lets go while we are the
// head (kLookAgain); the tail when it is time for us to ask (kLookAgain); RequestExit (kLookAgain); the
// holder that switches the GIL off (kDisabled). If the holder dies without dropping, nobody does: that is a
// bug of the host, which ToString and the watchdogs make visible.
Gil::TakeResult Gil::Wait(GilWaiter& waiter) {
  bool may_spin = true;
  for (;;) {
    const uint32_t signal = waiter.signal.load(kAcquire);
    if (signal == GilWaiter::kGranted || signal == GilWaiter::kDisabled) {
      queue_lock_.Unlock();
      return signal == GilWaiter::kGranted ? TakeResult::kTaken : TakeResult::kDisabled;
    }
    if (signal == GilWaiter::kLookAgain) {
      waiter.signal.store(GilWaiter::kNone, kRelaxed);
      may_spin = true;
    }
    int64_t now = MonotonicNow();
    if (waiter.holder.exiting_.load(kRelaxed)) {
      Withdraw(waiter, now);
      queue_lock_.Unlock();
      return TakeResult::kMustExit;
    }
    if (queue_.IsHead(waiter) && TryAcquireWord()) {
      DequeueAsHolder(waiter, now);
      queue_lock_.Unlock();
      return TakeResult::kTaken;
    }

    const bool asked_before = waiter.requested;
    const GilWake wake_head = KeepTime(waiter, now);
    if (waiter.requested && !asked_before) may_spin = true;
    const Deadline deadline = queue_.IsTail(waiter) ? queue_.interval_start + IntervalNanos() : kNoDeadline;
    const bool is_head = queue_.IsHead(waiter);

    const int64_t budget = spin_budget_.nanos(/*with_fence=*/!owners_see_waiters_);
    const bool short_wait = deadline != kNoDeadline && deadline - now <= budget;
    if (may_spin && budget > 0 && queue_.spinner == nullptr && wake_head.futex == nullptr &&
        (is_head || short_wait)) {
      queue_.spinner = &waiter;
      // One that has asked spins for the answer; the interval that runs on beside it is for asking again.
      const int64_t until = waiter.requested ? now + budget : std::min<int64_t>(deadline, now + budget);
      queue_lock_.Unlock();
      const bool acquired = SpinForGrant(waiter, until, is_head);
      if (waiter.signal.load(kAcquire) == GilWaiter::kGranted) return TakeResult::kTaken;  // already dequeued
      queue_lock_.Lock();
      if (queue_.spinner == &waiter) queue_.spinner = nullptr;
      if (acquired && waiter.signal.load(kRelaxed) == GilWaiter::kDisabled) {
        // The GIL was switched off, and we with the others taken out of the queue, before we caught the word.
        word_.store(kFree, kRelease);
        GilWake wake;
        if (!queue_.empty()) wake = Notify(*queue_.head(), GilWaiter::kLookAgain, MonotonicNow());
        queue_lock_.Unlock();
        wake.Do();
        return TakeResult::kDisabled;
      }
      if (acquired) {
        now = MonotonicNow();
        const bool was_tail = queue_.IsTail(waiter);
        DequeueAsHolder(waiter, now);
        if (!queue_.empty() && !PYRT_MUTANT(gil_spinner_tells_nobody_that_it_left)) {
          // Who came and stood ahead of us after we had caught the word has asked the holder before us.
          GilWaiter& head = *queue_.head();
          if (std::exchange(head.requested, false)) Notify(head, GilWaiter::kLookAgain, now).Do();
          if (was_tail) PassOnTimeKeeping(now);
        }
        queue_lock_.Unlock();
        return TakeResult::kTaken;
      }
      may_spin = false;
      continue;
    }

    if (!owners_see_waiters_) {
      // Before the first sleep of an episode: after this fence every holder's drop either has stored kFree
      // where our next look finds it, or will see waiting_ (Drop).
      queue_lock_.Unlock();
      wake_head.Do();
      const int64_t before_fence = MonotonicNow();
      if (!PYRT_MUTANT(gil_park_without_fence)) AsymmetricFence::Heavy();
      spin_budget_.LearnFence(MonotonicNow() - before_fence);
      queue_lock_.Lock();
      ++stats_.fences;
      // If we have been in the queue all the while.
      if (waiter.holder.waiter_ == &waiter) owners_see_waiters_ = true;
      continue;
    }

    ++stats_.parks;
    waiter.parked = true;
    queue_lock_.Unlock();
    wake_head.Do();
    FutexWait(&waiter.signal, GilWaiter::kNone, deadline);
    const uint32_t woken_by = waiter.signal.load(kAcquire);
    if (woken_by == GilWaiter::kGranted || woken_by == GilWaiter::kDisabled) {
      // Final: the notifier is done with the node, and wrote notified_at before the signal.
      spin_budget_.LearnWakeUp(MonotonicNow() - waiter.notified_at);
      return woken_by == GilWaiter::kGranted ? TakeResult::kTaken : TakeResult::kDisabled;
    }
    queue_lock_.Lock();
    waiter.parked = false;
    if (woken_by == GilWaiter::kLookAgain) spin_budget_.LearnWakeUp(MonotonicNow() - waiter.notified_at);
  }
}

bool Gil::SpinForGrant(GilWaiter& waiter, int64_t until, bool may_acquire) {
  for (;;) {
    for (int look = 0; look < kLooksPerClockRead; ++look) {
      if (waiter.signal.load(kAcquire) != GilWaiter::kNone) return false;
      if (may_acquire && word_.load(kRelaxed) == kFree && TryAcquireWord()) return true;
      CpuRelax();
    }
    if (MonotonicNow() >= until) return false;
  }
}

// The tail looks at the interval and, when it has passed without a switch, makes the head ask. Returns whom
// to wake.
GilWake Gil::KeepTime(GilWaiter& waiter, int64_t now) {
  GilWake wake;
  if (queue_.IsTail(waiter)) {
    if (queue_.interval_switch_number != switch_number()) {
      RestartInterval(now);
    } else if (now - queue_.interval_start >= IntervalNanos()) {
      RestartInterval(now);
      GilWaiter& head = *queue_.head();
      head.overdue = true;
      // The head asks by itself once it runs, so that the holder goes on working while the head wakes up.
      if (!queue_.IsHead(waiter)) wake = Notify(head, GilWaiter::kLookAgain, now);
    }
  }
  // An interactive head asks at once, unless the holder is an interactive thread itself and will let go soon.
  const bool asks_at_once = waiter.interactive && !waiter.requested && preempted_ == nullptr;
  if ((waiter.overdue || asks_at_once) && queue_.IsHead(waiter)) {
    waiter.overdue = false;
    RequestDrop(waiter);
  }
  return wake;
}

void Gil::RestartInterval(int64_t now) {
  queue_.interval_start = now;
  queue_.interval_switch_number = switch_number();
}

void Gil::RequestDrop(GilWaiter& waiter) {
  GilHolder* const owner = last_holder_.load(kAcquire);
  if (owner == nullptr || word_.load(kRelaxed) != kHeld) return;
  // `owner` is alive: its Forget takes the queue lock and removes it from last_holder_. It may have let go by
  // now; then the request is stale, and its next take or yield clears it.
  owner->drop_request_word_->fetch_or(owner->drop_request_bit_, kSeqCst);
  waiter.requested = true;
  ++stats_.requests;
}

// Takes a waiter that must exit out of the queue, with everything that depends on it.
void Gil::Withdraw(GilWaiter& waiter, int64_t now) {
  const bool was_tail = queue_.IsTail(waiter);
  Dequeue(waiter, now);
  if (preempted_ == &waiter.holder) preempted_ = nullptr;
  if (waiter.requested && !PYRT_MUTANT(gh_96387_keep_drop_request)) {
    if (GilHolder* const owner = last_holder_.load(kAcquire)) ClearRequest(*owner);
    ++stats_.withdrawn;
  }
  if (queue_.empty()) return;
  // The wake-up that it may have swallowed goes to the next head, the time keeping to the next tail.
  if (word_.load(kRelaxed) == kFree && !PYRT_MUTANT(gil_leaver_swallows_wake))
    Notify(*queue_.head(), GilWaiter::kLookAgain, now).Do();
  if (was_tail) PassOnTimeKeeping(now);
}

// The tail has left the queue out of turn.
void Gil::PassOnTimeKeeping(int64_t now) {
  RestartInterval(now);
  Notify(*queue_.tail(), GilWaiter::kLookAgain, now).Do();
}

// --- Letting go

void Gil::DropSlow(GilHolder& holder, bool final) {
  if (holder.hold_.load(kRelaxed) == GilHolder::kNone) {
    if constexpr (!kGilEnabled) return;
    Fatal("drop_gil", "drop_gil: GIL is not locked by this thread (%s)", ToString().c_str());
  }
  const int saved_errno = errno;
  Emit(&GilHooks::released, holder);
  queue_lock_.Lock();
  UnbiasSelf(holder);
  holder.hold_.store(GilHolder::kNone, kRelaxed);
  const GilWake wake = ReleaseOrHandOff(holder, MonotonicNow());
  if (final) {
    // As Forget, which would come too late. Whoever takes the word at this moment writes its own name.
    GilHolder* self = &holder;
    last_holder_.compare_exchange_strong(self, nullptr, kRelaxed, kRelaxed);
    if (preempted_ == &holder) preempted_ = nullptr;
  }
  // For a final drop: from here on the next holder may free `holder`; it may free this Gil only after the
  // destructor has had the queue lock, which this releases.
  queue_lock_.Unlock();
  if (final && PYRT_MUTANT(gh_104341_final_drop_looks_back)) ClearRequest(holder);
  wake.Do();
  if (PYRT_MUTANT(gil_drop_waits_for_the_switch)) {
    const GilHolder* const next = last_holder_.load(kRelaxed);
    while (next != nullptr && next != &holder && next->requesting()) YieldCpu();
  }
  errno = saved_errno;
}

void Gil::DropRevoked(GilHolder& holder) {
  const int saved_errno = errno;
  GilWake wake;
  queue_lock_.Lock();  // the revocation is over
  if (holder.converted_) {
    holder.converted_ = false;
    wake = ReleaseOrHandOff(holder, MonotonicNow());
  }
  queue_lock_.Unlock();
  wake.Do();
  errno = saved_errno;
}

void Gil::WakeHeadAfterDrop() {
  const int saved_errno = errno;
  GilWake wake;
  queue_lock_.Lock();
  if (!queue_.empty() && word_.load(kRelaxed) == kFree) {
    wake = Notify(*queue_.head(), GilWaiter::kLookAgain, MonotonicNow());
  }
  queue_lock_.Unlock();
  wake.Do();
  errno = saved_errno;
}

// The holder lets go, seeing the queue.
GilWake Gil::ReleaseOrHandOff(GilHolder& holder, int64_t now) {
  const bool requested = holder.drop_requested();
  ClearRequest(holder);
  holder.gave_up_forced_ = requested;
  if (queue_.empty()) {
    word_.store(kFree, kRelease);
    return {};
  }
  owners_see_waiters_ = true;  // we do, and whoever gets the word after us acquires what we have seen
  GilWaiter& head = *queue_.head();
  const bool overdue = now - head.head_since > kBargingLimit && !PYRT_MUTANT(gil_barging_without_end);
  if (requested || overdue) return HandOff(now);
  head.requested = false;
  ++stats_.barged;
  word_.store(kFree, kRelease);
  return Notify(head, GilWaiter::kLookAgain, now);
}

// Passes the GIL, which the caller holds and gives up, to the head of the queue.
GilWake Gil::HandOff(int64_t now) {
  GilWaiter& head = *queue_.head();
  Dequeue(head, now);
  if (PYRT_MUTANT(gil_handoff_frees_the_word)) word_.store(kFree, kRelease);
  ++stats_.handoffs;

  const bool keeps_interval = head.interactive;
  SetHolder(head.holder);
  PayForPreemption(head.holder, now);
  // A preemption is not the switch that those behind are waiting for: their interval goes on.
  if (keeps_interval) queue_.interval_switch_number = switch_number();
  ClearRequest(head.holder);
  return Notify(head, GilWaiter::kGranted, now);
}

Gil::TakeResult Gil::Yield(GilHolder& holder) {
  if (holder.hold_.load(kRelaxed) == GilHolder::kNone) {
    if constexpr (!kGilEnabled) return Refusal(holder);
    Fatal("Gil::Yield", "drop_gil: GIL is not locked by this thread (%s)", ToString().c_str());
  }
  const int saved_errno = errno;
  if (holder.drop_requested()) Emit(&GilHooks::forced, holder);
  queue_lock_.Lock();
  UnbiasSelf(holder);
  ClearRequest(holder);
  if (holder.exiting_.load(kRelaxed)) {
    holder.hold_.store(GilHolder::kNone, kRelaxed);
    const GilWake wake = ReleaseOrHandOff(holder, MonotonicNow());
    queue_lock_.Unlock();
    wake.Do();
    errno = saved_errno;
    return TakeResult::kMustExit;
  }
  if (queue_.empty()) {
    queue_lock_.Unlock();
    errno = saved_errno;
    return TakeResult::kTaken;
  }
  const int64_t now = MonotonicNow();
  GilWaiter waiter(holder);
  if (queue_.head()->interactive) {
    waiter.preempted = true;
    ++stats_.preemptions;
    // One is paid for at a time, the last. Everybody's first take counts as interactive: busy threads that start
    // together preempt each other and then stay, and what that costs the first of them would drain the budget.
    preempted_ = &holder;
    preempted_at_ = now;
  }
  holder.hold_.store(GilHolder::kNone, kRelaxed);
  holder.requesting_.store(true, kRelaxed);  // at no moment both
  // We queue before the head leaves: at no moment may the new holder find waiting_ at 0.
  if (!PYRT_MUTANT(gil_yield_does_not_queue)) Enqueue(waiter, now);
  owners_see_waiters_ = true;
  const GilWake wake = HandOff(now);
  if (wake.futex != nullptr) {
    queue_lock_.Unlock();
    wake.Do();
    queue_lock_.Lock();
  }
  const TakeResult result = Wait(waiter);
  errno = saved_errno;
  return result == TakeResult::kTaken ? Acquired(holder) : Leave(holder, result);
}

// Tells `waiter` something; kGranted and kDisabled are final, and the node may be gone as soon as they are
// stored.
GilWake Gil::Notify(GilWaiter& waiter, GilWaiter::Signal signal, int64_t now) {
  if (waiter.signal.load(kRelaxed) == signal) return {};  // a wake-up is in flight
  const bool parked = waiter.parked && !PYRT_MUTANT(gil_notify_forgets_wake);
  const GilWake wake{parked ? &waiter.signal : nullptr};
  waiter.notified_at = now;
  if (parked) ++stats_.wakes;
  waiter.signal.store(signal, PYRT_MUTANT(gil_grant_relaxed) ? kRelaxed : kRelease);
  return wake;
}

void Gil::PayForPreemption(const GilHolder& holder, int64_t now) {
  if (preempted_ != &holder) return;
  preempted_ = nullptr;
  budget_.Pay(now, now - preempted_at_);
  queue_.interval_switch_number = switch_number();  // as in HandOff: the interval of those behind goes on
}

// --- Bias

// The caller holds the GIL and has taken it so often without contention that it gets it without asking from
// now on. Only where the light fence costs nothing: with full fences a bias is dearer than a compare-and-swap.
void Gil::GrantBias(GilHolder& holder) {
  queue_lock_.Lock();
  // RequestExit may have come since we looked, and found no bias to revoke; a biased take does not look again.
  const bool must_exit = holder.exiting_.load(kRelaxed) && !PYRT_MUTANT(gil_bias_for_the_exiting);
  if (queue_.empty() && hooks_.load(kRelaxed) == nullptr && !must_exit && AsymmetricFence::IsAsymmetric()) {
    // With nobody queued a request is a stale one; a biased take does not look for it.
    ClearRequest(holder);
    holder.hold_.store(GilHolder::kBiased, kRelaxed);
    word_.store(kBiased, kRelaxed);
    bias_.store(&holder, kRelaxed);
    ++stats_.bias_grants;
  }
  bias_countdown_.Set(bias_threshold_.load(kRelaxed));
  queue_lock_.Unlock();
}

// Ends the bias, whoever has it; afterwards word_ is kFree or kHeld. Costs a membarrier if there was one.
void Gil::RevokeBias() {
  GilHolder* const owner = bias_.load(kRelaxed);
  if (owner == nullptr) return;
  bias_.store(nullptr, kRelaxed);
  // After this the owner's next look at bias_ sees null, or we see here that it holds (Take, Drop).
  if (!PYRT_MUTANT(gil_revoke_without_fence)) AsymmetricFence::Heavy();
  ++stats_.fences;
  ++stats_.bias_revocations;
  bias_threshold_.store(std::min(bias_threshold_.load(kRelaxed) * 2, kLongestBiasCountdown), kRelaxed);
  // Acquire: pairs with the release in the owner's Drop, and is what orders its critical section before the
  // next one.
  const std::memory_order order = PYRT_MUTANT(gil_revoke_reads_relaxed) ? kRelaxed : kAcquire;
  if (owner->hold_.load(order) == GilHolder::kBiased) {
    owner->converted_ = true;
    word_.store(kHeld, kRelaxed);
  } else {
    word_.store(kFree, kRelease);
  }
}

// The caller holds the GIL and goes the slow way: turns a biased hold into a plain one.
void Gil::UnbiasSelf(GilHolder& holder) {
  if (holder.hold_.load(kRelaxed) != GilHolder::kBiased) return;
  if (bias_.load(kRelaxed) == &holder) {
    bias_.store(nullptr, kRelaxed);
    word_.store(kHeld, kRelaxed);
  } else {
    holder.converted_ = false;
  }
  holder.hold_.store(GilHolder::kPlain, kRelaxed);
}

}  // namespace pyrt::inline PYRT_VARIANT
