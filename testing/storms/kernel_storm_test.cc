// A kernel at its worst: futex waits that return for nothing or because of a signal, and a wall clock that jumps.
// The C library's syscall() and clock_gettime() are replaced in this program, so that what pyrt asks of the kernel
// passes through here; the C library's own waits do not.

#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/testing/storms/storm.h"

namespace {

// Of FutexWait's calls so many in 16 are not made but answered here.
std::atomic<unsigned> lies{0};
std::atomic<uint64_t> waits{0}, answered{0}, on_the_wall_clock{0};

// Who has asked for the time of day, of pyrt's threads, and how far it jumps at each question.
std::atomic<uint64_t> wall_clock_reads{0};
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
    waits.fetch_add(1, std::memory_order_relaxed);
    if ((arguments[1] & FUTEX_CLOCK_REALTIME) != 0) on_the_wall_clock.fetch_add(1);
    if (Random16() < lies.load(std::memory_order_relaxed)) {
      answered.fetch_add(1, std::memory_order_relaxed);
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
    if (watched) wall_clock_reads.fetch_add(1);
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

namespace pyrt::inline PYRT_VARIANT {
namespace {

using storm::Actor;
using storm::Budget;

struct Lying {
  explicit Lying(unsigned sixteenths) { lies.store(sixteenths); }
  ~Lying() { lies.store(0); }
};

// Threads that take, yield and drop the GIL, lock a mutex, and wait with deadlines for one that is never unlocked.
// Nobody is let in by a lie, nobody is forgotten, no deadline is early.
void Contend(const Budget& budget) {
  constexpr int kThreads = 8;
  Gil gil(/*enabled=*/true);
  gil.set_interval(50);
  Mutex mutex;
  Mutex held;  // by this thread, all the time
  held.Lock();
  uint64_t under_gil = 0, under_mutex = 0;  // guarded by the one and the other
  std::atomic<uint64_t> expected_gil{0}, expected_mutex{0}, deadlines{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      watched = true;
      Actor self;
      do {
        ASSERT_EQ(gil.Take(self.holder), Gil::TakeResult::kTaken);
        ++under_gil;
        for (int work = 0; work < 20; ++work) std::atomic_signal_fence(std::memory_order_seq_cst);
        if (self.asked()) {
          ASSERT_EQ(gil.Yield(self.holder), Gil::TakeResult::kTaken);
        }
        ++under_gil;
        gil.Drop(self.holder);
        expected_gil.fetch_add(2);
        mutex.Lock();
        ++under_mutex;
        mutex.Unlock();
        expected_mutex.fetch_add(1);
        if (i == 0) {
          const int64_t before = MonotonicNow();
          ASSERT_EQ(held.LockTimed(1'000'000), LockStatus::kFailure);
          ASSERT_GE(MonotonicNow() - before, 1'000'000) << "a lie ended the wait before its time";
          deadlines.fetch_add(1);
        }
      } while (!budget.spent());
      gil.Forget(self.holder);
      watched = false;
    });
  }
  for (std::thread& thread : threads) thread.join();
  held.Unlock();
  EXPECT_EQ(under_gil, expected_gil.load());
  EXPECT_EQ(under_mutex, expected_mutex.load());
  EXPECT_GT(deadlines.load(), 0u);
  EXPECT_FALSE(gil.locked());
  EXPECT_EQ(gil.Stats().waiting, 0u);
}

TEST(KernelStormTest, FutexWaitsThatReturnForNothing) {
  const Lying lying(8);
  Contend(Budget());
  EXPECT_GT(answered.load(), 0u) << "nobody waited, or not through here";
  std::cout << waits.load() << " waits, " << answered.load() << " answered with a lie" << std::endl;
}

// gh-112606, bpo-41710: the wall clock runs wild, and nobody of pyrt's has so much as looked at it.
TEST(KernelStormTest, AWallClockThatJumps) {
  wall_clock_reads.store(0);
  on_the_wall_clock.store(0);
  std::atomic<bool> stop{false};
  std::thread jumper([&] {
    for (int64_t hours = 1; !stop.load(); hours = -hours * 3 % 1000) {
      wall_clock_offset.store(3600 * hours);
      std::this_thread::yield();
    }
    wall_clock_offset.store(0);
  });
  Contend(Budget());
  stop.store(true);
  jumper.join();
  EXPECT_EQ(wall_clock_reads.load(), 0u);
  EXPECT_EQ(on_the_wall_clock.load(), 0u) << "a futex wait with FUTEX_CLOCK_REALTIME";
  // The shim works: who does ask is counted.
  watched = true;
  static_cast<void>(::time(nullptr));
  static_cast<void>(std::chrono::system_clock::now());
  watched = false;
  EXPECT_EQ(wall_clock_reads.load(), 2u);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
