// Gil: a lock that one of many threads holds while it runs, and that the others can ask for.
//
// Three things make it more than a mutex. A waiter that has waited for the switch interval asks the holder,
// through a word that the holder polls, to give it up, and the holder then passes it on without anybody else
// getting in between (a forced switch). A holder that lets go by itself, around a blocking call, usually gets
// it back at once. And a thread which may never run again (a daemon thread of a process that is finalizing)
// leaves without it.
//
//   word_      kFree | kHeld | kBiased                              the lock
//   bias_      null | the one holder that may take it without a read-modify-write; then word_ is kBiased
//   waiting_   how many threads are queued; 0 is what the fast drop looks for
//   queue      FIFO of GilWaiter nodes on their threads' stacks, guarded by queue_lock_
//
//   operation   free          held by another   held by me       biased to me    biased to another
//   Take        CAS -> held   queue, wait       fatal            store, fence    revoke, then as left
//   Drop        fatal         fatal             store, pass on   store, fence    fatal
//   Yield       fatal         fatal             pass on, queue   un-bias, too    fatal
//
// gil/README.md argues why no wake-up is lost and who pairs with whom; gil/internal/gil_queue.h has the
// queue.
//
// Happens-before: everything a thread did before Drop or Yield happens before what the next holder does after
// its Take or Yield returns. Nothing is ordered with threads that do not take the GIL.
//
// CPython counterpart: struct _gil_runtime_state, take_gil, drop_gil, _PyEval_SetSwitchInterval,
// _PyEval_EnableGILTransient and relatives.

#ifndef PYRT_GIL_GIL_H_
#define PYRT_GIL_GIL_H_

#include <cstdint>
#include <string>

#include "pyrt/gil/gil_holder.h"
#include "pyrt/gil/gil_stats.h"
#include "pyrt/gil/internal/gil_queue.h"
#include "pyrt/gil/internal/spin_budget.h"
#include "pyrt/gil/switch_policy.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/raw_mutex.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class Gil {
 public:
  static constexpr uint64_t kDefaultIntervalMicros = 5000;
  static constexpr uint32_t kEnabledForGood = 0x7fffffff;  // INT_MAX

  enum class TakeResult : uint8_t {
    kTaken,     // the caller holds the GIL
    kDisabled,  // GIL-disabled build: the GIL is off, nobody holds it, the caller may run without it
    kMustExit,  // RequestExit was called for this holder: it may not run again (HangForever)
  };

  // A free GIL. In the GIL-disabled build `enabled` says whether it starts on for good (the configuration's
  // "enable") or off; the GIL-enabled build ignores it.
  constexpr explicit Gil(bool enabled = kGilEnabled)
      : enabled_(enabled || kGilEnabled ? kEnabledForGood : 0) {}
  Gil(const Gil&) = delete;
  Gil& operator=(const Gil&) = delete;
  ~Gil();  // nobody may hold it or wait for it

  // Acquires the GIL for the calling thread, blocking as long as it takes. `errno` is preserved. Taking it
  // twice is fatal. Uncontended: one compare-and-swap, or two stores when biased. Not signal-safe. CPython:
  // take_gil.
  [[nodiscard]] TakeResult Take(GilHolder& holder) {
    if constexpr (!kGilEnabled) {
      if (!enabled()) return Refusal(holder);
    }
    if (bias_.load(kRelaxed) == &holder && holder.hold_.load(kRelaxed) == GilHolder::kNone) {
      // Pairs with RevokeBias: either it sees this store, or we see its null (AsymmetricFence).
      holder.hold_.store(GilHolder::kBiased, kRelaxed);
      if (!PYRT_MUTANT(gil_biased_take_without_fence)) AsymmetricFence::LightWhereAsymmetric();
      // No request can be stale here: who asks has queued, and before that revoked the bias.
      if (bias_.load(kRelaxed) == &holder) [[likely]]
        return TakeResult::kTaken;
      holder.hold_.store(GilHolder::kNone, kRelease);
      return TakeSlow(holder);
    }
    uint32_t expected = kFree;
    if (hooks_.load(kRelaxed) == nullptr && holder.hold_.load(kRelaxed) == GilHolder::kNone &&
        word_.compare_exchange_strong(expected, kHeld, kAcquire, kRelaxed)) [[likely]] {
      holder.hold_.store(GilHolder::kPlain, kRelaxed);
      if (last_holder_.load(kRelaxed) != &holder || holder.exiting_.load(kRelaxed) ||
          HasStaleRequest(holder) || bias_countdown_.Get() == 0) [[unlikely]] {
        return FinishTake(holder);
      }
      bias_countdown_.Set(bias_countdown_.Get() - 1);
      return TakeResult::kTaken;
    }
    return TakeSlow(holder);
  }

  // Gives the GIL up for as long as the caller likes, typically around a blocking call. If somebody has asked
  // for it, it is passed on directly; else whoever comes first gets it, which may be the caller again. Never
  // blocks on other threads but for the short queue lock. Dropping a GIL that the holder does not have is
  // fatal "drop_gil: GIL is not locked". In the GIL-disabled build a holder that took it while it was off
  // drops nothing. CPython: drop_gil.
  void Drop(GilHolder& holder) {
    const uint32_t hold = holder.hold_.load(kRelaxed);
    if (hold == GilHolder::kBiased) {
      // Pairs with RevokeBias, as in Take: either it sees that we let go, or we see that it came.
      holder.hold_.store(GilHolder::kNone, kRelease);
      AsymmetricFence::LightWhereAsymmetric();
      if (bias_.load(kRelaxed) == &holder) [[likely]]
        return;
      return DropRevoked(holder);
    }
    if (hold == GilHolder::kPlain && waiting_.load(kRelaxed) == 0 && hooks_.load(kRelaxed) == nullptr)
        [[likely]] {
      holder.hold_.store(GilHolder::kNone, kRelaxed);
      word_.store(kFree, PYRT_MUTANT(gil_drop_relaxed) ? kRelaxed : kRelease);
      // Pairs with the fence that a waiter runs before it parks: either its last look at word_ sees kFree, or
      // we see that it waits.
      AsymmetricFence::Light();
      if (waiting_.load(kRelaxed) == 0 || PYRT_MUTANT(gil_drop_ignores_waiters)) [[likely]]
        return;
      return WakeHeadAfterDrop();
    }
    DropSlow(holder);
  }

  // The last drop of a holder whose interpreter, and this Gil with it, may be freed by the next one to take
  // it: touches neither after the GIL has changed hands (gh-104341). Forgets the holder, which may be freed.
  void DropFinal(GilHolder& holder) { DropSlow(holder, /*final=*/true); }

  // The answer to a drop request: passes the GIL to the head of the queue, queues up, and returns when it is
  // the caller's again; give and wait are one operation, so the caller cannot win the race against the thread
  // that asked. With nobody waiting it only clears the request. Preserves errno. CPython: drop_gil + take_gil
  // in _Py_HandlePending, with FORCE_SWITCHING.
  [[nodiscard]] TakeResult Yield(GilHolder& holder);

  // Makes `holder` leave: from now on its Take and Yield return kMustExit, at once if it is waiting, and a
  // request that it has placed is withdrawn first, so that no holder passes the GIL to a thread that will not
  // come (gh-96387). Any thread. CPython: _PyThreadState_MustExit and the three checks in take_gil.
  void RequestExit(GilHolder& holder);

  // `holder` is about to be freed, does not hold the GIL and does not wait for it.
  void Forget(GilHolder& holder);

  // In a forked child: the GIL is free, nobody waits, and `survivor` (may be null) holds nothing. The
  // interval, the switch number, the policy and whether it is enabled survive. CPython:
  // _PyEval_ReInitThreads.
  void ReinitAfterFork(GilHolder* survivor);

  // Microseconds that a waiter waits before it asks; at least 1. Any thread, any time (gh-130605).
  uint64_t interval() const { return interval_micros_.load(kRelaxed); }
  void set_interval(uint64_t micros) { interval_micros_.store(micros == 0 ? 1 : micros, kRelaxed); }

  SwitchPolicy policy() const { return policy_.load(kRelaxed); }
  void set_policy(SwitchPolicy policy) { policy_.store(policy, kRelaxed); }

  // Counts the changes of holder; wraps. A thread that drops and takes again without anybody in between does
  // not count.
  uint64_t switch_number() const { return switch_number_.load(kRelaxed); }

  // Who holds the GIL or held it last; compare only, it may be gone.
  const GilHolder* last_holder() const { return last_holder_.load(kRelaxed); }

  // Whether somebody holds it: a moment's truth. Takes the queue lock.
  bool locked() const;

  // Whether Take takes: always in the GIL-enabled build. CPython: gil->enabled, sys._is_gil_enabled().
  bool enabled() const { return kGilEnabled || enabled_.load(kRelaxed) != 0; }

  // GIL-disabled build: the counter behind transient and permanent enabling (GI-28..32). AddEnableRequest and
  // EnableForGood may be called only while no other thread of the interpreter runs (world stopped) or by the
  // holder. Each returns true if it changed whether the GIL is on; too many transient requests are fatal. A
  // thread attached without the GIL has to attach again to get it.
  bool AddEnableRequest();
  bool EnableForGood();
  // The caller holds the GIL and loses it if this was the last request: all waiters then return kDisabled,
  // every one of them (with CPython's condition variable a signal had to be chained).
  bool RemoveEnableRequest(GilHolder& holder);

  GilStats Stats() const;

  // Installs `hooks` (null removes them); the object must outlive every operation in progress. While hooks
  // are installed the fast paths are off.
  void SetHooks(const GilHooks* hooks);

  // "held, last holder 0x..., 2 waiting, switch number 7", for fatal messages and debuggers.
  std::string ToString() const;

 private:
  enum Word : uint32_t { kFree, kHeld, kBiased };

  // After how many uncontended takes by one thread a bias is worth a revocation: a revocation costs one
  // membarrier (10-14 us beside a running thread), a biased cycle saves about 4 ns. Doubles with each
  // revocation.
  static constexpr uint32_t kFirstBiasCountdown = kDetsched ? 1 : 4096;  // soon, where schedules are short
  static constexpr uint32_t kLongestBiasCountdown = 1u << 24;

  // A request that reached the holder after it had let go by itself (GI-12), or one that stands for the head
  // still.
  static bool HasStaleRequest(const GilHolder& holder) { return holder.drop_requested(); }

  // What a Gil that is off answers.
  static TakeResult Refusal(const GilHolder& holder) {
    return holder.exiting_.load(kRelaxed) ? TakeResult::kMustExit : TakeResult::kDisabled;
  }

  [[gnu::cold]] TakeResult TakeSlow(GilHolder& holder);
  [[gnu::cold]] TakeResult FinishTake(GilHolder& holder);
  [[gnu::cold]] void ClearStaleRequest(GilHolder& holder);
  [[gnu::cold]] void DropSlow(GilHolder& holder, bool final = false);
  [[gnu::cold]] void DropRevoked(GilHolder& holder);
  [[gnu::cold]] void WakeHeadAfterDrop();
  [[gnu::cold]] void GrantBias(GilHolder& holder);

  TakeResult Wait(GilWaiter& waiter) PYRT_RELEASE(queue_lock_);
  bool SpinForGrant(GilWaiter& waiter, int64_t until, bool may_acquire);
  TakeResult Acquired(GilHolder& holder);
  TakeResult Leave(GilHolder& holder, TakeResult result);
  void Enqueue(GilWaiter& waiter, int64_t now) PYRT_REQUIRES(queue_lock_);
  void Dequeue(GilWaiter& waiter, int64_t now) PYRT_REQUIRES(queue_lock_);
  void DequeueAsHolder(GilWaiter& waiter, int64_t now) PYRT_REQUIRES(queue_lock_);
  GilWake KeepTime(GilWaiter& waiter, int64_t now) PYRT_REQUIRES(queue_lock_);
  void RestartInterval(int64_t now) PYRT_REQUIRES(queue_lock_);
  void RequestDrop(GilWaiter& waiter) PYRT_REQUIRES(queue_lock_);
  void Withdraw(GilWaiter& waiter, int64_t now) PYRT_REQUIRES(queue_lock_);
  void PassOnTimeKeeping(int64_t now) PYRT_REQUIRES(queue_lock_);
  GilWake ReleaseOrHandOff(GilHolder& holder, int64_t now) PYRT_REQUIRES(queue_lock_);
  GilWake HandOff(int64_t now) PYRT_REQUIRES(queue_lock_);
  GilWake Notify(GilWaiter& waiter, GilWaiter::Signal signal, int64_t now) PYRT_REQUIRES(queue_lock_);
  void RevokeBias() PYRT_REQUIRES(queue_lock_);
  void UnbiasSelf(GilHolder& holder) PYRT_REQUIRES(queue_lock_);
  static void ClearRequest(GilHolder& holder);
  bool TryAcquireWord();
  void SetHolder(GilHolder& holder);
  void PayForPreemption(const GilHolder& holder, int64_t now) PYRT_REQUIRES(queue_lock_);
  void Emit(void (*GilHooks::*hook)(void*, const GilHolder&), const GilHolder& holder) const;
  int64_t IntervalNanos() const;
  std::string ToStringLocked() const PYRT_REQUIRES(queue_lock_);

  // The line that an uncontended take and drop touch.
  alignas(64) Atomic<uint32_t> word_{kFree};
  Atomic<uint32_t> waiting_{0};
  Atomic<GilHolder*> bias_{nullptr};
  Atomic<GilHolder*> last_holder_{nullptr};
  Atomic<uint64_t> switch_number_{0};                    // written by the holder, or by who makes one
  Plain<uint32_t> bias_countdown_{kFirstBiasCountdown};  // guarded by holding the GIL
  Atomic<uint32_t> enabled_;
  Atomic<const GilHooks*> hooks_{nullptr};

  alignas(64) mutable RawMutex queue_lock_;
  GilQueue queue_ PYRT_GUARDED_BY(queue_lock_);
  // True once every owner, present and future, is known to see waiting_ != 0 until the queue is empty again;
  // a waiter parks only then. See README, "Why no wake-up is lost".
  bool owners_see_waiters_ PYRT_GUARDED_BY(queue_lock_) = false;
  Atomic<uint32_t> bias_threshold_{kFirstBiasCountdown};  // written under queue_lock_
  InteractiveBudget budget_ PYRT_GUARDED_BY(queue_lock_);
  GilHolder* preempted_ PYRT_GUARDED_BY(queue_lock_) = nullptr;  // compare only
  int64_t preempted_at_ PYRT_GUARDED_BY(queue_lock_) = 0;
  SpinBudget spin_budget_;
  GilStats stats_ PYRT_GUARDED_BY(queue_lock_);
  Atomic<uint64_t> interval_micros_{kDefaultIntervalMicros};
  Atomic<SwitchPolicy> policy_{SwitchPolicy::kInterval};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_GIL_H_
