// Signals at up to 20 kHz, delivered to a thread that works and polls, and to one that only gets in their way.
// None is lost, errno is kept, and waits that they interrupt go on.

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
#include "pyrt/gil/gil.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/testing/storms/storm.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int kSignal = SIGUSR1;
constexpr int kOddErrno = 4711;

Signals* target = nullptr;
std::atomic<uint64_t> arrived{0};  // before Trip: what a handler must have seen by the end
std::atomic<uint64_t> tripped{0};  // after it: what a poll that finds no bit must have seen
std::atomic<uint64_t> errno_lost{0};
// The thread that signals come to waits for somebody, and how many came meanwhile.
thread_local volatile bool waiting = false;
std::atomic<uint64_t> interruptions{0};

void OnSignal(int number) {
  const int before = errno;
  arrived.fetch_add(1, std::memory_order_seq_cst);
  target->Trip(number);
  tripped.fetch_add(1, std::memory_order_seq_cst);
  if (waiting) interruptions.fetch_add(1);
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

// This thread's signals, and a handler that takes down what it has seen.
struct SignalWorld {
  SignalWorld() {
    target = &signals;
    arrived.store(0);
    tripped.store(0);
    errno_lost.store(0);
    interruptions.store(0);
    signals.SetMainThread(&breaker);
    signals.SetHandler(kSignal, &handler);
    struct sigaction action;
    std::memset(&action, 0, sizeof(action));
    action.sa_handler = &OnSignal;
    EXPECT_EQ(::sigaction(kSignal, &action, &before), 0);
  }
  ~SignalWorld() {
    ::sigaction(kSignal, &before, nullptr);
    signals.SetWakeupFd(-1);
    signals.SetMainThread(nullptr);
  }
  // Somebody polls: first the bit, then what it stands for.
  void Handle() {
    breaker.Clear(BreakerEvent::kSignalsPending);
    EXPECT_TRUE(signals.Run(breaker).ok());
  }

  Signals signals;
  EvalBreaker breaker;
  Seen seen;
  const SignalHandler handler{[](void* context, int) {
                                Seen& seen = *static_cast<Seen*>(context);
                                ++seen.calls;
                                seen.last = arrived.load();
                                return absl::OkStatus();
                              },
                              &seen};
  struct sigaction before;
};

TEST(SignalStormTest, NoSignalIsLostAndErrnoIsKept) {
  const storm::Budget budget;
  SignalWorld world;
  Signals& signals = world.signals;
  EvalBreaker& breaker = world.breaker;
  Seen& seen = world.seen;
  int wakeup[2];
  ASSERT_EQ(::pipe2(wakeup, O_NONBLOCK | O_CLOEXEC), 0);
  // As small as can be: it fills, and then each write fails in a signal handler, whose errno must not be seen.
  ::fcntl(wakeup[1], F_SETPIPE_SZ, 4096);
  const uint64_t enough = 2 * static_cast<uint64_t>(::fcntl(wakeup[1], F_GETPIPE_SZ));
  signals.SetWakeupFd(wakeup[1], /*warn_on_full_buffer=*/false);

  uint64_t polls = 0, bytes = 0, errno_changed = 0, overlooked = 0;
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
      // Until the pipe has been full, which takes longer where there is less of a CPU.
      while (!budget.spent() || arrived.load() < enough) {
        errno = kOddErrno;
        Work();
        errno_changed += errno != kOddErrno;
        ++polls;
        const uint64_t complete = tripped.load();
        if (breaker.AnyPending()) {
          world.Handle();
        } else {
          overlooked += seen.last < complete;
        }
        if (arrived.load() > enough) drain();
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
  if (breaker.AnyPending()) world.Handle();
  drain();
  EXPECT_EQ(seen.last, arrived.load());
  EXPECT_EQ(overlooked, 0u) << "polls that found no bit, and a signal before them that nobody had handled";
  EXPECT_FALSE(signals.IsTripped());
  EXPECT_FALSE(breaker.IsSet(BreakerEvent::kSignalsPending));
  EXPECT_EQ(errno_lost.load(), 0u);
  EXPECT_EQ(errno_changed, 0u);
  EXPECT_GT(seen.calls, 0u);
  EXPECT_GT(bytes, 0u);
  EXPECT_LT(bytes, arrived.load()) << "no write has failed, so that errno was in no danger";
  std::cout << arrived.load() << " signals, " << seen.calls << " handler calls, " << bytes << " bytes, "
            << polls << " polls" << std::endl;

  signals.SetWakeupFd(-1);
  ::close(wakeup[0]);
  ::close(wakeup[1]);
}

// Each wait for the GIL and for a mutex is cut short again and again: it goes on, and lets nobody in too early.
TEST(SignalStormTest, WaitsThatSignalsInterruptGoOn) {
  SignalWorld world;
  Gil gil(/*enabled=*/true);
  gil.set_interval(200);
  Mutex mutex;
  uint64_t under_gil = 0, under_mutex = 0;  // guarded by the one and the other
  uint64_t others = 0, rounds = 0;
  std::atomic<bool> stop{false};
  std::thread other([&] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    storm::Actor self;
    while (!stop.load()) {
      ASSERT_EQ(gil.Take(self.holder), Gil::TakeResult::kTaken);
      mutex.Lock();
      for (int i = 0; i < 20; ++i) Work();
      ++under_mutex;
      mutex.Unlock();
      for (int i = 0; i < 20 && !self.asked(); ++i) Work();
      ++under_gil;
      ++others;
      gil.Drop(self.holder);
    }
    gil.Forget(self.holder);
  });
  {
    const Timer here(50'000, static_cast<pid_t>(::syscall(SYS_gettid)));
    EXPECT_TRUE(here.created());
    const storm::Budget budget;
    storm::Actor self;
    while (!budget.spent() || interruptions.load() < 10) {
      errno = kOddErrno;
      waiting = true;
      ASSERT_EQ(gil.Take(self.holder), Gil::TakeResult::kTaken);
      waiting = false;
      ++under_gil;
      gil.Drop(self.holder);
      EXPECT_EQ(errno, kOddErrno);
      waiting = true;
      mutex.Lock();
      waiting = false;
      ++under_mutex;
      mutex.Unlock();
      ++rounds;
      if (world.breaker.AnyPending()) world.Handle();
    }
    gil.Forget(self.holder);
  }
  stop.store(true);
  other.join();
  EXPECT_EQ(under_gil, others + rounds);
  EXPECT_EQ(under_mutex, others + rounds);
  EXPECT_EQ(errno_lost.load(), 0u);
  EXPECT_FALSE(gil.locked());
  EXPECT_EQ(gil.Stats().waiting, 0u);
  std::cout << arrived.load() << " signals, " << interruptions.load() << " in a wait, " << rounds
            << " rounds, " << others << " of the other thread" << std::endl;
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
