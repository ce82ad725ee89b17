// What hosts do wrong with thread states: in both builds, and in release builds too, the process ends with a message
// that names the function, this thread, the state that was misused and what is attached here.

#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class MisuseDeathTest : public testing::Test {
 public:
  // "Fatal Python error: FUNCTION: ... this thread 0x7f..., ... STATE ... attached here: HERE". EXPECT_DEATH's child is
  // a copy of this process, in which the addresses are the same.
  static std::string Says(const std::string& function, const std::string& state, const std::string& here) {
    return "Fatal Python error: " + function + ": [^\n]*" + state +
           "[^\n]*this is thread 0x[0-9a-f]+[^\n]*attached here: " + here;
  }
  static std::string Decoded(const ThreadState& thread, const std::string& run_state) {
    return "id " + std::to_string(thread.id()) + " of interpreter [^\n]*" + run_state;
  }

  TestInterpreter interpreter_;
};

TEST_F(MisuseDeathTest, WrongThread) {
  TestThread mine(interpreter_);
  mine->Detach();
  EXPECT_DEATH(std::thread([&] { mine->Attach(); }).join(),
               Says("_PyThreadState_Attach", Decoded(*mine, "detached"), "nothing"));
  mine->Attach();
  EXPECT_DEATH(std::thread([&] { mine->Detach(); }).join(),
               Says("_PyThreadState_Detach", Decoded(*mine, "attached"), "nothing"));
}

TEST_F(MisuseDeathTest, B045_DoubleAttach) {
  TestThread mine(interpreter_);
  EXPECT_DEATH(mine->Attach(), Says("_PyThreadState_Attach", Decoded(*mine, "attached"),
                                    "thread state [^\n]*" + Decoded(*mine, "attached")));
  ThreadState* const other = interpreter_.threads.NewBound();
  EXPECT_DEATH(other->Attach(), Says("_PyThreadState_Attach", Decoded(*other, "detached"),
                                     "thread state [^\n]*" + Decoded(*mine, "attached")));
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

TEST_F(MisuseDeathTest, AttachBeforeBind) {
  TestThread mine(interpreter_);
  ThreadState* const fresh = interpreter_.threads.New(Whence::kUnknown);
  mine->Detach();
  EXPECT_DEATH(fresh->Attach(), Says("_PyThreadState_Attach", Decoded(*fresh, "detached"), "nothing"));
  mine->Attach();
  InterpreterThreads::Clear(*fresh);
  InterpreterThreads::Delete(fresh);
}

TEST_F(MisuseDeathTest, DetachWithoutAttach) {
  TestThread mine(interpreter_);
  ThreadState* const other = interpreter_.threads.NewBound();
  EXPECT_DEATH(other->Detach(), Says("_PyThreadState_Detach", Decoded(*other, "detached"),
                                     "thread state [^\n]*" + Decoded(*mine, "attached")));
  EXPECT_DEATH(ThreadState::ReleaseThread(other), "Fatal Python error: _PyThreadState_Detach: ");
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

TEST_F(MisuseDeathTest, B051_DeleteWhileAttached) {
  TestThread mine(interpreter_);
  EXPECT_DEATH(
      InterpreterThreads::Delete(&*mine),
      Says("PyThreadState_Delete", "tstate 0x[0-9a-f]+ is still current[^\n]*" + Decoded(*mine, "attached"),
           "thread state [^\n]*" + Decoded(*mine, "attached")));
  EXPECT_DEATH(
      std::thread([&] { InterpreterThreads::Delete(&*mine); }).join(),
      Says("PyThreadState_Delete", "is still current[^\n]*" + Decoded(*mine, "attached"), "nothing"));
}

TEST_F(MisuseDeathTest, B050_ReleaseWithoutEnsure) {
  TestThread mine(interpreter_);
  mine->Detach();
  EXPECT_DEATH(
      GilStateRelease(GilStateBefore::kUnlocked),
      Says("PyGILState_Release",
           "thread state 0x[0-9a-f]+ must be current when releasing[^\n]*" + Decoded(*mine, "detached"),
           "nothing"));
  EXPECT_DEATH(std::thread([] { GilStateRelease(GilStateBefore::kUnlocked); }).join(),
               "PyGILState_Release: auto-releasing thread-state, but no thread-state for this thread "
               "\\(this is thread 0x[0-9a-f]+; attached here: nothing\\)");
  mine->Attach();
}

TEST_F(MisuseDeathTest, UnbalancedNesting) {
  TestThread mine(interpreter_);
  const GilStateBefore outer = GilStateEnsure();
  GilStateRelease(outer);
  EXPECT_DEATH(
      {
        for (int i = 0; i < 3; ++i) GilStateRelease(outer);
      },
      Says("PyGILState_Release", Decoded(*mine, "attached"),
           "thread state [^\n]*" + Decoded(*mine, "attached")));
  // Given back in the wrong order: the outer one's result for the inner one leaves a state that nobody made attached.
  const InterpreterGuard guard = *InterpreterGuard::FromCurrent();
  const EnsureToken token = EnsureAttached(guard);
  ReleaseAttached(token);
  EXPECT_DEATH(ReleaseAttached(token),
               Says("PyThreadState_Release",
                    "PyThreadState_Release\\(\\) called more times than PyThreadState_Ensure\\(\\)[^\n]*" +
                        Decoded(*mine, "attached"),
                    "thread state [^\n]*" + Decoded(*mine, "attached")));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
