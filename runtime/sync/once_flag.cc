#include "pyrt/runtime/sync/once_flag.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

int OnceFlag::CallOnceSlow(Function function, void* target, const WaitHooks* hooks) {
  uint8_t state = state_.load(kAcquire);
  for (;;) {
    if (state == kDone) return 0;
    if (state == kNotRun) {
      // Acquire: a callback that runs again sees what the failed one left behind.
      if (!state_.compare_exchange_weak(state, kRunning, kAcquire, kAcquire)) continue;
      const int result = function(target);
      PYRT_CHECK(result == 0 || result == -1, "_PyOnceFlag_CallOnce",
                 "invalid result from _PyOnceFlag_CallOnce (%d; 0 is success, -1 failure)", result);
      Finish(result == 0 ? kDone : kNotRun);
      return result;
    }
    if ((state & kHasParked) == 0) {
      if (!state_.compare_exchange_weak(state, state | kHasParked, kAcquire, kAcquire)) continue;
      state |= kHasParked;
    }
    static_cast<void>(ParkingLot::Park(state_, state, kNoDeadline, nullptr, hooks));
    state = state_.load(kAcquire);
  }
}

void OnceFlag::Finish(uint8_t result) {
  if (PYRT_MUTANT(once_finish_loses_waiter)) {
    const uint8_t before = state_.load(kRelaxed);
    state_.store(result, kRelease);
    if ((before & kHasParked) != 0) ParkingLot::UnparkAll(&state_);
    return;
  }
  const uint8_t before = state_.exchange(result, PYRT_MUTANT(once_finish_is_relaxed) ? kRelaxed : kRelease);
  if ((before & kHasParked) == 0) return;
  // All of them also after a failure: one re-runs the callback, the others queue again behind that one.
  // Waking one only would need it to wake the next on every path.
  if (PYRT_MUTANT(once_failure_wakes_nobody) && result == kNotRun) return;
  ParkingLot::UnparkAll(&state_);
}

void OnceFlag::ReinitAfterFork(bool running_here) {
  if (IsDone()) return;
  state_.store(running_here ? kRunning : kNotRun, kRelaxed);
}

}  // namespace pyrt::inline PYRT_VARIANT
