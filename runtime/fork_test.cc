#include "pyrt/runtime/fork.h"

#include <signal.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;

class ForkTest : public testing::Test {
 public:
  ~ForkTest() override { Runtime::Finalize(); }

  static Runtime& Start(bool install_signal_handlers = false) {
    absl::StatusOr<Runtime*> runtime = Runtime::Initialize(
        {.install_signal_handlers = install_signal_handlers, .warn = [](void*, const char*, const char*) {}});
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    return **runtime;
  }

  // Forks; the child runs `body` with a watchdog and ends with its result. How it ended.
  static std::string ForkAnd(const std::function<int()>& body) {
    const auto pid = Fork::Run();
    if (!pid.ok()) return std::string(pid.status().message());
    if (*pid == 0) {
      ArmWatchdog();
      ::_exit(body());
    }
    DetachedScope detached;
    return WaitForChild(*pid);
  }

  static absl::StatusOr<Thread> StartThread(std::function<void()> body, bool daemon = false) {
    return Thread::Start(
        [body = std::move(body)] {
          body();
          return absl::OkStatus();
        },
        {.daemon = daemon});
  }

  // Everything that a process with a runtime can do.
  static int DoEverything() {
    Runtime& runtime = Runtime::Get();
    Interpreter& interp = Interpreter::Get();
    if (interp.threads().size() != 1) return 10;
    if (!runtime.interpreters().IsMainThread()) return 11;
    { DetachedScope detached; }
    { StoppedWorld stopped(runtime.interpreters().threads()); }
    auto thread = StartThread([] {
      if (ThreadState::Get().Poll() != 0) std::abort();
    });
    if (!thread.ok() || !thread->Join().ok()) return 12;
    {
      DetachedScope detached;
      std::jthread([] {
        const GilStateBefore before = GilStateEnsure();
        GilStateRelease(before);
      }).join();
    }
    const int again = [] {
      const auto pid = Fork::Run();
      if (!pid.ok()) return 13;
      if (*pid == 0) ::_exit(Runtime::Finalize() == 0 ? 0 : 14);
      return WaitForChild(*pid) == "exit 0" ? 0 : 15;
    }();
    if (again != 0) return again;
    return Runtime::Finalize() == 0 ? 0 : 16;
  }
};

TEST_F(ForkTest, B029_TheChildHasOneThreadAndCanDoEverything) {
  Start();
  Atomic<bool> go{false};
  auto busy = StartThread([&] {
    while (!go.load(kAcquire)) {
      if (ThreadState::Get().Poll() != 0) std::abort();
    }
  });
  ASSERT_TRUE(busy.ok());
  EXPECT_EQ(ForkAnd(&DoEverything), "exit 0");
  EXPECT_EQ(Interpreter::Get().threads().size(), 2u);
  go.store(true, kRelease);
  EXPECT_TRUE(busy->Join().ok());
}

TEST_F(ForkTest, FK6_HandlesOfTheParentsThreadsAreDoneInTheChild) {
  Start();
  Atomic<bool> go{false};
  auto busy = StartThread([&] {
    while (!go.load(kAcquire)) {
      if (ThreadState::Get().Poll() != 0) std::abort();
    }
  });
  ASSERT_TRUE(busy.ok());
  EXPECT_EQ(ForkAnd([&] { return busy->IsDone() && busy->Join().ok() ? 0 : 1; }), "exit 0");
  EXPECT_FALSE(busy->IsDone());
  go.store(true, kRelease);
  EXPECT_TRUE(busy->Join().ok());
}

TEST_F(ForkTest, CallbacksRunInOrderAndAFailureDoesNotStopTheOthers) {
  Start();
  auto log = std::make_shared<std::vector<std::string>>();
  const auto step = [log](std::string name) {
    return [log, name] {
      log->push_back(name);
      return name == "before 2" ? absl::InternalError("ignored") : absl::OkStatus();
    };
  };
  Fork::Register({step("before 1"), step("parent 1"), step("child 1")});
  Fork::Register({step("before 2"), step("parent 2"), {}});
  EXPECT_EQ(ForkAnd([&] {
              return *log == std::vector<std::string>{"before 2", "before 1", "child 1"} ? 0 : 1;
            }),
            "exit 0");
  EXPECT_THAT(*log, ElementsAre("before 2", "before 1", "parent 1", "parent 2"));
}

TEST_F(ForkTest, IN16_RefusedWhereTheConfigurationSaysSo) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  const auto refused = Fork::Run();
  EXPECT_TRUE(IsError(refused.status(), ErrorType::RuntimeError()));
  EXPECT_EQ(refused.status().message(), "fork not supported for isolated subinterpreters");
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
}

TEST_F(ForkTest, AForkInASubinterpreterLeavesItAndTheMainOne) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto other = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(other.ok());
  ThreadState::Swap(main_thread);
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
  ASSERT_TRUE(sub.ok()) << sub.status();
  EXPECT_EQ(ForkAnd([&] {
              Runtime& runtime = Runtime::Get();
              if (runtime.interpreters().Ids() != std::vector<int64_t>{2, 0}) return 1;
              if (runtime.main_interpreter().threads().size() != 0) return 2;
              if (ThreadState::Current() != *sub) return 3;
              return Runtime::Finalize() == 0 ? 0 : 4;
            }),
            "exit 0");
  EXPECT_EQ(Runtime::Get().interpreters().size(), 3u);
  ThreadState::Swap(main_thread);
}

TEST_F(ForkTest, B029_CompletePendingCallsRunInBothProcesses) {
  Start();
  static int ran;
  ran = 0;
  ASSERT_EQ(Interpreter::Get().pending_calls().Add(
                [](void*) -> absl::Status {
                  ++ran;
                  return absl::OkStatus();
                },
                nullptr),
            PendingCalls::AddResult::kAdded);
  EXPECT_EQ(ForkAnd([] { return ThreadState::Get().Poll() == 0 && ran == 1 ? 0 : 1; }), "exit 0");
  EXPECT_EQ(ran, 0);
  EXPECT_EQ(ThreadState::Get().Poll(), 0);
  EXPECT_EQ(ran, 1);
}

TEST_F(ForkTest, B030_AForkOnAnotherThreadMakesItTheMainThread) {
  Start(/*install_signal_handlers=*/true);
  std::string ended;
  auto forker = StartThread([&] {
    ended = ForkAnd([] {
      InterpreterRegistry& registry = Runtime::Get().interpreters();
      ThreadState& thread = ThreadState::Get();
      if (!registry.IsMainThread()) return 1;
      if (registry.main_thread_state() != &thread) return 2;
      // (a) a signal reaches a loop that only polls
      ::raise(SIGINT);
      const int64_t deadline = MonotonicNow() + 100 * kNanosPerMilli;
      while (thread.Poll() == 0) {
        if (MonotonicNow() > deadline) return 3;
      }
      thread.data().current_exception.reset();
      // (c) so does a call for the main thread
      static bool ran;
      if (registry.AddMainCall(
              [](void*) -> absl::Status {
                ran = true;
                return absl::OkStatus();
              },
              nullptr) != PendingCalls::AddResult::kAdded) {
        return 4;
      }
      if (thread.Poll() != 0 || !ran) return 5;
      // (b) and the end works
      return Runtime::Finalize() == 0 ? 0 : 6;
    });
  });
  ASSERT_TRUE(forker.ok());
  EXPECT_TRUE(forker->Join().ok());
  EXPECT_EQ(ended, "exit 0");
}

TEST_F(ForkTest, B031_AForkWhileAnotherThreadRunsPendingCalls) {
  Start();
  static Atomic<bool> inside{false};
  static Atomic<bool> leave{false};
  inside.store(false, kRelaxed);
  leave.store(false, kRelaxed);
  auto handler = StartThread([] {
    ASSERT_EQ(Interpreter::Get().pending_calls().Add(
                  [](void*) -> absl::Status {
                    inside.store(true, kRelease);
                    DetachedScope detached;
                    while (!leave.load(kAcquire)) YieldCpu();
                    return absl::OkStatus();
                  },
                  nullptr),
              PendingCalls::AddResult::kAdded);
    while (!inside.load(kAcquire)) ASSERT_EQ(ThreadState::Get().Poll(), 0);
  });
  ASSERT_TRUE(handler.ok());
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([] { return inside.load(kAcquire); }));
  }
  ASSERT_TRUE(Interpreter::Get().pending_handler().HasHandler());
  EXPECT_EQ(ForkAnd([] {
              if (Interpreter::Get().pending_handler().HasHandler()) return 1;
              static bool ran;
              Interpreter::Get().pending_calls().Add(
                  [](void*) -> absl::Status {
                    ran = true;
                    return absl::OkStatus();
                  },
                  nullptr);
              return ThreadState::Get().Poll() == 0 && ran ? 0 : 2;
            }),
            "exit 0");
  leave.store(true, kRelease);
  EXPECT_TRUE(handler->Join().ok());
}

TEST_F(ForkTest, FK10_AForkInsideAPendingCall) {
  Start();
  static std::string ended;
  ASSERT_EQ(Interpreter::Get().pending_calls().Add(
                [](void*) -> absl::Status {
                  ended = ForkAnd(&DoEverything);
                  return absl::OkStatus();
                },
                nullptr),
            PendingCalls::AddResult::kAdded);
  EXPECT_EQ(ThreadState::Get().Poll(), 0);
  EXPECT_EQ(ended, "exit 0");
}

TEST_F(ForkTest, B099_SignalsFromBeforeTheForkAreTheParents) {
  Start(/*install_signal_handlers=*/true);
  ::raise(SIGINT);
  EXPECT_EQ(ForkAnd([] { return ThreadState::Get().Poll() == 0 ? 0 : 1; }), "exit 0");
  EXPECT_EQ(ThreadState::Get().Poll(), -1);
  ThreadState::Get().data().current_exception.reset();
}

TEST_F(ForkTest, ExitCallbacksRunInTheChildThatFinalizes) {
  Start();
  static int ran;
  ran = 0;
  ASSERT_TRUE(Interpreter::Get()
                  .at_exit()
                  .Register(NativeFunction::New("exit",
                                                [](Args) -> absl::StatusOr<Ref<Object>> {
                                                  ++ran;
                                                  return None();
                                                }))
                  .ok());
  EXPECT_EQ(ForkAnd([] { return Runtime::Finalize() == 0 && ran == 1 ? 0 : 1; }), "exit 0");
  EXPECT_EQ(ran, 0);
}

// 64 threads come and go while some fork and one stops the world: nobody hangs, and nothing is left.
TEST_F(ForkTest, StormOfThreadsForksAndStops) {
  const int kThreads = kTsan ? 16 : 64;
  const int kRounds = kTsan ? 10 : 40;
  EXPECT_EQ(InChild([=] {
              ArmWatchdog(300);
              Runtime& runtime = Start();
              static Atomic<int> failures;
              static Atomic<int> forks;
              failures.store(0, kRelaxed);
              forks.store(0, kRelaxed);
              std::vector<Thread> threads;
              for (int t = 0; t < kThreads; ++t) {
                auto thread = StartThread([t, kRounds] {
                  Interpreter& interp = Interpreter::Get();
                  for (int round = 0; round < kRounds; ++round) {
                    if (t % 9 == 0 && round % 10 == 0) {
                      const std::string ended = ForkAnd([&interp] {
                        if (interp.threads().size() != 1) return 1;
                        if (ThreadState::Get().Poll() != 0) return 2;
                        return 0;
                      });
                      if (ended != "exit 0") failures.fetch_add(1, kRelaxed);
                      forks.fetch_add(1, kRelaxed);
                    } else if (t % 9 == 1) {
                      StoppedWorld stopped(interp.registry().threads());
                    } else {
                      ThreadState* const mine = ThreadState::Current();
                      ThreadState* const other = interp.threads().NewBound();
                      ThreadState::Swap(other);
                      if (other->Poll() != 0) failures.fetch_add(1, kRelaxed);
                      InterpreterThreads::Clear(*other);
                      InterpreterThreads::DeleteCurrent();
                      mine->Attach();
                    }
                    if (ThreadState::Get().Poll() != 0) failures.fetch_add(1, kRelaxed);
                  }
                });
                if (!thread.ok()) return 1;
                threads.push_back(*thread);
              }
              for (Thread& thread : threads) {
                if (!thread.Join().ok()) return 2;
              }
              if (failures.load(kRelaxed) != 0) return 3;
              if (forks.load(kRelaxed) == 0) return 4;
              if (runtime.main_interpreter().threads().size() != 1) return 5;
              return Runtime::Finalize() == 0 ? 0 : 6;
            }),
            "exit 0");
}

using ForkDeathTest = ForkTest;

TEST_F(ForkDeathTest, DetachedThreadsMayNotFork) {
  Start();
  EXPECT_DEATH(
      {
        DetachedScope detached;
        static_cast<void>(Fork::Run());
      },
      "Fatal Python error: os.fork: ");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
