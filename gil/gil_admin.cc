// What is done to a Gil, as opposed to with it: ends of holders, fork, enabling, statistics.

#include <errno.h>

#include <cstdio>
#include <string>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

Gil::~Gil() {
  // A final drop may still be about to release the queue lock.
  queue_lock_.Lock();
  PYRT_CHECK(queue_.empty(), "Gil::~Gil", "threads still wait for this GIL (%s)", ToStringLocked().c_str());
  queue_lock_.Unlock();
}

void Gil::RequestExit(GilHolder& holder) {
  GilWake wake;
  queue_lock_.Lock();
  holder.exiting_.store(true, kRelease);
  // A biased take does not look at exiting_.
  if (bias_.load(kRelaxed) == &holder && !PYRT_MUTANT(gil_exit_keeps_bias)) RevokeBias();
  if (holder.waiter_ != nullptr && !PYRT_MUTANT(gil_exit_does_not_wake))
    wake = Notify(*holder.waiter_, GilWaiter::kLookAgain, MonotonicNow());
  queue_lock_.Unlock();
  wake.Do();
}

void Gil::Forget(GilHolder& holder) {
  queue_lock_.Lock();
  PYRT_CHECK(holder.waiter_ == nullptr && !holder.holds(), "Gil::Forget",
             "holder %p %s; it may not be freed (%s)", static_cast<void*>(&holder),
             holder.holds() ? "holds the GIL" : "waits for the GIL", ToStringLocked().c_str());
  if (bias_.load(kRelaxed) == &holder) {
    bias_.store(nullptr, kRelaxed);
    word_.store(kFree, kRelease);
  }
  GilHolder* expected = &holder;
  last_holder_.compare_exchange_strong(expected, nullptr, kRelaxed, kRelaxed);
  if (preempted_ == &holder) preempted_ = nullptr;
  queue_lock_.Unlock();
}

void Gil::ReinitAfterFork(GilHolder* survivor) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  // One thread is left. Whoever held the queue lock or stood in the queue does not exist in this process.
  queue_lock_.ReinitAfterFork();
  if (!PYRT_MUTANT(gil_child_keeps_the_queue)) queue_ = GilQueue();
  owners_see_waiters_ = false;
  preempted_ = nullptr;
  word_.store(kFree, kRelaxed);
  waiting_.store(0, kRelaxed);
  bias_.store(nullptr, kRelaxed);
  last_holder_.store(nullptr, kRelaxed);
  bias_countdown_.Set(bias_threshold_.load(kRelaxed));
  if (survivor != nullptr) {
    survivor->hold_.store(GilHolder::kNone, kRelaxed);
    survivor->requesting_.store(false, kRelaxed);
    survivor->converted_ = false;
    survivor->waiter_ = nullptr;
    ClearRequest(*survivor);
  }
}

bool Gil::AddEnableRequest() {
  uint32_t count = enabled_.load(kRelaxed);
  do {
    if (count == kEnabledForGood) return false;
    PYRT_CHECK(count != kEnabledForGood - 1, "Gil::AddEnableRequest",
               "Too many transient requests to enable the GIL");
  } while (!enabled_.compare_exchange_weak(count, count + 1, kRelaxed, kRelaxed));
  return count == 0;
}

bool Gil::EnableForGood() { return enabled_.exchange(kEnabledForGood, kRelaxed) != kEnabledForGood; }

bool Gil::RemoveEnableRequest(GilHolder& holder) {
  if (enabled_.load(kRelaxed) == kEnabledForGood) return false;
  PYRT_CHECK(holder.holds(), "Gil::RemoveEnableRequest", "only the holder may disable the GIL (%s)",
             ToString().c_str());
  queue_lock_.Lock();
  const uint32_t before = enabled_.fetch_sub(1, kRelaxed);
  PYRT_CHECK(before != 0, "Gil::RemoveEnableRequest", "no request to enable the GIL is outstanding");
  const bool off = before == 1 || PYRT_MUTANT(gil_first_to_disable_decides);
  if (off) {
    UnbiasSelf(holder);
    holder.hold_.store(GilHolder::kNone, kRelaxed);
    ClearRequest(holder);
    const int64_t now = MonotonicNow();
    while (!queue_.empty()) {  // every waiter, not the first one only (GI-33)
      GilWaiter& waiter = *queue_.head();
      Dequeue(waiter, now);
      Notify(waiter, GilWaiter::kDisabled, now).Do();
      if (PYRT_MUTANT(gi_33_disable_wakes_one)) break;
    }
    preempted_ = nullptr;
    if (!PYRT_MUTANT(gil_disable_keeps_the_word)) word_.store(kFree, kRelease);
  }
  queue_lock_.Unlock();
  return off;
}

bool Gil::locked() const {
  queue_lock_.Lock();
  const uint32_t word = word_.load(kRelaxed);
  const GilHolder* const biased = bias_.load(kRelaxed);
  const bool result = word == kHeld || (word == kBiased && biased != nullptr && biased->holds());
  queue_lock_.Unlock();
  return result;
}

GilStats Gil::Stats() const {
  queue_lock_.Lock();
  GilStats stats = stats_;
  stats.waiting = queue_.size();
  queue_lock_.Unlock();
  stats.switches = switch_number();
  return stats;
}

void Gil::SetHooks(const GilHooks* hooks) {
  queue_lock_.Lock();
  hooks_.store(hooks, kRelease);
  if (hooks != nullptr) RevokeBias();
  queue_lock_.Unlock();
}

void Gil::Emit(void (*GilHooks::*hook)(void*, const GilHolder&), const GilHolder& holder) const {
  const GilHooks* const hooks = hooks_.load(kAcquire);
  if (hooks != nullptr && hooks->*hook != nullptr) (hooks->*hook)(hooks->context, holder);
}

int64_t Gil::IntervalNanos() const {
  constexpr uint64_t kLongestMicros = static_cast<uint64_t>(kNoDeadline) / 4 / kNanosPerMicro;
  const uint64_t micros = interval();
  return static_cast<int64_t>(micros < kLongestMicros ? micros : kLongestMicros) * kNanosPerMicro;
}

std::string Gil::ToString() const {
  queue_lock_.Lock();
  std::string result = ToStringLocked();
  queue_lock_.Unlock();
  return result;
}

std::string Gil::ToStringLocked() const {
  static constexpr const char* kWords[] = {"free", "held", "biased"};
  const uint32_t word = word_.load(kRelaxed);
  char text[160];
  std::snprintf(text, sizeof(text), "gil %p: %s%s, last holder %p, %u waiting, switch number %llu",
                static_cast<const void*>(this), word <= kBiased ? kWords[word] : "corrupt",
                enabled() ? "" : ", disabled", static_cast<const void*>(last_holder_.load(kRelaxed)),
                queue_.size(), static_cast<unsigned long long>(switch_number()));
  return text;
}

}  // namespace pyrt::inline PYRT_VARIANT
