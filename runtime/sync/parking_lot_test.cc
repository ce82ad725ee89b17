#include "pyrt/runtime/sync/parking_lot.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(ParkingLotTest, B008_MismatchReturnsAgainAndRunsNoHook) {
  Atomic<uint64_t> word{5};
  WaitHooks hooks;
  hooks.before_park = [](void*) { ADD_FAILURE(); };
  hooks.after_park = [](void*) { ADD_FAILURE(); };
  EXPECT_EQ(ParkingLot::Park(word, uint64_t{6}, kNoDeadline, nullptr, &hooks), ParkResult::kAgain);
  EXPECT_EQ(ParkingLot::CountParked(&word), 0u);
}

TEST(ParkingLotTest, ComparesEachSize) {
  Atomic<uint8_t> one{1};
  Atomic<uint16_t> two{2};
  Atomic<uint32_t> four{4};
  Atomic<uint64_t> eight{uint64_t{1} << 40};
  EXPECT_EQ(ParkingLot::Park(one, uint8_t{1}, 0), ParkResult::kTimeout);
  EXPECT_EQ(ParkingLot::Park(two, uint16_t{2}, 0), ParkResult::kTimeout);
  EXPECT_EQ(ParkingLot::Park(four, uint32_t{4}, 0), ParkResult::kTimeout);
  EXPECT_EQ(ParkingLot::Park(eight, uint64_t{1} << 40, 0), ParkResult::kTimeout);
  EXPECT_EQ(ParkingLot::Park(eight, uint64_t{0}, 0), ParkResult::kAgain);
}

TEST(ParkingLotTest, UnparkCallsBackWithoutAWaiterToo) {
  Atomic<uint32_t> word{0};
  int calls = 0;
  ParkingLot::Unpark(&word, [&](void* argument, bool more) {
    EXPECT_EQ(argument, nullptr);
    EXPECT_FALSE(more);
    ++calls;
  });
  EXPECT_EQ(calls, 1);
}

TEST(ParkingLotTest, WakesInOrderAndSaysWhetherOthersWait) {
  Atomic<uint32_t> word{0};
  int names[3] = {};
  std::vector<std::thread> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.emplace_back(
        [&, i] { EXPECT_EQ(ParkingLot::Park(word, uint32_t{0}, kNoDeadline, &names[i]), ParkResult::kOk); });
    ASSERT_TRUE(EventuallyParked(&word, i + 1));
  }
  for (int i = 0; i < 3; ++i) {
    ParkingLot::Unpark(&word, [&](void* argument, bool more) {
      EXPECT_EQ(argument, &names[i]);
      EXPECT_EQ(more, i < 2);
    });
  }
  for (std::thread& waiter : waiters) waiter.join();
}

TEST(ParkingLotTest, B009_ClaimBeatsTimeout) {
  Atomic<uint32_t> word{0};
  const Deadline deadline = DeadlineAfter(20 * kNanosPerMilli);
  std::thread waiter([&] {
    int argument = 0;
    EXPECT_EQ(ParkingLot::Park(word, uint32_t{0}, deadline, &argument), ParkResult::kOk);
    EXPECT_EQ(argument, 1);
    EXPECT_GE(MonotonicNow(), deadline);
  });
  ASSERT_TRUE(EventuallyParked(&word));
  // The callback stands between the claim and the signal; here until the waiter's time is up.
  ParkingLot::Unpark(&word, [&](void* argument, bool) {
    ASSERT_NE(argument, nullptr) << "the machine stalled for 20 ms";
    EXPECT_TRUE(Eventually([&] { return MonotonicNow() > deadline + 5 * kNanosPerMilli; }));
    *static_cast<int*>(argument) = 1;
  });
  waiter.join();
}

TEST(ParkingLotTest, B010_AddressesOfOneBucketDoNotWakeEachOther) {
  static char places[ParkingLot::kBuckets + 1];
  const void* const here = &places[0];
  const void* const there = &places[ParkingLot::kBuckets];
  const auto always = [](const void*, const void*) { return true; };
  std::atomic<int> woken{0};
  std::thread waiter([&] {
    EXPECT_EQ(ParkingLot::ParkIf(here, always, nullptr, kNoDeadline, nullptr, nullptr), ParkResult::kOk);
    ++woken;
  });
  ASSERT_TRUE(EventuallyParked(here));
  EXPECT_EQ(ParkingLot::CountParked(there), 0u);
  ParkingLot::UnparkAll(there);
  ParkingLot::Unpark(there, [](void* argument, bool more) {
    EXPECT_EQ(argument, nullptr);
    EXPECT_FALSE(more);
  });
  EXPECT_EQ(ParkingLot::CountParked(here), 1u);
  EXPECT_EQ(woken, 0);
  ParkingLot::UnparkAll(here);
  waiter.join();
}

TEST(ParkingLotTest, HooksBracketTheSleepOutsideTheQueue) {
  static Atomic<uint32_t> word{0};
  static std::atomic<int> before{0}, after{0};
  WaitHooks hooks;
  hooks.before_park = [](void*) {
    EXPECT_EQ(ParkingLot::CountParked(&word), 1u);
    ++before;
  };
  hooks.after_park = [](void*) {
    EXPECT_EQ(ParkingLot::CountParked(&word), 0u)
        << "gh-137433: a thread that hangs here must not be in the queue";
    ++after;
  };
  EXPECT_EQ(ParkingLot::Park(word, uint32_t{0}, DeadlineAfter(kNanosPerMilli), nullptr, &hooks),
            ParkResult::kTimeout);
  EXPECT_EQ(before, 1);
  EXPECT_EQ(after, 1);
}

TEST(ParkingLotTest, SignalInterrupts) {
  struct sigaction action = {}, old;
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
  Atomic<uint32_t> word{0};
  std::atomic<bool> done{false};
  std::thread waiter([&] {
    EXPECT_EQ(ParkingLot::Park(word, uint32_t{0}, kNoDeadline), ParkResult::kInterrupted);
    done = true;
  });
  ASSERT_TRUE(EventuallyParked(&word));
  EXPECT_TRUE(Eventually([&] {
    if (!done) pthread_kill(waiter.native_handle(), SIGUSR1);
    return done.load();
  }));
  waiter.join();
  EXPECT_EQ(ParkingLot::CountParked(&word), 0u);
  sigaction(SIGUSR1, &old, nullptr);
}

TEST(ParkingLotTest, ForkedChildHasNoWaiters) {
  static Atomic<uint32_t> word{0};
  std::thread waiter([] { EXPECT_EQ(ParkingLot::Park(word, uint32_t{0}, kNoDeadline), ParkResult::kOk); });
  ASSERT_TRUE(EventuallyParked(&word));
  EXPECT_TRUE(TrueInForkedChild([] {
    return ParkingLot::CountParked(&word) == 0 &&
           ParkingLot::Park(word, uint32_t{0}, 0) == ParkResult::kTimeout;
  }));
  ParkingLot::UnparkAll(&word);
  waiter.join();
}

// Tokens: a sleeper that was unparked has got exactly one, whatever time-outs did meanwhile.
TEST(ParkingLotTest, StressEveryClaimIsReported) {
  Atomic<uint32_t> word{0};
  std::atomic<long> claimed{0}, reported{0};
  std::atomic<int> sleepers{4};
  const Deadline deadline = DeadlineAfter(kStressTime);
  RunThreads(6, [&](int i) {
    if (i < 4) {
      while (MonotonicNow() < deadline) {
        bool mine = false;
        const ParkResult result =
            ParkingLot::Park(word, uint32_t{0}, DeadlineAfter((i + 1) * 5 * kNanosPerMicro), &mine);
        EXPECT_EQ(mine, result == ParkResult::kOk);
        if (result == ParkResult::kOk) ++reported;
      }
      --sleepers;
      return;
    }
    while (sleepers > 0) {
      ParkingLot::Unpark(&word, [&](void* argument, bool) {
        if (argument == nullptr) return;
        *static_cast<bool*>(argument) = true;
        ++claimed;
      });
    }
  });
  EXPECT_EQ(claimed, reported);
  EXPECT_GT(claimed, 0);
  EXPECT_EQ(ParkingLot::CountParked(&word), 0u);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
