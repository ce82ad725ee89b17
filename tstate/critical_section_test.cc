#include "pyrt/tstate/critical_section.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class CriticalSectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kGilEnabled) GTEST_SKIP() << "empty with the GIL";
  }
  TestInterpreter interpreter_;
  Mutex a_, b_;
};

TEST_F(CriticalSectionTest, B017_DetachingSuspendsEverySectionAndAttachingResumesTheInnermost) {
  TestThread thread(interpreter_);
  {
    CriticalSection outer(a_);
    CriticalSection inner(b_);
    EXPECT_TRUE(a_.IsLocked() && b_.IsLocked());
    {
      DetachedScope detached;
      EXPECT_FALSE(a_.IsLocked());
      EXPECT_FALSE(b_.IsLocked());
    }
    EXPECT_FALSE(a_.IsLocked());
    EXPECT_TRUE(b_.IsLocked());
  }
  EXPECT_FALSE(a_.IsLocked());
  EXPECT_FALSE(b_.IsLocked());
}

TEST_F(CriticalSectionTest, B017_TheOuterSectionIsResumedWhenTheInnerOneEnds) {
  TestThread thread(interpreter_);
  CriticalSection outer(a_);
  {
    CriticalSection inner(b_);
    DetachedScope detached;
  }
  EXPECT_TRUE(a_.IsLocked());
}

TEST_F(CriticalSectionTest, B017_AWaitForTheInnerMutexReleasesTheOuterOne) {
  TestThread thread(interpreter_);
  std::atomic<bool> has_b{false};
  std::thread other([&] {
    TestThread self(interpreter_);
    CriticalSection section(b_);
    has_b = true;
    while (a_.IsLocked()) self->Poll();  // until the first thread waits for b
    CriticalSection inner(a_);
  });
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([&] { return has_b.load(); }));
  }
  {
    CriticalSection outer(a_);
    CriticalSection inner(b_);
    EXPECT_TRUE(b_.IsLocked());
  }
  DetachedScope detached;
  other.join();
}

TEST_F(CriticalSectionTest, B018_TwoMutexesLockOnceEachAndTheSameOneOnce) {
  TestThread thread(interpreter_);
  {
    CriticalSection both(a_, b_);
    EXPECT_TRUE(a_.IsLocked() && b_.IsLocked());
    { DetachedScope detached; }
    EXPECT_TRUE(a_.IsLocked() && b_.IsLocked());
  }
  EXPECT_FALSE(a_.IsLocked() || b_.IsLocked());
  {
    CriticalSection same(a_, a_);
    EXPECT_TRUE(a_.IsLocked());
  }
  EXPECT_FALSE(a_.IsLocked());
}

TEST_F(CriticalSectionTest, B018_OppositeOrdersOfTwoMutexesDoNotDeadlock) {
  constexpr int kRounds = 3000;
  int total = 0;  // guarded by both
  std::vector<std::thread> threads;
  for (int who = 0; who < 4; ++who) {
    threads.emplace_back([&, who] {
      TestThread self(interpreter_);
      for (int i = 0; i < kRounds; ++i) {
        CriticalSection both(who % 2 == 0 ? a_ : b_, who % 2 == 0 ? b_ : a_);
        ++total;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total, 4 * kRounds);
}

// A suspended section has given its mutexes up, and they may be another thread's.
TEST_F(CriticalSectionTest, EndingASectionWhileDetachedIsFatal) {
  TestThread thread(interpreter_);
  EXPECT_DEATH(
      {
        CriticalSection section(a_);
        thread->Detach();
      },
      "PyCriticalSection_End: critical sections end in the reverse order, attached to the state that began "
      "them");
}

TEST_F(CriticalSectionTest, ASectionOnAMutexThatIsHeldAlreadyIsEmpty) {  // CS-7
  TestThread thread(interpreter_);
  CriticalSection outer(a_, b_);
  {
    CriticalSection again(a_);
    EXPECT_FALSE(again.begun());
    CriticalSection both(b_, a_);
    EXPECT_FALSE(both.begun());
  }
  EXPECT_TRUE(a_.IsLocked() && b_.IsLocked());
}

TEST_F(CriticalSectionTest, ASectionInAStoppedWorldIsEmpty) {  // gh-144513
  TestThread thread(interpreter_);
  a_.Lock();  // as if handed to a thread that is suspended
  {
    StoppedWorld stopped(interpreter_.threads);
    CriticalSection section(a_);
    EXPECT_FALSE(section.begun());
  }
  a_.Unlock();
}

TEST(CriticalSectionWithGilTest, LocksNothing) {
  if constexpr (!kGilEnabled) GTEST_SKIP() << "not the GIL-enabled build";
  Mutex mutex;
  CriticalSection section(mutex);
  EXPECT_FALSE(mutex.IsLocked());
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
