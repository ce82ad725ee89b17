#include "pyrt/tstate/stop_the_world.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/tstate/handshake.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class StopTheWorldTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kGilEnabled) GTEST_SKIP() << "with the GIL everybody else is stopped already";
  }
  TestInterpreter interpreter_;
};

// A thread that is attached, counts, and polls.
class Busy {
 public:
  explicit Busy(TestInterpreter& interpreter)
      : thread_([this, &interpreter] {
          TestThread self(interpreter);
          state = &*self;
          while (!end.load(std::memory_order_relaxed)) {
            counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            self->Poll();
          }
        }) {
    Eventually([this] { return counter.load() > 0; });
  }
  ~Busy() {
    end = true;
    thread_.join();
  }
  std::atomic<uint64_t> counter{0};
  std::atomic<bool> end{false};
  std::atomic<ThreadState*> state{nullptr};

 private:
  std::thread thread_;
};

bool StandsStill(const std::atomic<uint64_t>& counter) {
  const uint64_t before = counter.load();
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
  while (std::chrono::steady_clock::now() < until) {
    if (counter.load() != before) return false;
    std::this_thread::yield();
  }
  return true;
}

bool Moves(const std::atomic<uint64_t>& counter) {
  const uint64_t before = counter.load();
  return Eventually([&] { return counter.load() != before; });
}

TEST_F(StopTheWorldTest, B055_StopsAllOthersAndNoneRunsWhileStopped) {
  Busy a(interpreter_), b(interpreter_);
  TestThread self(interpreter_);
  StopTheWorld stop(interpreter_.threads);
  stop.Stop();
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(a.state.load()->run_state() == RunState::kAttached, false);
  EXPECT_TRUE(StandsStill(a.counter));
  EXPECT_TRUE(StandsStill(b.counter));
  EXPECT_TRUE(self->attached());
  stop.Start();
  EXPECT_FALSE(stop.stopped());
  EXPECT_TRUE(Moves(a.counter));
  EXPECT_TRUE(Moves(b.counter));
}

TEST_F(StopTheWorldTest, B055_ADetachedThreadMayStopAndANewStateStartsSuspended) {
  Busy busy(interpreter_);
  std::thread newcomer;
  std::atomic<bool> attached{false};
  ThreadState* state = nullptr;
  {
    StoppedWorld stopped(interpreter_.threads);
    EXPECT_TRUE(StandsStill(busy.counter));
    state = interpreter_.threads.New(Whence::kThreading);
    EXPECT_EQ(state->run_state(), RunState::kSuspended);
    newcomer = std::thread([&] {
      state->Bind();
      state->Attach();
      attached = true;
      InterpreterThreads::Clear(*state);
      InterpreterThreads::DeleteCurrent();
    });
    EXPECT_TRUE(Eventually([&] { return state->run_state() == RunState::kSuspendedWaiting; }));
    EXPECT_FALSE(attached);
  }
  newcomer.join();
  EXPECT_TRUE(attached);
}

TEST_F(StopTheWorldTest, B056_AStopOfOneInterpreterLeavesOthersAloneAndAGlobalOneDoesNot) {
  TestInterpreter other(TestRegistry(), 1);
  Busy mine(interpreter_), theirs(other);
  std::atomic<bool> global_stopped{false};
  std::thread global;
  {
    StoppedWorld stopped(interpreter_.threads);
    EXPECT_TRUE(StandsStill(mine.counter));
    EXPECT_TRUE(Moves(theirs.counter));
    std::thread second([&] {
      StoppedWorld at_the_same_time(other.threads);
      EXPECT_TRUE(StandsStill(theirs.counter));
    });
    second.join();
    global = std::thread([&] {
      StoppedWorld all(TestRegistry());
      global_stopped = true;
      EXPECT_TRUE(StandsStill(theirs.counter));
    });
    EXPECT_TRUE(Moves(theirs.counter));
    EXPECT_FALSE(global_stopped);  // it waits for the end of ours
  }
  global.join();
  EXPECT_TRUE(global_stopped);
  EXPECT_TRUE(Moves(mine.counter));
  EXPECT_TRUE(Moves(theirs.counter));
}

TEST_F(StopTheWorldTest, B056_NestedStopsOfTheSameThreadAreFree) {
  Busy busy(interpreter_);
  StoppedWorld all(TestRegistry());
  {
    StoppedWorld one(interpreter_.threads);
    StoppedWorld again(TestRegistry());
    EXPECT_TRUE(StandsStill(busy.counter));
  }
  EXPECT_TRUE(StandsStill(busy.counter));
}

TEST_F(StopTheWorldTest, B057_AThreadThatDetachesIsSuspendedWithoutAPoll) {
  // It never polls, only attaches and detaches.
  std::atomic<bool> end{false};
  std::atomic<uint64_t> counter{0};
  std::thread blocker([&] {
    TestThread self(interpreter_);
    while (!end) {
      counter = counter + 1;
      DetachedScope detached;
    }
  });
  ASSERT_TRUE(Moves(counter));
  for (int i = 0; i < 200; ++i) {
    StoppedWorld stopped(interpreter_.threads);
    if (i % 50 == 0) {
      EXPECT_TRUE(StandsStill(counter));
    }
  }
  end = true;
  blocker.join();
}

TEST_F(StopTheWorldTest, B058_AThreadThatDeletesItselfDuringAStopCompletesIt) {
  std::atomic<bool> end{false};
  std::vector<std::thread> churn;
  for (int i = 0; i < 2; ++i) {
    churn.emplace_back([&] {
      while (!end) TestThread once(interpreter_);
    });
  }
  for (int i = 0; i < 300; ++i) StoppedWorld stopped(interpreter_.threads);
  end = true;
  for (std::thread& thread : churn) thread.join();
  EXPECT_EQ(interpreter_.threads.size(), 0u);
}

TEST_F(StopTheWorldTest, B059_AStopperInALoopDoesNotStarveAThreadThatAttaches) {
  std::atomic<bool> end{false};
  std::thread stopper([&] {
    while (!end) StoppedWorld stopped(interpreter_.threads);
  });
  {
    TestThread self(interpreter_);
    for (int i = 0; i < 2000; ++i) DetachedScope detached;
  }
  end = true;
  stopper.join();
}

TEST_F(StopTheWorldTest, AStopThatIsNotAnsweredInTimeIsRolledBack) {
  std::atomic<bool> end{false}, attached{false};
  std::thread deaf([&] {
    TestThread self(interpreter_);
    attached = true;
    while (!end) std::this_thread::yield();
  });
  Busy busy(interpreter_);
  ASSERT_TRUE(Eventually([&] { return attached.load(); }));
  StopTheWorld stop(interpreter_.threads);
  EXPECT_FALSE(stop.Stop(MonotonicNow() + 2 * kNanosPerMilli));
  EXPECT_FALSE(stop.stopped());
  EXPECT_TRUE(Moves(busy.counter));
  EXPECT_EQ(interpreter_.threads.stop_state().rollbacks.load(kRelaxed), 1u);
  end = true;
  deaf.join();
  stop.Stop();
  EXPECT_TRUE(StandsStill(busy.counter));
  stop.Start();
}

TEST_F(StopTheWorldTest, AStressOfStopsAttachesAndDeletionsConservesWhatThreadsCount) {
  // Each thread adds to its own plain counter only while attached; the stopper moves everything out while the world
  // is stopped. Nothing may be lost.
  constexpr int kThreads = 6;
  constexpr int kRounds = 3000;
  uint64_t mine[kThreads] = {};
  uint64_t collected = 0;
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int who = 0; who < kThreads; ++who) {
    threads.emplace_back([&, who] {
      for (int round = 0; round < kRounds; round += 100) {
        TestThread self(interpreter_);
        for (int i = 0; i < 100; ++i) {
          ++mine[who];
          if (i % 3 == 0) {
            self->Poll();
          } else if (i % 7 == 0) {
            DetachedScope detached;
          }
        }
      }
      --running;
    });
  }
  std::thread global([&] {
    while (running > 0) {
      StoppedWorld all(TestRegistry());
      for (uint64_t& count : mine) collected += std::exchange(count, 0);
    }
  });
  TestThread self(interpreter_);
  while (running > 0) {
    StoppedWorld stopped(interpreter_.threads);
    for (uint64_t& count : mine) collected += std::exchange(count, 0);
  }
  {
    DetachedScope detached;
    for (std::thread& thread : threads) thread.join();
    global.join();
  }
  for (const uint64_t count : mine) collected += count;
  EXPECT_EQ(collected, uint64_t{kThreads} * kRounds);
}

TEST_F(StopTheWorldTest, HandshakeRunsAtAPollOrOnBehalfOfADetachedThread) {
  Busy busy(interpreter_);
  TestThread self(interpreter_);
  int runs = 0;
  const auto count = [](ThreadState&, void* argument) { ++*static_cast<int*>(argument); };
  EXPECT_EQ(Handshake::Run(*busy.state.load(), count, &runs), HandshakeResult::kDone);
  EXPECT_EQ(Handshake::Run(*self, count, &runs), HandshakeResult::kDone);
  ThreadState* const idle = interpreter_.threads.New(Whence::kThreading);
  EXPECT_EQ(Handshake::Run(*idle, count, &runs), HandshakeResult::kDone);
  EXPECT_EQ(idle->run_state(), RunState::kDetached);
  EXPECT_EQ(runs, 3);
  idle->IncRef();
  InterpreterThreads::Clear(*idle);
  InterpreterThreads::Delete(idle);
  EXPECT_EQ(Handshake::Run(*idle, count, &runs), HandshakeResult::kGone);
  idle->DecRef();
  EXPECT_EQ(runs, 3);
}

TEST_F(StopTheWorldTest, HandshakeThatIsNotAnsweredInTimeIsWithdrawn) {
  std::atomic<bool> end{false};
  std::atomic<ThreadState*> state{nullptr};
  std::thread deaf([&] {
    TestThread self(interpreter_);
    state = &*self;
    while (!end) std::this_thread::yield();
    self->Poll();
  });
  ASSERT_TRUE(Eventually([&] { return state.load() != nullptr; }));
  int runs = 0;
  const auto count = [](ThreadState&, void* argument) { ++*static_cast<int*>(argument); };
  EXPECT_EQ(Handshake::Run(*state.load(), count, &runs, MonotonicNow() + 2 * kNanosPerMilli),
            HandshakeResult::kTimedOut);
  end = true;
  deaf.join();
  EXPECT_EQ(runs, 0);
}

using StopTheWorldDeathTest = StopTheWorldTest;

TEST_F(StopTheWorldDeathTest, MoreScopesUnderAStoppedInterpreterAreFatal) {
  TestInterpreter other(TestRegistry(), 1);
  StoppedWorld stopped(interpreter_.threads);
  EXPECT_DEATH(StoppedWorld more(TestRegistry()), "this thread has stopped another interpreter");
  EXPECT_DEATH(StoppedWorld more(other.threads), "this thread has stopped another interpreter");
}

// Two that did so to each other would both wait, attached, for the other to stop.
TEST_F(StopTheWorldDeathTest, StoppingAnotherInterpreterThanOnesOwnIsFatal) {
  TestInterpreter other(TestRegistry(), 1);
  TestThread self(other);
  EXPECT_DEATH(StoppedWorld stopped(interpreter_.threads),
               "_PyEval_StopTheWorld: this thread is attached to another");
  { StoppedWorld own(other.threads); }
  { StoppedWorld all(TestRegistry()); }
}

TEST_F(StopTheWorldDeathTest, StartWithoutStopIsFatal) {
  StopTheWorld stop(interpreter_.threads);
  EXPECT_DEATH(stop.Start(), "_PyEval_StartTheWorld: the world was not stopped");
}

TEST(StopTheWorldWithGilTest, B055_IsEmptyInTheGilEnabledBuild) {
  if constexpr (!kGilEnabled) GTEST_SKIP() << "not the GIL-enabled build";
  TestInterpreter interpreter;
  TestThread self(interpreter);
  StopTheWorld stop(interpreter.threads);
  stop.Stop();
  EXPECT_FALSE(stop.stopped());
  EXPECT_TRUE(self->attached());
  int runs = 0;
  const auto count = [](ThreadState&, void* argument) { ++*static_cast<int*>(argument); };
  ThreadState* const idle = interpreter.threads.New(Whence::kThreading);
  EXPECT_EQ(Handshake::Run(*idle, count, &runs), HandshakeResult::kDone);
  EXPECT_EQ(runs, 1);
  InterpreterThreads::Clear(*idle);
  InterpreterThreads::Delete(idle);
  stop.Start();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
