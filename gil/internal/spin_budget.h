// SpinBudget: how long a waiter may spin before it parks, learned from what parking costs on this machine.

#ifndef PYRT_GIL_INTERNAL_SPIN_BUDGET_H_
#define PYRT_GIL_INTERNAL_SPIN_BUDGET_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// Spinning for as long as a wake-up takes costs at most twice what the better choice would have cost,
// whichever that was. A wake-up costs 2-5 us on bare metal and 15-40 us on a virtual machine whose CPUs halt,
// so the budget follows a moving average of the wake-ups that really happened. On one CPU nobody spins: the
// thread waited for could not run.
//
// Any thread; two threads that learn at once may lose one of the two samples, which an average survives.
class SpinBudget {
 public:
  static constexpr int64_t kInitial = 30 * kNanosPerMicro;
  static constexpr int64_t kLeast = 5 * kNanosPerMicro;
  static constexpr int64_t kMost = 100 * kNanosPerMicro;

  int64_t nanos() const {
    if (UsableCpus() <= 1) return 0;
    const int64_t average = average_.load(kRelaxed);
    return average < kLeast ? kLeast : average > kMost ? kMost : average;
  }

  // A thread ran `nanos` after it had been woken.
  void LearnWakeUp(int64_t nanos) {
    if (nanos < 0) return;
    if (nanos > 4 * kMost) nanos = 4 * kMost;  // it was preempted: no measure of a wake-up
    const int64_t average = average_.load(kRelaxed);
    average_.store(average + (nanos - average) / 8, kRelaxed);
  }

 private:
  Atomic<int64_t> average_{kInitial};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_INTERNAL_SPIN_BUDGET_H_
