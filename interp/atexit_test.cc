#include "pyrt/interp/atexit.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class AtExitTest : public testing::Test {
 protected:
  Ref<Object> Function(std::string name, std::function<absl::Status()> body = {}) {
    return NativeFunction::New(name, [this, name, body](Args args) -> absl::StatusOr<Ref<Object>> {
      std::string entry = name;
      for (const Ref<Object>& arg : args) entry += " " + arg->Repr().value();
      calls.push_back(entry);
      if (body) {
        if (absl::Status status = body(); !status.ok()) return status;
      }
      return None();
    });
  }
  void Run() {
    at_exit.Run([this](const absl::Status& error, const Ref<Object>& callback) {
      reports.push_back(callback->Repr().value() + ": " + std::string(error.message()));
    });
  }

  AtExit at_exit;
  std::vector<std::string> calls;
  std::vector<std::string> reports;
};

TEST_F(AtExitTest, B040_LastInFirstOutWithArguments) {
  ASSERT_TRUE(at_exit.Register(Function("first")).ok());
  ASSERT_TRUE(at_exit.Register(Function("second"), {Int::Of(1), String::Of("a")}).ok());
  ASSERT_TRUE(at_exit.Register(Function("first")).ok());
  EXPECT_EQ(at_exit.size(), 3u);
  Run();
  EXPECT_THAT(calls, ElementsAre("first", "second 1 'a'", "first"));
  EXPECT_TRUE(at_exit.empty());
  Run();
  EXPECT_EQ(calls.size(), 3u) << "each runs once";
}

TEST_F(AtExitTest, B040_AFailureIsReportedAndTheRestRun) {
  ASSERT_TRUE(at_exit.Register(Function("last")).ok());
  ASSERT_TRUE(at_exit.Register(Function("exits", [] { return Raise(ErrorType::SystemExit(), "3"); })).ok());
  ASSERT_TRUE(at_exit.Register(Function("fails", [] { return Raise(ErrorType::ValueError(), "no"); })).ok());
  Run();
  EXPECT_THAT(calls, ElementsAre("fails", "exits", "last"));
  EXPECT_THAT(reports, ElementsAre("<built-in function fails>: no", "<built-in function exits>: 3"));
}

TEST_F(AtExitTest, B040_RegisteredWithinARunningCallbackIsDropped) {
  Ref<Object> late = Function("late");
  ASSERT_TRUE(at_exit.Register(Function("older")).ok());
  ASSERT_TRUE(at_exit.Register(Function("registers", [&] { return at_exit.Register(late); })).ok());
  Run();
  EXPECT_THAT(calls, ElementsAre("registers", "older"));
  EXPECT_TRUE(at_exit.empty());
  // After the list ran it is an ordinary registration, for the next round.
  ASSERT_TRUE(at_exit.Register(late).ok());
  Run();
  EXPECT_THAT(calls, ElementsAre("registers", "older", "late"));
}

TEST_F(AtExitTest, IN40_ACallbackMayUnregisterItselfAndOthers) {
  Ref<Object> other = Function("other");
  Ref<Object> self;
  self = Function("self", [&] {
    at_exit.Unregister(self);
    at_exit.Unregister(other);
    return absl::OkStatus();
  });
  ASSERT_TRUE(at_exit.Register(Function("oldest")).ok());
  ASSERT_TRUE(at_exit.Register(other).ok());
  ASSERT_TRUE(at_exit.Register(self).ok());
  Run();
  EXPECT_THAT(calls, ElementsAre("self", "oldest"));
}

TEST_F(AtExitTest, IN40_UnregisterRemovesEveryRegistrationAndItsComparisonMayComeBack) {
  Ref<Object> twice = Function("twice");
  Ref<Object> stays = Function("stays");
  ASSERT_TRUE(at_exit.Register(twice).ok());
  ASSERT_TRUE(at_exit.Register(stays).ok());
  ASSERT_TRUE(at_exit.Register(twice).ok());
  int comparisons = 0;
  at_exit.Unregister(twice, [&](const Ref<Object>& registered) {
    ++comparisons;
    at_exit.Unregister(twice);  // gh-142881: changes the list under the walk
    return registered == twice;
  });
  EXPECT_EQ(comparisons, 2);  // the nested call has taken the oldest one away
  EXPECT_EQ(at_exit.size(), 1u);
  Run();
  EXPECT_THAT(calls, ElementsAre("stays"));
}

TEST_F(AtExitTest, IN43_OnlyCallables) {
  const absl::Status status = at_exit.Register(Int::Of(1));
  EXPECT_TRUE(IsError(status, ErrorType::TypeError()));
  EXPECT_EQ(status.message(), "the first argument must be callable");
  EXPECT_FALSE(at_exit.Register(nullptr).ok());
  EXPECT_TRUE(at_exit.empty());
}

TEST_F(AtExitTest, ClearForgetsWithoutCalling) {
  ASSERT_TRUE(at_exit.Register(Function("never")).ok());
  at_exit.Clear();
  Run();
  EXPECT_THAT(calls, IsEmpty());
}

TEST_F(AtExitTest, B041_ThreeLowLevelCallbacksAllRunNewestFirst) {
  static std::vector<int> order;
  order.clear();
  static int numbers[] = {0, 1, 2, 3};
  static AtExit* current;
  current = &at_exit;
  for (int i = 0; i < 3; ++i) {
    at_exit.RegisterLowLevel(
        [](void* data) {
          order.push_back(*static_cast<int*>(data));
          // Registered by one of them: runs next.
          if (order.size() == 1) {
            current->RegisterLowLevel([](void* more) { order.push_back(*static_cast<int*>(more)); },
                                      &numbers[3]);
          }
        },
        &numbers[i]);
  }
  at_exit.RunLowLevel();
  EXPECT_THAT(order, ElementsAre(2, 3, 1, 0));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
