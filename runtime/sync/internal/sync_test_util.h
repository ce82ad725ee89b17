// What the tests of runtime/sync share.

#ifndef PYRT_RUNTIME_SYNC_INTERNAL_SYNC_TEST_UTIL_H_
#define PYRT_RUNTIME_SYNC_INTERNAL_SYNC_TEST_UTIL_H_

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// Polls until `condition()` holds. False after 20 s: a test that waits for a state asserts it.
template <typename Condition>
bool Eventually(Condition&& condition) {
  const Deadline deadline = DeadlineAfter(20 * kNanosPerSecond);
  while (!condition()) {
    if (MonotonicNow() > deadline) return false;
    YieldCpu();
  }
  return true;
}

inline bool EventuallyParked(const void* address, size_t count = 1) {
  return Eventually([&] { return ParkingLot::CountParked(address) == count; });
}

// Runs body(0) ... body(threads - 1) on threads of their own and waits for them.
inline void RunThreads(int threads, const std::function<void(int)>& body) {
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) running.emplace_back(body, i);
  for (std::thread& thread : running) thread.join();
}

// Forks with whatever threads there are. True if `body()` returned true in the child within 20 s.
inline bool TrueInForkedChild(const std::function<bool()>& body) {
  const pid_t child = ForkProcess();
  if (child == 0) {
    ::alarm(20);
    PlatformAfterForkInChild();
    ParkingLotAfterForkInChild();
    ::_exit(body() ? 0 : 1);
  }
  int status = -1;
  return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

inline constexpr int64_t kStressTime = 300 * kNanosPerMilli;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_INTERNAL_SYNC_TEST_UTIL_H_
