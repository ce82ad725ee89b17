#include "pyrt/testing/storms/lying_kernel.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace {

// Of FutexWait's calls so many in 16 are not made but answered here.
std::atomic<unsigned> lies{0};
std::atomic<uint64_t> waits_made{0}, answered_here{0}, waits_on_the_wall_clock{0};

// Who has asked for the time of day, of pyrt's threads, and how far it jumps at each question.
std::atomic<uint64_t> wall_clock_asked{0};
std::atomic<int64_t> wall_clock_offset{0};
thread_local bool watched = false;

long RawSyscall(long number, long a, long b, long c, long d, long e, long f) {
  long result;
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  result = x0;
#else
#error "teach this test the machine's system call"
#endif
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

unsigned Random16() {
  static thread_local uint32_t state =
      2463534242u ^ static_cast<uint32_t>(RawSyscall(SYS_gettid, 0, 0, 0, 0, 0, 0));
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state >> 28;
}

}  // namespace

extern "C" long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long arguments[6];
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  const int operation = static_cast<int>(arguments[1]) & FUTEX_CMD_MASK;
  if (number == SYS_futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET)) {
    waits_made.fetch_add(1, std::memory_order_relaxed);
    if ((arguments[1] & FUTEX_CLOCK_REALTIME) != 0) waits_on_the_wall_clock.fetch_add(1);
    if (Random16() < lies.load(std::memory_order_relaxed)) {
      answered_here.fetch_add(1, std::memory_order_relaxed);
      if (Random16() < 8) return 0;  // as if somebody had woken us
      errno = EINTR;
      return -1;
    }
  }
  return RawSyscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                    arguments[5]);
}

extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  const int result =
      static_cast<int>(RawSyscall(SYS_clock_gettime, clock, reinterpret_cast<long>(now), 0, 0, 0, 0));
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
    if (watched) wall_clock_asked.fetch_add(1);
    now->tv_sec += wall_clock_offset.load();
  }
  return result;
}

extern "C" int gettimeofday(timeval* now, void*) noexcept {
  timespec precise;
  const int result = clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return result;
}

extern "C" time_t time(time_t* now) noexcept {
  timespec precise;
  static_cast<void>(clock_gettime(CLOCK_REALTIME, &precise));
  if (now != nullptr) *now = precise.tv_sec;
  return precise.tv_sec;
}

namespace pyrt_storm {

LyingKernel::LyingKernel(unsigned sixteenths) {
  waits_made.store(0);
  answered_here.store(0);
  waits_on_the_wall_clock.store(0);
  wall_clock_asked.store(0);
  lies.store(sixteenths);
}
LyingKernel::~LyingKernel() { lies.store(0); }

uint64_t LyingKernel::waits() const { return waits_made.load(); }
uint64_t LyingKernel::answered() const { return answered_here.load(); }
uint64_t LyingKernel::on_the_wall_clock() const { return waits_on_the_wall_clock.load(); }
uint64_t LyingKernel::wall_clock_reads() const { return wall_clock_asked.load(); }

void LyingKernel::WatchThisThread(bool on) { watched = on; }
void LyingKernel::SetWallClockOffset(int64_t seconds) { wall_clock_offset.store(seconds); }

}  // namespace pyrt_storm
