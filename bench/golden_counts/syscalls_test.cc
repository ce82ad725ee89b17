// System calls per operation: none where nobody is in the way, one wake and one wait for a GIL that changes hands. The
// kernel and the library's own calls are asked, not a clock, so a loaded machine answers the same.

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/bench/pyrt_host.h"
#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/thread_registry.h"

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool kCanTrap = true;
#else
constexpr bool kCanTrap = false;  // sanitizers make system calls of their own
#endif

namespace {

std::atomic<int64_t> futex_waits{0};
std::atomic<int64_t> futex_wakes{0};
std::atomic<int64_t> membarriers{0};

}  // namespace

#if defined(__x86_64__)
// Before libc's: pyrt makes its futex and membarrier calls through this.
extern "C" long syscall(long number, ...) noexcept {
  __builtin_va_list list;
  __builtin_va_start(list, number);
  long arguments[6];
  for (long& argument : arguments) argument = __builtin_va_arg(list, long);
  __builtin_va_end(list);
  if (number == SYS_futex) {
    const long operation = arguments[1] & FUTEX_CMD_MASK;
    if (operation == FUTEX_WAIT_BITSET || operation == FUTEX_WAIT) futex_waits.fetch_add(1);
    if (operation == FUTEX_WAKE) futex_wakes.fetch_add(1);
  }
  if (number == SYS_membarrier && arguments[0] == MEMBARRIER_CMD_PRIVATE_EXPEDITED) membarriers.fetch_add(1);
  register long r10 asm("r10") = arguments[3];
  register long r8 asm("r8") = arguments[4];
  register long r9 asm("r9") = arguments[5];
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(arguments[0]), "S"(arguments[1]), "d"(arguments[2]), "r"(r10), "r"(r8),
                 "r"(r9)
               : "rcx", "r11", "memory");
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}
#endif

namespace pyrt_bench {
namespace {

// --- Nobody in the way

int trapped = 0;       // system calls since the filter, in the child
int last_trapped = 0;  // which one

void OnTrap(int, siginfo_t* info, void* context) {
  ++trapped;
  last_trapped = info->si_syscall;
#if defined(__x86_64__)
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#else
  static_cast<void>(context);
#endif
}

// From here on every system call of this process but those that end it raises SIGSYS.
bool TrapSystemCalls() {
  struct sigaction action = {};
  action.sa_sigaction = &OnTrap;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  ::sigaction(SIGSYS, &action, nullptr);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

constexpr int kNoFilter = 255;

// How many system calls 1000 turns of `operation` make, in a child that has done some before; kNoFilter if the kernel
// does not let us look. More than 250 count as 250.
int SystemCallsOf(const std::function<void()>& operation) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < 100; ++i) operation();
    if (!TrapSystemCalls()) ::_exit(kNoFilter);
    for (int i = 0; i < 1000; ++i) operation();
    ::_exit(trapped < 250 ? trapped : 250);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class SystemCallsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kCanTrap) GTEST_SKIP() << "needs x86-64 and no sanitizer";
    if (SystemCallsOf([] {}) == kNoFilter) GTEST_SKIP() << "seccomp filters are not available here";
  }
  PyrtHost host;
};

TEST_F(SystemCallsTest, TheTrapSeesACall) {
  EXPECT_EQ(SystemCallsOf([] { ::syscall(SYS_getppid); }), 250);
}

TEST_F(SystemCallsTest, NoneToDetachAttachPollAndEnsure) {
  const AttachedThread thread(host);
  pyrt::ThreadState& self = *pyrt::ThreadState::Current();
  EXPECT_EQ(SystemCallsOf([&] {
              self.Detach();
              self.Attach();
              static_cast<void>(self.Poll());
            }),
            0);
  EXPECT_EQ(SystemCallsOf([] { pyrt::GilStateRelease(pyrt::GilStateEnsure()); }), 0);
  self.Detach();
  EXPECT_EQ(SystemCallsOf([] { pyrt::GilStateRelease(pyrt::GilStateEnsure()); }), 0);
  self.Attach();
}

TEST_F(SystemCallsTest, NoneForAThreadStatesWholeLife) {
  const AttachedThread thread(host);
  EXPECT_EQ(SystemCallsOf([&] {
              pyrt::ThreadState* const state = host.threads().New(pyrt::Whence::kThreading);
              pyrt::InterpreterThreads::Clear(*state);
              pyrt::InterpreterThreads::Delete(state);
            }),
            0);
}

TEST_F(SystemCallsTest, NoneForPendingCalls) {
  pyrt::EvalBreaker breaker;
  const auto raise = [](void* word) {
    static_cast<pyrt::EvalBreaker*>(word)->Set(pyrt::BreakerEvent::kCallsToDo);
  };
  pyrt::PendingCalls calls{{.raise = raise, .context = &breaker}};
  pyrt::PendingCallHandler handler(&calls, nullptr);
  EXPECT_EQ(SystemCallsOf([&] {
              calls.Add([](void*) { return absl::OkStatus(); }, nullptr);
              handler.Run(breaker, true).IgnoreError();
              handler.Run(breaker, true).IgnoreError();
            }),
            0);
}

TEST_F(SystemCallsTest, NoneForImportAndModuleLocks) {
  const AttachedThread thread(host);
  pyrt::ImportLock lock;
  EXPECT_EQ(SystemCallsOf([&] {
              lock.Acquire();
              lock.Acquire();
              lock.Release().IgnoreError();
              lock.Release().IgnoreError();
            }),
            0);
  pyrt::ModuleLockRegistry locks;
  EXPECT_EQ(SystemCallsOf([&] {
              pyrt::ModuleLock module(locks, "package.module");
              module.Acquire();
            }),
            0);
}

TEST_F(SystemCallsTest, NoneForSysAttributesAndAudit) {
  const AttachedThread thread(host);
  pyrt::SysDict dict;
  dict.Set("path", pyrt::Int::Of(1000));
  pyrt::NativeAuditHooks hooks;
  pyrt::Auditor auditor(hooks);
  EXPECT_EQ(SystemCallsOf([&] {
              static_cast<void>(pyrt::SysGetObject(&dict, "path"));
              auditor.Audit("open", "s", "path").IgnoreError();
            }),
            0);
}

// --- A GIL that changes hands

// A waiter that sleeps, and a holder that drops: one wait, one wake, and one membarrier at most, before the sleep or
// when the GIL's bias goes.
TEST(HandoffTest, OneWaitAndOneWakeForEachHandoff) {
  if (!kCanTrap) GTEST_SKIP() << "needs x86-64 and no sanitizer";
  constexpr int kRounds = 200;
  pyrt::Gil gil(true);
  gil.set_interval(3'600'000'000);  // nobody asks for the GIL meanwhile
  pyrt::Atomic<uintptr_t> breaker[2] = {};
  std::atomic<int> round{0};
  std::atomic<int> done{0};
  std::thread waiter([&] {
    pyrt::GilHolder self(&breaker[1], 1);
    for (int n = 1; n <= kRounds; ++n) {
      while (round.load() < n) std::this_thread::yield();
      EXPECT_EQ(gil.Take(self), pyrt::Gil::TakeResult::kTaken);
      gil.Drop(self);
      done.store(n);
    }
    gil.Forget(self);
  });
  pyrt::GilHolder self(&breaker[0], 1);
  const int64_t waits_before = futex_waits.load();
  const int64_t wakes_before = futex_wakes.load();
  const int64_t membarriers_before = membarriers.load();
  for (int n = 1; n <= kRounds; ++n) {
    ASSERT_EQ(gil.Take(self), pyrt::Gil::TakeResult::kTaken);
    const int64_t waits = futex_waits.load();
    round.store(n);
    while (futex_waits.load() == waits) std::this_thread::yield();  // it is on its way to sleep
    gil.Drop(self);
    while (done.load() < n) std::this_thread::yield();
  }
  waiter.join();
  gil.Forget(self);
  // A few more: the kernel may return from a futex for no reason.
  EXPECT_LE(futex_waits.load() - waits_before, kRounds + 10);
  EXPECT_LE(futex_wakes.load() - wakes_before, kRounds + 10);
  EXPECT_LE(membarriers.load() - membarriers_before, kRounds + 10);
}

}  // namespace
}  // namespace pyrt_bench
