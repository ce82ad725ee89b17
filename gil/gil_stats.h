// What a Gil counts, and the hooks through which a profiler or tracer listens to it.

#ifndef PYRT_GIL_GIL_STATS_H_
#define PYRT_GIL_GIL_STATS_H_

#include <array>
#include <cstdint>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

class GilHolder;

// A snapshot of a Gil's counters. All but `switches` count on the slow path only, where they cost nothing
// that can be measured: uncontended takes and drops are not counted.
struct GilStats {
  uint64_t switches = 0;         // times the GIL went to a thread that was not its last holder
  uint64_t contended_takes = 0;  // takes that had to queue
  uint64_t requests = 0;         // drop requests placed
  uint64_t withdrawn = 0;        // drop requests taken back by a thread that had to leave (gh-96387)
  uint64_t handoffs = 0;         // times the holder passed the GIL to the head of the queue directly
  uint64_t preemptions = 0;      // of these, to a thread with interactive credit
  uint64_t barged = 0;           // voluntary drops that woke the head and left the GIL to whoever comes first
  uint64_t parks = 0;            // futex waits
  uint64_t wakes = 0;            // futex wakes
  uint64_t fences = 0;           // membarriers
  uint64_t bias_grants = 0;
  uint64_t bias_revocations = 0;
  uint64_t waiting = 0;  // threads in the queue now

  // Contended waits by length: wait_histogram[k] counts those of [2^k, 2^(k+1)) nanoseconds; the last bucket
  // is open.
  std::array<uint64_t, 40> wait_histogram{};
};

// Called as things happen, on the thread that they happen to. A hook may run without the GIL; it must not
// take or drop a Gil, attach, detach, block or throw. Any pointer may be null.
//
// CPython has no counterpart; Ruby's GVL instrumentation has (READY, RESUMED, SUSPENDED).
struct GilHooks {
  void* context = nullptr;
  void (*ready)(void* context, const GilHolder& holder) = nullptr;     // about to wait for the GIL
  void (*acquired)(void* context, const GilHolder& holder) = nullptr;  // has just got it
  void (*released)(void* context, const GilHolder& holder) = nullptr;  // about to give it up
  void (*forced)(void* context,
                 const GilHolder& holder) =
      nullptr;  // asked to, and about to give it up if somebody still waits
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_GIL_STATS_H_
