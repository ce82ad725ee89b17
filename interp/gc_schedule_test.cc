#include "pyrt/interp/gc_schedule.h"

#include <functional>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kFull = GcSchedule::kGenerations - 1;

struct Host {
  static int64_t Collect(void* context, int generation) {
    Host& self = *static_cast<Host*>(context);
    self.collected.push_back(generation);
    if (self.during) self.during();
    return self.survivors;
  }
  Host() { gc.SetCollector({&Collect, this}); }

  void Allocate(int objects, bool raising = false) {
    for (int i = 0; i < objects; ++i) gc.CountAllocation(breaker, local, raising);
  }
  // Allocates, and polls after each object.
  void AllocateAndPoll(int objects) {
    for (int i = 0; i < objects; ++i) {
      gc.CountAllocation(breaker, local, false);
      Poll();
    }
  }
  void Poll() {
    if (!scheduled()) return;
    breaker.Clear(BreakerEvent::kGcScheduled);
    gc.Run();
  }
  bool scheduled() const { return breaker.IsSet(BreakerEvent::kGcScheduled); }
  // Enough to be noticed in the GIL-disabled build, which counts in portions.
  static int MoreThan(int objects) {
    return kGilEnabled ? objects + 1 : objects + 2 * GcSchedule::kLocalBuffer;
  }

  EvalBreaker breaker;
  GcLocalCount local;
  GcSchedule gc;
  std::vector<int> collected;
  int64_t survivors = 0;
  std::function<void()> during;
};

TEST(GcScheduleTest, IN31_DefaultThresholds) {
  GcSchedule gc;
  EXPECT_EQ(gc.threshold(0), 2000);
  EXPECT_EQ(gc.threshold(1), 10);
  EXPECT_EQ(gc.threshold(2), 10);
  EXPECT_TRUE(gc.enabled());
}

TEST(GcScheduleTest, IN33_TheBitIsSetPastTheThresholdAndNothingRunsBefore) {
  Host host;
  host.Allocate(2000);
  EXPECT_FALSE(host.scheduled());
  host.Allocate(Host::MoreThan(0));
  EXPECT_TRUE(host.scheduled());
  EXPECT_THAT(host.collected, IsEmpty()) << "EB-49: never inside the allocation";
  host.Poll();
  EXPECT_THAT(host.collected, ElementsAre(kGilEnabled ? 0 : kFull));
  EXPECT_EQ(host.gc.count(0), 0);
}

TEST(GcScheduleTest, IN33_NotWhileDisabledCollectingRaisingOrWithoutThreshold) {
  for (const int why : {0, 1, 2, 3}) {
    Host host;
    if (why == 0) host.gc.Disable();
    if (why == 1) host.gc.SetThresholds(0);
    if (why == 2) host.gc.SetCollector({});
    host.Allocate(Host::MoreThan(4000), /*raising=*/why == 3);
    EXPECT_FALSE(host.scheduled()) << why;
  }
  Host host;
  host.during = [&] {
    EXPECT_TRUE(host.gc.collecting());
    host.Allocate(Host::MoreThan(4000));
    EXPECT_FALSE(host.scheduled());
    host.gc.Run();  // and a collection does not nest
  };
  ASSERT_TRUE(host.gc.Collect(0).ok());
  EXPECT_THAT(host.collected, ElementsAre(0));
}

TEST(GcScheduleTest, EB51_DisablingBetweenScheduleAndPollCancels) {
  Host host;
  host.Allocate(Host::MoreThan(2000));
  ASSERT_TRUE(host.scheduled());
  host.gc.Disable();
  host.Poll();
  EXPECT_THAT(host.collected, IsEmpty());
}

TEST(GcScheduleTest, DeallocationsCountBack) {
  Host host;
  for (int i = 0; i < 10'000; ++i) {
    host.Allocate(1);
    host.gc.CountDeallocation(host.local);
  }
  EXPECT_FALSE(host.scheduled());
  EXPECT_EQ(host.gc.count(0), 0);
  for (int i = 0; i < 3000; ++i) host.gc.CountDeallocation(host.local);
  EXPECT_EQ(host.gc.count(0), 0) << "never below zero";
}

TEST(GcScheduleTest, OlderGenerationsFollowTheirThresholds) {
  if (!kGilEnabled) GTEST_SKIP() << "the GIL-disabled build has one generation";
  Host host;
  host.gc.SetThresholds(10, 2, 2);
  host.AllocateAndPoll(11 * 12);
  // Every third collection of generation 0 makes generation 1 due, and every third of those generation 2.
  EXPECT_THAT(host.collected, ElementsAre(0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1));
  host.AllocateAndPoll(11);
  EXPECT_EQ(host.collected.back(), 2);
}

TEST(GcScheduleTest, AFullCollectionWaitsForAQuarterOfSurvivors) {
  Host host;
  host.gc.SetThresholds(kGilEnabled ? 10 : GcSchedule::kLocalBuffer, 1, 1);
  host.survivors = 1'000'000;
  ASSERT_TRUE(host.gc.Collect(2).ok());
  host.collected.clear();
  host.survivors = 0;  // of the generations below: nothing comes to stay
  host.AllocateAndPoll(100'000);
  EXPECT_THAT(host.collected, testing::Not(testing::Contains(kFull)));
  if (!kGilEnabled) {
    host.gc.SetThresholds(GcSchedule::kLocalBuffer, 0);  // IN-34: a second threshold of 0 lifts the rule
    host.AllocateAndPoll(GcSchedule::kLocalBuffer * 2);
    EXPECT_THAT(host.collected, testing::Contains(kFull));
  }
}

TEST(GcScheduleTest, IN36_MissingThresholdsStay) {
  GcSchedule gc;
  gc.SetThresholds(5);
  EXPECT_EQ(gc.threshold(1), 10);
  gc.SetThresholds(6, 7);
  EXPECT_EQ(gc.threshold(0), 6);
  EXPECT_EQ(gc.threshold(1), 7);
  EXPECT_EQ(gc.threshold(2), 10);
}

TEST(GcScheduleTest, CollectOnDemandIgnoresEnabledAndChecksItsArgument) {
  Host host;
  host.gc.Disable();
  host.survivors = 42;
  std::optional<int64_t> survivors;
  EXPECT_TRUE(host.gc.Collect(1, &survivors).ok());
  EXPECT_EQ(survivors, 42);
  EXPECT_THAT(host.collected, ElementsAre(1));
  EXPECT_FALSE(host.gc.Collect(3).ok());
  EXPECT_FALSE(host.gc.Collect(-1).ok());
  GcSchedule without;
  EXPECT_EQ(without.Collect(0).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(GcScheduleStressTest, ThreadsWithoutAGilScheduleAndCollectOneAtATime) {
  if (kGilEnabled) GTEST_SKIP() << "counts are plain under the GIL";
  GcSchedule gc;
  struct Shared {
    Atomic<int> inside{0};
    Atomic<int> collections{0};
    Atomic<bool> overlapped{false};
  } shared;
  gc.SetCollector({[](void* context, int) -> int64_t {
                     Shared& s = *static_cast<Shared*>(context);
                     if (s.inside.fetch_add(1, kAcqRel) != 0) s.overlapped.store(true, kRelaxed);
                     s.collections.fetch_add(1, kRelaxed);
                     s.inside.fetch_sub(1, kAcqRel);
                     return 0;
                   },
                   &shared});
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        EvalBreaker breaker;
        GcLocalCount local;
        for (int i = 0; i < 200'000; ++i) {
          gc.CountAllocation(breaker, local, false);
          if (breaker.IsSet(BreakerEvent::kGcScheduled)) {
            breaker.Clear(BreakerEvent::kGcScheduled);
            gc.Run();
          }
        }
      });
    }
  }
  EXPECT_FALSE(shared.overlapped.load(kRelaxed));
  // 800 000 allocations in portions of 512, a collection past 2000: between one per 5 portions and 1 per 4.
  EXPECT_GE(shared.collections.load(kRelaxed), 200);
  EXPECT_LE(shared.collections.load(kRelaxed), 800'000 / 2000);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
