// Explorations and the death of the process: seeing it come, and letting another process die.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_ISOLATION_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_ISOLATION_H_

#include <functional>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// While it lives, a crash of the process calls `callback` once and then takes its course. With
// AddressSanitizer, so does an error that it finds.
class CrashHandler {
 public:
  explicit CrashHandler(std::function<void()> callback);
  ~CrashHandler();
  CrashHandler(const CrashHandler&) = delete;
  CrashHandler& operator=(const CrashHandler&) = delete;
};

// Calls `explore` in a forked process, and returns the first Result that it reports there; Failure::kCrash if
// the process ends without one.
Result RunIsolated(const std::function<void(const std::function<void(const Result&)>& report)>& explore);

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_ISOLATION_H_
