#include "pyrt/runtime/sync/event.h"

#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(EventTest, B011_NotifyBeforeWait) {
  Event event;
  static_assert(sizeof(event) == 1);
  EXPECT_FALSE(event.IsSet());
  EXPECT_EQ(event.state(), 0);
  event.Notify();
  EXPECT_TRUE(event.IsSet());
  event.Notify();
  EXPECT_EQ(event.state(), 1);
  event.Wait();
  EXPECT_TRUE(event.WaitTimed(0));
  EXPECT_TRUE(event.WaitTimed(kForever));
  EXPECT_EQ(event.state(), 1) << "never resets";
}

TEST(EventTest, B011_NotifyWakesAll) {
  Event event;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) waiters.emplace_back([&] { event.Wait(); });
  EXPECT_TRUE(EventuallyParked(&event, 4));
  EXPECT_EQ(event.state(), 2);
  event.Notify();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(event.state(), 1);
}

TEST(EventTest, TimedWait) {
  Event event;
  EXPECT_FALSE(event.WaitTimed(0));
  EXPECT_EQ(event.state(), 0) << "no wait, no waiter";
  const int64_t start = MonotonicNow();
  while (MonotonicNow() - start < 2 * kNanosPerMilli) {
    EXPECT_FALSE(event.WaitTimed(start + 2 * kNanosPerMilli - MonotonicNow()));
  }
  event.Notify();
  EXPECT_TRUE(event.WaitTimed(kNanosPerMilli));
}

// gh-140263: the waiter frees the event while the notifier is still inside Notify.
TEST(EventTest, WaiterMayFreeTheEvent) {
  for (int i = 0; i < 300; ++i) {
    auto event = std::make_unique<Event>();
    std::thread notifier([raw = event.get()] { raw->Notify(); });
    event->Wait();
    event.reset();
    notifier.join();
  }
}

TEST(EventTest, ForkedChildKeepsTheValueAndForgetsWaiters) {
  static Event event;
  std::thread waiter([] { event.Wait(); });
  EXPECT_TRUE(EventuallyParked(&event));
  EXPECT_TRUE(TrueInForkedChild([] {
    event.ReinitAfterFork();
    if (event.state() != 0) return false;
    event.Notify();
    event.ReinitAfterFork();
    return event.IsSet();
  }));
  event.Notify();
  waiter.join();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
