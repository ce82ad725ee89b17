// Vector clocks of a schedule: small, fixed, one cache line.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_CLOCK_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_CLOCK_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// Fibers that may be alive in one schedule.
inline constexpr int kMaxFibers = 16;

// at[f] is the newest event of fiber f that is known. Events of a fiber count from 1.
struct alignas(64) Clock {
  uint32_t at[kMaxFibers];

  void Reset() {
    for (uint32_t& time : at) time = 0;
  }
  void Join(const Clock& other) {
    for (int i = 0; i < kMaxFibers; ++i) at[i] = at[i] < other.at[i] ? other.at[i] : at[i];
  }
  bool Covers(int fiber, uint32_t time) const { return at[fiber] >= time; }
};

// What a thread knows. `before` is happens-before, which data races are judged by. `seen` is a superset:
// what coherence forces the thread to see, happens-before plus what seq_cst fences add. `sc` is the newest
// position in the total order of seq_cst operations that a fence has made binding.
struct Knowledge {
  Clock before;
  Clock seen;
  uint32_t sc;

  void Reset() {
    before.Reset();
    seen.Reset();
    sc = 0;
  }
  void Join(const Knowledge& other) {
    before.Join(other.before);
    JoinSeen(other);
  }
  void JoinSeen(const Knowledge& other) {
    seen.Join(other.seen);
    if (sc < other.sc) sc = other.sc;
  }
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_CLOCK_H_
