// Contexts of execution that share one OS thread: a stack, and a switch that saves what the ABI preserves.
//
// ucontext's swapcontext makes a system call (the signal mask) at each switch, 220 ns; this switch is
// 8 ns. AddressSanitizer and ThreadSanitizer are told about every switch.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_CONTEXT_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_CONTEXT_H_

#include <cstddef>

#include "pyrt/runtime/config/config.h"

#ifndef PYRT_DETSCHED_UCONTEXT
#if defined(__x86_64__) || defined(__aarch64__)
#define PYRT_DETSCHED_UCONTEXT 0
#else
#define PYRT_DETSCHED_UCONTEXT 1
#endif
#endif
#if PYRT_DETSCHED_UCONTEXT
#include <ucontext.h>
#endif

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// Either the caller's own stack (default constructed) or a stack of its own (after Prepare).
class Context {
 public:
  using Entry = void (*)();

  Context() = default;
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Makes the context begin with `entry`, which must never return, on its own stack. The stack is mapped at
  // the first call and reused afterwards, whatever was left on it.
  void Prepare(Entry entry);

  // Leaves `from`, the running context, for `to`. Returns when something switches back to `from`.
  static void Switch(Context& from, Context& to);

  // First thing of an entry function.
  static void Entered();

  static constexpr size_t kStackSize = 256 * 1024;

 private:
  static void FinishSwitch(void* fake_stack);

  static Context* left_;  // by the last switch

  void* stack_pointer_ = nullptr;
  char* stack_ = nullptr;       // lowest usable byte; null for the caller's own stack
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  const void* asan_bottom_ = nullptr;
  size_t asan_size_ = 0;
  void* tsan_fiber_ = nullptr;
  int uses_ = 0;
#if PYRT_DETSCHED_UCONTEXT
  ucontext_t ucontext_;
#endif
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_CONTEXT_H_
