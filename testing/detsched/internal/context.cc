#include "pyrt/testing/detsched/internal/context.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/sanitizers.h"

#if !PYRT_DETSCHED_UCONTEXT
// void pyrt_detsched_switch(void** save, void* load): pushes the callee-saved registers, stores the stack
// pointer in *save, takes `load` as the stack pointer and pops the same registers. The floating point control
// words are not switched: no pyrt code changes them.
extern "C" void pyrt_detsched_switch(void** save, void* load) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
asm(R"(
.pushsection .text
.hidden pyrt_detsched_switch
.globl pyrt_detsched_switch
.type pyrt_detsched_switch, @function
.balign 16
pyrt_detsched_switch:
  .cfi_startproc
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
.size pyrt_detsched_switch, .-pyrt_detsched_switch
.popsection
)");
#else
asm(R"(
.pushsection .text
.hidden pyrt_detsched_switch
.globl pyrt_detsched_switch
.type pyrt_detsched_switch, %function
.balign 16
pyrt_detsched_switch:
  .cfi_startproc
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .cfi_endproc
.size pyrt_detsched_switch, .-pyrt_detsched_switch
.popsection
)");
#endif
#endif

#if PYRT_ASAN
// An abandoned schedule never frees what its fibers held, and a thread that hangs or dies does not either:
// leaks are looked for on the native platform.
extern "C" int __lsan_is_turned_off() { return 1; }
#endif

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

size_t PageSize() {
  static const size_t size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

Context* Context::left_ = nullptr;

Context::~Context() {
  // Fields that only one sanitizer or the other needs: Clang warns of those that no code names.
  static_cast<void>(tsan_fiber_);
  static_cast<void>(uses_);
  if (stack_ != nullptr) ::munmap(stack_ - PageSize(), kStackSize + PageSize());
}

void Context::Prepare(Entry entry) {
  if (stack_ == nullptr) {
    const size_t guard = PageSize();
    void* map = ::mmap(nullptr, kStackSize + guard, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    PYRT_CHECK(map != MAP_FAILED, "detsched", "no memory for the stack of a fiber");
    PYRT_CHECK(::mprotect(map, guard, PROT_NONE) == 0, "detsched", "cannot protect the stack of a fiber");
    stack_ = static_cast<char*>(map) + guard;
    asan_bottom_ = stack_;
    asan_size_ = kStackSize;
  }
#if PYRT_TSAN
  // Entry functions never return: what ThreadSanitizer takes for the call stack grows by some frames with each
  // use, and it has room for 65536. A new fiber costs a millisecond, so not every time.
  static constexpr int kUsesOfTsanFiber = 500;
  if (uses_++ % kUsesOfTsanFiber == 0) {
    if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
    tsan_fiber_ = __tsan_create_fiber(0);
  }
#endif
#if PYRT_ASAN
  __asan_unpoison_memory_region(stack_, kStackSize);
#endif
  fake_stack_ = nullptr;
#if PYRT_DETSCHED_UCONTEXT
  ::getcontext(&ucontext_);
  ucontext_.uc_stack.ss_sp = stack_;
  ucontext_.uc_stack.ss_size = kStackSize;
  ucontext_.uc_link = nullptr;
  ::makecontext(&ucontext_, entry, 0);
#elif defined(__x86_64__)
  // Six registers, the address that `ret` takes, and a null return address above it for the unwinder: at the
  // entry the stack pointer is 8 below a multiple of 16, as after a call.
  void** top = reinterpret_cast<void**>(stack_ + kStackSize);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#else
  void** top = reinterpret_cast<void**>(stack_ + kStackSize) - 20;
  for (int i = 0; i < 20; ++i) top[i] = nullptr;
  top[11] = reinterpret_cast<void*>(entry);  // x30
  stack_pointer_ = top;
#endif
}

void Context::Switch(Context& from, Context& to) {
  left_ = &from;
#if PYRT_TSAN
  if (from.tsan_fiber_ == nullptr) from.tsan_fiber_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_fiber_, 0);
#endif
#if PYRT_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.asan_bottom_, to.asan_size_);
#endif
#if PYRT_DETSCHED_UCONTEXT
  ::swapcontext(&from.ucontext_, &to.ucontext_);
#else
  pyrt_detsched_switch(&from.stack_pointer_, to.stack_pointer_);
#endif
#if PYRT_ASAN
  FinishSwitch(from.fake_stack_);
#endif
}

void Context::Entered() {
#if PYRT_ASAN
  FinishSwitch(nullptr);
#endif
}

#if PYRT_ASAN
// AddressSanitizer tells here where the stack lies that was left; of the caller's own we do not know it.
void Context::FinishSwitch(void* fake_stack) {
  __sanitizer_finish_switch_fiber(fake_stack, &left_->asan_bottom_, &left_->asan_size_);
}
#endif

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
