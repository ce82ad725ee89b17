// Runs an exploration in a forked process and brings its result back.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_ISOLATION_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_ISOLATION_H_

#include <functional>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// A process that dies before it has a result gives Failure::kCrash.
Result RunIsolated(const std::function<Result()>& explore);

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_ISOLATION_H_
