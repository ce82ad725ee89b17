// For tests of the runtime: child processes with a watchdog, and subsystems that write down what happens.

#ifndef PYRT_RUNTIME_RUNTIME_TEST_UTIL_H_
#define PYRT_RUNTIME_RUNTIME_TEST_UTIL_H_

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/runtime.h"

// The children of these tests start threads, which ThreadSanitizer refuses by default. It reports what it sees
// in them all the same.
extern "C" __attribute__((used)) inline const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace pyrt::inline PYRT_VARIANT {

// Polls for a state.
template <typename Predicate>
bool Eventually(Predicate holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// In a forked child of a test: ends it at once, without the parent's atexit and leak checks. The watchdog is
// an alarm whose default action ends the process.
inline void ArmWatchdog(unsigned seconds = 30) { ::alarm(seconds); }

// Waits for a child, and says how it ended: "exit 0", "signal 14".
inline std::string WaitForChild(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return "lost";
  }
  if (WIFEXITED(status)) return "exit " + std::to_string(WEXITSTATUS(status));
  return "signal " + std::to_string(WTERMSIG(status));
}

// Runs `body` in a child process of its own, which has no runtime yet, and returns how that ended. `body`
// returns the exit status.
inline std::string InChild(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ArmWatchdog();
    ::_exit(body());
  }
  return WaitForChild(child);
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_RUNTIME_TEST_UTIL_H_
