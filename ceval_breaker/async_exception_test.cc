#include "pyrt/ceval_breaker/async_exception.h"

#include <thread>
#include <utility>

#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// An object that counts how many of its kind live.
class Counted final : public Object {
 public:
  Counted() { live.fetch_add(1, kRelaxed); }
  ~Counted() override { live.fetch_sub(1, kRelaxed); }
  const char* TypeName() const override { return "Counted"; }
  static inline Atomic<int> live{0};
};

TEST(AsyncExceptionTest, TS81_TakeFindsWhatWasSetOnce) {
  EvalBreaker breaker;
  AsyncException slot;
  EXPECT_FALSE(slot.IsSet());
  Ref<Object> exception = MakeRef<Counted>();
  EXPECT_EQ(slot.Set(exception, breaker), nullptr);
  EXPECT_TRUE(breaker.IsSet(BreakerEvent::kAsyncException));
  EXPECT_TRUE(slot.IsSet());
  EXPECT_EQ(slot.Take(breaker), exception);
  EXPECT_FALSE(breaker.IsSet(BreakerEvent::kAsyncException));
  EXPECT_EQ(slot.Take(breaker), nullptr);
}

TEST(AsyncExceptionTest, B053_ALaterOneOverwritesAndIsHandedBack) {
  EvalBreaker breaker;
  AsyncException slot;
  Ref<Object> first = MakeRef<Counted>();
  Ref<Object> second = MakeRef<Counted>();
  EXPECT_EQ(slot.Set(first, breaker), nullptr);
  EXPECT_EQ(slot.Set(second, breaker), first);
  EXPECT_EQ(slot.Take(breaker), second);
}

TEST(AsyncExceptionTest, B053_NullWithdrawsAndStillSetsTheBit) {
  EvalBreaker breaker;
  AsyncException slot;
  Ref<Object> exception = MakeRef<Counted>();
  EXPECT_EQ(slot.Set(exception, breaker), nullptr);
  breaker.Clear(BreakerEvent::kAsyncException);
  EXPECT_EQ(slot.Set(nullptr, breaker), exception);
  EXPECT_TRUE(breaker.IsSet(BreakerEvent::kAsyncException));
  EXPECT_EQ(slot.Take(breaker), nullptr);
}

TEST(AsyncExceptionTest, TheSlotOwnsWhatIsNotTaken) {
  const int before = Counted::live.load(kRelaxed);
  {
    EvalBreaker breaker;
    AsyncException slot;
    EXPECT_EQ(slot.Set(MakeRef<Counted>(), breaker), nullptr);
    EXPECT_EQ(Counted::live.load(kRelaxed), before + 1);
  }
  EXPECT_EQ(Counted::live.load(kRelaxed), before);
}

TEST(AsyncExceptionStressTest, EveryExceptionIsTakenOrHandedBack) {
  constexpr int kRounds = 20'000;
  const int before = Counted::live.load(kRelaxed);
  EvalBreaker breaker;
  AsyncException slot;
  Atomic<bool> done{false};
  int taken = 0;
  int handed_back = 0;
  {
    std::jthread setter([&] {
      for (int i = 0; i < kRounds; ++i) {
        if (slot.Set(MakeRef<Counted>(), breaker) != nullptr) ++handed_back;
      }
      done.store(true, kRelease);
    });
    for (bool last = false; !last;) {
      last = done.load(kAcquire);
      if (!breaker.IsSet(BreakerEvent::kAsyncException)) continue;
      if (slot.Take(breaker) != nullptr) ++taken;
    }
  }
  EXPECT_EQ(taken + handed_back, kRounds);
  EXPECT_EQ(Counted::live.load(kRelaxed), before);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
