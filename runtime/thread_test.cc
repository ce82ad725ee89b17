#include "pyrt/runtime/thread.h"

#include <signal.h>
#include <sys/resource.h>

#include <cstdlib>
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
    absl::StatusOr<Runtime*> runtime = Runtime::Initialize(
        {.install_signal_handlers = install_signal_handlers,
         .unraisable =
             [](void*, const absl::Status& error, const char* what, const Ref<Object>& object) {
               reports->push_back(std::string(what == nullptr ? "" : what) + "|" +
                                  std::string(error.message()) + (object ? "|" + *object->Repr() : ""));
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
  // Lets others attach meanwhile; hangs where it may not come back.
  static void SpinDetached(const Atomic<bool>& until) {
    while (!until.load(kAcquire)) {
      DetachedScope detached;
      YieldCpu();
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
  unraisable.clear();
  const Ref<Object> function =
      NativeFunction::New("f", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
  auto named = Thread::Start([] { return Raise(ErrorType::ValueError(), "from f"); }, {.function = function});
  ASSERT_TRUE(named.ok());
  EXPECT_TRUE(named->Join().ok());
  EXPECT_THAT(unraisable, ElementsAre("Exception ignored in thread started by <built-in function f>|from f"))
      << "in the message, not as the object";
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
              ::signal(SIGINT, SIG_DFL);  // whoever runs the test may ignore it
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

// Its state is gone when the body returns, and the thread is done all the same.
TEST_F(ThreadTest, B137_AThreadFinalizesAndReturns) {
  EXPECT_EQ(InChild([] {
              Start();
              auto thread = StartThread([] {
                if (Runtime::Finalize() != 0) std::_Exit(2);
              });
              if (!thread.ok()) return 1;
              DetachedScope detached;
              if (!Eventually([&] { return thread->IsDone(); })) return 3;
              std::_Exit(Runtime::IsInitialized() ? 4 : 0);
            }),
            "exit 0");
  // The next life's main thread is this one, and its state may have the memory of the one that is gone.
  EXPECT_EQ(InChild([] {
              Start();
              auto thread = StartThread([] {
                if (Runtime::Finalize() != 0) std::_Exit(2);
                Start();
              });
              if (!thread.ok()) return 1;
              DetachedScope detached;
              if (!Eventually([&] { return thread->IsDone(); })) return 3;
              std::_Exit(Runtime::Finalize() == 0 ? 0 : 4);
            }),
            "exit 0");
}

TEST_F(ThreadTest, B030_AChildForkedInAThreadFinalizesAndReturns) {
  if (kTsan)
    GTEST_SKIP()
        << "ThreadSanitizer itself crashes where a forked child's thread returns, without pyrt as well";
  EXPECT_EQ(InChild([] {
              Start();
              auto thread = StartThread([] {
                const absl::StatusOr<pid_t> pid = Fork::Run();
                if (!pid.ok()) std::_Exit(2);
                if (*pid != 0) std::_Exit(WaitForChild(*pid) == "exit 0" ? 0 : 3);
                if (Runtime::Finalize() != 0) std::_Exit(4);
                // What the threads held that are not here is no leak.
                std::atexit([] { std::_Exit(0); });
                // Of the process as soon as its last thread has ended (FK-1b).
              });
              if (!thread.ok()) return 1;
              DetachedScope detached;
              HangForever();
            }),
            "exit 0");
}

TEST_F(ThreadTest, B038_AThreadEndsItsInterpreterAndReturns) {
  EXPECT_EQ(InChild([] {
              Start();
              ThreadState* const main_thread = ThreadState::Current();
              if (!Runtime::NewInterpreter(InterpreterConfig::Legacy()).ok()) return 1;
              static Atomic<bool> ended{false};
              static Atomic<bool> go{false};
              auto thread = StartThread([] {
                Runtime::EndInterpreter(ThreadState::Get());
                ended.store(true, kRelease);
                while (!go.load(kAcquire)) YieldCpu();
              });
              if (!thread.ok()) return 2;
              ThreadState::Swap(main_thread);
              if (!Eventually([] {
                    DetachedScope detached;
                    return ended.load(kAcquire);
                  })) {
                return 3;
              }
              // Whatever is made where the other one was does not wait for its thread.
              for (int i = 0; i < 20; ++i) {
                const auto next = Runtime::NewInterpreter(InterpreterConfig::Legacy());
                if (!next.ok()) return 4;
                if (Thread::Joinable(*(*next)->interp()) != 0) return 5;
                Runtime::EndInterpreter(**next);
                main_thread->Attach();
              }
              go.store(true, kRelease);
              if (!thread->Join(30 * kNanosPerSecond).ok()) return 6;
              return Runtime::Finalize() == 0 ? 0 : 7;
            }),
            "exit 0");
}

// The end waits for these threads, which hang: they have come too late with an end of their own.
TEST_F(ThreadTest, RE1_AThreadThatIsJoinedAndFinalizesIsNotWaitedFor) {
  EXPECT_EQ(InChild([] {
              Start();
              ThreadState* const main_thread = ThreadState::Current();
              for (const bool exits : {false, true}) {
                if (!StartThread([main_thread, exits] {
                       while (main_thread->attached()) {
                         if (ThreadState::Get().Poll() != 0) std::_Exit(2);
                       }
                       exits ? Runtime::Exit(3) : static_cast<void>(Runtime::Finalize());
                       std::_Exit(4);
                     }).ok()) {
                  return 1;
                }
              }
              return Runtime::Finalize() == 0 ? 0 : 5;
            }),
            "exit 0");
}

TEST_F(ThreadTest, RE1_AForeignThreadWithAGuardThatFinalizesIsNotWaitedFor) {
  EXPECT_EQ(InChild([] {
              Start();
              static Atomic<bool> there{false};
              static Atomic<bool> ending{false};
              std::thread([] {
                if (!EnsureAttachedFromView(InterpreterView::FromMain())) std::_Exit(2);
                there.store(true, kRelease);
                SpinDetached(ending);
                Runtime::Finalize();
                std::_Exit(4);
              }).detach();
              const auto in_exit = [](Args) -> absl::StatusOr<Ref<Object>> {
                ending.store(true, kRelease);
                return None();
              };
              if (!Interpreter::Get().at_exit().Register(NativeFunction::New("ending", in_exit)).ok())
                return 1;
              SpinDetached(there);
              return Runtime::Finalize() == 0 ? 0 : 5;
            }),
            "exit 0");
}

// The guard of main is that of a state further down.
TEST_F(ThreadTest, RE1_AForeignThreadThatEndsItsInterpreterTooLateKeepsNoGuardOfMain) {
  EXPECT_EQ(InChild([] {
              Start();
              static Atomic<bool> there{false};
              static Atomic<bool> ending{false};
              std::thread([] {
                if (!EnsureAttachedFromView(InterpreterView::FromMain())) std::_Exit(2);
                const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
                if (!sub.ok()) std::_Exit(3);
                // The end of it has begun, and waits for this guard.
                const auto in_exit = [](Args) -> absl::StatusOr<Ref<Object>> {
                  ending.store(true, kRelease);
                  return None();
                };
                if (!Interpreter::Get().at_exit().Register(NativeFunction::New("ending", in_exit)).ok())
                  std::_Exit(4);
                there.store(true, kRelease);
                SpinDetached(ending);
                Runtime::EndInterpreter(**sub);
                std::_Exit(5);
              }).detach();
              SpinDetached(there);
              return Runtime::Finalize() == 0 ? 0 : 6;
            }),
            "exit 0");
}

// A daemon starts it while the other interpreters are ended: it is joined in vain, as it hangs in one of these.
TEST_F(ThreadTest, LC14_AThreadThatHangsInAnotherInterpreterIsNotWaitedFor) {
  EXPECT_EQ(InChild([] {
              Start();
              static Atomic<bool> ending{false};
              static Atomic<bool> working{false};
              ThreadState* const main_thread = ThreadState::Current();
              if (!StartThread(
                       [] {
                         SpinDetached(ending);
                         static_cast<void>(StartThread([] {
                           if (!Runtime::NewInterpreter(InterpreterConfig::Legacy()).ok()) std::_Exit(2);
                           working.store(true, kRelease);
                           for (;;) {
                             DetachedScope detached;
                             YieldCpu();
                           }
                         }));
                       },
                       /*daemon=*/true)
                       .ok()) {
                return 1;
              }
              if (!Runtime::NewInterpreter(InterpreterConfig::Legacy()).ok()) return 3;
              const auto in_exit = [](Args) -> absl::StatusOr<Ref<Object>> {
                ending.store(true, kRelease);
                SpinDetached(working);
                return None();
              };
              if (!Interpreter::Get().at_exit().Register(NativeFunction::New("ending", in_exit)).ok())
                return 4;
              ThreadState::Swap(main_thread);
              return Runtime::Finalize() == 0 ? 0 : 5;
            }),
            "exit 0");
}

// The interpreter that a thread works in is not taken from under it while it is joined: it would hang.
TEST_F(ThreadTest, B131_AThreadOfAnExitCallbackKeepsTheInterpreterThatItMakes) {
  EXPECT_EQ(InChild([] {
              Start();
              static Atomic<bool> made{false};
              const auto in_exit = [](Args) -> absl::StatusOr<Ref<Object>> {
                auto thread = StartThread([] {
                  ThreadState* const own = ThreadState::Current();
                  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
                  if (!sub.ok()) std::_Exit(2);
                  made.store(true, kRelease);
                  for (int i = 0; i < 20; ++i) {
                    DetachedScope detached;
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
                  }
                  Runtime::EndInterpreter(**sub);
                  own->Attach();
                });
                if (!thread.ok()) std::_Exit(3);
                SpinDetached(made);
                return None();
              };
              if (!Interpreter::Get().at_exit().Register(NativeFunction::New("starts", in_exit)).ok())
                return 1;
              return Runtime::Finalize() == 0 ? 0 : 5;
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
