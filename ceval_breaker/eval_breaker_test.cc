#include "pyrt/ceval_breaker/eval_breaker.h"

#include <array>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr BreakerEvent kAllEvents[] = {
#define PYRT_TEST_EVENT(name, bit, cpython, effect, who) BreakerEvent::k##name,
    PYRT_EVAL_BREAKER_EVENTS(PYRT_TEST_EVENT)
#undef PYRT_TEST_EVENT
};

TEST(EvalBreakerTest, B081_BitValuesAreCPythons) {
  EXPECT_EQ(BreakerBit(BreakerEvent::kGilDropRequest), 1u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kSignalsPending), 2u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kCallsToDo), 4u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kAsyncException), 8u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kGcScheduled), 16u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kPleaseStop), 32u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kExplicitMerge), 64u);
  EXPECT_EQ(BreakerBit(BreakerEvent::kJitInvalidateCold), 128u);
  EXPECT_EQ(EvalBreaker::kEventMask, 0xFFu);
  EXPECT_EQ(EvalBreaker::kVersionIncrement, 0x100u);

  uintptr_t all = 0;
  for (const BreakerEvent event : kAllEvents) all |= BreakerBit(event);
  EXPECT_EQ(all, EvalBreaker::kEventMask) << "the table fills the event byte, without overlaps";
  EXPECT_EQ(std::size(kAllEvents), EvalBreaker::kEventBits);
}

TEST(EvalBreakerTest, EachBitSetsClearsAndTestsAlone) {
  for (const BreakerEvent event : kAllEvents) {
    EvalBreaker breaker(0x700);
    EXPECT_FALSE(breaker.AnyPending());
    breaker.Set(event);
    EXPECT_TRUE(breaker.AnyPending());
    for (const BreakerEvent other : kAllEvents) EXPECT_EQ(breaker.IsSet(other), other == event);
    EXPECT_EQ(breaker.Load(), 0x700 | BreakerBit(event));
    breaker.Set(event);  // idempotent
    breaker.Clear(event);
    EXPECT_EQ(breaker.Load(), 0x700u);
    breaker.Clear(event);
    EXPECT_EQ(breaker.Load(), 0x700u);
  }
}

TEST(EvalBreakerTest, NewWordHasTheVersionAndNoEvent) {
  // TS-16: whatever the interpreter's word holds in its event bits is not inherited.
  const EvalBreaker breaker(0xAFF);
  EXPECT_EQ(breaker.Load(), 0xA00u);
  EXPECT_EQ(breaker.version(), 0xA00u);
}

TEST(EvalBreakerTest, SetVersionKeepsEvents) {
  EvalBreaker breaker(0x100);
  breaker.Set(BreakerEvent::kCallsToDo);
  breaker.Set(BreakerEvent::kPleaseStop);
  breaker.SetVersion(0x300);
  EXPECT_EQ(breaker.version(), 0x300u);
  EXPECT_EQ(breaker.Load(), 0x300u | 4u | 32u);
  breaker.SetVersion(EvalBreaker::kVersionMask);  // the highest one
  EXPECT_EQ(breaker.version(), EvalBreaker::kVersionMask);
  EXPECT_TRUE(breaker.IsSet(BreakerEvent::kPleaseStop));
  breaker.SetVersion(0);
  EXPECT_EQ(breaker.Load(), 4u | 32u);
}

TEST(EvalBreakerTest, RefreshOnAttachAddsCallsAndCopiesTheVersion) {
  EvalBreaker breaker(0x100);
  breaker.RefreshOnAttach(/*calls_to_do=*/false, 0x100);
  EXPECT_EQ(breaker.Load(), 0x100u);
  breaker.RefreshOnAttach(/*calls_to_do=*/true, 0x100);
  EXPECT_EQ(breaker.Load(), 0x104u);
  breaker.RefreshOnAttach(/*calls_to_do=*/true, 0x200);
  EXPECT_EQ(breaker.Load(), 0x204u);
  // A look that found nothing does not clear: the call may have been added after it.
  breaker.RefreshOnAttach(/*calls_to_do=*/false, 0x300);
  EXPECT_EQ(breaker.Load(), 0x304u);
  breaker.Set(BreakerEvent::kGilDropRequest);
  breaker.RefreshOnAttach(/*calls_to_do=*/false, 0x300 | 0xFF);  // events in the argument are ignored
  EXPECT_EQ(breaker.Load(), 0x305u);
}

TEST(EvalBreakerTest, EffectLevelsFollowTheTable) {
  EXPECT_EQ(EffectOf(BreakerEvent::kExplicitMerge), BreakerEffect::kNone);
  EXPECT_EQ(EffectOf(BreakerEvent::kGilDropRequest), BreakerEffect::kMayBlock);
  EXPECT_EQ(EffectOf(BreakerEvent::kPleaseStop), BreakerEffect::kMayBlock);
  EXPECT_EQ(EffectOf(BreakerEvent::kGcScheduled), BreakerEffect::kRunsCode);
  EXPECT_EQ(EffectOf(BreakerEvent::kAsyncException), BreakerEffect::kMayRaise);
  EXPECT_LT(BreakerEffect::kNone, BreakerEffect::kMayBlock);
  EXPECT_LT(BreakerEffect::kMayBlock, BreakerEffect::kRunsCode);
  EXPECT_LT(BreakerEffect::kRunsCode, BreakerEffect::kMayRaise);
}

TEST(EvalBreakerTest, ToStringNamesTheBits) {
  EvalBreaker breaker;
  EXPECT_EQ(breaker.ToString(), "none, version 0");
  breaker.SetVersion(0x300);
  breaker.Set(BreakerEvent::kCallsToDo);
  breaker.Set(BreakerEvent::kGilDropRequest);
  EXPECT_EQ(breaker.ToString(), "GilDropRequest|CallsToDo, version 3");
}

TEST(EvalBreakerTest, B081_NoBitIsLostUnderConcurrentVersionWrites) {
  // Each setter owns a bit; after its Set the bit stays until its own Clear, whatever the version writer and
  // the other setters do meanwhile.
  constexpr int kRounds = 20'000;
  constexpr std::array kOwned = {BreakerEvent::kGilDropRequest, BreakerEvent::kCallsToDo,
                                 BreakerEvent::kJitInvalidateCold};
  EvalBreaker breaker;
  std::array<int, kOwned.size()> lost{};
  Atomic<bool> stop{false};
  {
    std::jthread writer([&] {
      for (uintptr_t version = 0; !stop.load(kRelaxed); ++version) {
        breaker.SetVersion(version * EvalBreaker::kVersionIncrement);
      }
    });
    {
      std::vector<std::jthread> setters;
      for (size_t i = 0; i < kOwned.size(); ++i) {
        setters.emplace_back([&, i] {
          for (int round = 0; round < kRounds; ++round) {
            breaker.Set(kOwned[i]);
            if (!breaker.IsSet(kOwned[i])) ++lost[i];
            breaker.Clear(kOwned[i]);
            if (breaker.IsSet(kOwned[i])) ++lost[i];
          }
        });
      }
    }
    stop.store(true, kRelaxed);
  }
  EXPECT_THAT(lost, testing::Each(0));
  EXPECT_FALSE(breaker.AnyPending());
}

TEST(EvalBreakerDeathTest, VersionThatTouchesTheEventsIsRefused) {
  EvalBreaker breaker(0x200);
  breaker.Set(BreakerEvent::kCallsToDo);
  EXPECT_DEATH(breaker.SetVersion(0x101),
               "EvalBreaker::SetVersion: version 0x101 is not a multiple of 0x100.*CallsToDo, version 2");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
