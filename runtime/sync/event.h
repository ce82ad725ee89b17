// A one-shot event of one byte: unset, then set for ever.
//
//   byte  0 unset   1 set   2 unset, and somebody may sleep
//
//             0              2              1
//   Notify    1              1, wakes all   1 (nothing happens)
//   Wait      2 and sleeps   sleeps         returns
//
// What happened before Notify is visible to whoever saw the event set. The last waiter may free the event as
// soon as it is set: Notify uses only the address afterwards.
//
// CPython counterpart: PyEvent.

#ifndef PYRT_RUNTIME_SYNC_EVENT_H_
#define PYRT_RUNTIME_SYNC_EVENT_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

class Event {
 public:
  constexpr Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Acquire pairs with Notify's release.
  bool IsSet() const {
    return state_.load(PYRT_MUTANT(event_is_set_is_relaxed) ? kRelaxed : kAcquire) == kSet;
  }

  // Sets the event and wakes all waiters; idempotent. Never blocks.
  void Notify();

  // Blocks until the event is set. Of `hooks` only before_park and after_park are used.
  void Wait(const WaitHooks* hooks = nullptr) {
    while (!WaitTimed(kForever, hooks)) {
    }
  }

  // Sleeps at most once, at most `timeout` nanoseconds (negative: for ever, 0: not at all), and returns
  // whether the event is set. False can come early, from a signal handler: a caller that must wait its full
  // time loops.
  bool WaitTimed(Timeout timeout, const WaitHooks* hooks = nullptr) {
    return IsSet() || (timeout != 0 && WaitSlow(timeout, hooks));
  }

  // In a forked child, after ParkingLot::AfterForkInChild: nobody sleeps, a set event stays set.
  void ReinitAfterFork();

  // The byte, for tests and state dumps.
  uint8_t state() const { return state_.load(kRelaxed); }

 private:
  static constexpr uint8_t kUnset = 0;
  static constexpr uint8_t kSet = 1;
  static constexpr uint8_t kHasParked = 2;

  bool WaitSlow(Timeout timeout, const WaitHooks* hooks);

  Atomic<uint8_t> state_{kUnset};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_EVENT_H_
