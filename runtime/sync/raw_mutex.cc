#include "pyrt/runtime/sync/raw_mutex.h"

#include <errno.h>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// The critical sections behind this lock last well under a microsecond; one that has not ended after two lost
// its CPU.
constexpr int kSpins = kDetsched ? 1 : 200;

}  // namespace

void RawMutex::LockSlow() {
  if (UsableCpus() > 1) {
    for (int i = 0; i < kSpins; ++i) {
      CpuRelax();
      uint32_t expected = kFree;
      const uint32_t now = word_.load(kRelaxed);
      if (now == kFree && word_.compare_exchange_strong(expected, kLocked, kAcquire, kRelaxed)) return;
      if (now == kLockedWithSleepers) break;  // others have given up already
    }
  }
  // Taking it as "with sleepers" although there may be none is the safe error: the sleeper that this thread
  // may have overtaken must be woken by our Unlock, and one superfluous wake-up costs 0.1 us.
  const int saved_errno = errno;  // Gil::Take and Drop keep it
  const uint32_t taken = PYRT_MUTANT(raw_mutex_slow_lock_forgets_sleepers) ? kLocked : kLockedWithSleepers;
  while (word_.exchange(taken, kAcquire) != kFree) {
    // kChanged, kWoken (also spuriously) and kInterrupted all mean: try again.
    static_cast<void>(FutexWait(&word_, taken, kNoDeadline));
  }
  errno = saved_errno;
}

void RawMutex::UnlockSlow(uint32_t before) {
  PYRT_CHECK(before != kFree, "RawMutex::Unlock", "unlocking mutex that is not locked");
  if (PYRT_MUTANT(raw_mutex_unlock_forgets_wake)) return;
  FutexWake(&word_, 1);
}

}  // namespace pyrt::inline PYRT_VARIANT
