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

// Each of these alone, in a child of a process with a second thread (FK-1): what fails has a name.
TEST_F(ForkTest, B029_TheChildCanAttachStopStartForkCreateAndFinalize) {
  Start();
  Atomic<bool> go{false};
  auto busy = StartThread([&] {
    while (!go.load(kAcquire)) {
      if (ThreadState::Get().Poll() != 0) std::abort();
    }
  });
  ASSERT_TRUE(busy.ok());
  const std::pair<const char*, std::function<bool()>> abilities[] = {
      {"detach and attach",
       [] {
         { DetachedScope detached; }
         return ThreadState::Current() != nullptr;
       }},
      {"stop the world, and all worlds",
       [] {
         { StoppedWorld stopped(Interpreter::Get().threads()); }
         { StoppedWorld stopped(Runtime::Get().interpreters().threads()); }
         return ThreadState::Get().Poll() == 0;
       }},
      {"start threads and join them",
       [] {
         bool ran = false;
         auto thread = StartThread([&] { ran = true; });
         return thread.ok() && thread->Join().ok() && ran;
       }},
      {"let foreign threads in",
       [] {
         bool ran = false;
         DetachedScope detached;
         std::jthread([&] {
           const GilStateBefore before = GilStateEnsure();
           ran = Interpreter::Get().threads().size() == 2;
           GilStateRelease(before);
         }).join();
         return ran;
       }},
      {"fork again",
       [] { return ForkAnd([] { return ForkAnd([] { return 0; }) == "exit 0" ? 0 : 1; }) == "exit 0"; }},
      {"make and end interpreters",
       [] {
         ThreadState* const before = ThreadState::Current();
         const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
         if (!sub.ok()) return false;
         Runtime::EndInterpreter(**sub);
         before->Attach();
         return Runtime::Get().interpreters().size() == 1;
       }},
      {"run calls for the main thread",
       [] {
         static bool ran;
         ran = false;
         const auto call = [](void*) -> absl::Status {
           ran = true;
           return absl::OkStatus();
         };
         return Runtime::Get().interpreters().AddMainCall(call, nullptr) == PendingCalls::AddResult::kAdded &&
                ThreadState::Get().Poll() == 0 && ran;
       }},
      {"finalize, and begin anew",
       [] { return Runtime::Finalize() == 0 && Runtime::Initialize().ok() && Runtime::Finalize() == 0; }},
  };
  for (const auto& [name, ability] : abilities) {
    EXPECT_EQ(ForkAnd([&ability = ability] { return ability() ? 0 : 1; }), "exit 0") << name;
  }
  go.store(true, kRelease);
  EXPECT_TRUE(busy->Join().ok());
}

// gh-100228, gh-135427: told in the parent, and after everything is in order again.
// In a process of its own, which has one thread to begin with, whatever other tests have left.
TEST_F(ForkTest, AForkOfAProcessWithThreadsIsWarnedOf) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
  EXPECT_EQ(
      InChild([] {
        static std::vector<std::string> warnings;
        const auto runtime = Runtime::Initialize({.warn = [](void*, const char* category, const char* text) {
          if (ThreadState::Get().Poll() != 0) std::abort();
          StoppedWorld stopped(Runtime::Get().interpreters().threads());
          warnings.push_back(std::string(category) + ": " + text);
        }});
        if (!runtime.ok()) return 1;
        const auto child_was_not_warned = [] { return warnings.empty() ? 0 : 1; };
        if (ForkAnd(child_was_not_warned) != "exit 0" || !warnings.empty()) return 2;
        // A thread that the runtime knows nothing of counts too: it may hold malloc's lock.
        Atomic<bool> stop{false};
        std::jthread foreign([&] {
          while (!stop.load(kAcquire)) YieldCpu();
        });
        const std::string ended = ForkAnd(child_was_not_warned);
        stop.store(true, kRelease);
        if (ended != "exit 0" || warnings.size() != 1) return 3;
        return warnings[0] == "DeprecationWarning: This process (pid=" + std::to_string(::getpid()) +
                                  ") is multi-threaded, use of fork() may lead to deadlocks in the child."
                   ? 0
                   : 4;
      }),
      "exit 0");
}

TEST_F(ForkTest, B061_TheParentsGuardsAreNotTheChilds) {
  Start();
  InterpreterGuard own = *InterpreterGuard::FromCurrent();
  Atomic<int> step{0};
  std::jthread foreign([&] {
    const EnsureToken token = EnsureAttachedFromView(InterpreterView::FromMain());
    step.store(1, kRelease);
    while (step.load(kAcquire) != 2) ThreadState::Get().Poll();
    ReleaseAttached(token);
  });
  {
    DetachedScope detached;
    while (step.load(kAcquire) != 1) YieldCpu();
  }
  // The other thread's guard went with its state; this thread's gives up nothing, and a new one counts.
  EXPECT_EQ(ForkAnd([&] {
              InterpreterGuard fresh = *InterpreterGuard::FromCurrent();
              own.Close();
              if (Interpreter::Get().guards().count() != 1) return 1;
              fresh.Close();
              if (Interpreter::Get().guards().count() != 0) return 2;
              return Runtime::Finalize() == 0 ? 0 : 3;
            }),
            "exit 0");
  step.store(2, kRelease);
  DetachedScope detached;
  foreign.join();
}

TEST_F(ForkTest, B061_AGuardOfAnInterpreterThatTheChildEndsIsHarmless) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  InterpreterGuard guard = *InterpreterGuard::FromCurrent();
  ThreadState::Swap(main_thread);
  EXPECT_EQ(ForkAnd([&] {
              if (Runtime::Get().interpreters().size() != 1) return 1;
              guard.Close();  // asan: of memory that is gone
              return Runtime::Finalize() == 0 ? 0 : 2;
            }),
            "exit 0");
  guard.Close();
}

// The thread's own state of another interpreter does not survive the fork: who wants it back hangs there, and uses no
// memory that is gone.
TEST_F(ForkTest, AThreadThatWantsItsDeletedStateBackHangs) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
  ASSERT_TRUE(sub.ok());
  ThreadState* const in_sub = *sub;
  ThreadState::Swap(main_thread);
  EXPECT_EQ(ForkAnd([&] {
              std::thread([] {
                std::this_thread::sleep_for(std::chrono::milliseconds(100));
                ::_exit(0);
              }).detach();
              ThreadState::Swap(in_sub);
              return 1;
            }),
            "exit 0");
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

// BEHAVIOURS 3.10: the lists are the interpreter's.
TEST_F(ForkTest, CallbacksAreOfTheInterpreterThatForksAndGoWithIt) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto log = std::make_shared<std::vector<std::string>>();
  const auto note = [log](const std::string& name) {
    return [log, name] {
      log->push_back(name);
      return absl::OkStatus();
    };
  };
  Fork::Register({note("main before"), note("main parent"), note("main child")});
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
  ASSERT_TRUE(sub.ok()) << sub.status();
  Fork::Register({note("sub before"), note("sub parent"), note("sub child")});
  EXPECT_EQ(ForkAnd([&] {
              return *log == std::vector<std::string>{"sub before", "sub child"} ? 0 : 1;
            }),
            "exit 0");
  EXPECT_THAT(*log, ElementsAre("sub before", "sub parent"));
  log->clear();
  const auto held = log.use_count();
  Runtime::EndInterpreter(**sub);
  EXPECT_EQ(log.use_count(), held - 3);
  main_thread->Attach();
  EXPECT_EQ(ForkAnd([&] {
              return *log == std::vector<std::string>{"main before", "main child"} ? 0 : 1;
            }),
            "exit 0");
  EXPECT_THAT(*log, ElementsAre("main before", "main parent"));
  Runtime::Finalize();
  EXPECT_EQ(log.use_count(), 2);  // this function's, and that of `note`
}

TEST_F(ForkTest, ACallbackThatIsRegisteredByTheEndOfAnotherGoesToo) {
  Start();
  const auto held = std::make_shared<int>();
  {
    const std::shared_ptr<int> last(new int, [held](const int* number) {
      delete number;
      Fork::Register({[held] { return absl::OkStatus(); }, {}, {}});
    });
    Fork::Register({[last] { return absl::OkStatus(); }, {}, {}});
  }
  Runtime::Finalize();
  EXPECT_EQ(held.use_count(), 1);
}

// Those that nothing stops for a fork: threads that are detached, and with the GIL those with a GIL of their own. What
// they would be changing, the child finds half changed.
TEST_F(ForkTest, FK2_NobodyIsInsideAListAcrossAFork) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  ASSERT_TRUE(Runtime::NewInterpreter(InterpreterConfig::Isolated()).ok());
  Interpreter& sub = Interpreter::Get();
  ThreadState::Swap(main_thread);
  Atomic<int> ready{0};
  Atomic<int> begun{0};
  Atomic<int> done{0};
  Atomic<bool> go{false};
  const auto at_go = [&](const std::function<void()>& change) {
    ready.fetch_add(1, kRelease);
    while (!go.load(kAcquire)) YieldCpu();
    begun.fetch_add(1, kRelease);
    change();
    done.fetch_add(1, kRelease);
  };
  std::vector<std::jthread> threads;
  threads.emplace_back([&] { at_go([] { EXPECT_EQ(Runtime::AtExit([] {}), 0); }); });
  if (kGilEnabled) {
    threads.emplace_back([&] {
      ThreadState* const own = sub.threads().NewBound();
      own->Attach();
      at_go([] { Fork::Register({}); });
      InterpreterThreads::Clear(*own);
      InterpreterThreads::DeleteCurrent();
    });
  }
  const int all = static_cast<int>(threads.size());
  ASSERT_TRUE(Eventually([&] { return ready.load(kAcquire) == all; }));
  Fork::BeforeFork();
  go.store(true, kRelease);
  EXPECT_TRUE(Eventually([&] { return begun.load(kAcquire) == all; }));
  for (int i = 0; i < 1000; ++i) YieldCpu();
  EXPECT_EQ(done.load(kAcquire), 0);
  Fork::AfterForkInParent();
  EXPECT_TRUE(Eventually([&] { return done.load(kAcquire) == all; }));
  DetachedScope detached;
  threads.clear();
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

// With the GIL nobody stops a thread that has a GIL of its own: what it was changing is left alone.
TEST_F(ForkTest, AForkBesideAnInterpreterThatRuns) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer takes a thread of the child for one of the parent's";
  for (const bool main_one_runs : {false, true}) {
    Runtime& runtime = Start();
    ThreadState* const main_thread = ThreadState::Current();
    InterpreterConfig config = InterpreterConfig::Isolated();
    config.allow_fork = true;
    const auto sub = Runtime::NewInterpreter(config);
    ASSERT_TRUE(sub.ok());
    Interpreter& runs = main_one_runs ? runtime.main_interpreter() : Interpreter::Get();
    if (!main_one_runs) ThreadState::Swap(main_thread);
    Atomic<bool> running{false};
    Atomic<bool> end{false};
    std::jthread busy([&] {
      ThreadState* const own = runs.threads().NewBound();
      own->Attach();
      own->data().context = String::Of("of a thread that runs");
      while (!end.load(kAcquire)) {
        running.store(true, kRelease);
        own->Poll();
      }
      InterpreterThreads::Clear(*own);
      InterpreterThreads::DeleteCurrent();
    });
    {
      DetachedScope detached;
      ASSERT_TRUE(Eventually([&] { return running.load(kAcquire); }));
    }
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(ForkAnd([&] {
                  if (runtime.interpreters().size() != (main_one_runs ? 2 : 1)) return 1;
                  if (const int failure = DoEverything(); failure != 0) return failure;
                  return Runtime::Finalize() == 0 ? 0 : 2;
                }),
                "exit 0");
    }
    end.store(true, kRelease);
    {
      DetachedScope detached;
      busy.join();
    }
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
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
  ::signal(SIGINT, SIG_DFL);  // whoever runs the test may ignore it
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
  ::signal(SIGINT, SIG_DFL);  // whoever runs the test may ignore it
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
