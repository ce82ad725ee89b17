#include "pyrt/runtime/thread.h"

#include <signal.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string>* reports = nullptr;

class ThreadTest : public testing::Test {
 public:
  ThreadTest() { reports = &unraisable; }
  ~ThreadTest() override { Runtime::Finalize(); }

  static Runtime& Start(bool install_signal_handlers = false) {
    absl::StatusOr<Runtime*> runtime =
        Runtime::Initialize({.install_signal_handlers = install_signal_handlers,
                             .unraisable =
                                 [](void*, const absl::Status& error, const char* what, const Ref<Object>&) {
                                   reports->push_back(std::string(what == nullptr ? "" : what) + "|" +
                                                      std::string(error.message()));
                                 },
                             .warn = [](void*, const char*, const char*) {}});
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    return **runtime;
  }
  static absl::StatusOr<Thread> StartThread(std::function<void()> body, bool daemon = false) {
    return Thread::Start(
        [body = std::move(body)] {
          body();
          return absl::OkStatus();
        },
        {.daemon = daemon});
  }
  static void Spin(const Atomic<bool>& until) {
    while (!until.load(kAcquire)) {
      ASSERT_EQ(ThreadState::Get().Poll(), 0);
    }
  }

  std::vector<std::string> unraisable;
};

TEST_F(ThreadTest, RunsAttachedAndIsDoneWhenItsStateIsGone) {
  Runtime& runtime = Start();
  uint64_t ident = 0;
  bool attached = false;
  auto thread = StartThread([&] {
    ident = CurrentThreadIdent();
    attached = ThreadState::CurrentInterpreter() == &runtime.main_interpreter();
  });
  ASSERT_TRUE(thread.ok());
  EXPECT_TRUE(thread->Join().ok());
  EXPECT_TRUE(attached);
  EXPECT_EQ(thread->ident(), ident);
  EXPECT_TRUE(thread->IsDone());
  EXPECT_EQ(runtime.main_interpreter().threads().size(), 1u) << "gh-114271";
  EXPECT_TRUE(thread->Join().ok()) << "again: at once";
}

TEST_F(ThreadTest, JoinWithTimeoutAndOfItself) {
  Start();
  Atomic<bool> go{false};
  auto thread = StartThread([&] { Spin(go); });
  ASSERT_TRUE(thread.ok());
  EXPECT_EQ(thread->Join(0).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(thread->Join(kNanosPerMilli).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(thread->IsDone());
  go.store(true, kRelease);
  EXPECT_TRUE(thread->Join(30 * kNanosPerSecond).ok());

  absl::Status of_itself;
  Atomic<bool> known{false};
  absl::StatusOr<Thread> self;
  self = StartThread([&] {
    Spin(known);
    of_itself = self->Join();
  });
  ASSERT_TRUE(self.ok());
  known.store(true, kRelease);
  EXPECT_TRUE(self->Join().ok());
  EXPECT_TRUE(IsError(of_itself, ErrorType::RuntimeError()));
  EXPECT_EQ(of_itself.message(), "Cannot join current thread");
}

TEST_F(ThreadTest, AFailureIsReportedAndSystemExitIsNot) {
  Start();
  for (const ErrorType* type : {&ErrorType::ValueError(), &ErrorType::SystemExit()}) {
    auto thread = Thread::Start([type] { return Raise(*type, "from a thread"); });
    ASSERT_TRUE(thread.ok());
    EXPECT_TRUE(thread->Join().ok());
  }
  EXPECT_THAT(unraisable, ElementsAre("Exception ignored in thread started by|from a thread"));
}

TEST_F(ThreadTest, IN16_IsolatedInterpretersRefuseDaemonsAndOthersRefuseThreads) {
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto isolated = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(isolated.ok());
  EXPECT_EQ(StartThread([] {}, /*daemon=*/true).status().message(),
            "daemon threads are disabled in this (sub)interpreter");
  auto allowed = StartThread([] {});
  ASSERT_TRUE(allowed.ok());
  EXPECT_TRUE(allowed->Join().ok());
  Runtime::EndInterpreter(**isolated);
  main_thread->Attach();

  InterpreterConfig config = InterpreterConfig::Isolated();
  config.allow_threads = false;
  const auto none = Runtime::NewInterpreter(config);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(StartThread([] {}).status().message(), "thread is not supported for isolated subinterpreters");
  Runtime::EndInterpreter(**none);
  main_thread->Attach();
}

TEST_F(ThreadTest, Gh109746_AFailedStartLeavesNothing) {
  Start();
  // A stack that no address space has room for.
  const auto thread = Thread::Start([] { return absl::OkStatus(); }, {.stack_size = size_t{1} << 60});
  EXPECT_TRUE(IsError(thread.status(), ErrorType::RuntimeError()));
  EXPECT_EQ(thread.status().message(), "can't start new thread");
  EXPECT_EQ(Interpreter::Get().threads().size(), 1u);
  EXPECT_EQ(Thread::Joinable(Interpreter::Get()), 0u);
}

// ---- Interpreters side by side

TEST_F(ThreadTest, B042_InterpretersWithTheirOwnGilRunInParallel) {
  Start();
  static Atomic<int> met;
  met.store(0, kRelaxed);
  // Neither side polls or detaches: with one GIL for both they would never meet.
  const auto meet = [] {
    met.fetch_add(1, kAcqRel);
    const int64_t deadline = MonotonicNow() + 30 * kNanosPerSecond;
    while (met.load(kAcquire) < 2) {
      if (MonotonicNow() > deadline) return false;
    }
    return true;
  };
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok()) << sub.status();
  bool other_met = false;
  auto thread = StartThread([&] { other_met = meet(); });
  ASSERT_TRUE(thread.ok());
  ThreadState::Swap(main_thread);
  EXPECT_TRUE(meet());
  EXPECT_TRUE(thread->Join().ok());
  EXPECT_TRUE(other_met);
  ThreadState::Swap(*sub);
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
}

TEST_F(ThreadTest, B042_InterpretersThatShareAGilDoNot) {
  if (!kGilEnabled) GTEST_SKIP() << "the GIL is off";
  Start();
  static Atomic<int> ticks;
  static Atomic<bool> stop;
  ticks.store(0, kRelaxed);
  stop.store(false, kRelaxed);
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
  ASSERT_TRUE(sub.ok()) << sub.status();
  auto thread = StartThread([] {
    while (!stop.load(kAcquire)) {
      ticks.fetch_add(1, kRelaxed);
      ASSERT_EQ(ThreadState::Get().Poll(), 0);
    }
  });
  ASSERT_TRUE(thread.ok());
  ThreadState::Swap(main_thread);
  ASSERT_TRUE(Eventually([] {
    EXPECT_EQ(ThreadState::Get().Poll(), 0);
    return ticks.load(kRelaxed) > 0;
  }));
  // While this thread is attached and does not poll, the other interpreter's stands still.
  const int before = ticks.load(kRelaxed);
  const int64_t until = MonotonicNow() + 20 * kNanosPerMilli;
  while (MonotonicNow() < until) {
  }
  EXPECT_EQ(ticks.load(kRelaxed), before);
  stop.store(true, kRelease);
  EXPECT_TRUE(thread->Join().ok());
  ThreadState::Swap(*sub);
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
}

// ---- The end

TEST_F(ThreadTest, FinalizeWaitsForNonDaemonThreads) {
  Start();
  Atomic<bool> go{false};
  bool finished = false;
  ThreadState* const main_thread = ThreadState::Current();
  ASSERT_TRUE(StartThread([&] {
                Spin(go);
                finished = Runtime::IsInitialized();
              }).ok());
  std::jthread releaser([&] {
    while (main_thread->attached()) YieldCpu();
    go.store(true, kRelease);
  });
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_TRUE(finished);
}

TEST_F(ThreadTest, B131_AThreadStartedInAnExitCallbackIsJoined) {
  Start();
  bool finished = false;
  Atomic<bool> go{false};
  ThreadState* const main_thread = ThreadState::Current();
  ASSERT_TRUE(Interpreter::Get()
                  .at_exit()
                  .Register(NativeFunction::New("starts",
                                                [&](Args) -> absl::StatusOr<Ref<Object>> {
                                                  EXPECT_TRUE(StartThread([&] {
                                                                Spin(go);
                                                                finished = true;
                                                              }).ok());
                                                  return None();
                                                }))
                  .ok());
  std::jthread releaser([&] {
    while (main_thread->attached()) YieldCpu();
    go.store(true, kRelease);
  });
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_TRUE(finished);
}

TEST_F(ThreadTest, B132_AThreadLeftBehindThatRegistersACallbackAndOneThatMakesAnInterpreterAreServed) {
  Start();
  std::vector<std::string> log;
  const auto callback = [&log](std::string name, std::function<void()> body) {
    return NativeFunction::New(name, [&log, name, body](Args) -> absl::StatusOr<Ref<Object>> {
      log.push_back(name);
      body();
      return None();
    });
  };
  ASSERT_TRUE(Interpreter::Get()
                  .at_exit()
                  .Register(callback(
                      "first",
                      [&] {
                        EXPECT_TRUE(
                            StartThread([&] {
                              // While the list runs a registration is dropped (IN-39).
                              while (!Interpreter::Get().at_exit().empty()) {
                                ASSERT_EQ(ThreadState::Get().Poll(), 0);
                              }
                              EXPECT_TRUE(
                                  Interpreter::Get().at_exit().Register(callback("second", [] {})).ok());
                            }).ok());
                        ThreadState* const before = ThreadState::Current();
                        EXPECT_TRUE(Runtime::NewInterpreter(InterpreterConfig::Isolated()).ok());
                        ThreadState::Swap(before);
                      }))
                  .ok());
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_THAT(log, ElementsAre("first", "second"));
}

TEST_F(ThreadTest, B133_CtrlCWhileJoiningIsReportedAndFinalizeCompletes) {
  EXPECT_EQ(InChild([] {
              std::vector<std::string> log;
              reports = &log;
              Start(/*install_signal_handlers=*/true);
              Atomic<bool> never{false};
              ThreadState* const main_thread = ThreadState::Current();
              const pthread_t self = ::pthread_self();
              if (!StartThread([&] { Spin(never); }).ok()) return 1;
              main_thread->IncRef();  // looked at beyond its end, if nobody ever sees it detached
              std::thread([main_thread, self] {
                while (main_thread->attached()) YieldCpu();
                main_thread->DecRef();
                // Until it is seen: the first ones may come before the wait.
                for (int i = 0; i < 100 && Runtime::IsInitialized(); ++i) {
                  ::pthread_kill(self, SIGINT);
                  std::this_thread::sleep_for(std::chrono::milliseconds(10));
                }
              }).detach();
              if (Runtime::Finalize() != 0) return 2;
              if (log.empty() || log[0] != "Exception ignored on threading shutdown|") return 3;
              return 0;
            }),
            "exit 0");
}

TEST_F(ThreadTest, B137_AThreadFinalizesWhileItIsDetached) {
  EXPECT_EQ(InChild([] {
              std::vector<std::string> log;
              reports = &log;
              Start();
              if (!StartThread([] {
                     DetachedScope detached;
                     std::_Exit(Runtime::Finalize() == 0 ? 0 : 2);
                   }).ok()) {
                return 1;
              }
              DetachedScope detached;
              HangForever();
            }),
            "exit 0");
}

TEST_F(ThreadTest, B136_LateThreadsAndForksAreRefused) {
  Start();
  absl::Status thread_status;
  absl::Status fork_status;
  static absl::Status* results[2];
  results[0] = &thread_status;
  results[1] = &fork_status;
  Interpreter::Get().at_exit().RegisterLowLevel(
      [](void*) {
        *results[0] = StartThread([] {}).status();
        *results[1] = Fork::Run().status();
      },
      nullptr);
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_TRUE(IsError(thread_status, ErrorType::PythonFinalizationError()));
  EXPECT_EQ(thread_status.message(), "can't create new thread at interpreter shutdown");
  EXPECT_TRUE(IsError(fork_status, ErrorType::PythonFinalizationError()));
  EXPECT_EQ(fork_status.message(), "can't fork at interpreter shutdown");
}

struct WritesOnUnwind {
  ~WritesOnUnwind() { *flag = true; }
  bool* flag;
};

TEST_F(ThreadTest, B060_DaemonThreadsHangWithoutUnwinding) {
  EXPECT_EQ(InChild([] {
              Start();
              static bool unwound = false;
              static Atomic<bool> spinning{false};
              static Atomic<bool> sleeping{false};
              static Atomic<bool> wake{false};
              static Atomic<bool> about_to_attach{false};
              static Atomic<bool> never{false};
              auto spinner = StartThread(
                  [] {
                    WritesOnUnwind guard{&unwound};
                    spinning.store(true, kRelease);
                    Spin(never);
                  },
                  /*daemon=*/true);
              auto sleeper = StartThread(
                  [] {
                    WritesOnUnwind guard{&unwound};
                    DetachedScope detached;
                    sleeping.store(true, kRelease);
                    while (!wake.load(kAcquire)) YieldCpu();
                    about_to_attach.store(true, kRelease);
                  },
                  /*daemon=*/true);
              if (!spinner.ok() || !sleeper.ok()) return 1;
              while (!spinning.load(kAcquire) || !sleeping.load(kAcquire)) {
                if (ThreadState::Get().Poll() != 0) return 2;
              }
              if (Runtime::Finalize() != 0) return 3;
              wake.store(true, kRelease);  // attaches to an interpreter that is gone
              while (!about_to_attach.load(kAcquire)) YieldCpu();
              if (sleeper->Join(200 * kNanosPerMilli).ok()) return 4;
              if (spinner->IsDone() || sleeper->IsDone() || unwound) return 5;
              return 0;
            }),
            "exit 0");
}

TEST_F(ThreadTest, B038_EndingAnInterpreterWithThreadsInIt) {
  EXPECT_EQ(InChild([] {
              Start();
              ThreadState* const main_thread = ThreadState::Current();
              for (const bool own_gil : {false, true}) {
                InterpreterConfig config = InterpreterConfig::Legacy();
                if (own_gil) {
                  config = InterpreterConfig::Isolated();
                  config.allow_daemon_threads = true;
                }
                config.check_multi_interp_extensions = true;
                const auto sub = Runtime::NewInterpreter(config);
                if (!sub.ok()) return 1;
                static Atomic<int> running{0};
                static Atomic<bool> never{false};
                running.store(0, kRelaxed);
                for (int i = 0; i < 3; ++i) {
                  if (!StartThread(
                           [] {
                             running.fetch_add(1, kAcqRel);
                             Spin(never);
                           },
                           /*daemon=*/true)
                           .ok()) {
                    return 2;
                  }
                }
                while (running.load(kAcquire) < 3) {
                  if (ThreadState::Get().Poll() != 0) return 3;
                }
                Runtime::EndInterpreter(**sub);
                main_thread->Attach();
                if (Runtime::Get().interpreters().size() != 1) return 4;
              }
              return Runtime::Finalize() == 0 ? 0 : 5;
            }),
            "exit 0");
}

// ---- Storms

TEST_F(ThreadTest, ThreadsThatStartWhileTheRuntimeEndsAreRunRefusedOrGone) {
  EXPECT_EQ(InChild([] {
              ArmWatchdog(120);
              for (int life = 0; life < 50; ++life) {
                Start();
                // A daemon that starts daemons until it hangs.
                static Atomic<int> started;
                started.store(0, kRelaxed);
                if (!StartThread(
                         [] {
                           while (StartThread([] {}, /*daemon=*/true).ok()) {
                             started.fetch_add(1, kRelaxed);
                             if (ThreadState::Get().Poll() != 0) std::abort();
                           }
                         },
                         /*daemon=*/true)
                         .ok()) {
                  return 1;
                }
                while (started.load(kRelaxed) < 3) {
                  if (ThreadState::Get().Poll() != 0) return 2;
                }
                if (Runtime::Finalize() != 0) return 3;
              }
              return 0;
            }),
            "exit 0");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
