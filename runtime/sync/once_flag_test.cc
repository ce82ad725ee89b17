#include "pyrt/runtime/sync/once_flag.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/sync_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(OnceFlagTest, RunsOnce) {
  OnceFlag flag;
  static_assert(sizeof(flag) == 1);
  int calls = 0;
  const auto callback = [&] {
    EXPECT_EQ(flag.state(), 1);
    ++calls;
    return 0;
  };
  EXPECT_EQ(flag.CallOnce(callback), 0);
  EXPECT_EQ(flag.state(), 4);
  EXPECT_EQ(flag.CallOnce(callback), 0);
  EXPECT_EQ(calls, 1);
}

TEST(OnceFlagTest, B012_FailingCallbackIsRunAgainByOneWaiter) {
  constexpr int kThreads = 5;
  constexpr int kFailures = 3;
  OnceFlag flag;
  std::atomic<int> calls{0}, failed{0}, succeeded{0}, inside{0};
  RunThreads(kThreads, [&](int) {
    const int result = flag.CallOnce([&] {
      EXPECT_EQ(++inside, 1) << "two at a time";
      const int call = ++calls;
      // The others queue up, so that there is somebody to take over.
      EXPECT_TRUE(EventuallyParked(&flag, kThreads - call));
      EXPECT_EQ(flag.state(), 3);
      --inside;
      return call <= kFailures ? -1 : 0;
    });
    ++(result == 0 ? succeeded : failed);
  });
  EXPECT_EQ(calls, kFailures + 1);
  EXPECT_EQ(failed, kFailures);
  EXPECT_EQ(succeeded, kThreads - kFailures);
  EXPECT_EQ(flag.state(), 4);
}

TEST(OnceFlagTest, ForkedChildRunsWhatAnotherThreadNeverEnds) {
  static OnceFlag flag;
  static std::atomic<bool> running{false}, finish{false};
  std::thread runner([] {
    flag.CallOnce([] {
      running = true;
      EXPECT_TRUE(Eventually([] { return finish.load(); }));
      return 0;
    });
  });
  EXPECT_TRUE(Eventually([] { return running.load(); }));
  EXPECT_TRUE(TrueInForkedChild([] {
    flag.ReinitAfterFork();
    return flag.CallOnce([] { return 0; }) == 0 && flag.IsDone();
  }));
  EXPECT_TRUE(TrueInForkedChild([] {
    flag.ReinitAfterFork(/*running_here=*/true);
    return flag.state() == 1;
  }));
  finish = true;
  runner.join();
}

TEST(OnceFlagDeathTest, InvalidResult) {
  EXPECT_DEATH(
      {
        OnceFlag flag;
        flag.CallOnce([] { return 7; });
      },
      "invalid result from _PyOnceFlag_CallOnce");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
