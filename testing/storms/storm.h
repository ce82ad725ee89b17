// What storms share: a budget, a watchdog, affinity.

#ifndef PYRT_TESTING_STORMS_STORM_H_
#define PYRT_TESTING_STORMS_STORM_H_

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT::storm {

// PYRT_STORM_SECONDS: how long each storm rages; 1.5 unless set.
class Budget {
 public:
  Budget() {
    const char* const seconds = std::getenv("PYRT_STORM_SECONDS");
    const double length = seconds == nullptr ? 1.5 : std::atof(seconds);
    until_ = std::chrono::steady_clock::now() +
             std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(length));
  }
  bool spent() const { return std::chrono::steady_clock::now() >= until_; }

 private:
  std::chrono::steady_clock::time_point until_;
};

// In a forked child: SIGALRM ends it, and the parent sees that, if it has not ended by itself.
inline void WatchdogInChild(unsigned seconds) {
  ::signal(SIGALRM, SIG_DFL);
  ::alarm(seconds);
}

// "exit status 0", or what happened to the child.
inline std::string WaitForChild(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return "waitpid failed";
  }
  if (WIFEXITED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "hangs: the watchdog ended it";
  return "signal " + std::to_string(WTERMSIG(status));
}

// The calling thread, and threads that it starts, run on one CPU while this lives.
class OneCpu {
 public:
  OneCpu() {
    if (sched_getaffinity(0, sizeof(before_), &before_) != 0) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_)) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      set_ = sched_setaffinity(0, sizeof(one), &one) == 0;
      return;
    }
  }
  ~OneCpu() {
    if (set_) sched_setaffinity(0, sizeof(before_), &before_);
  }
  bool set() const { return set_; }

 private:
  cpu_set_t before_;
  bool set_ = false;
};

// A thread's side of a Gil.
struct Actor {
  Atomic<uintptr_t> word{0};
  GilHolder holder{&word, 1};
  bool asked() const { return (word.load(kRelaxed) & 1) != 0; }
};

}  // namespace pyrt::inline PYRT_VARIANT::storm

#endif  // PYRT_TESTING_STORMS_STORM_H_
