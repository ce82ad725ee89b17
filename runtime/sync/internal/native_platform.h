// The native half of runtime/sync/platform.h: Linux futexes, membarrier, pthreads. Include platform.h
// instead.

#ifndef PYRT_RUNTIME_SYNC_INTERNAL_NATIVE_PLATFORM_H_
#define PYRT_RUNTIME_SYNC_INTERNAL_NATIVE_PLATFORM_H_

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <type_traits>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform_types.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace pyrt::inline PYRT_VARIANT {

// std::atomic<T> without defaulted orders and without operators: an access that does not say its order does
// not compile. Lock-free by construction.
template <typename T>
class Atomic {
  static_assert(std::atomic<T>::is_always_lock_free);

 public:
  constexpr Atomic() noexcept : value_(T{}) {}
  constexpr explicit Atomic(T value) noexcept : value_(value) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(std::memory_order order) const noexcept { return value_.load(order); }
  void store(T value, std::memory_order order) noexcept { value_.store(value, order); }
  T exchange(T value, std::memory_order order) noexcept { return value_.exchange(value, order); }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) noexcept {
    return value_.compare_exchange_strong(expected, desired, success, failure);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                             std::memory_order failure) noexcept {
    return value_.compare_exchange_weak(expected, desired, success, failure);
  }
  T fetch_add(T operand, std::memory_order order) noexcept requires std::is_integral_v<T> {
    return value_.fetch_add(operand, order);
  }
  T fetch_sub(T operand, std::memory_order order) noexcept requires std::is_integral_v<T> {
    return value_.fetch_sub(operand, order);
  }
  T fetch_or(T operand, std::memory_order order) noexcept requires std::is_integral_v<T> {
    return value_.fetch_or(operand, order);
  }
  T fetch_and(T operand, std::memory_order order) noexcept requires std::is_integral_v<T> {
    return value_.fetch_and(operand, order);
  }

  // The address that the kernel's futex calls take. Native only.
  const void* futex_address() const noexcept { return &value_; }

 private:
  std::atomic<T> value_;
};

// Data that a protocol guards (a lock, a hand-over, single ownership). Costs nothing here; detsched checks
// every Get and Set against happens-before.
template <typename T>
class Plain {
 public:
  constexpr Plain() noexcept : value_{} {}
  constexpr explicit Plain(T value) noexcept : value_(value) {}
  Plain(const Plain&) = delete;
  Plain& operator=(const Plain&) = delete;
  const T& Get() const noexcept { return value_; }
  void Set(T value) noexcept { value_ = value; }

 private:
  T value_;
};

// Sleeps while `*word == expected`, at the latest until `deadline` (monotonic). May return kWoken spuriously.
// Preserves nothing: callers that promise errno save it. Blocks; async-signal-safe.
FutexResult FutexWait(const Atomic<uint32_t>* word, uint32_t expected, Deadline deadline);

// Wakes up to `count` sleepers of `word`, which may already be freed memory: only its address is used (a
// waiter elsewhere may then see a spurious wake-up). Returns how many were woken. Async-signal-safe.
int FutexWake(const Atomic<uint32_t>* word, int count);

// CLOCK_MONOTONIC in nanoseconds. About 17 ns. Async-signal-safe.
int64_t MonotonicNow();

// Orders a store before a later load on two sides of a protocol, with nearly all of the cost on one side:
//
//   fast side:  store A; AsymmetricFence::Light(); load B
//   slow side:  store B; AsymmetricFence::Heavy(); load A
//
// at least one of them sees the other's store. Light() is a compiler barrier where the kernel offers
// membarrier(PRIVATE_EXPEDITED), a full fence elsewhere. Heavy() costs 0.1 us when no other thread of the
// process is on a CPU and 10-14 us (maxima in milliseconds) when one is: it may stand only where the caller
// is about to sleep or where it happens rarely. Under ThreadSanitizer, which sees neither, both are seq_cst
// read-modify-writes.
//
// Both are async-signal-safe and do not block on other threads of pyrt.
class AsymmetricFence {
 public:
  static void Light() {
    if constexpr (kTsan) {
      tsan_word_.fetch_add(1, std::memory_order_seq_cst);
    } else {
      if (has_membarrier_.load(std::memory_order_relaxed)) [[likely]] {
        std::atomic_signal_fence(std::memory_order_seq_cst);
      } else {
        FullFence();
      }
    }
  }

  // Light() for a caller that runs only where IsAsymmetric(), which never changes once main() has begun.
  static void LightWhereAsymmetric() {
    if constexpr (kTsan) {
      Light();
    } else {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
  }

  static void Heavy();

  // False where membarrier is missing or refused (old kernel, seccomp): Light() is then a full fence. True under
  // ThreadSanitizer, where both sides pay and both are seen.
  static bool IsAsymmetric() { return kTsan || has_membarrier_.load(std::memory_order_relaxed); }

 private:
  static void FullFence() {
#if PYRT_TSAN
    tsan_word_.fetch_add(1, std::memory_order_seq_cst);
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
  }
  static bool Register();

  static std::atomic<uint32_t> tsan_word_;
  static std::atomic<bool> has_membarrier_;
  friend struct AsymmetricFenceRegistration;
};

// One polite turn of a spinning loop: the pause instruction (10 ns here), no system call.
inline void CpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

// sched_yield(2).
void YieldCpu();

// The CPUs that this process may use, at least 1; read once. Spinning for another thread is senseless on one.
int UsableCpus();

// Python's threading.get_ident(): pthread_self() as an integer. Never 0, unique among live threads, may be
// reused.
inline uint64_t CurrentThreadIdent() {
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__ILP32__)
  // glibc's pthread_self() is the thread control block's address, which the psABI keeps at %fs:0: one load where the
  // call costs 1 ns, on the path of every attach and import lock.
  uintptr_t thread_pointer;
  asm("movq %%fs:0, %0" : "=r"(thread_pointer));
  return thread_pointer;
#else
  return static_cast<uint64_t>(pthread_self());
#endif
}

// Python's threading.get_native_id(): the kernel's thread id. A system call the first time in each thread.
uint64_t CurrentNativeThreadId();

// A thread of the operating system. Not a pyrt thread: it has no thread state (runtime's Thread builds on
// it).
class OsThread {
 public:
  using Body = void (*)(void* argument);

  OsThread() = default;
  OsThread(const OsThread&) = delete;
  OsThread& operator=(const OsThread&) = delete;

  // Starts `body(argument)` on a new thread. Returns 0, or the error of pthread_create (EAGAIN, ENOMEM), in
  // which case nothing has started. `stack_size` 0 means the system's default.
  [[nodiscard]] int Start(Body body, void* argument, size_t stack_size = 0);

  // Waits for the end of the thread. Call once, after a successful Start, or Detach() instead.
  void Join();
  void Detach();

 private:
  pthread_t handle_{};
};

// Never returns, and runs nothing more on this thread: no unwinding, no thread-local destructors (gh-87135).
// For a daemon thread that may not attach again. Signals are still handled.
[[noreturn]] void HangForever();

// fork(2). Returns the child's process id, 0 in the child, or -1 with errno.
pid_t ForkProcess();

// Drops what the platform caches about the calling thread; call in a forked child before anything else.
void PlatformAfterForkInChild();

// PYRT_THREAD_LOCAL(Type, name): a zero- or constant-initialised thread-local of namespace scope, read with
// one load and no wrapper function. Use at namespace scope in a header or source.
#define PYRT_THREAD_LOCAL(type, name) \
  inline constinit thread_local type name __attribute__((tls_model("initial-exec")))

// One mistake of testing/known_bugs.md, compiled in for testing/mutants only.
#define PYRT_MUTANT(name) false

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_INTERNAL_NATIVE_PLATFORM_H_
