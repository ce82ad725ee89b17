#include "pyrt/tstate/thread_dict.h"

#include "gtest/gtest.h"

#include "pyrt/runtime/object/values.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(ThreadDictTest, TS89_EachStateHasItsOwnAndADetachedThreadNone) {
  TestInterpreter interpreter;
  EXPECT_EQ(CurrentThreadDict(), nullptr);
  TestThread first(interpreter);
  Dict* const dict = CurrentThreadDict();
  ASSERT_NE(dict, nullptr);
  EXPECT_EQ(CurrentThreadDict(), dict);
  {
    DetachedScope detached;
    EXPECT_EQ(CurrentThreadDict(), nullptr);
  }
  ThreadState* const second = interpreter.threads.NewBound();
  {
    AttachedScope attached(*second);
    EXPECT_NE(CurrentThreadDict(), dict);
    InterpreterThreads::Clear(*second);
    EXPECT_EQ(second->data().dict, nullptr);
  }
  InterpreterThreads::Delete(second);
  EXPECT_EQ(CurrentThreadDict(), dict);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
