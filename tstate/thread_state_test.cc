#include "pyrt/tstate/thread_state.h"

#include <errno.h>

#include <atomic>
#include <set>
#include <thread>
#include <utility>

#include "gtest/gtest.h"

#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// --- The word: every transition, against the table in its header written out once more.

TEST(ThreadStateWordTest, LegalTransitionsAreExactlyTheTable) {
  using S = RunState;
  const std::set<std::pair<S, S>> legal = {
      {S::kDetached, S::kAttached},
      {S::kAttached, S::kDetached},
      {S::kDetached, S::kSuspended},
      {S::kSuspended, S::kDetached},
      {S::kSuspended, S::kSuspendedWaiting},
      {S::kSuspendedWaiting, S::kDetachedWaiting},
      {S::kDetachedWaiting, S::kAttached},
      {S::kDetached, S::kShuttingDown},
      {S::kSuspended, S::kShuttingDown},
      {S::kSuspendedWaiting, S::kShuttingDown},
      {S::kDetachedWaiting, S::kShuttingDown},
  };
  for (int from = 0; from < kRunStates; ++from) {
    for (int to = 0; to < kRunStates; ++to) {
      const auto pair = std::pair(static_cast<S>(from), static_cast<S>(to));
      EXPECT_EQ(IsLegalTransition(pair.first, pair.second), legal.contains(pair))
          << RunStateName(pair.first) << " -> " << RunStateName(pair.second);
    }
  }
}

TEST(ThreadStateWordTest, ConditionalTransitionsHappenFromTheirStateOnly) {
  for (int from = 0; from < kRunStates; ++from) {
    const auto state = static_cast<RunState>(from);
    const auto after = [state](bool (ThreadStateWord::*move)(), bool* moved) {
      ThreadStateWord word(state);
      *moved = (word.*move)();
      return word.Get();
    };
    bool moved;
    EXPECT_EQ(after(&ThreadStateWord::TryAttach, &moved),
              state == RunState::kDetached ? RunState::kAttached : state);
    EXPECT_EQ(moved, state == RunState::kDetached);
    EXPECT_EQ(after(&ThreadStateWord::TrySuspend, &moved),
              state == RunState::kDetached ? RunState::kSuspended : state);
    EXPECT_EQ(moved, state == RunState::kDetached);
    EXPECT_EQ(after(&ThreadStateWord::TryAttachAfterWait, &moved),
              state == RunState::kDetachedWaiting ? RunState::kAttached : state);
    EXPECT_EQ(moved, state == RunState::kDetachedWaiting);
    EXPECT_EQ(after(&ThreadStateWord::BeginWait, &moved),
              state == RunState::kSuspended ? RunState::kSuspendedWaiting : state);
    EXPECT_EQ(moved, state == RunState::kSuspended);
  }
}

TEST(ThreadStateWordTest, B059_AWaitingThreadIsNotSuspendedAgainBeforeItHasAttached) {
  ThreadStateWord word;
  ASSERT_TRUE(word.TrySuspend());
  ASSERT_TRUE(word.BeginWait());
  EXPECT_TRUE(word.Resume());
  EXPECT_FALSE(word.TrySuspend());
  EXPECT_EQ(word.Get(), RunState::kDetachedWaiting);
  EXPECT_TRUE(word.TryAttachAfterWait());
}

TEST(ThreadStateWordDeathTest, IllegalTransitionsNameBothStates) {
  ThreadStateWord word(RunState::kAttached);
  EXPECT_DEATH(word.Resume(), "illegal transition from attached to detached");
  EXPECT_DEATH(word.ShutDown(), "illegal transition from attached to shutting down");
}

// --- Slots, binding

class ThreadStateTest : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(ThreadState::Current(), nullptr);
    EXPECT_EQ(interpreter_.threads.size(), 0u);
  }
  TestInterpreter interpreter_;
};

TEST_F(ThreadStateTest, B044_ANewStateIsUnboundAndBindsOnce) {
  ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
  EXPECT_EQ(thread->thread_id(), 0u);
  EXPECT_EQ(thread->native_thread_id(), 0u);
  EXPECT_FALSE(thread->status().bound);
  EXPECT_TRUE(thread->status().is_alive());
  EXPECT_EQ(thread->whence(), Whence::kThreading);
  EXPECT_EQ(thread->run_state(), RunState::kDetached);

  thread->Bind();
  EXPECT_EQ(thread->thread_id(), CurrentThreadIdent());
  EXPECT_EQ(thread->native_thread_id(), CurrentNativeThreadId());
  EXPECT_TRUE(thread->status().is_bound());
  EXPECT_TRUE(thread->status().bound_gilstate);
  EXPECT_DEATH(thread->Bind(), "_PyThreadState_Bind: a thread state is bound once");

  thread->Attach();
  InterpreterThreads::Clear(*thread);
  InterpreterThreads::DeleteCurrent();
}

TEST_F(ThreadStateTest, AttachSetsTheThreeSlotsAndDetachClearsTwo) {
  EXPECT_EQ(ThreadState::Current(), nullptr);
  {
    TestThread thread(interpreter_);
    EXPECT_EQ(ThreadState::Current(), &*thread);
    EXPECT_EQ(ThreadState::GilState(), &*thread);
    EXPECT_EQ(ThreadState::CurrentInterpreter(), reinterpret_cast<Interpreter*>(&interpreter_));
    EXPECT_TRUE(thread->attached());
    EXPECT_TRUE(thread->status().active);
    EXPECT_EQ(thread->gil_holder().holds(), kGilEnabled);
    {
      DetachedScope detached;
      EXPECT_EQ(ThreadState::Current(), nullptr);
      EXPECT_EQ(ThreadState::GilState(), &*thread);
      EXPECT_EQ(ThreadState::CurrentInterpreter(), nullptr);
      EXPECT_EQ(thread->run_state(), RunState::kDetached);
      EXPECT_FALSE(thread->gil_holder().holds());
    }
    EXPECT_EQ(ThreadState::Current(), &*thread);
  }
  EXPECT_EQ(ThreadState::GilState(), nullptr);
}

TEST_F(ThreadStateTest, AttachAndDetachPreserveErrno) {
  TestThread thread(interpreter_);
  errno = 42;
  thread->Detach();
  EXPECT_EQ(errno, 42);
  thread->Attach();
  EXPECT_EQ(errno, 42);
}

TEST_F(ThreadStateTest, B046_SwapToNullReleasesAndSwapCrossesInterpreters) {
  TestInterpreter other(TestRegistry(), 1);
  TestThread first(interpreter_);
  ThreadState* const second = other.threads.NewBound();

  EXPECT_EQ(ThreadState::Swap(nullptr), &*first);
  EXPECT_EQ(ThreadState::Current(), nullptr);
  if constexpr (kGilEnabled) {
    EXPECT_FALSE(interpreter_.gil.locked());
  }

  EXPECT_EQ(ThreadState::Swap(second), nullptr);
  EXPECT_EQ(ThreadState::CurrentInterpreter(), reinterpret_cast<Interpreter*>(&other));
  EXPECT_EQ(ThreadState::Swap(&*first), second);
  EXPECT_EQ(ThreadState::Current(), &*first);
  if constexpr (kGilEnabled) {
    EXPECT_TRUE(interpreter_.gil.locked());
    EXPECT_FALSE(other.gil.locked());
  }

  ThreadState::Swap(second);
  InterpreterThreads::Clear(*second);
  InterpreterThreads::DeleteCurrent();
  first->Attach();
}

TEST_F(ThreadStateTest, B047_TheGilStateSlotFollowsTheLastAttach) {
  TestInterpreter other(TestRegistry(), 1);
  TestThread first(interpreter_);
  ThreadState* const second = other.threads.NewBound();
  EXPECT_EQ(ThreadState::GilState(), &*first);  // the slot was taken
  EXPECT_FALSE(second->status().bound_gilstate);
  {
    AttachedScope attached(*second);
    EXPECT_EQ(ThreadState::GilState(), second);
    EXPECT_TRUE(second->status().bound_gilstate);
    EXPECT_FALSE(first->status().bound_gilstate);
    InterpreterThreads::Clear(*second);
  }
  EXPECT_EQ(ThreadState::Current(), &*first);
  EXPECT_EQ(ThreadState::GilState(), &*first);
  InterpreterThreads::Delete(second);
  EXPECT_EQ(ThreadState::GilState(), &*first);
}

TEST_F(ThreadStateTest, AttachBringsTheBreakerUpToDate) {
  TestThread thread(interpreter_);
  InterpreterLink& link = interpreter_.threads.link();
  EXPECT_EQ(thread->Poll(), 0);
  link.breaker_on_attach.store(3 * EvalBreaker::kVersionIncrement | BreakerBit(BreakerEvent::kCallsToDo),
                               kRelaxed);
  EXPECT_EQ(thread->breaker().version(), 0u);
  { DetachedScope detached; }
  EXPECT_EQ(thread->breaker().version(), 3 * EvalBreaker::kVersionIncrement);
  EXPECT_TRUE(thread->breaker().IsSet(BreakerEvent::kCallsToDo));
}

TEST_F(ThreadStateTest, PollCallsTheInterpretersHandlerOnlyWhenSomethingIsPending) {
  static int calls;
  calls = 0;
  interpreter_.threads.link().handle_pending = [](ThreadState& thread) {
    ++calls;
    thread.breaker().Clear(BreakerEvent::kAsyncException);
    return -1;
  };
  TestThread thread(interpreter_);
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_EQ(calls, 0);
  thread->breaker().Set(BreakerEvent::kAsyncException);
  EXPECT_EQ(thread->Poll(), -1);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(thread->Poll(), 0);
}

TEST_F(ThreadStateTest, AThreadThatIsAskedGivesTheGilAwayAtItsPoll) {
  if constexpr (!kGilEnabled) GTEST_SKIP() << "the GIL is off";
  interpreter_.gil.set_interval(1);
  TestThread thread(interpreter_);
  std::atomic<bool> ran{false};
  std::thread other([&] {
    TestThread second(interpreter_);
    ran = true;
  });
  EXPECT_TRUE(Eventually([&] {
    thread->Poll();
    return ran.load();
  }));
  EXPECT_EQ(ThreadState::Current(), &*thread);
  DetachedScope detached;
  other.join();
}

TEST_F(ThreadStateTest, B080_AThreadThatAttachesWhileTheGilIsSwitchedOnTakesIt) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "the GIL is always on";
  TestThread thread(interpreter_);
  EXPECT_FALSE(thread->gil_holder().holds());
  thread->Detach();
  EXPECT_TRUE(interpreter_.gil.AddEnableRequest());
  thread->Attach();
  EXPECT_TRUE(thread->gil_holder().holds());
  EXPECT_TRUE(interpreter_.gil.RemoveEnableRequest(thread->gil_holder()));
  EXPECT_FALSE(thread->gil_holder().holds());
  { DetachedScope detached; }
  EXPECT_TRUE(thread->attached());
}

TEST_F(ThreadStateTest, ToStringDecodesTheState) {
  TestThread thread(interpreter_);
  const std::string text = thread->ToString();
  EXPECT_NE(text.find("id 1 of interpreter"), std::string::npos) << text;
  EXPECT_NE(text.find("attached, initialized|bound|bound_gilstate|active"), std::string::npos) << text;
}

// --- Threads that may not come back

TEST_F(ThreadStateTest, B060_AThreadThatWasShutDownHangsAndUnwindsNothing) {
  static std::atomic<int> destructors;
  destructors = 0;
  struct Watch {
    ~Watch() { ++destructors; }
  };
  TestThread finalizer(interpreter_);
  std::atomic<ThreadState*> late{nullptr};
  std::atomic<bool> about_to_attach{false};
  std::thread([&] {
    static thread_local Watch on_thread;
    Watch on_stack;
    static_cast<void>(on_thread);
    ThreadState* const thread = interpreter_.threads.NewBound();
    late = thread;
    while (thread->run_state() != RunState::kShuttingDown) std::this_thread::yield();
    about_to_attach = true;
    thread->Attach();  // never returns
    ADD_FAILURE() << "attached after it was shut down";
  }).detach();
  ASSERT_TRUE(Eventually([&] { return late.load() != nullptr; }));

  late.load()->IncRef();
  interpreter_.threads.ShutDownAllExcept(&*finalizer);
  EXPECT_TRUE(late.load()->must_exit());
  ASSERT_TRUE(Eventually([&] { return about_to_attach.load(); }));
  InterpreterThreads::DeleteRemoved(interpreter_.threads.RemoveAllExcept(&*finalizer), false);
  EXPECT_TRUE(late.load()->status().finalized);
  // The thread drops its own reference on its way to the hang; ours is the last.
  late.load()->DecRef();
  EXPECT_EQ(destructors, 0);
}

TEST_F(ThreadStateTest, B060_AThreadThatWaitsForTheGilHangsWhenItIsShutDown) {
  if constexpr (!kGilEnabled) GTEST_SKIP() << "the GIL is off";
  TestThread finalizer(interpreter_);
  std::atomic<ThreadState*> late{nullptr};
  std::thread([&] {
    ThreadState* const thread = interpreter_.threads.NewBound();
    late = thread;
    thread->Attach();
    ADD_FAILURE() << "attached after it was shut down";
  }).detach();
  ASSERT_TRUE(Eventually([&] { return late.load() != nullptr && late.load()->gil_holder().requesting(); }));
  interpreter_.threads.ShutDownAllExcept(&*finalizer);
  InterpreterThreads::DeleteRemoved(interpreter_.threads.RemoveAllExcept(&*finalizer), false);
  EXPECT_EQ(interpreter_.gil.Stats().waiting, 0u);
  finalizer->breaker().Clear(BreakerEvent::kGilDropRequest);
  { DetachedScope detached; }  // no request of the dead hangs us (gh-96387)
}

// --- Misuse

class ThreadStateDeathTest : public ThreadStateTest {};

TEST_F(ThreadStateDeathTest, B045_AttachWithSomethingAttachedIsFatal) {
  TestThread thread(interpreter_);
  EXPECT_DEATH(thread->Attach(), "_PyThreadState_Attach: non-NULL old thread state.*attached, initialized");
}

TEST_F(ThreadStateDeathTest, AttachOnAnotherThreadIsFatal) {
  TestThread thread(interpreter_);
  thread->Detach();
  EXPECT_DEATH(std::thread([&] { thread->Attach(); }).join(),
               "_PyThreadState_Attach: a thread state is attached by the thread that it is bound to only");
  thread->Attach();
}

TEST_F(ThreadStateDeathTest, DetachWithoutAttachNamesBoth) {
  TestThread thread(interpreter_);
  thread->Detach();
  EXPECT_DEATH(thread->Detach(),
               "_PyThreadState_Detach: this thread state is not attached.*attached here: nothing");
  thread->Attach();
}

TEST_F(ThreadStateDeathTest, PairsWithoutAStateSayWhatIsMissing) {
  const char* const expected = kGilEnabled
                                   ? "PyEval_SaveThread: the function must be called with the GIL held, "
                                     "after Python initialization and before Python finalization, but the "
                                     "GIL is released \\(the current Python thread state is NULL\\)"
                                   : "PyEval_SaveThread: the function must be called with an active thread "
                                     "state, after Python initialization and before Python finalization";
  EXPECT_DEATH(ThreadState::SaveThread(), expected);
  EXPECT_DEATH(ThreadState::RestoreThread(nullptr), "PyEval_RestoreThread: the function must be called");
  EXPECT_DEATH(ThreadState::AcquireThread(nullptr), "PyEval_AcquireThread: the function must be called");
  EXPECT_DEATH(ThreadState::ReleaseThread(nullptr), "PyEval_ReleaseThread: the function must be called");
  EXPECT_DEATH(ThreadState::Get(), "PyThreadState_Get: the function must be called");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
