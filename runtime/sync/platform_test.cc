#include "pyrt/runtime/sync/platform.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"

namespace {

// The next sched_getaffinity() stays inside until it is let go.
std::atomic<bool> hold_next_affinity{false};
std::atomic<bool> affinity_is_held{false};
std::atomic<bool> let_affinity_go{false};

}  // namespace

// Before libc's.
extern "C" int sched_getaffinity(pid_t pid, size_t size, cpu_set_t* set) noexcept {
  if (hold_next_affinity.exchange(false)) {
    affinity_is_held = true;
    while (!let_affinity_go) ::sched_yield();
  }
  std::memset(set, 0, size);
  return ::syscall(SYS_sched_getaffinity, pid, size, set) < 0 ? -1 : 0;
}

namespace pyrt::inline PYRT_VARIANT {

PYRT_THREAD_LOCAL(int, platform_test_local) = 3;

namespace {

TEST(PlatformTest, DeadlineAfterSaturates) {
  EXPECT_EQ(DeadlineAfter(-1), kNoDeadline);
  EXPECT_EQ(DeadlineAfter(kForever), kNoDeadline);
  EXPECT_EQ(DeadlineAfter(0), 0);
  EXPECT_EQ(DeadlineAfter(kNoDeadline), kNoDeadline);
  EXPECT_EQ(DeadlineAfter(kNoDeadline - 1), kNoDeadline);
  const int64_t before = MonotonicNow();
  const Deadline deadline = DeadlineAfter(kNanosPerSecond);
  EXPECT_GE(deadline, before + kNanosPerSecond);
  EXPECT_LE(deadline, MonotonicNow() + kNanosPerSecond);
}

TEST(PlatformTest, ClockNeverGoesBack) {
  int64_t last = MonotonicNow();
  for (int i = 0; i < 10000; ++i) {
    const int64_t now = MonotonicNow();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(PlatformTest, FutexWaitComparesFirst) {
  Atomic<uint32_t> word{1};
  EXPECT_EQ(FutexWait(&word, 0, kNoDeadline), FutexResult::kChanged);
}

TEST(PlatformTest, FutexWaitTimesOut) {
  Atomic<uint32_t> word{0};
  EXPECT_EQ(FutexWait(&word, 0, 0), FutexResult::kTimedOut);
  EXPECT_EQ(FutexWait(&word, 0, -5), FutexResult::kTimedOut);
  const Deadline deadline = DeadlineAfter(2 * kNanosPerMilli);
  FutexResult result;
  do {
    result = FutexWait(&word, 0, deadline);
  } while (result == FutexResult::kWoken);
  EXPECT_EQ(result, FutexResult::kTimedOut);
  EXPECT_GE(MonotonicNow(), deadline);
}

TEST(PlatformTest, FutexWakeWakes) {
  Atomic<uint32_t> word{0};
  EXPECT_EQ(FutexWake(&word, 1), 0);
  std::thread sleeper([&] {
    while (word.load(kAcquire) == 0) {
      const FutexResult result = FutexWait(&word, 0, kNoDeadline);
      EXPECT_TRUE(result == FutexResult::kWoken || result == FutexResult::kChanged);
    }
  });
  EXPECT_TRUE(Eventually([&] { return FutexWake(&word, 1) == 1; }));
  word.store(1, kRelease);
  FutexWake(&word, 1);
  sleeper.join();
}

TEST(PlatformTest, FutexWakeOfUnmappedMemoryIsHarmless) {
  // The zero page's neighbour is never mapped: only the address counts.
  EXPECT_EQ(FutexWake(reinterpret_cast<Atomic<uint32_t>*>(uintptr_t{4096}), 1), 0);
}

TEST(PlatformTest, SignalInterruptsFutexWait) {
  struct sigaction action = {}, old;
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  Atomic<uint32_t> word{0};
  std::atomic<bool> done{false};
  std::thread sleeper([&] {
    FutexResult result;
    do {
      result = FutexWait(&word, 0, kNoDeadline);
    } while (result == FutexResult::kWoken);
    EXPECT_EQ(result, FutexResult::kInterrupted);
    done = true;
  });
  EXPECT_TRUE(Eventually([&] {
    if (!done) pthread_kill(sleeper.native_handle(), SIGUSR1);
    return done.load();
  }));
  sleeper.join();
  sigaction(SIGUSR1, &old, nullptr);
}

// The litmus test of the fence: each side stores, fences and loads the other's word. Both missing the other's
// store is what the fence excludes.
TEST(PlatformTest, AsymmetricFenceOrdersStoreAndLoad) {
  constexpr int kRounds = 4000;
  Atomic<int> fast{0}, slow{0};
  Atomic<int> fast_round{0}, slow_round{0};
  Atomic<int> fast_saw{0}, slow_saw{0};
  const auto meet = [](Atomic<int>& mine, Atomic<int>& other, int round) {
    mine.store(round, kRelease);
    return Eventually([&] { return other.load(kAcquire) >= round; });
  };
  std::thread other([&] {
    for (int round = 1; round <= kRounds; ++round) {
      if (!meet(slow_round, fast_round, 2 * round)) return;
      slow.store(round, kRelaxed);
      AsymmetricFence::Heavy();
      slow_saw.store(fast.load(kRelaxed), kRelaxed);
      if (!meet(slow_round, fast_round, 2 * round + 1)) return;
    }
  });
  int failures = 0;
  for (int round = 1; round <= kRounds; ++round) {
    ASSERT_TRUE(meet(fast_round, slow_round, 2 * round));
    fast.store(round, kRelaxed);
    AsymmetricFence::Light();
    fast_saw.store(slow.load(kRelaxed), kRelaxed);
    // The second meeting ends the round: both have written what they saw.
    fast_round.store(2 * round + 1, kRelease);
    ASSERT_TRUE(Eventually([&] { return slow_round.load(kAcquire) >= 2 * round + 1; }));
    if (fast_saw.load(kRelaxed) < round && slow_saw.load(kRelaxed) < round) ++failures;
  }
  other.join();
  EXPECT_EQ(failures, 0);
}

TEST(PlatformTest, HeavyFencePreservesErrno) {
  errno = 77;
  AsymmetricFence::Heavy();
  EXPECT_EQ(errno, 77);
}

TEST(PlatformTest, ThreadLocalsAreInitialisedPerThread) {
  platform_test_local = 4;
  std::thread([] { EXPECT_EQ(platform_test_local, 3); }).join();
  EXPECT_EQ(platform_test_local, 4);
  platform_test_local = 3;
}

TEST(PlatformTest, OsThreadRunsAndJoins) {
  static std::atomic<uint64_t> ident, native;
  OsThread thread;
  ASSERT_EQ(thread.Start(
                [](void* argument) {
                  ident = CurrentThreadIdent();
                  native = CurrentNativeThreadId();
                  *static_cast<int*>(argument) = 5;
                },
                [] {
                  static int result;
                  return &result;
                }()),
            0);
  thread.Join();
  EXPECT_NE(ident, 0u);
  EXPECT_NE(ident, CurrentThreadIdent());
  EXPECT_NE(native, CurrentNativeThreadId());
  EXPECT_EQ(CurrentNativeThreadId(), static_cast<uint64_t>(::getpid())) << "the main thread's";
}

TEST(PlatformTest, OsThreadReportsThatItCannotStart) {
  OsThread thread;
  // No address space has room for this stack. (A size below the minimum is refused too.)
  EXPECT_NE(thread.Start([](void*) { ADD_FAILURE(); }, nullptr, size_t{1} << 60), 0);
}

TEST(PlatformTest, HungThreadRunsNoDestructorAndDoesNotReturn) {
  static std::atomic<bool> about_to_hang{false};
  EXPECT_TRUE(TrueInForkedChild([] {
    struct Guard {
      ~Guard() { ::_exit(9); }
    };
    OsThread thread;
    if (thread.Start(
            [](void*) {
              Guard guard;
              about_to_hang = true;
              HangForever();
            },
            nullptr) != 0) {
      return false;
    }
    thread.Detach();
    return Eventually([] { return about_to_hang.load(); });
  }));
}

TEST(PlatformTest, ForkedChildHasANewNativeId) {
  const uint64_t parent = CurrentNativeThreadId();
  EXPECT_TRUE(TrueInForkedChild([&] {
    return CurrentNativeThreadId() != parent && CurrentNativeThreadId() == static_cast<uint64_t>(::getpid());
  }));
}

TEST(PlatformTest, UsableCpusIsPositive) { EXPECT_GE(UsableCpus(), 1); }

// A fork meets a thread in the middle of the first call ever; the child does not wait for that thread, which it does not
// have. In a process of its own, in which nobody has asked before.
TEST(PlatformDeathTest, FK2_AChildAsksForItsCpusBesideAThreadThatWasAsking) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fork_beside_the_first_call = [] {
    hold_next_affinity = true;
    std::thread first([] { static_cast<void>(UsableCpus()); });
    if (!Eventually([] { return affinity_is_held.load(); })) ::_exit(2);  // nothing was shown
    const bool answered = TrueInForkedChild([] { return UsableCpus() >= 1; });
    let_affinity_go = true;
    first.join();
    ::_exit(answered ? 0 : 1);
  };
  EXPECT_EXIT(fork_beside_the_first_call(), testing::ExitedWithCode(0), "");
}

TEST(PlatformTest, TheIdentIsPthreadSelf) {
  EXPECT_EQ(CurrentThreadIdent(), static_cast<uint64_t>(pthread_self()));
  std::thread([] { EXPECT_EQ(CurrentThreadIdent(), static_cast<uint64_t>(pthread_self())); }).join();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
