#include "pyrt/runtime/config/check.h"

#include <signal.h>
#include <unistd.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::KilledBySignal;

TEST(CheckTest, ConditionIsEvaluatedOnceAndTheMessageOnlyOnFailure) {
  int conditions = 0;
  int messages = 0;
  const auto message = [&messages] {
    ++messages;
    return "not printed";
  };
  PYRT_CHECK(++conditions == 1, "CheckTest", "%s", message());
  EXPECT_EQ(conditions, 1);
  EXPECT_EQ(messages, 0);
}

TEST(CheckTest, DcheckEvaluatesItsConditionInDebugBuildsOnly) {
  int conditions = 0;
  PYRT_DCHECK(++conditions == 1);
  EXPECT_EQ(conditions, kDebug ? 1 : 0);
}

TEST(CheckTest, SetFatalHookReturnsThePreviousOne) {
  const FatalHook hook = [](int) {};
  EXPECT_EQ(SetFatalHook(hook), nullptr);
  EXPECT_EQ(SetFatalHook(nullptr), hook);
  EXPECT_EQ(SetFatalHook(nullptr), nullptr);
}

TEST(CheckDeathTest, FatalPrintsFunctionAndMessageAndAborts) {
  EXPECT_EXIT(Fatal("drop_gil", "GIL is not locked (holder %d)", 7), KilledBySignal(SIGABRT),
              "^Fatal Python error: drop_gil: GIL is not locked \\(holder 7\\)\n$");
}

TEST(CheckDeathTest, FatalWithoutAFunction) {
  EXPECT_EXIT(Fatal(nullptr, "out of everything"), KilledBySignal(SIGABRT),
              "^Fatal Python error: out of everything\n$");
}

TEST(CheckDeathTest, FatalTruncatesALongMessageAndStillEndsTheLine) {
  const std::string text(5000, 'x');
  EXPECT_EXIT(Fatal("long", "%s", text.c_str()), KilledBySignal(SIGABRT),
              "^Fatal Python error: long: x{2000,2040}\n$");
}

TEST(CheckDeathTest, FatalSurvivesAFunctionNameAsLongAsTheBuffer) {
  const std::string name(5000, 'f');
  EXPECT_EXIT(Fatal(name.c_str(), "never seen"), KilledBySignal(SIGABRT),
              "^Fatal Python error: f{2000,2040}\n$");
}

TEST(CheckDeathTest, FailedCheckNamesTheMisusedFunction) {
  const int state = 3;
  EXPECT_EXIT(PYRT_CHECK(state == 0, "PyThreadState_Delete", "thread state is attached (state %d)", state),
              KilledBySignal(SIGABRT),
              "Fatal Python error: PyThreadState_Delete: thread state is attached \\(state 3\\)");
}

TEST(CheckDeathTest, FailedDcheckPrintsTheCondition) {
  if (!kDebug) GTEST_SKIP() << "PYRT_DCHECK is compiled out";
  const int waiters = 2;
  EXPECT_EXIT(PYRT_DCHECK(waiters == 0), KilledBySignal(SIGABRT),
              "check_test\\.cc:[0-9]+: invariant does not hold: waiters == 0");
}

TEST(CheckDeathTest, UnreachableNamesItsFunction) {
  const auto unreachable = [] { PYRT_UNREACHABLE("state %s", "free"); };
  EXPECT_EXIT(unreachable(), KilledBySignal(SIGABRT), "Fatal Python error: .*: state free");
}

TEST(CheckDeathTest, HookPrintsAfterTheMessage) {
  SetFatalHook([](int fd) {
    constexpr char kText[] = "Python runtime state: initialized\n";
    if (::write(fd, kText, sizeof(kText) - 1) < 0) ::_exit(99);
  });
  EXPECT_EXIT(Fatal("f", "m"), KilledBySignal(SIGABRT),
              "^Fatal Python error: f: m\nPython runtime state: initialized\n$");
  SetFatalHook(nullptr);
}

TEST(CheckDeathTest, AHookThatFailsItselfEndsTheProcessWithoutASecondMessage) {
  SetFatalHook([](int) { Fatal("hook", "again"); });
  EXPECT_EXIT(Fatal("f", "first"), KilledBySignal(SIGABRT), "^Fatal Python error: f: first\n$");
  SetFatalHook(nullptr);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
