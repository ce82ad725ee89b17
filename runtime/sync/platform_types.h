// The vocabulary that both halves of runtime/sync/platform.h share. Include platform.h instead.

#ifndef PYRT_RUNTIME_SYNC_PLATFORM_TYPES_H_
#define PYRT_RUNTIME_SYNC_PLATFORM_TYPES_H_

#include <atomic>
#include <cstdint>
#include <limits>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// An absolute point of MonotonicNow()'s clock, in nanoseconds.
using Deadline = int64_t;
inline constexpr Deadline kNoDeadline = std::numeric_limits<int64_t>::max();

// A duration in nanoseconds as CPython's PyTime_t timeouts: negative waits for ever, 0 does not wait.
using Timeout = int64_t;
inline constexpr Timeout kForever = -1;

inline constexpr int64_t kNanosPerMicro = 1'000;
inline constexpr int64_t kNanosPerMilli = 1'000'000;
inline constexpr int64_t kNanosPerSecond = 1'000'000'000;

enum class FutexResult : uint8_t {
  kWoken,        // a wake-up, real or spurious: look at the word again
  kChanged,      // the word did not hold the expected value; did not sleep
  kTimedOut,     // the deadline passed
  kInterrupted,  // a signal handler ran
};

// The orders, shortened: every atomic access names one.
inline constexpr std::memory_order kRelaxed = std::memory_order_relaxed;
inline constexpr std::memory_order kAcquire = std::memory_order_acquire;
inline constexpr std::memory_order kRelease = std::memory_order_release;
inline constexpr std::memory_order kAcqRel = std::memory_order_acq_rel;
inline constexpr std::memory_order kSeqCst = std::memory_order_seq_cst;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_PLATFORM_TYPES_H_
