// How a Gil decides when a waiting thread may ask the holder to give it up.

#ifndef PYRT_GIL_SWITCH_POLICY_H_
#define PYRT_GIL_SWITCH_POLICY_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

enum class SwitchPolicy : uint8_t {
  // CPython's rule: a waiter asks once it has waited a whole switch interval during which nobody else got the
  // GIL. A
  // thread that releases the GIL around each short system call waits an interval every time (bpo-7946).
  kInterval,
  // A thread that gave the GIL up early (not because it was asked to) asks for it back at once and goes to
  // the front
  // of the queue, as long as InteractiveBudget has credit; without credit it waits like everybody else.
  kInteractive,
};

// The share of the preempted threads' time that kInteractive may spend: a token bucket in nanoseconds. It
// fills with 1/kRefillDivisor of the time that passes, and each preemption pays what the preempted thread
// really lost, from the moment it gave the GIL away until it got it back. So a CPU-bound thread keeps at
// least 1 - 1/kRefillDivisor of its throughput over any stretch that is long against kCapacity.
//
// Not thread-safe: the Gil guards it with its queue lock.
class InteractiveBudget {
 public:
  static constexpr int64_t kRefillDivisor = 25;                  // 4 % of the time, for a promise of 95 %
  static constexpr int64_t kCapacity = 2 * kNanosPerMilli;       // a burst after a quiet stretch
  static constexpr int64_t kDeepestDebt = 100 * kNanosPerMilli;  // one long hold does not exclude for ever

  // Whether a preemption may be asked for at `now`.
  bool MayPreempt(int64_t now) {
    Refill(now);
    return tokens_ > 0;
  }

  // A preempted thread has lost `nanos`.
  void Pay(int64_t now, int64_t nanos) {
    Refill(now);
    tokens_ = tokens_ - nanos < -kDeepestDebt ? -kDeepestDebt : tokens_ - nanos;
  }

  int64_t tokens() const { return tokens_; }

 private:
  void Refill(int64_t now) {
    if (last_refill_ == 0) {
      last_refill_ = now;
      return;
    }
    const int64_t earned = (now - last_refill_) / kRefillDivisor;
    if (earned <= 0) return;  // keeps the remainder for the next time
    last_refill_ += earned * kRefillDivisor;
    tokens_ = tokens_ + earned > kCapacity ? kCapacity : tokens_ + earned;
  }

  int64_t tokens_ = kCapacity;
  int64_t last_refill_ = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_SWITCH_POLICY_H_
