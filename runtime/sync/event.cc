#include "pyrt/runtime/sync/event.h"

#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

void Event::Notify() {
  if (PYRT_MUTANT(event_notify_loses_waiter)) {
    // What an exchange prevents: a waiter that announces itself between the load and the store.
    const uint8_t before = state_.load(kRelaxed);
    state_.store(kSet, kRelease);
    if (before == kHasParked) ParkingLot::UnparkAll(&state_);
    return;
  }
  const uint8_t before = state_.exchange(kSet, PYRT_MUTANT(event_notify_is_relaxed) ? kRelaxed : kRelease);
  if (before == kHasParked) ParkingLot::UnparkAll(&state_);
}

bool Event::WaitSlow(Timeout timeout, const WaitHooks* hooks) {
  uint8_t state = state_.load(kAcquire);
  if (state == kUnset) {
    // On failure `state` is kSet or kHasParked.
    if (state_.compare_exchange_strong(state, kHasParked, kAcquire, kAcquire)) state = kHasParked;
  }
  if (state == kSet) return true;
  static_cast<void>(ParkingLot::Park(state_, kHasParked, DeadlineAfter(timeout), nullptr, hooks));
  return IsSet();
}

void Event::ReinitAfterFork() {
  if (state_.load(kRelaxed) == kHasParked) state_.store(kUnset, kRelaxed);
}

}  // namespace pyrt::inline PYRT_VARIANT
