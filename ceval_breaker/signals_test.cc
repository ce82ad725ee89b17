#include "pyrt/ceval_breaker/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Records which signals its handler ran for; one of them may fail.
struct Recorder {
  static absl::Status Call(void* context, int number) {
    Recorder& self = *static_cast<Recorder*>(context);
    self.seen.push_back(number);
    if (number == self.fails) return absl::InternalError("handler of " + std::to_string(number));
    return absl::OkStatus();
  }
  static void Ignored(void* context, int number) {
    static_cast<Recorder*>(context)->ignored.push_back(number);
  }
  static void WakeupFailed(void* context, int error) {
    static_cast<Recorder*>(context)->wakeup_errors.push_back(error);
  }

  std::vector<int> seen;
  std::vector<int> ignored;
  std::vector<int> wakeup_errors;
  int fails = 0;
  SignalHandler handler{&Call, this};
};

struct Fixture {
  Fixture() { signals.SetMainThread(&breaker); }
  ~Fixture() { signals.SetMainThread(nullptr); }
  bool bit() const { return breaker.IsSet(BreakerEvent::kSignalsPending); }

  Recorder recorder;
  EvalBreaker breaker;
  Signals signals{
      {.ignored = &Recorder::Ignored, .wakeup_failed = &Recorder::WakeupFailed, .context = &recorder}};
};

struct Pipe {
  Pipe() {
    int fds[2];
    EXPECT_EQ(::pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    read = fds[0];
    write = fds[1];
  }
  ~Pipe() {
    ::close(read);
    ::close(write);
  }
  std::vector<int> Drain() {
    std::vector<int> bytes;
    uint8_t byte;
    while (::read(read, &byte, 1) == 1) bytes.push_back(byte);
    return bytes;
  }
  int read;
  int write;
};

TEST(SignalsTest, TripSetsTheBitAndRunCallsTheHandlerOnce) {
  Fixture f;
  f.signals.SetHandler(SIGUSR1, &f.recorder.handler);
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, IsEmpty());
  f.signals.Trip(SIGUSR1);
  f.signals.Trip(SIGUSR1);
  EXPECT_TRUE(f.bit());
  EXPECT_TRUE(f.signals.IsTripped());
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGUSR1));
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGUSR1));
  EXPECT_FALSE(f.signals.IsTripped());
}

TEST(SignalsTest, EB42_AscendingOrder) {
  Fixture f;
  for (const int number : {SIGUSR1, SIGINT, SIGTERM, SIGHUP})
    f.signals.SetHandler(number, &f.recorder.handler);
  for (const int number : {SIGTERM, SIGUSR1, SIGHUP, SIGINT}) f.signals.Trip(number);
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGHUP, SIGINT, SIGUSR1, SIGTERM));
}

TEST(SignalsTest, B098_FirstHandlerFailsTheSecondSignalIsNotLost) {
  Fixture f;
  f.signals.SetHandler(SIGINT, &f.recorder.handler);
  f.signals.SetHandler(SIGUSR1, &f.recorder.handler);
  f.recorder.fails = SIGINT;
  f.signals.Trip(SIGUSR1);
  f.signals.Trip(SIGINT);
  f.breaker.Clear(BreakerEvent::kSignalsPending);
  EXPECT_EQ(f.signals.Run(f.breaker).message(), "handler of 2");
  EXPECT_TRUE(f.bit());
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGINT, SIGUSR1)) << "the failing one is consumed";
}

TEST(SignalsTest, HandlerMayTripAgain) {
  Fixture f;
  struct Again {
    Signals* signals;
    int runs = 0;
  } again{&f.signals};
  const SignalHandler handler{[](void* context, int number) -> absl::Status {
                                Again& a = *static_cast<Again*>(context);
                                if (++a.runs < 3) a.signals->Trip(number);
                                return absl::OkStatus();
                              },
                              &again};
  f.signals.SetHandler(SIGUSR2, &handler);
  f.signals.Trip(SIGUSR2);
  while (f.signals.IsTripped()) EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_EQ(again.runs, 3);
}

TEST(SignalsTest, EB43_AHandlerTakenAwayMeanwhileIsReported) {
  Fixture f;
  f.signals.SetHandler(SIGUSR1, &f.recorder.handler);
  f.signals.Trip(SIGUSR1);
  EXPECT_EQ(f.signals.SetHandler(SIGUSR1, Signals::kIgnore), &f.recorder.handler);
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, IsEmpty());
  EXPECT_THAT(f.recorder.ignored, ElementsAre(SIGUSR1));
}

TEST(SignalsTest, EB45_SetInterrupt) {
  Fixture f;
  EXPECT_EQ(f.signals.SetInterrupt(0), -1);
  EXPECT_EQ(f.signals.SetInterrupt(-1), -1);
  EXPECT_EQ(f.signals.SetInterrupt(Signals::kCount), -1);
  EXPECT_EQ(f.signals.SetInterrupt(SIGINT), 0) << "default: no effect";
  f.signals.SetHandler(SIGINT, Signals::kIgnore);
  EXPECT_EQ(f.signals.SetInterrupt(SIGINT), 0);
  EXPECT_FALSE(f.signals.IsTripped());
  f.signals.SetHandler(SIGINT, &f.recorder.handler);
  EXPECT_EQ(f.signals.SetInterrupt(SIGINT), 0);
  EXPECT_TRUE(f.bit());
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGINT));
}

TEST(SignalsTest, EB40_WakeupByteIsTheSignalNumber) {
  Fixture f;
  Pipe pipe;
  EXPECT_EQ(f.signals.SetWakeupFd(pipe.write), -1);
  f.signals.Trip(SIGUSR1);
  f.signals.Trip(SIGTERM);
  EXPECT_THAT(pipe.Drain(), ElementsAre(SIGUSR1, SIGTERM));
  EXPECT_EQ(f.signals.SetWakeupFd(-1), pipe.write);
  f.signals.Trip(SIGUSR1);
  EXPECT_THAT(pipe.Drain(), IsEmpty());
}

TEST(SignalsTest, EB40_FullPipeIsReportedOnlyWhenAsked) {
  Fixture f;
  Pipe pipe;
  while (::write(pipe.write, "x", 1) == 1) {
  }
  f.signals.SetWakeupFd(pipe.write, /*warn_on_full_buffer=*/false);
  errno = 7;
  f.signals.Trip(SIGUSR1);
  EXPECT_EQ(errno, 7);
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.wakeup_errors, IsEmpty());
  f.signals.SetWakeupFd(pipe.write, /*warn_on_full_buffer=*/true);
  f.signals.Trip(SIGUSR1);
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.wakeup_errors, ElementsAre(EAGAIN));
}

TEST(SignalsTest, WakeupErrorIsReportedByRun) {
  Fixture f;
  Pipe pipe;
  f.signals.SetWakeupFd(pipe.read);  // cannot be written to
  f.signals.Trip(SIGUSR1);
  EXPECT_THAT(f.recorder.wakeup_errors, IsEmpty()) << "not from the signal handler";
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.wakeup_errors, ElementsAre(EBADF));
}

// The main thread has run the signal before the byte was refused.
TEST(SignalsTest, EB39_AWakeupErrorIsNotLeftUntilTheNextSignal) {
  struct Main {
    Recorder recorder;
    EvalBreaker breaker;
    Signals* signals = nullptr;
  };
  static Main* main_thread = nullptr;
  Main main;
  main_thread = &main;
  Signals signals({.wakeup_failed = &Recorder::WakeupFailed,
                   .context = &main.recorder,
                   .write = [](int, const void*, size_t) -> ssize_t {
                     main_thread->breaker.Clear(BreakerEvent::kSignalsPending);
                     EXPECT_TRUE(main_thread->signals->Run(main_thread->breaker).ok());
                     errno = EBADF;
                     return -1;
                   }});
  main.signals = &signals;
  signals.SetMainThread(&main.breaker);
  signals.SetWakeupFd(1000);
  signals.Trip(SIGUSR1);
  EXPECT_TRUE(main.breaker.IsSet(BreakerEvent::kSignalsPending));
  EXPECT_TRUE(signals.Run(main.breaker).ok());
  EXPECT_THAT(main.recorder.wakeup_errors, ElementsAre(EBADF));
  signals.SetMainThread(nullptr);
}

// A handler that is on its way out may be freed at any moment: only its address is looked at.
TEST(SignalsTest, SetInterruptDoesNotLookIntoTheHandler) {
  Fixture f;
  auto* const gone = reinterpret_cast<const SignalHandler*>(uintptr_t{64});
  f.signals.SetHandler(SIGUSR1, gone);
  EXPECT_EQ(f.signals.SetInterrupt(SIGUSR1), 0);
  f.signals.SetHandler(SIGUSR1, Signals::kDefault);
  EXPECT_TRUE(f.signals.IsTripped());
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.ignored, ElementsAre(SIGUSR1));
}

Signals* write_observes = nullptr;
bool flag_at_write = false;
ssize_t ObservingWrite(int, const void*, size_t size) {
  flag_at_write = write_observes->IsTripped();
  return static_cast<ssize_t>(size);
}

TEST(SignalsTest, B097_TheByteIsWrittenAfterTheFlag) {
  EvalBreaker breaker;
  Signals signals({.write = &ObservingWrite});
  signals.SetMainThread(&breaker);
  write_observes = &signals;
  signals.SetWakeupFd(1000);
  signals.Trip(SIGUSR1);
  EXPECT_TRUE(flag_at_write);
  signals.SetMainThread(nullptr);
}

TEST(SignalsTest, B097_ASignalOnAForeignThreadReachesTheMainThread) {
  Fixture f;
  Pipe pipe;
  f.signals.SetWakeupFd(pipe.write);
  f.signals.SetHandler(SIGUSR1, &f.recorder.handler);
  ASSERT_TRUE(f.signals.InstallOsHandler(SIGUSR1).ok());
  std::jthread([] {
    errno = 42;
    ::pthread_kill(::pthread_self(), SIGUSR1);
    EXPECT_EQ(errno, 42);
  }).join();
  EXPECT_TRUE(f.bit());
  EXPECT_THAT(pipe.Drain(), ElementsAre(SIGUSR1));
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGUSR1));
  f.signals.RestoreDefaults();
  struct sigaction now;
  ::sigaction(SIGUSR1, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  EXPECT_EQ(f.signals.GetHandler(SIGUSR1), Signals::kDefault);
}

TEST(SignalsTest, OnlyOneObjectInstallsAndBadNumbersAreRefused) {
  Fixture first;
  Fixture second;
  ASSERT_TRUE(first.signals.InstallOsHandler(SIGUSR1).ok());
  EXPECT_THAT(std::string(second.signals.InstallOsHandler(SIGUSR1).message()), HasSubstr("RestoreDefaults"));
  EXPECT_THAT(std::string(first.signals.InstallOsHandler(0).message()), HasSubstr("use 1 to"));
  EXPECT_THAT(std::string(first.signals.InstallOsHandler(SIGKILL).message()), HasSubstr("refuses"));
  first.signals.RestoreDefaults();
  EXPECT_TRUE(second.signals.InstallOsHandler(SIGUSR1).ok());
}

TEST(SignalsTest, EB41_WithoutAMainThreadTheSignalWaitsForOne) {
  Recorder recorder;
  Signals signals;
  signals.SetHandler(SIGUSR1, &recorder.handler);
  signals.Trip(SIGUSR1);
  EvalBreaker breaker;
  signals.SetMainThread(&breaker);
  EXPECT_TRUE(breaker.IsSet(BreakerEvent::kSignalsPending));
  EXPECT_TRUE(signals.Run(breaker).ok());
  EXPECT_THAT(recorder.seen, ElementsAre(SIGUSR1));
  signals.SetMainThread(nullptr);
}

TEST(SignalsTest, B099_TrippedBeforeTheForkIsNotSeenInTheChild) {
  Fixture f;
  f.signals.SetHandler(SIGUSR1, &f.recorder.handler);
  f.signals.Trip(SIGUSR1);
  const pid_t child = ::fork();
  if (child == 0) {
    EvalBreaker survivor;
    survivor.Set(BreakerEvent::kSignalsPending);
    f.signals.AfterForkInChild(&survivor);
    const bool clean = !f.signals.IsTripped() && !survivor.IsSet(BreakerEvent::kSignalsPending) &&
                       f.signals.Run(survivor).ok() && f.recorder.seen.empty();
    f.signals.Trip(SIGUSR1);  // and new ones reach the survivor's word
    const bool works = survivor.IsSet(BreakerEvent::kSignalsPending) && f.signals.Run(survivor).ok() &&
                       f.recorder.seen.size() == 1;
    ::_exit(clean && works ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(f.signals.Run(f.breaker).ok());
  EXPECT_THAT(f.recorder.seen, ElementsAre(SIGUSR1)) << "the parent handles it";
}

TEST(SignalsStressTest, NoSignalIsLostAndTheMainThreadsWordMayGoAway) {
  // Two threads trip, one of them all the time; the main thread's word is replaced and freed meanwhile.
  constexpr int kRounds = 2'000;
  Recorder recorder;
  Signals signals;
  signals.SetHandler(SIGUSR1, &recorder.handler);
  signals.SetHandler(SIGUSR2, Signals::kIgnore);
  Atomic<int> tripped{0};
  Atomic<bool> stop{false};
  std::jthread noise([&] {
    while (!stop.load(kRelaxed)) signals.Trip(SIGUSR2);
  });
  std::jthread counted([&] {
    for (int i = 0; i < kRounds; ++i) {
      tripped.store(i + 1, kRelease);  // first: the other side may answer before Trip returns
      signals.Trip(SIGUSR1);
      while (tripped.load(kAcquire) > 0 && !stop.load(kRelaxed)) YieldCpu();
    }
  });
  size_t handled = 0;
  while (handled < kRounds) {
    auto breaker = std::make_unique<EvalBreaker>();
    signals.SetMainThread(breaker.get());
    for (int polls = 0; polls < 50; ++polls) {
      EXPECT_TRUE(signals.Run(*breaker).ok());
      if (recorder.seen.size() > handled) {
        ASSERT_EQ(recorder.seen.size(), ++handled) << "one call for one signal";
        tripped.store(0, kRelease);
      }
    }
    signals.SetMainThread(nullptr);
  }
  stop.store(true, kRelaxed);
}

TEST(SignalsDeathTest, SetHandlerChecksItsArguments) {
  Signals signals;
  EXPECT_DEATH(signals.SetHandler(0, Signals::kDefault), "signal number 0 is not in 1 ...");
  EXPECT_DEATH(signals.SetHandler(SIGINT, nullptr), "null handler for signal 2: pass Signals::kDefault");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
