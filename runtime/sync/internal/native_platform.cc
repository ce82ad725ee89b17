#include "pyrt/runtime/sync/internal/native_platform.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <memory>
#include <new>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

timespec ToTimespec(int64_t nanos) {
  timespec result;
  result.tv_sec = static_cast<time_t>(nanos / kNanosPerSecond);
  result.tv_nsec = static_cast<long>(nanos % kNanosPerSecond);
  return result;
}

int Membarrier(int command) { return static_cast<int>(::syscall(SYS_membarrier, command, 0, 0)); }

PYRT_THREAD_LOCAL(uint64_t, cached_native_thread_id) = 0;

struct StartRecord {
  OsThread::Body body;
  void* argument;
};

void* RunStartRecord(void* raw) {
  const std::unique_ptr<StartRecord> record(static_cast<StartRecord*>(raw));
  record->body(record->argument);
  return nullptr;
}

}  // namespace

FutexResult FutexWait(const Atomic<uint32_t>* word, uint32_t expected, Deadline deadline) {
  timespec until;
  timespec* until_pointer = nullptr;
  if (deadline != kNoDeadline) {
    until = ToTimespec(deadline < 0 ? 0 : deadline);
    until_pointer = &until;
  }
  // FUTEX_WAIT_BITSET takes an absolute deadline on CLOCK_MONOTONIC; plain FUTEX_WAIT only a relative one,
  // which a spurious wake-up would extend.
  const long result = ::syscall(SYS_futex, word->futex_address(), FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
                                expected, until_pointer, nullptr, FUTEX_BITSET_MATCH_ANY);
  if (result == 0) return FutexResult::kWoken;
  switch (errno) {
    case EAGAIN:
      return FutexResult::kChanged;
    case ETIMEDOUT:
      return FutexResult::kTimedOut;
    case EINTR:
      return FutexResult::kInterrupted;
    default:
      Fatal("FutexWait", "unexpected error %d from futex(FUTEX_WAIT) on %p", errno, word->futex_address());
  }
}

int FutexWake(const Atomic<uint32_t>* word, int count) {
  const long result = ::syscall(SYS_futex, word->futex_address(), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count,
                                nullptr, nullptr, 0);
  // EFAULT: the waiter has gone and its memory with it, which is what "only the address is used" allows.
  return result < 0 ? 0 : static_cast<int>(result);
}

int64_t MonotonicNow() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * kNanosPerSecond + now.tv_nsec;
}

constinit std::atomic<uint32_t> AsymmetricFence::tsan_word_{0};
constinit std::atomic<bool> AsymmetricFence::has_membarrier_{false};

bool AsymmetricFence::Register() {
  const int commands = Membarrier(MEMBARRIER_CMD_QUERY);
  return commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0 &&
         Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

void AsymmetricFence::Heavy() {
  FullFence();
  if constexpr (kTsan) return;
  if (!has_membarrier_.load(std::memory_order_relaxed)) return;
  const int saved_errno = errno;
  if (Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) [[unlikely]] {
    // Light() has already been running without fences, so there is no way back: register again (a child of
    // vfork+exec'd helpers or a checkpoint restore may have lost the registration), or stop.
    PYRT_CHECK(
        Register() && Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0, "AsymmetricFence::Heavy",
        "membarrier worked at start-up and is refused now (errno %d); a seccomp filter must be installed "
        "before the process starts threads, or allow membarrier",
        errno);
  }
  errno = saved_errno;
}

// Registers before main(), when the process has one thread: a Light() that ran earlier was a full fence, a
// later one relies on Heavy()'s membarrier, and no thread can stand between the two.
struct AsymmetricFenceRegistration {
  AsymmetricFenceRegistration() {
    if (!kTsan && AsymmetricFence::Register()) {
      AsymmetricFence::has_membarrier_.store(true, std::memory_order_relaxed);
    }
  }
};
static const AsymmetricFenceRegistration registration __attribute__((init_priority(101)));

void YieldCpu() { ::sched_yield(); }

int UsableCpus() {
  // No guarded static: a fork might find another thread inside it, and the child would wait for that one.
  static std::atomic<int> known{0};
  int cpus = known.load(std::memory_order_relaxed);
  if (cpus == 0) {
    cpu_set_t set;
    cpus = ::sched_getaffinity(0, sizeof(set), &set) != 0 ? 1 : std::max(CPU_COUNT(&set), 1);
    known.store(cpus, std::memory_order_relaxed);
  }
  return cpus;
}

uint64_t CurrentNativeThreadId() {
  if (cached_native_thread_id == 0) cached_native_thread_id = static_cast<uint64_t>(::syscall(SYS_gettid));
  return cached_native_thread_id;
}

int OsThread::Start(Body body, void* argument, size_t stack_size) {
  std::unique_ptr<StartRecord> record(new (std::nothrow) StartRecord{body, argument});
  if (record == nullptr) return ENOMEM;
  pthread_attr_t attributes;
  if (int error = ::pthread_attr_init(&attributes)) return error;
  int error = 0;
  if (stack_size != 0) error = ::pthread_attr_setstacksize(&attributes, stack_size);
  if (error == 0) error = ::pthread_create(&handle_, &attributes, &RunStartRecord, record.get());
  ::pthread_attr_destroy(&attributes);
  if (error == 0) static_cast<void>(record.release());  // the new thread owns it
  return error;
}

void OsThread::Join() { ::pthread_join(handle_, nullptr); }
void OsThread::Detach() { ::pthread_detach(handle_); }

void HangForever() {
  for (;;) ::pause();
}

pid_t ForkProcess() { return ::fork(); }

void PlatformAfterForkInChild() { cached_native_thread_id = 0; }

}  // namespace pyrt::inline PYRT_VARIANT
