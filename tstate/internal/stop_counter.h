// StopCounter: how many threads a stopper still waits for, and where it sleeps.
//
//   word   31      30..0
//          parked  threads that have not acknowledged
//
// A thread state that is to stop gets a token (a bit of its stop_requests word); whoever takes the token
// away, the thread, its stopper, or the one that deletes it, acknowledges here, once.
//
// The last acknowledgement may be followed at once by the end of the stopper and of this object: after its
// read-modify-write only the address is used.

#ifndef PYRT_TSTATE_INTERNAL_STOP_COUNTER_H_
#define PYRT_TSTATE_INTERNAL_STOP_COUNTER_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class StopCounter {
 public:
  // Far more than any number of threads: what a stopper starts with, so that the counter cannot reach zero while
  // tokens are handed out.
  static constexpr uint32_t kHandingOut = uint32_t{1} << 30;

  constexpr StopCounter() = default;
  StopCounter(const StopCounter&) = delete;
  StopCounter& operator=(const StopCounter&) = delete;

  // The stopper, before it hands out the first token.
  void Start(uint32_t threads) { word_.store(threads, kRelaxed); }
  void Add(uint32_t threads) { word_.fetch_add(threads, kRelaxed); }

  // Whoever took a token: everything it did happens before Done() returns true on the stopper. Never blocks.
  void Acknowledge(uint32_t threads = 1) {
    const uint32_t before =
        word_.fetch_sub(threads, PYRT_MUTANT(stw_acknowledge_is_relaxed) ? kRelaxed : kAcqRel);
    if (before == (kParked | threads)) FutexWake(&word_, 1);
  }

  // The stopper. Acquire: pairs with Acknowledge.
  bool Done() const { return (word_.load(kAcquire) & ~kParked) == 0; }
  // How many have yet to acknowledge; near kHandingOut while that is not known. Any thread, a moment's truth.
  uint32_t remaining() const { return word_.load(kRelaxed) & ~kParked; }

  // The stopper: sleeps until Done or the deadline (then false). The stopper has made sure that every thread
  // with a token will acknowledge (AsymmetricFence::Heavy).
  bool Park(Deadline deadline) {
    uint32_t word = word_.load(kAcquire);
    while ((word & ~kParked) != 0) {
      if ((word & kParked) == 0 && !word_.compare_exchange_weak(word, word | kParked, kAcquire, kAcquire))
        continue;
      const FutexResult result = FutexWait(&word_, word | kParked, deadline);
      word = word_.load(kAcquire);
      if (result == FutexResult::kTimedOut && (word & ~kParked) != 0) {
        word_.fetch_and(~kParked, kRelaxed);
        return Done();
      }
    }
    return true;
  }

  void ReinitAfterFork() { word_.store(0, kRelaxed); }

 private:
  static constexpr uint32_t kParked = uint32_t{1} << 31;

  Atomic<uint32_t> word_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_STOP_COUNTER_H_
