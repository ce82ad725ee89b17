#include "pyrt/runtime/sync/mutex.h"

#include <atomic>
#include <mutex>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/mutex_slow.h"
#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A clock that stands until it is moved and counts who looks at it.
struct FakeTime {
  static inline std::atomic<int64_t> now{0};
  static inline std::atomic<int> reads{0};
  static inline std::atomic<int> spins{0};
  static inline int max_spins = 0;
  static inline void (*on_spin)() = nullptr;

  static int64_t Now() {
    ++reads;
    return now;
  }
  static int MaxSpins(bool) { return max_spins; }
  static void Spin(int) {
    ++spins;
    if (on_spin != nullptr) on_spin();
  }
};
using FakeTimeMutex = BasicMutex<FakeTime>;

class MutexTest : public testing::Test {
 protected:
  void SetUp() override {
    FakeTime::now = 1;
    FakeTime::reads = FakeTime::spins = FakeTime::max_spins = 0;
    FakeTime::on_spin = nullptr;
  }
};

TEST_F(MutexTest, B001_ByteValues) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  EXPECT_EQ(sizeof(mutex), 1u);
  EXPECT_EQ(mutex.bits(), 0);
  mutex.Lock();
  EXPECT_EQ(mutex.bits(), 1);
  mutex.Unlock();
  EXPECT_EQ(mutex.bits(), 0);

  mutex.Lock();
  std::thread waiter([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    mutex.Unlock();
  });
  EXPECT_TRUE(EventuallyParked(&mutex));
  EXPECT_EQ(mutex.bits(), 3);
  mutex.Unlock();
  waiter.join();
  EXPECT_EQ(mutex.bits(), 0);
}

TEST_F(MutexTest, B003_TryLockOfAHeldMutexReadsNoClock) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  FakeTimeMutex mutex;
  EXPECT_TRUE(mutex.TryLock());
  bool got = true;
  LockStatus status = LockStatus::kAcquired;
  std::thread([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    got = mutex.TryLock();
    status = mutex.LockTimed(0);
  }).join();
  EXPECT_FALSE(got);
  EXPECT_EQ(status, LockStatus::kFailure);
  EXPECT_EQ(FakeTime::reads, 0);
  EXPECT_EQ(FakeTime::spins, 0);
  EXPECT_EQ(mutex.bits(), 1);
  mutex.Unlock();
}

TEST_F(MutexTest, B004_WaiterOlderThanAMillisecondIsHandedTheMutex) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  FakeTimeMutex mutex;
  std::atomic<bool> owns{false}, finish{false};
  mutex.Lock();
  std::thread waiter([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    owns = true;
    EXPECT_TRUE(Eventually([&] { return finish.load(); }));
    mutex.Unlock();
  });
  ASSERT_TRUE(EventuallyParked(&mutex));
  FakeTime::now += kMutexFairnessLimit + 1;
  mutex.Unlock();
  EXPECT_EQ(mutex.bits(), 1) << "must never have been free";
  EXPECT_FALSE(mutex.TryLock());
  EXPECT_TRUE(Eventually([&] { return owns.load(); }));
  finish = true;
  waiter.join();
  EXPECT_EQ(mutex.bits(), 0);
}

// Keeps a woken waiter from competing: it stops in after_park until released.
struct Gate {
  std::atomic<bool> at_gate{false}, open{false};
  WaitHooks hooks{this, [](void*) {},
                  [](void* self) {
                    auto& gate = *static_cast<Gate*>(self);
                    gate.at_gate = true;
                    EXPECT_TRUE(Eventually([&] { return gate.open.load(); }));
                  }};
};

TEST_F(MutexTest, B005_WaiterOfAMillisecondMayBeOvertaken) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  FakeTimeMutex mutex;
  Gate gate;
  mutex.Lock();
  std::thread waiter([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock(&gate.hooks);
    mutex.Unlock();
  });
  ASSERT_TRUE(EventuallyParked(&mutex));
  FakeTime::now += kMutexFairnessLimit;  // not strictly older
  mutex.Unlock();
  EXPECT_EQ(mutex.bits(), 0);
  ASSERT_TRUE(Eventually([&] { return gate.at_gate.load(); }));
  EXPECT_TRUE(mutex.TryLock()) << "overtakes";
  gate.open = true;
  ASSERT_TRUE(EventuallyParked(&mutex)) << "the waiter queues again";
  FakeTime::now += 1;
  mutex.Unlock();
  waiter.join();
  EXPECT_EQ(mutex.bits(), 0);
}

TEST_F(MutexTest, B006_Timeouts) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  EXPECT_EQ(mutex.LockTimed(0), LockStatus::kAcquired);
  mutex.Unlock();
  EXPECT_EQ(mutex.LockTimed(kForever), LockStatus::kAcquired);
  std::thread([&] {
    const int64_t start = MonotonicNow();
    EXPECT_EQ(mutex.LockTimed(0), LockStatus::kFailure);
    EXPECT_EQ(mutex.LockTimed(2 * kNanosPerMilli), LockStatus::kFailure);
    EXPECT_GE(MonotonicNow() - start, 2 * kNanosPerMilli);
  }).join();
  std::thread waiter([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    EXPECT_EQ(mutex.LockTimed(kForever), LockStatus::kAcquired);
    mutex.Unlock();
    EXPECT_EQ(mutex.LockTimed(kNoDeadline), LockStatus::kAcquired) << "the deadline saturates";
    mutex.Unlock();
  });
  EXPECT_TRUE(EventuallyParked(&mutex));
  mutex.Unlock();
  waiter.join();
}

TEST_F(MutexTest, B006_SpuriousWakeUpsDoNotExtendTheDeadline) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  mutex.Lock();
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    const int64_t start = MonotonicNow();
    EXPECT_EQ(mutex.LockTimed(30 * kNanosPerMilli), LockStatus::kFailure);
    EXPECT_GE(MonotonicNow() - start, 30 * kNanosPerMilli);
    done = true;
  });
  // Wakes it without end: a wait that starts its time-out anew never gives up.
  EXPECT_TRUE(Eventually([&] {
    ParkingLot::UnparkAll(&mutex);
    return done.load();
  }));
  waiter.join();
  mutex.Unlock();
  EXPECT_EQ(mutex.bits(), 0);
}

// A stand-in for the GIL.
struct FakeGil {
  std::mutex lock;
  WaitHooks hooks{this, [](void* self) { static_cast<FakeGil*>(self)->lock.unlock(); },
                  [](void* self) { static_cast<FakeGil*>(self)->lock.lock(); }};
};

TEST_F(MutexTest, B007_WaitingDetachesIfAsked) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  FakeGil gil;
  mutex.Lock();
  std::atomic<bool> attached{false};
  std::thread waiter([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    gil.lock.lock();
    attached = true;
    mutex.Lock(&gil.hooks);
    mutex.Unlock();
    gil.lock.unlock();
  });
  EXPECT_TRUE(Eventually([&] { return attached.load(); }));
  gil.lock.lock();  // succeeds only because the waiter gave it away
  gil.lock.unlock();
  mutex.Unlock();
  waiter.join();
}

TEST_F(MutexTest, B007_WaitingWithoutHooksStaysAttached) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  FakeGil gil;
  mutex.Lock();
  std::thread stubborn([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    gil.lock.lock();
    mutex.Lock();
    mutex.Unlock();
    gil.lock.unlock();
  });
  EXPECT_TRUE(EventuallyParked(&mutex));
  EXPECT_FALSE(gil.lock.try_lock()) << "a wait without hooks keeps it";
  mutex.Unlock();
  stubborn.join();
}

TEST_F(MutexTest, SpinnerNoticesTheUnlockWithoutParking) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  static FakeTimeMutex mutex;
  FakeTime::max_spins = 3;
  FakeTime::on_spin = []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (FakeTime::spins == 2) mutex.Unlock();
  };
  mutex.Lock();
  mutex.Lock();  // the second spin unlocks the first
  EXPECT_EQ(FakeTime::spins, 2);
  EXPECT_EQ(mutex.bits(), 1);
  mutex.Unlock();
}

TEST_F(MutexTest, MustFailEndsTheWaitBeforeItSleeps) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  WaitHooks hooks;
  hooks.must_fail = [](void*) { return true; };
  EXPECT_EQ(mutex.LockTimed(kForever, &hooks), LockStatus::kAcquired) << "not asked when the mutex is free";
  EXPECT_EQ(mutex.LockTimed(kForever, &hooks), LockStatus::kFailure);
  EXPECT_EQ(mutex.bits(), 1);
  mutex.Unlock();
}

TEST_F(MutexTest, TryUnlock) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  Mutex mutex;
  EXPECT_FALSE(mutex.TryUnlock());
  mutex.Lock();
  EXPECT_TRUE(mutex.IsLocked());
  EXPECT_TRUE(mutex.TryUnlock());
  EXPECT_FALSE(mutex.IsLocked());
}

TEST_F(MutexTest, ForkedChildResetsAMutexThatAnotherThreadHolds) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  static Mutex mutex;
  std::atomic<bool> held{false}, finish{false};
  std::thread owner([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.Lock();
    held = true;
    EXPECT_TRUE(Eventually([&] { return finish.load(); }));
    mutex.Unlock();
  });
  std::thread waiter([&]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    EXPECT_TRUE(Eventually([&] { return held.load(); }));
    mutex.Lock();
    mutex.Unlock();
  });
  EXPECT_TRUE(EventuallyParked(&mutex));
  EXPECT_TRUE(TrueInForkedChild([]() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex.ReinitAfterFork();
    if (mutex.bits() != 0 || ParkingLot::CountParked(&mutex) != 0) return false;
    mutex.Lock();
    const bool locked = mutex.bits() == 1;
    mutex.Unlock();
    return locked && mutex.bits() == 0;
  }));
  finish = true;
  owner.join();
  waiter.join();
}

TEST_F(MutexTest, StressConservesACount) {
  Mutex mutex;
  long counter = 0;
  std::atomic<long> expected{0};
  const Deadline deadline = DeadlineAfter(kStressTime);
  RunThreads(8, [&](int i) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    long mine = 0;
    for (int turn = i; MonotonicNow() < deadline; ++turn) {
      const bool got = turn % 3 == 0   ? mutex.TryLock()
                       : turn % 3 == 1 ? mutex.LockTimed(20 * kNanosPerMicro) == LockStatus::kAcquired
                                       : (mutex.Lock(), true);
      if (!got) continue;
      ++counter;
      ++mine;
      mutex.Unlock();
    }
    expected += mine;
  });
  EXPECT_EQ(counter, expected);
  EXPECT_EQ(mutex.bits() & 1, 0);
  EXPECT_EQ(ParkingLot::CountParked(&mutex), 0u);
}

using MutexDeathTest = MutexTest;

TEST_F(MutexDeathTest, B002_UnlockOfUnlocked) {
  EXPECT_DEATH(
      []() PYRT_NO_THREAD_SAFETY_ANALYSIS {
        Mutex mutex;
        mutex.Unlock();
      }(),
      kTsan ? "unlock of an unlocked mutex"  // ThreadSanitizer's own words come first
            : "Fatal Python error: PyMutex_Unlock: unlocking mutex that is not locked");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
