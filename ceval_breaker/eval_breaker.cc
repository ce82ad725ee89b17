#include "pyrt/ceval_breaker/eval_breaker.h"

#include <string>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

void EvalBreaker::SetVersion(uintptr_t version) {
  PYRT_CHECK((version & kEventMask) == 0, "EvalBreaker::SetVersion",
             "version %#zx is not a multiple of %#zx: its low bits would be taken for events (word: %s)",
             static_cast<size_t>(version), static_cast<size_t>(kVersionIncrement), ToString().c_str());
  uintptr_t word = word_.load(kRelaxed);
  // A plain store of version | events would lose an event set between the load and the store (EB-3).
  if (PYRT_MUTANT(gh_109369_version_by_a_plain_store))
    return word_.store(version | (word & kEventMask), kSeqCst);
  while (!word_.compare_exchange_weak(word, version | (word & kEventMask), kSeqCst, kRelaxed)) {
  }
}

void EvalBreaker::RefreshSlow(bool calls_to_do, uintptr_t version) {
  // The bit is only ever added here. A clear would race with PendingCalls::Add: its "publish the call, set
  // the bit" may fall between the caller's look at the queue and the clear, and the call would wait for ever
  // (gh-95820). A bit without a call costs one look into an empty queue.
  if (calls_to_do) Set(BreakerEvent::kCallsToDo);
  if (PYRT_MUTANT(gh_95820_attach_clears_the_bit) && !calls_to_do) Clear(BreakerEvent::kCallsToDo);
  if (this->version() != (version & kVersionMask)) SetVersion(version & kVersionMask);
}

std::string EvalBreaker::ToString() const {
  const uintptr_t word = word_.load(kRelaxed);
  std::string result;
  const auto add = [&](BreakerEvent event, const char* name) {
    if ((word & BreakerBit(event)) == 0) return;
    if (!result.empty()) result += '|';
    result += name;
  };
#define PYRT_BREAKER_NAME(name, bit, cpython, effect, who) add(BreakerEvent::k##name, #name);
  PYRT_EVAL_BREAKER_EVENTS(PYRT_BREAKER_NAME)
#undef PYRT_BREAKER_NAME
  if (result.empty()) result = "none";
  return result + ", version " + std::to_string(word >> kEventBits);
}

}  // namespace pyrt::inline PYRT_VARIANT
