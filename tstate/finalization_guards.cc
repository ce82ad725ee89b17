#include "pyrt/tstate/finalization_guards.h"

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

void FinalizationGuards::Release() {
  const uint32_t before = word_.fetch_sub(kOne, kRelease);
  PYRT_CHECK(before != kClosed && before >= kOne, "PyInterpreterGuard_Close",
             "there is no finalization guard to give up (the counter was %#x)", before);
  if (before == (kOne | kWaiting)) FutexWake(&word_, 1);
}

bool FinalizationGuards::WaitUntilNone(Deadline deadline, const WaitHooks* hooks) {
  bool wait = true;
  for (;;) {
    uint32_t word = word_.load(kAcquire);
    if (word == kClosed || word / kOne == 0) return true;
    if (!wait) return false;
    if ((word & kWaiting) == 0 && !word_.compare_exchange_weak(word, word | kWaiting, kRelaxed, kRelaxed))
      continue;
    if (hooks != nullptr) hooks->before_park(hooks->context);
    const FutexResult result = FutexWait(&word_, word | kWaiting, deadline);
    if (hooks != nullptr) hooks->after_park(hooks->context);
    wait = result != FutexResult::kTimedOut && result != FutexResult::kInterrupted;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
