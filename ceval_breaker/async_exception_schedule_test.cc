// An exception that is left for another thread, on the deterministic scheduler: raised once or replaced, and
// never left in the slot without its bit.

#include <functional>

#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/async_exception.h"
#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/runtime/object/counted_test_util.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Schedule;

// What nobody took must still be released.
class Exception final : public Counted {
 public:
  using Counted::Counted;
  // What the setter wrote before it left the exception.
  Plain<int> payload{7};
};

struct Target {
  Atomic<int> living{0};
  EvalBreaker breaker;
  AsyncException slot;
  int inside = 0;    // threads in Set and Take, the model's: changed between two scheduling points
  int taken = 0;     // the target's
  int replaced = 0;  // the setters', between two scheduling points

  Target() {
    detsched::Name(breaker.word(), "breaker");
    detsched::Name(&slot, "slot");
  }
  // While nobody is inside Set or Take, an exception that waits has its bit.
  void CheckEachStep(Schedule& s) {
    s.Invariant("an exception that waits has its bit", [this] {
      return inside != 0 || !slot.IsSet() || breaker.IsSet(BreakerEvent::kAsyncException);
    });
  }
  void Set(Ref<Object> exception) {
    ++inside;
    const Ref<Object> old = slot.Set(std::move(exception), breaker);
    --inside;
    if (old != nullptr) ++replaced;
  }
  void Poll() {
    if (!breaker.IsSet(BreakerEvent::kAsyncException)) return;
    ++inside;
    const Ref<Object> exception = slot.Take(breaker);
    --inside;
    if (exception == nullptr) return;
    DETSCHED_CHECK(static_cast<Exception&>(*exception).payload.Get() == 7);
    ++taken;
  }
  // After everybody is gone: the last poll finds what is left.
  void CheckNothingIsStuck(int set) {
    DETSCHED_CHECK(!slot.IsSet() || breaker.IsSet(BreakerEvent::kAsyncException));
    Poll();
    DETSCHED_CHECK(!slot.IsSet());
    DETSCHED_CHECK(taken + replaced == set);
    DETSCHED_CHECK(living.load(kRelaxed) == 0);
  }
};

void SetAgainstTake(Schedule& s, bool watched) {
  Target target;
  if (watched) target.CheckEachStep(s);
  s.Spawn("setter", [&] {
    for (int i = 0; i < 2; ++i) target.Set(MakeRef<Exception>(&target.living));
  });
  s.Spawn("target", [&] {
    for (int i = 0; i < 2; ++i) target.Poll();
  });
  s.Run();
  target.CheckNothingIsStuck(2);
}

TEST(AsyncExceptionScheduleTest, EB17_NoExceptionIsLeftWithoutItsBit) {
  ExpectComplete(Explore(Options::Exhaustive(3), [](Schedule& s) { SetAgainstTake(s, /*watched=*/false); }));
  ExpectComplete(Explore(Options::Exhaustive(2), [](Schedule& s) { SetAgainstTake(s, /*watched=*/true); }));
}

TEST(AsyncExceptionScheduleTest, MutantTheBitIsClearedLast) {
  const detsched::ScopedMutant mutant("async_bit_cleared_last");
  const auto result =
      Explore(Options::Exhaustive(2), [](Schedule& s) { SetAgainstTake(s, /*watched=*/true); });
  EXPECT_EQ(result.failure, detsched::Failure::kInvariant) << result.report;
}

// Two setters, one of which changes its mind: null empties the slot, and the bit may stay behind (TS-81).
void SetAgainstWithdraw(Schedule& s) {
  Target target;
  s.Spawn("setter", [&] { target.Set(MakeRef<Exception>(&target.living)); });
  s.Spawn("fickle", [&] {
    target.Set(MakeRef<Exception>(&target.living));
    target.Set(nullptr);
  });
  s.Spawn("target", [&] {
    for (int i = 0; i < 2; ++i) target.Poll();
  });
  s.Run();
  target.CheckNothingIsStuck(2);
}

TEST(AsyncExceptionScheduleTest, TS81_WithdrawalReleasesWhatItTakesAway) {
  ExpectComplete(Explore(Options::Exhaustive(2), SetAgainstWithdraw));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
