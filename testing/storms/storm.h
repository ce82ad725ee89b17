// What storms share: a budget, a watchdog, affinity, a kernel without membarrier.

#ifndef PYRT_TESTING_STORMS_STORM_H_
#define PYRT_TESTING_STORMS_STORM_H_

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
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

// ---- A kernel that refuses membarrier

// The calling process, and what it executes, gets ENOSYS from membarrier(2).
inline bool RefuseMembarrier() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof(filter) / sizeof(filter[0]), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

inline constexpr char kSeccompRefused[] = "exit status 77";

// Whether this process runs so because RunWithoutMembarrier has started it.
inline bool WithoutMembarrier() { return std::getenv("PYRT_STORM_MEMBARRIER_REFUSED") != nullptr; }

// Runs this program's tests that `filter` names in a process without membarrier; how that has ended.
inline std::string RunWithoutMembarrier(const char* filter) {
  const pid_t child = ::fork();
  if (child < 0) return "fork failed";
  if (child == 0) {
    WatchdogInChild(120);
    // Before exec, so that the platform's constructor meets the refusal.
    if (!RefuseMembarrier()) ::_exit(77);
    ::setenv("PYRT_STORM_MEMBARRIER_REFUSED", "1", 1);
    ::unsetenv("TESTBRIDGE_TEST_ONLY");
    ::unsetenv("XML_OUTPUT_FILE");
    const std::string argument = std::string("--gtest_filter=") + filter;
    char program[] = "/proc/self/exe";
    char* arguments[] = {program, const_cast<char*>(argument.c_str()), nullptr};
    ::execv(program, arguments);
    ::_exit(76);
  }
  return WaitForChild(child);
}

// A thread's side of a Gil.
struct Actor {
  Atomic<uintptr_t> word{0};
  GilHolder holder{&word, 1};
  bool asked() const { return (word.load(kRelaxed) & 1) != 0; }
};

}  // namespace pyrt::inline PYRT_VARIANT::storm

#endif  // PYRT_TESTING_STORMS_STORM_H_
