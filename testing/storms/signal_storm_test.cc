// Signals at up to 20 kHz, delivered to a thread that works and polls, and to one that only gets in their way.
// None is lost, errno is kept, and nobody waits.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <iostream>
#include <thread>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/signals.h"
#include "pyrt/testing/storms/storm.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int kSignal = SIGUSR1;
constexpr int kOddErrno = 4711;

Signals* target = nullptr;
std::atomic<uint64_t> arrived{0};  // before Trip: what a handler must have seen by the end
std::atomic<uint64_t> errno_lost{0};

void OnSignal(int number) {
  const int before = errno;
  arrived.fetch_add(1, std::memory_order_seq_cst);
  target->Trip(number);
  if (errno != before) errno_lost.fetch_add(1);
}

class Timer {
 public:
  Timer(long period_nanos, pid_t thread) {
    sigevent event;
    std::memset(&event, 0, sizeof(event));
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kSignal;
    event._sigev_un._tid = thread;
    created_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    itimerspec spec;
    spec.it_value = spec.it_interval = {0, period_nanos};
    if (created_) created_ = ::timer_settime(timer_, 0, &spec, nullptr) == 0;
  }
  ~Timer() {
    if (created_) ::timer_delete(timer_);
  }
  bool created() const { return created_; }

 private:
  timer_t timer_;
  bool created_ = false;
};

// A little of it, which no compiler leaves out.
void Work() {
  for (int i = 0; i < 100; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
}

struct Seen {
  uint64_t calls = 0;
  uint64_t last = 0;  // of `arrived`, when the handler ran last
};

TEST(SignalStormTest, NoSignalIsLostAndErrnoIsKept) {
  const storm::Budget budget;
  Signals signals;
  target = &signals;
  EvalBreaker breaker;
  signals.SetMainThread(&breaker);
  Seen seen;
  const SignalHandler handler{[](void* context, int) {
                                Seen& seen = *static_cast<Seen*>(context);
                                ++seen.calls;
                                seen.last = arrived.load();
                                return absl::OkStatus();
                              },
                              &seen};
  signals.SetHandler(kSignal, &handler);
  int wakeup[2];
  ASSERT_EQ(::pipe2(wakeup, O_NONBLOCK | O_CLOEXEC), 0);
  signals.SetWakeupFd(wakeup[1], /*warn_on_full_buffer=*/false);
  struct sigaction action, before;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = &OnSignal;
  ASSERT_EQ(::sigaction(kSignal, &action, &before), 0);

  uint64_t polls = 0, bytes = 0, errno_changed = 0;
  const auto drain = [&] {
    char buffer[4096];
    for (ssize_t size; (size = ::read(wakeup[0], buffer, sizeof(buffer))) > 0;) {
      bytes += static_cast<uint64_t>(size);
    }
  };
  {
    // One storm on this thread, one on a thread that has nothing to do with it.
    std::atomic<pid_t> bystander_id{0};
    std::atomic<bool> stop{false};
    std::thread bystander([&] {
      bystander_id.store(static_cast<pid_t>(::syscall(SYS_gettid)));
      while (!stop.load()) {
        errno = kOddErrno;
        Work();
        if (errno != kOddErrno) errno_lost.fetch_add(1);
      }
    });
    while (bystander_id.load() == 0) std::this_thread::yield();
    {
      const Timer here(50'000, static_cast<pid_t>(::syscall(SYS_gettid)));
      const Timer there(70'000, bystander_id.load());
      EXPECT_TRUE(here.created() && there.created());
      while (!budget.spent() || arrived.load() == 0) {
        errno = kOddErrno;
        Work();
        errno_changed += errno != kOddErrno;
        ++polls;
        if (breaker.AnyPending()) {
          // Somebody polls: first the bit, then what it stands for.
          breaker.Clear(BreakerEvent::kSignalsPending);
          EXPECT_TRUE(signals.Run(breaker).ok());
          drain();
        }
      }
    }
    // The timers are gone; what they had sent has come when the thread has been joined.
    stop.store(true);
    bystander.join();
  }
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &old);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  // The last signal, too, has raised the bit, and the handler sees everything that had arrived.
  if (breaker.AnyPending()) {
    breaker.Clear(BreakerEvent::kSignalsPending);
    EXPECT_TRUE(signals.Run(breaker).ok());
  }
  drain();
  EXPECT_EQ(seen.last, arrived.load());
  EXPECT_FALSE(signals.IsTripped());
  EXPECT_FALSE(breaker.IsSet(BreakerEvent::kSignalsPending));
  EXPECT_EQ(errno_lost.load(), 0u);
  EXPECT_EQ(errno_changed, 0u);
  EXPECT_GT(seen.calls, 0u);
  EXPECT_GT(bytes, 0u);
  EXPECT_LE(bytes, arrived.load());
  std::cout << arrived.load() << " signals, " << seen.calls << " handler calls, " << bytes << " bytes, "
            << polls << " polls" << std::endl;

  ::sigaction(kSignal, &before, nullptr);
  signals.SetWakeupFd(-1);
  signals.SetMainThread(nullptr);
  ::close(wakeup[0]);
  ::close(wakeup[1]);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
