#include "pyrt/importlock/module_lock.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/sync/parking_lot.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using Status = ModuleLockStatus;

template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ModuleLockTest, B102_AnEntryLivesAsLongAsItsUsers) {
  ModuleLockRegistry locks;
  EXPECT_EQ(locks.size(), 0u);
  {
    ModuleLock first(locks, "a.b");
    EXPECT_EQ(locks.size(), 0u);
    EXPECT_EQ(first.Acquire(), Status::kAcquired);
    EXPECT_TRUE(locks.Locked("a.b"));
    EXPECT_FALSE(locks.Locked("a"));
    ModuleLock other(locks, "a");
    EXPECT_EQ(other.Acquire(), Status::kAcquired);
    EXPECT_EQ(locks.size(), 2u);
    EXPECT_TRUE(first.Release().ok());
    EXPECT_EQ(locks.size(), 1u);
  }
  EXPECT_EQ(locks.size(), 0u);
}

TEST(ModuleLockTest, B102_NamesOfAnyLengthAndManyAtOnce) {
  ModuleLockRegistry locks;
  std::vector<std::string> names;
  for (int i = 0; i < 5000; ++i) names.push_back(std::string(i % 300, 'x') + std::to_string(i));
  std::vector<std::unique_ptr<ModuleLock>> held;
  for (const std::string& name : names) {
    held.push_back(std::make_unique<ModuleLock>(locks, name));
    EXPECT_EQ(held.back()->Acquire(), Status::kAcquired);
  }
  EXPECT_EQ(locks.size(), names.size());
  held.clear();
  EXPECT_EQ(locks.size(), 0u);
}

TEST(ModuleLockTest, IL16_RecursiveForTheSameThread) {
  ModuleLockRegistry locks;
  ModuleLock outer(locks, "m");
  ASSERT_EQ(outer.Acquire(), Status::kAcquired);
  {
    ModuleLock inner(locks, "m");
    EXPECT_EQ(inner.Acquire(), Status::kAcquired);
    EXPECT_EQ(locks.size(), 1u);
  }
  EXPECT_TRUE(locks.Locked("m"));
  EXPECT_TRUE(outer.Release().ok());
  EXPECT_FALSE(locks.Locked("m"));
}

TEST(ModuleLockTest, ReleaseOfWhatIsNotAcquiredIsAnErrorWithCPythonsText) {
  ModuleLockRegistry locks;
  ModuleLock lock(locks, "m");
  const auto expect_error = [&] {
    const absl::Status status = lock.Release();
    EXPECT_TRUE(IsError(status, ErrorType::RuntimeError()));
    EXPECT_EQ(std::string(status.message()), "cannot release un-acquired lock");
  };
  expect_error();
  EXPECT_EQ(lock.Acquire(), Status::kAcquired);
  EXPECT_TRUE(lock.Release().ok());
  expect_error();
}

TEST(ModuleLockTest, WaiterDetachesAndTheEntryOutlivesItsMaker) {
  TestGil gil;
  ModuleLockRegistry locks;
  auto made = std::make_unique<ModuleLock>(locks, "m");
  ASSERT_EQ(made->Acquire(), Status::kAcquired);
  std::thread waiter([&] {
    const TestAttached attached(gil);
    ModuleLock lock(locks, "m");
    EXPECT_EQ(lock.Acquire(gil.hooks()), Status::kAcquired);
    EXPECT_EQ(locks.size(), 1u);
  });
  EXPECT_TRUE(Eventually([&] { return gil.times_detached() == 1; }));
  made.reset();
  waiter.join();
  EXPECT_EQ(locks.size(), 0u);
}

// T threads, thread i owns lock i and then wants lock (i + 1) % wrap.
int DeadlocksInARow(int threads, int wrap) {
  TestGil gil;
  ModuleLockRegistry locks;
  Atomic<int> owners{0};
  Atomic<int> deadlocks{0};
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      const std::string mine = "m" + std::to_string(i);
      const std::string next = "m" + std::to_string((i + 1) % wrap);
      const TestAttached attached(gil);
      ModuleLock first(locks, mine);
      EXPECT_EQ(first.Acquire(gil.hooks()), Status::kAcquired);
      owners.fetch_add(1, kRelaxed);
      while (owners.load(kRelaxed) != threads) {
        gil.Detach();
        std::this_thread::yield();
        gil.Attach();
      }
      ModuleLock second(locks, next);
      const Status status = second.Acquire(gil.hooks());
      if (status == Status::kDeadlock) {
        deadlocks.fetch_add(1, kRelaxed);
        const absl::Status error = second.DeadlockError();
        EXPECT_TRUE(IsError(error, ErrorType::DeadlockError()));
        EXPECT_TRUE(IsError(error, ErrorType::RuntimeError()));
        const std::string text(error.message());
        EXPECT_EQ(text.find("deadlock detected by _ModuleLock('" + next + "') at "), 0u) << text;
      } else {
        EXPECT_EQ(status, Status::kAcquired);
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  EXPECT_EQ(locks.size(), 0u);
  return deadlocks.load(kRelaxed);
}

TEST(ModuleLockTest, B103_RingOfTenLocksIsBroken) {
  for (int round = 0; round < 20; ++round) EXPECT_GE(DeadlocksInARow(10, 10), 1);
}

TEST(ModuleLockTest, B104_ChainWithoutRingIsNoDeadlock) {
  for (int round = 0; round < 20; ++round) EXPECT_EQ(DeadlocksInARow(10, 11), 0);
}

// The graph alone, with made-up threads.
TEST(WaitForGraphTest, B105_ForeignCycleEndsTheSearchWithNo) {
  internal::WaitForGraph graph;
  internal::ModuleLockEntry a, b, c;
  a.owner.store(1, kRelaxed);
  b.owner.store(2, kRelaxed);
  c.owner.store(2, kRelaxed);
  // Threads 1 and 2 wait for each other; one edge is made before the ownership that closes the cycle.
  b.owner.store(0, kRelaxed);
  internal::BlockedFrame first(1, &b);
  ASSERT_TRUE(graph.Add(first));
  b.owner.store(2, kRelaxed);
  a.owner.store(0, kRelaxed);
  internal::BlockedFrame second(2, &a);
  ASSERT_TRUE(graph.Add(second));
  a.owner.store(1, kRelaxed);
  internal::BlockedFrame mine(3, &c);
  EXPECT_TRUE(graph.Add(mine)) << "the cycle does not lead to thread 3";
  EXPECT_EQ(graph.size(), 3u);
  // The same cycle is one for thread 1's second frame.
  internal::BlockedFrame again(1, &c);
  EXPECT_FALSE(graph.Add(again));
  graph.Remove(mine);
  graph.Remove(second);
  graph.Remove(first);
  EXPECT_EQ(graph.size(), 0u);
}

TEST(WaitForGraphTest, B106_EveryBlockedFrameOfAThreadIsAnEdge) {
  internal::WaitForGraph graph;
  internal::ModuleLockEntry x, y, z;
  x.owner.store(7, kRelaxed);
  y.owner.store(8, kRelaxed);
  z.owner.store(1, kRelaxed);
  internal::BlockedFrame outer(1, &x);  // waits for 7 ...
  internal::BlockedFrame inner(1, &y);  // ... and, in a signal handler, for 8
  ASSERT_TRUE(graph.Add(outer));
  ASSERT_TRUE(graph.Add(inner));
  internal::BlockedFrame seven(7, &z);
  EXPECT_FALSE(graph.Add(seven)) << "by the outer frame";
  internal::BlockedFrame eight(8, &z);
  EXPECT_FALSE(graph.Add(eight)) << "by the inner frame";
  graph.Remove(inner);
  EXPECT_TRUE(graph.Add(eight));
  graph.Remove(eight);
  graph.Remove(outer);
}

TEST(WaitForGraphTest, AnOwnerThatHasNotRemovedItsEdgeYetIsNotBlocked) {
  internal::WaitForGraph graph;
  internal::ModuleLockEntry x, mine;
  x.owner.store(1, kRelaxed);  // woken, owns it, its edge still stands
  internal::BlockedFrame stale(1, &x);
  internal::BlockedFrame me(2, &x);
  mine.owner.store(2, kRelaxed);
  ASSERT_TRUE(graph.Add(me));
  graph.Remove(me);
  x.owner.store(0, kRelaxed);
  ASSERT_TRUE(graph.Add(stale));
  x.owner.store(1, kRelaxed);
  EXPECT_TRUE(graph.Add(me));
  graph.Remove(me);
  graph.Remove(stale);
}

// A hook of a wait imports: the same module, one that the thread owns, one that is free.
struct Reentrant {
  TestGil* gil;
  ModuleLockRegistry* locks;
  int calls = 0;
  int depth = 0;
  Event* owner_may_end = nullptr;

  void Import() {
    if (depth != 0) return;
    ++depth;
    ++calls;
    for (const char* name : {"owned", "free"}) {
      ModuleLock lock(*locks, name);
      EXPECT_EQ(lock.Acquire(gil->hooks()), Status::kAcquired) << name;
    }
    if (owner_may_end != nullptr) owner_may_end->Notify();
    ModuleLock same(*locks, "wanted");
    EXPECT_EQ(same.Acquire(gil->hooks()), Status::kAcquired);
    --depth;
  }
};

// Which hook imports. The interruption is a real signal.
enum class Where { kMustFail, kAfterPark, kInterrupted };
class ModuleLockReentrancyTest : public ::testing::TestWithParam<Where> {};

TEST_P(ModuleLockReentrancyTest, B106_EveryHookOfAWaitMayImport) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  TestGil gil;
  ModuleLockRegistry locks;
  Event ready, end;
  std::thread owner([&] {
    ModuleLock lock(locks, "wanted");
    EXPECT_EQ(lock.Acquire(), Status::kAcquired);
    ready.Notify();
    end.Wait();
  });
  ready.Wait();
  struct Context {
    TestGil* gil;
    Reentrant reentrant;
    Where where;
    Atomic<bool> parked{false};
  } context{&gil, {&gil, &locks}, GetParam()};
  context.reentrant.owner_may_end = &end;
  WaitHooks hooks;
  hooks.context = &context;
  hooks.before_park = [](void* c) {
    static_cast<Context*>(c)->gil->Detach();
    static_cast<Context*>(c)->parked.store(true, kRelease);
  };
  hooks.after_park = [](void* c) {
    auto* const context = static_cast<Context*>(c);
    context->gil->Attach();
    if (context->where == Where::kAfterPark) context->reentrant.Import();
  };
  hooks.must_fail = [](void* c) {
    auto* const context = static_cast<Context*>(c);
    if (context->where == Where::kMustFail) context->reentrant.Import();
    return false;
  };
  hooks.interrupted = [](void* c) {
    auto* const context = static_cast<Context*>(c);
    if (context->where == Where::kInterrupted) context->reentrant.Import();
    return false;
  };
  const pthread_t self = pthread_self();
  std::thread interrupter([&] {
    if (GetParam() == Where::kMustFail) return;
    EXPECT_TRUE(Eventually([&] {
      if (context.parked.load(kAcquire)) pthread_kill(self, SIGUSR1);
      return end.IsSet();
    }));
  });
  {
    const TestAttached attached(gil);
    ModuleLock owned(locks, "owned");
    ASSERT_EQ(owned.Acquire(), Status::kAcquired);
    ModuleLock wanted(locks, "wanted");
    EXPECT_EQ(wanted.Acquire(&hooks), Status::kAcquired);
    EXPECT_GE(context.reentrant.calls, 1);
  }
  owner.join();
  interrupter.join();
  EXPECT_EQ(locks.size(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Hooks, ModuleLockReentrancyTest,
                         ::testing::Values(Where::kMustFail, Where::kAfterPark, Where::kInterrupted));

// pyrt's containers throw when memory is short, and so does a signal handler that uses them.
TEST(ModuleLockTest, AWaitWhoseHookThrowsLeavesNoTrace) {
  TestGil gil;
  ModuleLockRegistry locks;
  WaitHooks hooks = *gil.hooks();
  hooks.must_fail = [](void*) -> bool { throw std::bad_alloc(); };
  auto owner = std::make_unique<ModuleLock>(locks, "m");
  ASSERT_EQ(owner->Acquire(), Status::kAcquired);
  std::thread([&] {
    const TestAttached attached(gil);
    ModuleLock lock(locks, "m");
    EXPECT_THROW(lock.Acquire(&hooks), std::bad_alloc);
    EXPECT_FALSE(lock.acquired());
  }).join();
  owner.reset();
  EXPECT_EQ(locks.size(), 0u);
}

TEST(ModuleLockTest, WaitsEndByTimeAndByMustFailAndLeaveNoTrace) {
  TestGil gil;
  ModuleLockRegistry locks;
  ModuleLock owner(locks, "m");
  ASSERT_EQ(owner.Acquire(), Status::kAcquired);
  std::thread([&] {
    const TestAttached attached(gil);
    {
      ModuleLock lock(locks, "m");
      EXPECT_EQ(lock.Acquire(gil.hooks(), 2 * kNanosPerMilli), Status::kFailure);
    }
    WaitHooks finalizing = *gil.hooks();
    finalizing.must_fail = [](void*) { return true; };
    ModuleLock lock(locks, "m");
    EXPECT_EQ(lock.Acquire(&finalizing), Status::kFailure);
    EXPECT_FALSE(lock.acquired());
  }).join();
  EXPECT_TRUE(owner.Release().ok());
  EXPECT_EQ(locks.size(), 0u);
}

template <typename Child>
int ForkAndWait(ModuleLockRegistry& locks, Child child) {
  locks.BeforeFork();
  const pid_t pid = ForkProcess();
  if (pid == 0) {
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    _exit(child(locks.AfterForkInChild()));
  }
  locks.AfterForkInParent();
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

TEST(ModuleLockTest, FK7_ForkReleasesLocksOfThreadsThatAreGone) {
  ModuleLockRegistry locks;
  Event ready, end;
  std::thread owner([&] {
    ModuleLock theirs(locks, "theirs");
    ModuleLock nested(locks, "nested");
    EXPECT_EQ(theirs.Acquire(), Status::kAcquired);
    EXPECT_EQ(nested.Acquire(), Status::kAcquired);
    ready.Notify();
    end.Wait();
  });
  ready.Wait();
  std::thread waiter([&] {
    ModuleLock lock(locks, "theirs");
    EXPECT_EQ(lock.Acquire(), Status::kAcquired);
  });
  ModuleLock mine(locks, "mine");
  ASSERT_EQ(mine.Acquire(), Status::kAcquired);
  EXPECT_EQ(ForkAndWait(locks,
                        [&](const std::vector<std::string>& abandoned) {
                          if (abandoned.size() != 2) return 1;
                          if (locks.size() != 1 || !locks.Locked("mine") || locks.Locked("theirs")) return 2;
                          ModuleLock theirs(locks, "theirs");
                          if (theirs.Acquire() != Status::kAcquired) return 3;
                          if (!theirs.Release().ok() || !mine.Release().ok() || locks.size() != 0) return 4;
                          return 42;
                        }),
            42);
  EXPECT_TRUE(locks.Locked("theirs"));
  end.Notify();
  owner.join();
  waiter.join();
  EXPECT_TRUE(mine.Release().ok());
  EXPECT_EQ(locks.size(), 0u);
}

TEST(ModuleLockTest, StressNeverTwoOwnersAndNothingLeft) {
  constexpr int kThreads = 6;
  constexpr int kNames = 4;
  TestGil gil;
  ModuleLockRegistry locks;
  int64_t bodies[kNames] = {};
  Atomic<int64_t> expected[kNames];
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      uint64_t random = 88172645463325252u + static_cast<uint64_t>(t);
      for (int round = 0; round < 4000; ++round) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        const TestAttached attached(gil);
        std::unique_ptr<ModuleLock> chain[2];
        const std::string names[] = {"module" + std::to_string(random % kNames),
                                     "module" + std::to_string(random / 8 % kNames)};
        for (int i = 0; i < 2; ++i) {
          const int which = static_cast<int>(i == 0 ? random % kNames : random / 8 % kNames);
          chain[i] = std::make_unique<ModuleLock>(locks, names[i]);
          if (chain[i]->Acquire(gil.hooks()) == Status::kDeadlock) continue;
          expected[which].fetch_add(1, kRelaxed);
          ++bodies[which];
          if (round % 32 == 0) {
            gil.Detach();
            std::this_thread::yield();
            gil.Attach();
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kNames; ++i) EXPECT_EQ(bodies[i], expected[i].load(kRelaxed));
  EXPECT_EQ(locks.size(), 0u);
}

TEST(ModuleLockDeathTest, MisuseNamesTheModule) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  ModuleLockRegistry locks;
  ModuleLock lock(locks, "spam");
  ASSERT_EQ(lock.Acquire(), Status::kAcquired);
  EXPECT_DEATH(static_cast<void>(lock.Acquire()), "this frame already owns module 'spam'");
  EXPECT_DEATH(std::thread([&] { lock.Release().IgnoreError(); }).join(),
               "module 'spam' was acquired by thread");
  EXPECT_TRUE(lock.Release().ok());
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
