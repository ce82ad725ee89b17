// A kernel that lies, for the program that links this: the C library's syscall(), clock_gettime(), gettimeofday() and time()
// are replaced, so that what pyrt asks of the kernel passes through here; the C library's own waits do not.

#ifndef PYRT_TESTING_STORMS_LYING_KERNEL_H_
#define PYRT_TESTING_STORMS_LYING_KERNEL_H_

#include <cstdint>

namespace pyrt_storm {

// While this lives, of 16 futex waits `sixteenths` are not made but answered at once: as if somebody had woken the caller, or
// with EINTR. Counts from its beginning. One at a time; a forked child inherits it.
class LyingKernel {
 public:
  explicit LyingKernel(unsigned sixteenths);
  ~LyingKernel();
  LyingKernel(const LyingKernel&) = delete;
  LyingKernel& operator=(const LyingKernel&) = delete;

  uint64_t waits() const;
  uint64_t answered() const;           // with a lie
  uint64_t on_the_wall_clock() const;  // waits with FUTEX_CLOCK_REALTIME
  // How often a watched thread has asked for the time of day.
  uint64_t wall_clock_reads() const;

  static void WatchThisThread(bool watched);
  // What everybody who asks for the time of day is told is off by so many seconds.
  static void SetWallClockOffset(int64_t seconds);
};

}  // namespace pyrt_storm

#endif  // PYRT_TESTING_STORMS_LYING_KERNEL_H_
