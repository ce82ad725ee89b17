// The steps of a schedule, recorded compactly and printed only for a failure.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_LOG_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_LOG_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/internal/access.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

enum class Op : uint8_t {
  kLoad,             // before: value, after: newest value
  kStore,            // before, after
  kRmw,              // before, after; detail: Rmw
  kCompareExchange,  // before, after
  kCompareFailed,    // before: value met, after: expected; detail: its age, or kSpurious
  kConstruct,
  kPlainRead,
  kPlainWrite,
  kFutexWait,    // before: value met, after: expected
  kFutexReturn,  // detail: FutexResult
  kFutexWake,    // before: asked for, after: woken
  kClock,        // after: nanoseconds since the start of the schedule
  kTimePasses,
  kLightFence,
  kHeavyFence,
  kRelax,
  kYield,
  kStart,  // detail: fiber
  kStartFailed,
  kExit,
  kJoin,  // detail: fiber
  kHang,
  kFork,        // detail: 1 in the child
  kSendSignal,  // detail: fiber
  kSignal,
  kSignalReturn,
  kDie,
  kChoose,  // before: count, after: choice
  kPoint,   // label
};

inline constexpr uint8_t kSpurious = UINT8_MAX;

struct Step {
  Op op;
  uint8_t fiber;
  uint8_t detail;
  std::memory_order order;
  int line;
  const char* file;  // of kPoint: the label
  const void* address;
  uint64_t before;
  uint64_t after;
};

struct NamedRange {
  const void* address;
  size_t size;
  const char* name;
  int index;
};

std::string NameOf(const std::vector<NamedRange>& names, const void* address);
std::string ToString(Site site);
// "store   word 0 -> 1 (release)  mutex.cc:17"
std::string ToString(const Step& step, const std::vector<NamedRange>& names, const char* const* fiber_names);

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_LOG_H_
