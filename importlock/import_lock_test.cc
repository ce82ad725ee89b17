#include "pyrt/importlock/import_lock.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <thread>
#include <vector>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/sync/parking_lot.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ImportLockTest, B100_IsRecursiveAndCountsExtraLevels) {
  ImportLock lock;
  EXPECT_FALSE(lock.Held());
  lock.Acquire();
  EXPECT_TRUE(lock.Held());
  EXPECT_TRUE(lock.HeldByCurrentThread());
  EXPECT_EQ(lock.owner(), CurrentThreadIdent());
  EXPECT_EQ(lock.level(), 0u);
  lock.Acquire();
  EXPECT_EQ(lock.level(), 1u);
  EXPECT_TRUE(lock.TryAcquire());
  EXPECT_EQ(lock.AcquireTimed(0), LockStatus::kAcquired);
  EXPECT_EQ(lock.level(), 3u);
  for (size_t level = 3; level > 0; --level) {
    EXPECT_TRUE(lock.Release().ok());
    EXPECT_EQ(lock.level(), level - 1);
    EXPECT_TRUE(lock.Held());
  }
  EXPECT_TRUE(lock.Release().ok());
  EXPECT_FALSE(lock.Held());
  EXPECT_EQ(lock.owner(), 0u);
}

void ExpectNotHolding(const absl::Status& status) {
  EXPECT_TRUE(IsError(status, ErrorType::RuntimeError()));
  EXPECT_EQ(std::string(status.message()), "not holding the import lock");
}

TEST(ImportLockTest, B100_ReleaseOfAFreeLockIsAnErrorWithCPythonsText) {
  ImportLock lock;
  ExpectNotHolding(lock.Release());
  lock.Acquire();
  EXPECT_TRUE(lock.Release().ok());
  ExpectNotHolding(lock.Release());
  EXPECT_FALSE(lock.Held());
}

TEST(ImportLockTest, B100_ReleaseByAStrangerIsAnErrorAndLockHeldMeansByAnybody) {
  TestGil gil;
  ImportLock lock;
  gil.Attach();
  lock.Acquire(gil.hooks());
  lock.Acquire(gil.hooks());
  gil.Detach();
  std::thread([&] {
    const TestAttached attached(gil);
    EXPECT_TRUE(lock.Held());
    EXPECT_FALSE(lock.HeldByCurrentThread());
    EXPECT_FALSE(lock.TryAcquire());
    EXPECT_EQ(lock.AcquireTimed(0), LockStatus::kFailure);
    ExpectNotHolding(lock.Release());
  }).join();
  gil.Attach();
  EXPECT_EQ(lock.level(), 1u);
  EXPECT_TRUE(lock.Release().ok());
  EXPECT_TRUE(lock.Release().ok());
  gil.Detach();
}

TEST(ImportLockTest, WaiterDetachesAndOwnsTheLockAfterwards) {
  TestGil gil;
  ImportLock lock;
  gil.Attach();
  lock.Acquire(gil.hooks());
  gil.Detach();
  std::thread waiter([&] {
    const TestAttached attached(gil);
    lock.Acquire(gil.hooks());
    EXPECT_TRUE(lock.HeldByCurrentThread());
    EXPECT_EQ(lock.level(), 0u);
    EXPECT_TRUE(lock.Release().ok());
  });
  EXPECT_TRUE(Eventually([&] { return gil.times_detached() == 1; }));
  gil.Attach();
  EXPECT_TRUE(lock.Release().ok());
  gil.Detach();
  waiter.join();
  EXPECT_EQ(gil.times_detached(), 1u);
  EXPECT_FALSE(lock.Held());
}

TEST(ImportLockTest, TimedWaitEndsAtItsTimeAndLeavesNoTrace) {
  TestGil gil;
  ImportLock lock;
  gil.Attach();
  lock.Acquire(gil.hooks());
  gil.Detach();
  std::thread([&] {
    const TestAttached attached(gil);
    const int64_t start = MonotonicNow();
    EXPECT_EQ(lock.AcquireTimed(3 * kNanosPerMilli, gil.hooks()), LockStatus::kFailure);
    EXPECT_GE(MonotonicNow() - start, 3 * kNanosPerMilli);
    EXPECT_TRUE(lock.Held());
  }).join();
  gil.Attach();
  EXPECT_TRUE(lock.Release().ok());
  EXPECT_EQ(lock.AcquireTimed(kNanosPerMilli, gil.hooks()), LockStatus::kAcquired);
  EXPECT_TRUE(lock.Release().ok());
  gil.Detach();
}

TEST(ImportLockTest, MustFailIsAskedBeforeTheSleepByATimedWaitOnly) {
  TestGil gil;
  ImportLock lock;
  gil.Attach();
  lock.Acquire(gil.hooks());
  gil.Detach();
  WaitHooks finalizing = *gil.hooks();
  finalizing.must_fail = [](void*) { return true; };
  std::thread([&] {
    const TestAttached attached(gil);
    EXPECT_EQ(lock.AcquireTimed(kForever, &finalizing), LockStatus::kFailure);
  }).join();
  std::thread untimed([&] {
    const TestAttached attached(gil);
    lock.Acquire(&finalizing);
    EXPECT_TRUE(lock.Release().ok());
  });
  EXPECT_TRUE(Eventually([&] { return gil.times_detached() == 1; }));
  gil.Attach();
  EXPECT_TRUE(lock.Release().ok());
  gil.Detach();
  untimed.join();
}

TEST(ImportLockTest, AThreadThatIsOvertakenForTooLongGetsTheLockHandedOver) {
  TestGil gil;
  ImportLock lock;
  gil.Attach();
  lock.Acquire(gil.hooks());
  gil.Detach();
  Atomic<bool> done{false};
  std::thread waiter([&] {
    const TestAttached attached(gil);
    lock.Acquire(gil.hooks());
    done.store(true, kRelease);
    EXPECT_TRUE(lock.Release().ok());
  });
  EXPECT_TRUE(Eventually([&] { return gil.times_detached() == 1; }));
  const int64_t overdue = MonotonicNow() + 2 * kNanosPerMilli;
  EXPECT_TRUE(Eventually([&] { return MonotonicNow() > overdue; }));
  gil.Attach();
  EXPECT_TRUE(lock.Release().ok());
  // Nobody else can have it: it belongs to the waiter already, which may or may not run yet.
  if constexpr (kGilEnabled) {
    EXPECT_FALSE(lock.TryAcquire());
  }
  gil.Detach();
  waiter.join();
  EXPECT_TRUE(done.load(kAcquire));
  EXPECT_FALSE(lock.Held());
}

TEST(ImportLockTest, StressConservesACounterThatItGuards) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 20'000;
  TestGil gil;
  ImportLock lock;
  int64_t counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        const TestAttached attached(gil);
        const ImportLockScope scope(lock, gil.hooks());
        const int64_t before = counter;
        if (round % 64 == i) {  // a switch while the lock is held
          gil.Detach();
          gil.Attach();
        }
        if (round % 16 == 0) {
          const ImportLockScope again(lock, gil.hooks());
          counter = before + 1;
        } else {
          counter = before + 1;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, int64_t{kThreads} * kRounds);
  EXPECT_FALSE(lock.Held());
  EXPECT_EQ(lock.level(), 0u);
}

// Forks with the lock at `level` (-1: not owned) and runs `child`, whose result is the exit status.
template <typename Child>
int ForkAndWait(ImportLock& lock, Child child) {
  lock.BeforeFork();
  const pid_t pid = ForkProcess();
  if (pid == 0) {
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    lock.AfterForkInChild();
    _exit(child());
  }
  lock.AfterForkInParent();
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

TEST(ImportLockTest, B101_ForkKeepsTheNestingAndTheChildOwnsIt) {
  ImportLock lock;
  EXPECT_EQ(ForkAndWait(lock, [&] { return lock.Held() ? 1 : 42; }), 42);
  EXPECT_FALSE(lock.Held());
  lock.Acquire();
  lock.Acquire();
  EXPECT_EQ(ForkAndWait(lock,
                        [&] {
                          if (lock.owner() != CurrentThreadIdent() || lock.level() != 1) return 1;
                          if (!lock.Release().ok() || !lock.Held()) return 2;
                          if (!lock.Release().ok() || lock.Held()) return 3;
                          return lock.Release().ok() ? 4 : 42;
                        }),
            42);
  EXPECT_EQ(lock.level(), 1u);
  EXPECT_TRUE(lock.Release().ok());
  EXPECT_TRUE(lock.Release().ok());
}

TEST(ImportLockTest, B101_ForkFromAnotherThreadBesideWaiters) {
  TestGil gil;
  ImportLock lock;
  std::thread forker([&] {
    gil.Attach();
    lock.Acquire(gil.hooks());
    gil.Detach();
    std::thread waiter([&] {  // not in the child, where its place in the queue must be forgotten
      const TestAttached attached(gil);
      lock.Acquire(gil.hooks());
      EXPECT_TRUE(lock.Release().ok());
    });
    EXPECT_TRUE(Eventually([&] { return gil.times_detached() == 1; }));
    gil.Attach();
    EXPECT_EQ(ForkAndWait(lock,
                          [&] {
                            if (!lock.HeldByCurrentThread() || lock.level() != 0) return 1;
                            if (!lock.Release().ok() || lock.Held()) return 2;
                            return lock.TryAcquire() ? 42 : 3;
                          }),
              42);
    EXPECT_TRUE(lock.Release().ok());
    gil.Detach();
    waiter.join();
  });
  forker.join();
  EXPECT_FALSE(lock.Held());
}

// A thread that owns the lock until `end`, detached meanwhile.
std::thread OwnerUntil(Event& end, TestGil& gil, ImportLock& lock) {
  Event owned;
  std::thread owner([&] {
    const TestAttached attached(gil);
    lock.Acquire(gil.hooks());
    gil.Detach();
    owned.Notify();
    end.Wait();
    gil.Attach();
    EXPECT_TRUE(lock.Release().ok());
  });
  owned.Wait();
  return owner;
}

// The interruption is a real signal. The frame of the wait goes on in both processes.
TEST(ImportLockTest, IL8_ASignalHandlerThatForksInsideAWaitLeavesTheCountOfWaitersRight) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  TestGil gil;
  ImportLock lock;
  Event end;
  std::thread owner = OwnerUntil(end, gil, lock);
  struct Context {
    TestGil* gil;
    ImportLock* lock;
    Event* owner_may_end;
    pid_t child = -1;
    Atomic<bool> parked{false};
  } context{&gil, &lock, &end};
  WaitHooks hooks;
  hooks.context = &context;
  hooks.before_park = [](void* c) {
    static_cast<Context*>(c)->gil->Detach();
    static_cast<Context*>(c)->parked.store(true, kRelease);
  };
  hooks.after_park = [](void* c) { static_cast<Context*>(c)->gil->Attach(); };
  hooks.interrupted = [](void* c) {
    auto& context = *static_cast<Context*>(c);
    if (context.child != -1) return false;
    context.owner_may_end->Notify();
    context.lock->BeforeFork(context.gil->hooks());
    context.child = ForkProcess();
    if (context.child == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      context.lock->AfterForkInChild();
    } else {
      context.lock->AfterForkInParent();
    }
    return false;
  };
  const pthread_t self = pthread_self();
  std::thread interrupter([&] {
    EXPECT_TRUE(Eventually([&] {
      if (context.parked.load(kAcquire)) pthread_kill(self, SIGUSR1);
      return end.IsSet();
    }));
  });
  {
    const TestAttached attached(gil);
    const LockStatus status = lock.AcquireTimed(kForever, &hooks);
    if (context.child == 0) {
      const bool right = status == LockStatus::kAcquired && lock.waiters() == 0 && lock.Release().ok();
      // No exit: in it ThreadSanitizer may report the owner, which nobody joins here.
      raise(right ? SIGTERM : SIGKILL);
    }
    EXPECT_EQ(status, LockStatus::kAcquired);
    EXPECT_EQ(lock.waiters(), 0u);
    EXPECT_TRUE(lock.Release().ok());
  }
  interrupter.join();
  owner.join();
  int status = -1;
  while (waitpid(context.child, &status, 0) < 0 && errno == EINTR) continue;
  EXPECT_EQ(status, SIGTERM);
}

TEST(ImportLockDeathTest, WaitingWithoutDetachingInAGilBuildIsFatal) {
  if constexpr (!kGilEnabled)
    GTEST_SKIP() << "the GIL-disabled build waits attached, or without a thread state";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        ImportLock lock;
        lock.Acquire();
        std::thread([&] { lock.Acquire(); }).join();
      },
      "ImportLock::Acquire: thread [0-9]+ would wait for thread [0-9]+ without detaching");
}

TEST(ImportLockDeathTest, ForkHooksWithoutBeforeForkAreFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ImportLock lock;
  EXPECT_DEATH(lock.AfterForkInChild(), "ImportLock::AfterForkInChild: the import lock is free");
  EXPECT_DEATH(lock.AfterForkInParent(), "BeforeFork is missing");
}

// pyrt's containers throw when memory is short, and so does a signal handler that uses them.
TEST(ImportLockTest, AWaitWhoseHookThrowsIsNotCountedAnyMore) {
  TestGil gil;
  ImportLock lock;
  WaitHooks hooks = *gil.hooks();
  hooks.must_fail = [](void*) -> bool { throw std::bad_alloc(); };
  Event end;
  std::thread owner = OwnerUntil(end, gil, lock);
  {
    const TestAttached attached(gil);
    EXPECT_THROW(lock.AcquireTimed(kForever, &hooks), std::bad_alloc);
    EXPECT_EQ(lock.waiters(), 0u);
  }
  end.Notify();
  owner.join();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
