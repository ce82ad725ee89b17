// The deterministic half of runtime/sync/platform.h: every access is a scheduling point of cooperative
// fibers. Include platform.h of runtime/sync instead; tests that explore schedules include scheduler.h.
//
// Outside a running schedule (static initialisation, the body of a schedule, after its end) the same names
// are plain memory of a single thread.

#ifndef PYRT_TESTING_DETSCHED_PLATFORM_H_
#define PYRT_TESTING_DETSCHED_PLATFORM_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform_types.h"
#include "pyrt/testing/detsched/internal/access.h"

// The caller's place in the source, for the report of a failing schedule.
#define PYRT_DETSCHED_SITE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define PYRT_DETSCHED_SITE \
  ::pyrt::detsched::internal::Site { file, line }

namespace pyrt::inline PYRT_VARIANT {

// As the native Atomic<T>, of the same size. value_ is the newest value in modification order; what older
// values a load may still return is the engine's knowledge, kept by address.
template <typename T>
class Atomic {
  static_assert(std::atomic<T>::is_always_lock_free);
  static_assert(sizeof(T) <= sizeof(uint64_t) && std::is_trivially_copyable_v<T>);

 public:
  constexpr Atomic() noexcept : Atomic(T{}, nullptr, 0) {}
  constexpr explicit Atomic(T value, PYRT_DETSCHED_SITE_PARAMETERS) noexcept : value_(value) {
    if (!std::is_constant_evaluated() && detsched::internal::running) {
      detsched::internal::ConstructAtomic(&value_, sizeof(T), PYRT_DETSCHED_SITE);
    }
  }
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(std::memory_order order, PYRT_DETSCHED_SITE_PARAMETERS) const noexcept {
    if (!detsched::internal::running) return value_;
    return FromBits(detsched::internal::AtomicLoad(&value_, sizeof(T), order, PYRT_DETSCHED_SITE));
  }
  void store(T value, std::memory_order order, PYRT_DETSCHED_SITE_PARAMETERS) noexcept {
    if (!detsched::internal::running) {
      value_ = value;
    } else {
      detsched::internal::AtomicStore(&value_, sizeof(T), ToBits(value), order, PYRT_DETSCHED_SITE);
    }
  }
  T exchange(T value, std::memory_order order, PYRT_DETSCHED_SITE_PARAMETERS) noexcept {
    if (!detsched::internal::running) return std::exchange(value_, value);
    return Update(detsched::internal::Rmw::kExchange, value, order, PYRT_DETSCHED_SITE);
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order success, std::memory_order failure,
                               PYRT_DETSCHED_SITE_PARAMETERS) noexcept {
    return CompareExchange(expected, desired, success, failure, false, PYRT_DETSCHED_SITE);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order success, std::memory_order failure,
                             PYRT_DETSCHED_SITE_PARAMETERS) noexcept {
    return CompareExchange(expected, desired, success, failure, true, PYRT_DETSCHED_SITE);
  }
  T fetch_add(T operand, std::memory_order order,
              PYRT_DETSCHED_SITE_PARAMETERS) noexcept requires std::is_integral_v<T> {
    if (!detsched::internal::running) return std::exchange(value_, static_cast<T>(value_ + operand));
    return Update(detsched::internal::Rmw::kAdd, operand, order, PYRT_DETSCHED_SITE);
  }
  T fetch_sub(T operand, std::memory_order order,
              PYRT_DETSCHED_SITE_PARAMETERS) noexcept requires std::is_integral_v<T> {
    if (!detsched::internal::running) return std::exchange(value_, static_cast<T>(value_ - operand));
    return Update(detsched::internal::Rmw::kSub, operand, order, PYRT_DETSCHED_SITE);
  }
  T fetch_or(T operand, std::memory_order order,
             PYRT_DETSCHED_SITE_PARAMETERS) noexcept requires std::is_integral_v<T> {
    if (!detsched::internal::running) return std::exchange(value_, static_cast<T>(value_ | operand));
    return Update(detsched::internal::Rmw::kOr, operand, order, PYRT_DETSCHED_SITE);
  }
  T fetch_and(T operand, std::memory_order order,
              PYRT_DETSCHED_SITE_PARAMETERS) noexcept requires std::is_integral_v<T> {
    if (!detsched::internal::running) return std::exchange(value_, static_cast<T>(value_ & operand));
    return Update(detsched::internal::Rmw::kAnd, operand, order, PYRT_DETSCHED_SITE);
  }

 private:
  static uint64_t ToBits(T value) noexcept {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
  }
  static T FromBits(uint64_t bits) noexcept {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
  }
  T Update(detsched::internal::Rmw operation, T operand, std::memory_order order,
           detsched::internal::Site site) noexcept {
    return FromBits(
        detsched::internal::AtomicRmw(&value_, sizeof(T), operation, ToBits(operand), order, site));
  }
  bool CompareExchange(T& expected, T desired, std::memory_order success, std::memory_order failure,
                       bool weak, detsched::internal::Site site) noexcept {
    if (!detsched::internal::running) {
      if (ToBits(value_) == ToBits(expected)) {
        value_ = desired;
        return true;
      }
      expected = value_;
      return false;
    }
    uint64_t bits = ToBits(expected);
    const bool done = detsched::internal::AtomicCompareExchange(&value_, sizeof(T), &bits, ToBits(desired),
                                                                success, failure, weak, site);
    if (!done) expected = FromBits(bits);
    return done;
  }

  T value_;
};

// As the native Plain<T>; two accesses of which one is a Set, not ordered by happens-before, fail the
// schedule. Not a scheduling point: a program without races cannot tell.
template <typename T>
class Plain {
 public:
  constexpr Plain() noexcept : Plain(T{}, nullptr, 0) {}
  constexpr explicit Plain(T value, PYRT_DETSCHED_SITE_PARAMETERS) noexcept : value_(value) {
    if (!std::is_constant_evaluated() && detsched::internal::running) {
      detsched::internal::ConstructPlain(&value_, PYRT_DETSCHED_SITE);
    }
  }
  Plain(const Plain&) = delete;
  Plain& operator=(const Plain&) = delete;
  const T& Get(PYRT_DETSCHED_SITE_PARAMETERS) const noexcept {
    if (detsched::internal::running) detsched::internal::PlainRead(&value_, PYRT_DETSCHED_SITE);
    return value_;
  }
  void Set(T value, PYRT_DETSCHED_SITE_PARAMETERS) noexcept {
    if (detsched::internal::running) detsched::internal::PlainWrite(&value_, PYRT_DETSCHED_SITE);
    value_ = value;
  }

 private:
  T value_;
};

// Outside a schedule, where nobody could wake the caller, a wait without a deadline is a fatal error and one
// with a deadline advances the virtual clock to it.
inline FutexResult FutexWait(const Atomic<uint32_t>* word, uint32_t expected, Deadline deadline,
                             PYRT_DETSCHED_SITE_PARAMETERS) {
  return detsched::internal::FutexWait(word, expected, deadline, PYRT_DETSCHED_SITE);
}
inline int FutexWake(const Atomic<uint32_t>* word, int count, PYRT_DETSCHED_SITE_PARAMETERS) {
  return detsched::internal::FutexWake(word, count, PYRT_DETSCHED_SITE);
}

// Virtual time. It stands still while something runs, jumps to the next deadline when nothing can, and moves
// with the turns of spinning loops when everybody spins.
int64_t MonotonicNow();

class AsymmetricFence {
 public:
  static void Light(PYRT_DETSCHED_SITE_PARAMETERS) { detsched::internal::LightFence(PYRT_DETSCHED_SITE); }
  // Nothing where heavy fences are not one-sided: the native one orders nothing there either.
  static void LightWhereAsymmetric(PYRT_DETSCHED_SITE_PARAMETERS) {
    if (IsAsymmetric()) detsched::internal::LightFence(PYRT_DETSCHED_SITE);
  }
  static void Heavy(PYRT_DETSCHED_SITE_PARAMETERS) { detsched::internal::HeavyFence(PYRT_DETSCHED_SITE); }
  // Options::membarrier of the schedule.
  static bool IsAsymmetric();
};

// The caller lets the others go first: a spinning loop does not hide progress, nor make a schedule endless.
inline void CpuRelax(PYRT_DETSCHED_SITE_PARAMETERS) {
  if (detsched::internal::running) detsched::internal::Relax(false, PYRT_DETSCHED_SITE);
}
inline void YieldCpu(PYRT_DETSCHED_SITE_PARAMETERS) {
  if (detsched::internal::running) detsched::internal::Relax(true, PYRT_DETSCHED_SITE);
}

// Options::usable_cpus of the schedule.
int UsableCpus();

uint64_t CurrentThreadIdent();
uint64_t CurrentNativeThreadId();

// A fiber. Started in the body of a schedule it begins with Schedule::Run(). `stack_size` is ignored.
class OsThread {
 public:
  using Body = void (*)(void* argument);

  OsThread() = default;
  OsThread(const OsThread&) = delete;
  OsThread& operator=(const OsThread&) = delete;

  [[nodiscard]] int Start(Body body, void* argument, size_t stack_size = 0);
  void Join();
  void Detach();

 private:
  uint32_t handle_ = 0;
};

// The fiber stays blocked for good. That is not a deadlock: Schedule::hung() counts it.
[[noreturn]] void HangForever();

// In the child every fiber but the caller is gone, in the middle of what it did. Options::fork says which of
// the two sides the schedule follows.
pid_t ForkProcess();
void PlatformAfterForkInChild();

// One variable of which every fiber has a copy: the engine exchanges the bytes when it switches. It must hold
// a pointer or a number, not an object that other threads reach by its address.
#define PYRT_THREAD_LOCAL(type, name)                                                           \
  static_assert(std::is_trivially_copyable_v<type>,                                             \
                "thread-locals are copied between fibers: keep a pointer or a number in them"); \
  extern type name;                                                                             \
  inline const ::pyrt::detsched::internal::FiberLocal name##_fiber_local{&name, sizeof(type)};  \
  inline constinit type name

// True while `name` is among the active mutants: PYRT_MUTANT in the environment, or detsched::SetMutants().
#define PYRT_MUTANT(name)                                                \
  ([]() -> bool {                                                        \
    static constinit ::pyrt::detsched::internal::MutantSite site{#name}; \
    return site.Active();                                                \
  }())

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TESTING_DETSCHED_PLATFORM_H_
