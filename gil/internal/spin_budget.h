// SpinBudget: how long a waiter may spin before it parks, learned from what parking costs on this machine.

#ifndef PYRT_GIL_INTERNAL_SPIN_BUDGET_H_
#define PYRT_GIL_INTERNAL_SPIN_BUDGET_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// Spinning for as long as parking takes costs at most twice what the better choice would have cost, whichever that
// was. A wake-up costs 2-5 us on bare metal and 15-40 us on a virtual machine whose CPUs halt; the fence before the
// first sleep of an episode 0.1 us while no other thread of the process is on a CPU, and 10 us and more while one
// is. So the budget follows moving averages of those that really happened. On one CPU nobody spins: the thread
// waited for could not run.
//
// Any thread; two threads that learn at once may lose one of the two samples, which an average survives.
class SpinBudget {
 public:
  static constexpr int64_t kInitialWakeUp = 30 * kNanosPerMicro;
  static constexpr int64_t kInitialFence = 10 * kNanosPerMicro;
  static constexpr int64_t kLeast = 5 * kNanosPerMicro;
  static constexpr int64_t kMost = 100 * kNanosPerMicro;

  // `with_fence`: parking would begin with a fence.
  int64_t nanos(bool with_fence) const {
    if (UsableCpus() <= 1) return 0;
    const int64_t parking = wake_up_.load(kRelaxed) + (with_fence ? fence_.load(kRelaxed) : 0);
    return parking < kLeast ? kLeast : parking > kMost ? kMost : parking;
  }

  // A thread ran `nanos` after it had been woken.
  void LearnWakeUp(int64_t nanos) { Learn(wake_up_, nanos); }
  // AsymmetricFence::Heavy() took `nanos`.
  void LearnFence(int64_t nanos) { Learn(fence_, nanos); }

 private:
  static void Learn(Atomic<int64_t>& average, int64_t nanos) {
    if (nanos < 0) return;
    if (nanos > 4 * kMost) nanos = 4 * kMost;  // it was preempted: no measure of anything
    const int64_t before = average.load(kRelaxed);
    average.store(before + (nanos - before) / 8, kRelaxed);
  }

  Atomic<int64_t> wake_up_{kInitialWakeUp};
  Atomic<int64_t> fence_{kInitialFence};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_INTERNAL_SPIN_BUDGET_H_
