// Known kinds of concurrency bugs: each strategy finds each of them, and exhaustive search passes the correct
// version of the same code.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

using Body = std::function<void(Schedule&)>;

// `broken` fails with `failure` under every strategy.
void ExpectFound(Failure failure, const Body& broken, int preemptions = 2) {
  for (Options options :
       {Options::Random(50'000), Options::Pct(3, 50'000), Options::Exhaustive(preemptions)}) {
    const Result result = Explore(options, broken);
    EXPECT_EQ(result.failure, failure) << result.report;
    const Result again = Explore(Options::Replay(result.trace), broken);
    EXPECT_EQ(again.failure, failure) << "the replay differs:\n" << again.report << result.report;
  }
}

// `correct` passes: every schedule of up to `preemptions`, and many others.
void ExpectCorrect(const Body& correct, int preemptions = 3) {
  Result result = Explore(Options::Exhaustive(preemptions), correct);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete) << result.report;
  result = Explore(Options::Random(5'000), correct);
  EXPECT_TRUE(result.ok()) << result.report;
}

// ---- A test-and-set lock that sleeps, as small as can be (Drepper's second mutex).

struct TinyLock {
  enum Mistake { kNone, kLoseWakeUp, kSleepOnStaleState, kRelaxedUnlock };
  explicit TinyLock(Mistake mistake = kNone) : mistake_(mistake) { Name(&word_, "lock"); }

  void Lock() {
    uint32_t seen = 0;
    if (word_.compare_exchange_strong(seen, 1, kAcquire, kRelaxed)) return;
    while (word_.exchange(2, kAcquire) != 0) {
      if (mistake_ == kSleepOnStaleState) {
        FutexWait(&word_, word_.load(kRelaxed), kNoDeadline);  // may be 0 by now: then nobody wakes us
      } else {
        FutexWait(&word_, 2, kNoDeadline);
      }
    }
  }
  void Unlock() {
    const uint32_t seen = word_.exchange(0, mistake_ == kRelaxedUnlock ? kRelaxed : kRelease);
    if (seen == 2 && mistake_ != kLoseWakeUp) FutexWake(&word_, 1);
  }

 private:
  Atomic<uint32_t> word_{0};
  Mistake mistake_;
};

Body Increment(TinyLock::Mistake mistake, int fibers) {
  return [=](Schedule& s) {
    static constexpr const char* kNames[] = {"a", "b", "c"};
    TinyLock lock(mistake);
    Plain<int> counter{0};
    for (int i = 0; i < fibers; ++i) {
      s.Spawn(kNames[i], [&] {
        lock.Lock();
        counter.Set(counter.Get() + 1);
        lock.Unlock();
      });
    }
    s.Run();
    DETSCHED_CHECK(counter.Get() == fibers);
  };
}

TEST(BugsScheduleTest, LostWakeUp) { ExpectFound(Failure::kDeadlock, Increment(TinyLock::kLoseWakeUp, 2)); }
TEST(BugsScheduleTest, MissedFutexWake) {
  ExpectFound(Failure::kDeadlock, Increment(TinyLock::kSleepOnStaleState, 2));
}
TEST(BugsScheduleTest, UnlockThatDoesNotRelease) {
  ExpectFound(Failure::kRace, Increment(TinyLock::kRelaxedUnlock, 2));
}
TEST(BugsScheduleTest, CorrectLock) {
  ExpectCorrect(Increment(TinyLock::kNone, 2));
  ExpectCorrect(Increment(TinyLock::kNone, 3), 2);
}

// ---- Check, then sleep, without telling the waker in between.

Body SleepUntilSet(bool checks_atomically) {
  return [=](Schedule& s) {
    Atomic<uint32_t> flag{0};
    Atomic<uint32_t> bell{0};
    s.Spawn("sleeper", [&] {
      while (true) {
        const uint32_t rung = bell.load(kAcquire);
        if (flag.load(kAcquire) != 0) break;
        FutexWait(&bell, checks_atomically ? rung : bell.load(kAcquire), kNoDeadline);
      }
    });
    s.Spawn("setter", [&] {
      flag.store(1, kRelease);
      bell.fetch_add(1, kRelease);
      FutexWake(&bell, 1);
    });
    s.Run();
  };
}

TEST(BugsScheduleTest, WakeUpBetweenCheckAndSleep) {
  ExpectFound(Failure::kDeadlock, SleepUntilSet(false));
  ExpectCorrect(SleepUntilSet(true));
}

// ---- Dekker's mutual exclusion, with orders or with the asymmetric fence.

void NoFence() {}
void Light() { AsymmetricFence::Light(); }
void Heavy() { AsymmetricFence::Heavy(); }

Body Dekker(std::memory_order order, void (*fence_a)(), void (*fence_b)()) {
  return [=](Schedule& s) {
    Atomic<uint32_t> wants[2];
    Atomic<uint32_t> inside{0};
    Name(&wants[0], "wants[a]");
    Name(&wants[1], "wants[b]");
    for (int i = 0; i < 2; ++i) {
      s.Spawn(i == 0 ? "a" : "b", [&, i] {
        wants[i].store(1, order);
        (i == 0 ? fence_a : fence_b)();
        if (wants[1 - i].load(order == kSeqCst ? kSeqCst : kRelaxed) == 0) {
          DETSCHED_CHECK(inside.fetch_add(1, kRelaxed) == 0);
        }
      });
    }
    s.Run();
  };
}

TEST(BugsScheduleTest, DekkerNeedsStoreLoadOrder) {
  ExpectFound(Failure::kCheck, Dekker(kRelaxed, NoFence, NoFence));
  ExpectFound(Failure::kCheck, Dekker(kRelease, NoFence, NoFence));
  ExpectCorrect(Dekker(kSeqCst, NoFence, NoFence));
}

TEST(BugsScheduleTest, AnAsymmetricFenceNeedsBothOfItsSides) {
  ExpectCorrect(Dekker(kRelaxed, Light, Heavy));
  ExpectFound(Failure::kCheck, Dekker(kRelaxed, Light, Light));
  ExpectFound(Failure::kCheck, Dekker(kRelaxed, Light, NoFence));
  ExpectFound(Failure::kCheck, Dekker(kRelaxed, NoFence, Heavy));
}

// ---- Message passing by a flag.

Body Message(std::memory_order order) {
  return [=](Schedule& s) {
    Plain<int> message{0};
    Atomic<bool> ready{false};
    s.Spawn("sender", [&] {
      message.Set(42);
      ready.store(true, order);
    });
    s.Spawn("receiver", [&] {
      if (ready.load(kAcquire)) DETSCHED_CHECK(message.Get() == 42);
    });
    s.Run();
  };
}

TEST(BugsScheduleTest, MessageByARelaxedFlag) {
  ExpectFound(Failure::kRace, Message(kRelaxed));
  ExpectCorrect(Message(kRelease));
}

// ---- Double-checked locking.

Body DoubleChecked(bool publishes_last) {
  return [=](Schedule& s) {
    struct Singleton {
      Plain<int> value{0};
    };
    Singleton object;
    Atomic<Singleton*> instance{nullptr};
    TinyLock lock;
    const auto get = [&] {
      Singleton* seen = instance.load(kAcquire);
      if (seen != nullptr) return seen;
      lock.Lock();
      seen = instance.load(kRelaxed);
      if (seen == nullptr) {
        seen = &object;
        if (publishes_last) object.value.Set(1);
        instance.store(seen, kRelease);
        if (!publishes_last) object.value.Set(1);
      }
      lock.Unlock();
      return seen;
    };
    for (const char* name : {"a", "b"}) s.Spawn(name, [&] { DETSCHED_CHECK(get()->value.Get() == 1); });
    s.Run();
  };
}

TEST(BugsScheduleTest, DoubleCheckedLocking) {
  ExpectFound(Failure::kRace, DoubleChecked(false));
  ExpectCorrect(DoubleChecked(true));
}

// ---- ABA on a stack of three nodes.

Body Stack(bool counts_pops) {
  return [=](Schedule& s) {
    Atomic<uint32_t> next[4];  // node 0 is the end
    Atomic<uint64_t> head{1};  // the node, and above it the number of pops
    for (uint32_t i = 1; i <= 2; ++i) next[i].store(i + 1, kRelaxed);
    Atomic<uint32_t> owners[4];
    Name(&head, "head");
    const auto pop = [&]() -> uint32_t {
      uint64_t seen = head.load(kAcquire);
      while (true) {
        const auto node = static_cast<uint32_t>(seen);
        if (node == 0) return 0;
        const uint64_t pops = counts_pops ? (seen >> 32) + 1 : 0;
        if (head.compare_exchange_weak(seen, pops << 32 | next[node].load(kRelaxed), kAcqRel, kAcquire)) {
          DETSCHED_CHECK(owners[node].fetch_add(1, kRelaxed) == 0);
          return node;
        }
      }
    };
    const auto push = [&](uint32_t node) {
      owners[node].fetch_sub(1, kRelaxed);
      uint64_t seen = head.load(kRelaxed);
      do {
        next[node].store(static_cast<uint32_t>(seen), kRelaxed);
      } while (!head.compare_exchange_weak(seen, (seen >> 32) << 32 | node, kRelease, kRelaxed));
    };
    s.Spawn("slow", [&] {
      pop();
      pop();
    });
    s.Spawn("quick", [&] {
      const uint32_t first = pop();
      pop();
      if (first != 0) push(first);
    });
    s.Run();
  };
}

TEST(BugsScheduleTest, AbaOnAStack) {
  ExpectFound(Failure::kCheck, Stack(false));
  ExpectCorrect(Stack(true), 2);
}

// ---- Two locks in two orders.

Body TwoLocks(bool same_order) {
  return [=](Schedule& s) {
    TinyLock first, second;
    s.Spawn("a", [&] {
      first.Lock();
      second.Lock();
      second.Unlock();
      first.Unlock();
    });
    s.Spawn("b", [&] {
      TinyLock& outer = same_order ? first : second;
      TinyLock& inner = same_order ? second : first;
      outer.Lock();
      inner.Lock();
      inner.Unlock();
      outer.Unlock();
    });
    s.Run();
  };
}

TEST(BugsScheduleTest, TwoLocksInTwoOrders) {
  ExpectFound(Failure::kDeadlock, TwoLocks(false));
  ExpectCorrect(TwoLocks(true), 2);
}

// ---- An update by load and store, seen by an invariant.

TEST(BugsScheduleTest, LostUpdate) {
  const auto body = [](bool atomically) {
    return [=](Schedule& s) {
      Atomic<uint32_t> total{0};
      Atomic<uint32_t> done{0};
      s.Invariant("the total has every increment",
                  [&] { return total.load(kRelaxed) >= done.load(kRelaxed); });
      for (const char* name : {"a", "b"}) {
        s.Spawn(name, [&] {
          if (atomically) {
            total.fetch_add(1, kRelaxed);
          } else {
            total.store(total.load(kRelaxed) + 1, kRelaxed);
          }
          done.fetch_add(1, kRelaxed);
        });
      }
      s.Run();
    };
  };
  ExpectFound(Failure::kInvariant, body(false));
  ExpectCorrect(body(true));
}

// ---- No progress.

TEST(BugsScheduleTest, Livelock) {
  // Each steps back for the other, for ever.
  ExpectFound(Failure::kLivelock, [](Schedule& s) {
    Atomic<uint32_t> wants[2];
    for (int i = 0; i < 2; ++i) {
      s.Spawn(i == 0 ? "a" : "b", [&, i] {
        wants[i].store(1, kSeqCst);
        while (wants[1 - i].load(kSeqCst) != 0) {
          wants[i].store(0, kSeqCst);
          CpuRelax();
          wants[i].store(1, kSeqCst);
        }
      });
    }
    s.Run();
  });
}

TEST(BugsScheduleTest, Starvation) {
  // A lock that wakes nobody in particular lets one fiber in again and again.
  const auto body = [](int bound) {
    return [=](Schedule& s) {
      Atomic<uint32_t> lock{0};
      BypassMonitor monitor(bound);
      for (const char* name : {"a", "b"}) {
        s.Spawn(name, [&] {
          for (int i = 0; i < 4; ++i) {
            monitor.Waiting();
            while (lock.exchange(1, kAcquire) != 0) CpuRelax();
            monitor.Entered();
            lock.store(0, kRelease);
          }
        });
      }
      s.Run();
    };
  };
  ExpectFound(Failure::kCheck, body(2));
  ExpectCorrect(body(4), 2);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT::detsched
