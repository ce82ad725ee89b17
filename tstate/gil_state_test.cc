#include "pyrt/tstate/gil_state.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/object/object.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TestInterpreter* main_interpreter = nullptr;
TestInterpreter* second_interpreter = nullptr;

InterpreterLink* FindById(int64_t id) {
  TestInterpreter* const found = id == 0 ? main_interpreter : id == 1 ? second_interpreter : nullptr;
  return found == nullptr ? nullptr : &found->threads.link();
}

constexpr InterpreterDirectory kDirectory{nullptr, &FindById};

class GilStateTest : public ::testing::Test {
 protected:
  GilStateTest() {
    static InterpreterDirectory directory = kDirectory;
    directory.registry = &TestRegistry();
    main_interpreter = &main_;
    SetInterpreterDirectory(&directory);
  }
  ~GilStateTest() override {
    SetInterpreterDirectory(nullptr);
    main_interpreter = second_interpreter = nullptr;
    EXPECT_EQ(main_.threads.size(), 0u);
    EXPECT_EQ(main_.guards.count(), 0u);
    EXPECT_EQ(ThreadState::Current(), nullptr);
  }
  TestInterpreter main_;
};

// --- PyGILState

TEST_F(GilStateTest, B048_CountersAndResultsOfNestedEnsures) {
  EXPECT_EQ(ThreadState::GilState(), nullptr);
  const GilStateBefore outer = GilStateEnsure();
  EXPECT_EQ(outer, GilStateBefore::kUnlocked);
  ThreadState* const thread = ThreadState::Current();
  ASSERT_NE(thread, nullptr);
  EXPECT_EQ(thread->whence(), Whence::kCApi);
  EXPECT_EQ(thread->data().gilstate_counter, 1);  // made by Ensure (TS-40)
  EXPECT_TRUE(GilStateCheck());

  const GilStateBefore inner = GilStateEnsure();
  EXPECT_EQ(inner, GilStateBefore::kLocked);
  EXPECT_EQ(thread->data().gilstate_counter, 2);
  GilStateRelease(inner);
  EXPECT_EQ(ThreadState::Current(), thread);

  {
    DetachedScope detached;
    const GilStateBefore from_detached = GilStateEnsure();
    EXPECT_EQ(from_detached, GilStateBefore::kUnlocked);
    EXPECT_EQ(ThreadState::Current(), thread);
    GilStateRelease(from_detached);
    EXPECT_EQ(ThreadState::Current(), nullptr);
  }
  GilStateRelease(outer);
  EXPECT_EQ(ThreadState::GilState(), nullptr);
}

TEST_F(GilStateTest, B048_AStateThatEnsureDidNotMakeGoesFromOneToTwoAndIsNotDeleted) {
  TestThread thread(main_);
  EXPECT_EQ(thread->data().gilstate_counter, 1);
  thread->Detach();
  const GilStateBefore before = GilStateEnsure();
  EXPECT_EQ(thread->data().gilstate_counter, 2);
  GilStateRelease(before);
  EXPECT_EQ(ThreadState::Current(), nullptr);
  EXPECT_EQ(ThreadState::GilState(), &*thread);
  thread->Attach();
}

// Ensures and releases while it is destroyed, as a C++ extension's destructor does.
class Reentrant final : public Object {
 public:
  explicit Reentrant(int* destroyed) : destroyed_(destroyed) {}
  ~Reentrant() override {
    const GilStateBefore before = GilStateEnsure();
    EXPECT_EQ(before, GilStateBefore::kLocked);
    EXPECT_NE(ThreadState::Current(), nullptr);
    GilStateRelease(before);
    EXPECT_NE(ThreadState::Current(), nullptr)
        << "the state was deleted under its own destructor (gh-119585)";
    ++*destroyed_;
  }
  const char* TypeName() const override { return "reentrant"; }

 private:
  int* const destroyed_;
};

TEST_F(GilStateTest, B049_TheLastReleaseClearsAndDestructorsMayEnsure) {
  int destroyed = 0;
  std::thread foreign([&] {
    const GilStateBefore before = GilStateEnsure();
    ThreadState::Current()->data().context = MakeRef<Reentrant>(&destroyed);
    ThreadState::Current()->data().trace.object = MakeRef<Reentrant>(&destroyed);
    GilStateRelease(before);
    EXPECT_EQ(ThreadState::GilState(), nullptr);
  });
  foreign.join();
  EXPECT_EQ(destroyed, 2);
}

TEST_F(GilStateTest, EnsureFromAThreadOfASubinterpreterReusesItsState) {  // TS-44
  TestInterpreter sub(TestRegistry(), 1);
  TestThread thread(sub);
  const GilStateBefore before = GilStateEnsure();
  EXPECT_EQ(before, GilStateBefore::kLocked);
  EXPECT_EQ(ThreadState::Current(), &*thread);
  GilStateRelease(before);
}

TEST_F(GilStateTest, ManyFreshThreadsEnsureAtOnce) {  // gh-157666
  std::atomic<int> inside{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([&] {
      const GilStateBefore before = GilStateEnsure();
      ++inside;
      { DetachedScope detached; }
      GilStateRelease(before);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(inside, 32);
}

TEST_F(GilStateTest, TS39_EnsureDoesNotAttachAStateThatAnotherThreadHasDeleted) {
  TestThread self(main_);
  Atomic<ThreadState*> state{nullptr};
  Atomic<bool> deleted{false};
  std::thread other([&] {
    state.store(main_.threads.NewBound(), kRelease);
    while (!deleted.load(kAcquire)) YieldCpu();
    {
      const GilStateBefore before = GilStateEnsure();
      EXPECT_EQ(before, GilStateBefore::kUnlocked);
      EXPECT_TRUE(ThreadState::Current()->status().is_alive());
      GilStateRelease(before);
    }
    EXPECT_EQ(ThreadState::GilState(), nullptr);
  });
  ASSERT_TRUE(Eventually([&] { return state.load(kAcquire) != nullptr; }));
  InterpreterThreads::Clear(*state.load(kRelaxed));
  InterpreterThreads::Delete(state.load(kRelaxed));
  deleted.store(true, kRelease);
  DetachedScope detached;
  other.join();
}

// --- PEP 788: all four states before

TEST_F(GilStateTest, EnsureAttachedRestoresAttachedToTheSame) {
  TestThread thread(main_);
  InterpreterGuard guard = *InterpreterGuard::FromCurrent();
  const EnsureToken token = EnsureAttached(guard);
  ASSERT_TRUE(token);
  EXPECT_EQ(ThreadState::Current(), &*thread);
  ReleaseAttached(token);
  EXPECT_EQ(ThreadState::Current(), &*thread);
}

TEST_F(GilStateTest, EnsureAttachedRestoresAttachedToAnother) {
  TestInterpreter sub(TestRegistry(), 1);
  second_interpreter = &sub;
  TestThread thread(sub);
  {
    const InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
    const EnsureToken token = EnsureAttached(guard);
    ASSERT_TRUE(token);
    EXPECT_EQ(&ThreadState::Current()->link(), &main_.threads.link());
    EXPECT_EQ(main_.threads.size(), 1u);
    ReleaseAttached(token);
  }
  EXPECT_EQ(ThreadState::Current(), &*thread);
  EXPECT_EQ(ThreadState::GilState(), &*thread);
  EXPECT_EQ(main_.threads.size(), 0u);
}

// The state to go back to may have been deleted meanwhile: the thread hangs, and its guard must not hang with it.
TEST_F(GilStateTest, TS53_AThreadThatHangsOnItsWayBackHasGivenItsGuardUp) {
  TestInterpreter other(TestRegistry(), 1);
  std::atomic<ThreadState*> back{nullptr};
  std::atomic<bool> go{false};
  std::thread([&] {
    ThreadState* const own = other.threads.NewBound();
    own->Attach();
    const EnsureToken token = EnsureAttachedFromView(InterpreterView::FromMain());
    ASSERT_TRUE(token);
    back = own;
    while (!go) {
      DetachedScope detached;
      std::this_thread::yield();
    }
    ReleaseAttached(token);  // never returns
    ADD_FAILURE() << "attached to a state that is gone";
  }).detach();
  ASSERT_TRUE(Eventually([&] { return back.load() != nullptr; }));
  EXPECT_EQ(main_.guards.count(), 1u);
  {
    TestThread finalizer(other);
    InterpreterThreads::DeleteRemoved(other.threads.RemoveAllExcept(&*finalizer, /*shut_down=*/true),
                                      /*threads_are_gone=*/false);
  }
  EXPECT_EQ(other.threads.lost_states(), 1);
  go = true;
  EXPECT_TRUE(Eventually([&] { return other.threads.lost_states() == 0; }));
  EXPECT_EQ(main_.guards.count(), 0u);
}

TEST_F(GilStateTest, EnsureAttachedRestoresDetachedAndUnknown) {
  const InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
  ASSERT_TRUE(guard);
  {
    const EnsureToken token = EnsureAttached(guard);  // unknown here
    ASSERT_TRUE(token);
    EXPECT_TRUE(ThreadState::Current()->data().delete_on_release);
    ReleaseAttached(token);
    EXPECT_EQ(ThreadState::GilState(), nullptr);
  }
  TestThread thread(main_);
  thread->Detach();
  const EnsureToken outer = EnsureAttached(guard);  // detached, known
  EXPECT_EQ(ThreadState::Current(), &*thread);
  const EnsureToken inner = EnsureAttached(guard);
  ReleaseAttached(inner);
  EXPECT_EQ(ThreadState::Current(), &*thread);
  ReleaseAttached(outer);
  EXPECT_EQ(ThreadState::Current(), nullptr);
  EXPECT_EQ(ThreadState::GilState(), &*thread);
  thread->Attach();
}

TEST_F(GilStateTest, B061_AGuardDelaysFinalizationAndEnsureWorksMeanwhile) {
  InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
  EXPECT_EQ(main_.guards.count(), 1u);
  EXPECT_FALSE(main_.guards.CloseIfNone());
  std::atomic<bool> finalized{false};
  std::thread finalizer([&] {
    while (!main_.guards.CloseIfNone()) main_.guards.WaitUntilNone(kNoDeadline, nullptr);
    finalized = true;
  });
  const EnsureToken token = EnsureAttached(guard);
  EXPECT_TRUE(token);
  EXPECT_FALSE(finalized);
  ReleaseAttached(token);
  guard.Close();
  finalizer.join();
  EXPECT_TRUE(finalized);

  EXPECT_FALSE(InterpreterGuard::FromView(InterpreterView::FromMain()));
  EXPECT_FALSE(EnsureAttachedFromView(InterpreterView::FromMain()));
  {
    TestThread thread(main_);
    const auto refused = InterpreterGuard::FromCurrent();
    EXPECT_FALSE(refused.ok());
    EXPECT_TRUE(IsError(refused.status(), ErrorType::PythonFinalizationError()));
    EXPECT_EQ(ErrorFromStatus(refused.status())->Message(), "cannot acquire finalization guard anymore");
  }
  EXPECT_FALSE(main_.guards.WaitUntilNone(0, nullptr) && !main_.guards.closed());
}

TEST_F(GilStateTest, B062_AViewNamesAnInterpreterWithoutKeepingIt) {
  EXPECT_EQ(InterpreterView::FromMain().id(), 0);
  InterpreterView view(1);
  {
    TestInterpreter sub(TestRegistry(), 1);
    second_interpreter = &sub;
    {
      TestThread thread(sub);
      EXPECT_EQ(InterpreterView::FromCurrent().id(), 1);
    }
    EXPECT_TRUE(InterpreterGuard::FromView(view));
    EXPECT_EQ(sub.guards.count(), 0u);  // closed again
    second_interpreter = nullptr;
  }
  EXPECT_FALSE(InterpreterGuard::FromView(view));
  // A new interpreter of the same id is what the view names now.
  TestInterpreter again(TestRegistry(), 1);
  second_interpreter = &again;
  EXPECT_TRUE(InterpreterGuard::FromView(view));
}

TEST_F(GilStateTest, ANestedEnsureFromAViewKeepsOneGuard) {  // TS-52
  const EnsureToken outer = EnsureAttachedFromView(InterpreterView::FromMain());
  EXPECT_EQ(main_.guards.count(), 1u);
  const EnsureToken inner = EnsureAttachedFromView(InterpreterView::FromMain());
  EXPECT_EQ(main_.guards.count(), 1u);
  ReleaseAttached(inner);
  EXPECT_EQ(main_.guards.count(), 1u);
  ReleaseAttached(outer);
  EXPECT_EQ(main_.guards.count(), 0u);
}

TEST_F(GilStateTest, EnsureOfAThreadThatComesTooLateHangs) {  // TS-46
  ASSERT_TRUE(main_.guards.CloseIfNone());
  static std::atomic<bool> started, returned;
  started = returned = false;
  std::thread([] {
    started = true;
    static_cast<void>(GilStateEnsure());
    returned = true;
  }).detach();
  EXPECT_TRUE(Eventually([] { return started.load(); }));
  for (int i = 0; i < 100; ++i) std::this_thread::yield();
  EXPECT_FALSE(returned);
  EXPECT_EQ(main_.threads.size(), 0u);
}

// --- Misuse

using GilStateDeathTest = GilStateTest;

TEST_F(GilStateDeathTest, B050_ReleaseOnAnUnknownThreadIsFatal) {
  EXPECT_DEATH(GilStateRelease(GilStateBefore::kUnlocked),
               "PyGILState_Release: auto-releasing thread-state, but no thread-state for this thread");
}

TEST_F(GilStateDeathTest, B050_ReleaseOfAStateThatIsNotCurrentIsFatal) {
  TestThread thread(main_);
  thread->Detach();
  EXPECT_DEATH(GilStateRelease(GilStateBefore::kUnlocked),
               "PyGILState_Release: thread state 0x[0-9a-f]+ must be current when releasing");
  thread->Attach();
}

TEST_F(GilStateDeathTest, B063_ReleaseMoreOftenThanEnsureIsFatal) {
  TestThread thread(main_);
  const InterpreterGuard guard = *InterpreterGuard::FromCurrent();
  const EnsureToken token = EnsureAttached(guard);
  ReleaseAttached(token);
  EXPECT_DEATH(ReleaseAttached(token),
               "PyThreadState_Release\\(\\) called more times than PyThreadState_Ensure\\(\\)");
}

TEST_F(GilStateDeathTest, ReleaseWithoutAStateIsFatal) {
  const EnsureToken token = EnsureAttachedFromView(InterpreterView::FromMain());
  ReleaseAttached(token);
  EXPECT_DEATH(ReleaseAttached(token), "PyThreadState_Release: the function must be called");
}

TEST_F(GilStateDeathTest, AGuardThatDoesNotExistCannotBeGivenUp) {
  EXPECT_DEATH(main_.guards.Release(), "there is no finalization guard to give up");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
