#include "pyrt/interp/interpreter.h"

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/tstate/brc.h"
#include "pyrt/tstate/delayed_free.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

// A registry with a main interpreter whose first thread is attached to the test's thread.
class InterpreterTest : public testing::Test {
 public:
  InterpreterTest() {
    registry.Enable();
    registry.set_hooks({.context = this,
                        .audit = &Audit,
                        .unraisable = &Unraisable,
                        .merge_references = [](void* self, ThreadState&) { Log(self, "merge"); },
                        .sweep_executors = [](void* self, ThreadState&) { Log(self, "sweep"); }});
    main = *registry.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime);
    thread = main->threads().NewBound(Whence::kInit);
    thread->Attach();
    registry.SetMainThreadState(thread);
  }
  ~InterpreterTest() override {
    main->Clear(*thread);
    registry.Delete(main);
  }

  static void Log(void* self, std::string what) {
    static_cast<InterpreterTest*>(self)->log.push_back(std::move(what));
  }
  static absl::Status Audit(void* context, const char* event) {
    auto& self = *static_cast<InterpreterTest*>(context);
    self.events.push_back(event);
    return self.refuse == event ? absl::AbortedError("refused") : absl::OkStatus();
  }
  static void Unraisable(void* context, const absl::Status& error, const char* what,
                         const Ref<Object>& object) {
    Log(context, std::string(what == nullptr ? "" : what) + "|" + std::string(error.message()) +
                     (object ? "|" + *object->Repr() : ""));
  }

  Interpreter* NewSub(const InterpreterConfig& config = InterpreterConfig::Isolated()) {
    auto interp = registry.New(thread, config, InterpreterWhence::kCApi);
    EXPECT_TRUE(interp.ok()) << interp.status();
    return *interp;
  }
  // Ends a subinterpreter without threads.
  void End(Interpreter* interp) {
    ThreadState* end = interp->threads().NewBound(Whence::kFini);
    ThreadState::Swap(end);
    interp->Clear(*end);
    registry.Delete(interp);
    thread->Attach();
  }
  absl::Status AddCall(std::string name, absl::Status result = absl::OkStatus()) {
    struct Call {
      InterpreterTest* test;
      std::string name;
      absl::Status result;
    };
    const auto added = main->pending_calls().Add(
        [](void* argument) -> absl::Status {
          std::unique_ptr<Call> call(static_cast<Call*>(argument));
          call->test->log.push_back(call->name);
          return call->result;
        },
        new Call{this, std::move(name), std::move(result)});
    return added == PendingCalls::AddResult::kAdded ? absl::OkStatus() : absl::InternalError("not added");
  }
  std::string TakeException() {
    Ref<Error> error = std::exchange(thread->data().current_exception, nullptr);
    return error == nullptr ? "" : error->type().name() + ": " + error->Message();
  }

  InterpreterRegistry registry;
  Interpreter* main;
  ThreadState* thread;
  std::vector<std::string> log;
  std::vector<std::string> events;
  std::string refuse;
};

// ---- Lists, ids, configuration

TEST_F(InterpreterTest, B027_ListIsNewestFirstAndAFailedCreationSpendsItsId) {
  EXPECT_EQ(main->id(), 0);
  EXPECT_TRUE(main->is_main());
  Interpreter* one = NewSub();
  InterpreterConfig bad = InterpreterConfig::Isolated();
  bad.check_multi_interp_extensions = false;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(registry.New(thread, bad, InterpreterWhence::kCApi).status().message(),
              "per-interpreter obmalloc does not support single-phase init extension modules");
  }
  Interpreter* four = NewSub();
  EXPECT_EQ(one->id(), 1);
  EXPECT_EQ(four->id(), 4);
  EXPECT_THAT(registry.Ids(), ElementsAre(4, 1, 0));
  EXPECT_EQ(registry.head(), four);
  End(one);
  EXPECT_THAT(registry.Ids(), ElementsAre(4, 0));
  End(four);
}

TEST_F(InterpreterTest, RT29_AuditEventsOfCreationAndClear) {
  EXPECT_THAT(events, IsEmpty()) << "none for the main interpreter: there was no thread state";
  Interpreter* sub = NewSub();
  End(sub);
  EXPECT_THAT(events, ElementsAre("cpython.PyInterpreterState_New", "cpython.PyInterpreterState_Clear"));
  sub = NewSub();
  refuse = "cpython.PyInterpreterState_New";
  EXPECT_EQ(registry.New(thread, InterpreterConfig::Isolated(), InterpreterWhence::kCApi).status().message(),
            "sys.audit failed");
  events.clear();
  refuse = "cpython.PyInterpreterState_Clear";
  Ref<Object> builtins = Dict::New();
  static_cast<void>(sub->set_table(Interpreter::Table::kBuiltins, builtins));
  End(sub);
  EXPECT_THAT(events, ElementsAre("cpython.PyInterpreterState_Clear"));
  EXPECT_EQ(builtins->RefCount(), 1) << "cleared all the same";
  EXPECT_THAT(registry.Ids(), ElementsAre(0));
}

TEST_F(InterpreterTest, B037_LookUpErrors) {
  EXPECT_EQ(registry.LookUpId(0).value(), main);
  for (const int64_t id : {int64_t{-1}, int64_t{7}}) {
    const auto found = registry.LookUpId(id);
    EXPECT_TRUE(IsError(found.status(), ErrorType::InterpreterNotFoundError()));
    EXPECT_EQ(found.status().message(), "unrecognized interpreter ID " + std::to_string(id));
  }
}

TEST_F(InterpreterTest, B037_WhatIsNoId) {
  EXPECT_EQ(*InterpreterIdFromObject(Int::Of(3)), 3);
  EXPECT_EQ(*InterpreterIdFromObject(True()), 1) << "an int in Python";
  const auto text = InterpreterIdFromObject(String::Of("3"));
  EXPECT_TRUE(IsError(text.status(), ErrorType::TypeError()));
  EXPECT_EQ(text.status().message(), "interpreter ID must be an int, got str");
  const auto negative = InterpreterIdFromObject(Int::Of(-1));
  EXPECT_TRUE(IsError(negative.status(), ErrorType::ValueError()));
  EXPECT_EQ(negative.status().message(), "interpreter ID must be a non-negative int, got -1");
  const auto big = InterpreterIdFromObject(*Int::FromDecimal("9223372036854775808"));
  EXPECT_TRUE(IsError(big.status(), ErrorType::OverflowError()));
}

TEST_F(InterpreterTest, RT36_WithoutEnableThereAreNoIds) {
  InterpreterRegistry other;
  EXPECT_EQ(other.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime).status().message(),
            "failed to get an interpreter ID");
}

TEST_F(InterpreterTest, IN6_TheMainInterpreterHasItsOwnConfigurationWhateverIsAskedFor) {
  EXPECT_EQ(main->features(), InterpreterConfig::Main().Features());
  EXPECT_TRUE(main->owns_gil());
}

TEST_F(InterpreterTest, B078_SharedAndOwnGil) {
  Interpreter* legacy = NewSub(InterpreterConfig::Legacy());
  Interpreter* isolated = NewSub();
  EXPECT_EQ(&legacy->gil(), &main->gil());
  EXPECT_NE(&isolated->gil(), &main->gil());
  main->gil().set_interval(1234);
  EXPECT_EQ(legacy->gil().interval(), 1234u);
  EXPECT_EQ(isolated->gil().interval(), Gil::kDefaultIntervalMicros);
  End(isolated);
  End(legacy);
}

TEST_F(InterpreterTest, B043_ThreadIdsStartAtOneInEachInterpreter) {
  EXPECT_EQ(thread->id(), 1u);
  Interpreter* sub = NewSub();
  ThreadState* first = sub->threads().NewBound(Whence::kInit);
  EXPECT_EQ(first->id(), 1u);
  ThreadState::Swap(first);
  sub->Clear(*first);
  registry.Delete(sub);
  thread->Attach();
}

TEST_F(InterpreterTest, B036_IdReferencesEndOnlyALinkedInterpreter) {
  Interpreter* sub = NewSub();
  sub->IncrefId();
  sub->IncrefId();
  EXPECT_FALSE(sub->DecrefId());
  EXPECT_FALSE(sub->DecrefId()) << "not linked: unlinking keeps the interpreter alive";
  sub->set_requires_idref(true);
  sub->IncrefId();
  EXPECT_TRUE(sub->DecrefId());
  End(sub);
}

TEST_F(InterpreterTest, B039_RunningMain) {
  EXPECT_FALSE(main->IsRunningMain());
  ASSERT_TRUE(main->SetRunningMain(*thread).ok());
  const absl::Status twice = main->SetRunningMain(*thread);
  EXPECT_TRUE(IsError(twice, ErrorType::InterpreterError()));
  EXPECT_EQ(twice.message(), "interpreter already running");
  Interpreter* sub = NewSub();
  const absl::Status wrong = sub->SetRunningMain(*thread);
  EXPECT_TRUE(IsError(wrong, ErrorType::RuntimeError()));
  EXPECT_EQ(wrong.message(), "current tstate has wrong interpreter");
  main->ClearRunningMain(*thread);
  EXPECT_FALSE(main->IsRunningMain());
  End(sub);
}

TEST_F(InterpreterTest, TablesOwnWhatIsPutThere) {
  EXPECT_EQ(main->table(Interpreter::Table::kModules), nullptr);
  Ref<Object> modules = Dict::New();
  EXPECT_EQ(main->set_table(Interpreter::Table::kModules, modules), nullptr);
  EXPECT_EQ(main->table(Interpreter::Table::kModules), modules);
  EXPECT_EQ(main->set_table(Interpreter::Table::kModules, nullptr), modules);
  const Ref<Dict> dict = main->dict();
  EXPECT_EQ(main->dict(), dict);
}

TEST_F(InterpreterTest, RecursionLimitReachesExistingAndNewThreads) {
  main->SetRecursionLimit(77);
  EXPECT_EQ(main->recursion_limit(), 77);
  EXPECT_EQ(thread->data().recursion.limit(), 77);
  ThreadState* other = main->threads().NewBound();
  EXPECT_EQ(other->data().recursion.limit(), 77);
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

TEST_F(InterpreterTest, EB52_InstrumentationVersionReachesEveryThreadAndKeepsEvents) {
  thread->breaker().Set(BreakerEvent::kCallsToDo);
  ThreadState* other = main->threads().NewBound();
  ASSERT_TRUE(main->BumpInstrumentationVersion().ok());
  EXPECT_EQ(main->instrumentation_version(), 0x100u);
  EXPECT_EQ(thread->breaker().version(), 0x100u);
  EXPECT_TRUE(thread->breaker().IsSet(BreakerEvent::kCallsToDo));
  EXPECT_EQ(other->breaker().version(), 0x100u);
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
  main->threads().link().breaker_on_attach.store(EvalBreaker::kVersionMask, kRelaxed);
  const absl::Status status = main->BumpInstrumentationVersion();
  EXPECT_TRUE(IsError(status, ErrorType::OverflowError()));
  EXPECT_EQ(status.message(), "events set too many times");
}

TEST_F(InterpreterTest, B041_LowLevelCallbacksRunInClearWithACurrentThread) {
  Interpreter* sub = NewSub();
  static int ran;
  ran = 0;
  for (int i = 0; i < 3; ++i) {
    sub->at_exit().RegisterLowLevel(
        [](void* expected) {
          ran += ThreadState::CurrentInterpreter() == expected && ThreadState::Current()->status().cleared;
        },
        sub);
  }
  End(sub);
  EXPECT_EQ(ran, 3);
}

// ---- What threads leave to each other

// Memory that readers may still see; `log` gets its name, and what its destructor finds amiss.
struct Retired : DelayedFree {
  Retired(InterpreterTest* test, std::string name) : test(test), name(std::move(name)) {
    free = [](DelayedFree* self) {
      std::unique_ptr<Retired> retired(static_cast<Retired*>(self));
      Interpreter* const interp = Interpreter::Current();
      if (interp == nullptr) {
        retired->name += " detached";
      } else if (interp->threads().stop_state().stopped.load(kRelaxed)) {
        retired->name += " with the world stopped";
      }
      retired->test->log.push_back(retired->name);
    };
  }
  InterpreterTest* test;
  std::string name;
};

// By the current thread.
void Retire(Retired* item) {
  ThreadState& self = ThreadState::Get();
  self.data().delayed_frees.Free(*item, self.link().qsbr, self.qsbr_slot());
}

TEST_F(InterpreterTest, ProcessDelayedFreesAlsoWhatADetachedThreadHasRetired) {
  ThreadState* other = main->threads().NewBound();
  ThreadState::Swap(other);
  Retire(new Retired(this, "other's"));
  ThreadState::Swap(thread);
  Retire(new Retired(this, "own"));
  main->ProcessDelayed();
  EXPECT_THAT(log, UnorderedElementsAre("other's", "own"));
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

TEST_F(InterpreterTest, ProcessDelayedFreesNothingWhileTheCallerHasStoppedAWorld) {
  Retire(new Retired(this, "own"));
  {
    StoppedWorld stopped(main->threads());
    main->ProcessDelayed();
  }
  {
    StoppedWorld stopped(registry.threads());
    main->ProcessDelayed();
  }
  EXPECT_EQ(log.empty(), !kGilEnabled);
  main->ProcessDelayed();
  EXPECT_THAT(log, ElementsAre("own"));
}

TEST_F(InterpreterTest, ClearFreesWhatWasRetiredWhileDestructorsHaveAThread) {
  static InterpreterTest* test;
  test = this;
  Interpreter* sub = NewSub();
  ThreadState* end = sub->threads().NewBound(Whence::kFini);
  ThreadState::Swap(end);
  Retire(new Retired(this, "before"));
  sub->at_exit().RegisterLowLevel([](void*) { Retire(new Retired(test, "meanwhile")); }, nullptr);
  sub->Clear(*end);
  EXPECT_THAT(log, UnorderedElementsAre("before", "meanwhile"));
  registry.Delete(sub);
  EXPECT_EQ(log.size(), 2u);
  thread->Attach();
}

// The thread has queued references with one state, and is just binding another one.
TEST_F(InterpreterTest, BR5_ReferencesAreMergedAlsoIfTheStateThatIsFoundIsNotRegisteredYet) {
  if (kGilEnabled) GTEST_SKIP() << "references are counted under the GIL";
  InterpreterHooks hooks = registry.hooks();
  static int merged;
  merged = 0;
  hooks.references = {.merge = [](void*, void*) { return ++merged < 0; }, .destroy = [](void*, void*) {}};
  registry.set_hooks(hooks);
  Interpreter* sub = NewSub();
  ThreadState* older = sub->threads().NewBound();
  ThreadState::Swap(older);
  ThreadState* newer = sub->threads().NewBound();
  sub->brc()->Unregister(newer->data().brc);
  sub->QueueReference(CurrentThreadIdent(), &merged);
  EXPECT_EQ(merged, 0);
  EXPECT_TRUE(sub->MergeReferencesOf(CurrentThreadIdent()));
  EXPECT_EQ(merged, 1);
  InterpreterThreads::Clear(*newer);
  InterpreterThreads::Delete(newer);
  sub->Clear(*older);
  registry.Delete(sub);
  thread->Attach();
}

// ---- HandlePending

TEST_F(InterpreterTest, B082_OrderIsStopSignalsCallsMergeCollectionSweepDropAsync) {
  const SignalHandler handler{[](void* self, int) -> absl::Status {
                                Log(self, "signal");
                                return absl::OkStatus();
                              },
                              this};
  registry.signals().SetHandler(10, &handler);
  main->gc().SetCollector({[](void* self, int) -> int64_t {
                             Log(self, "collect");
                             return 0;
                           },
                           this});
  main->gc().SetThresholds(1);
  GcLocalCount local;
  for (int i = 0; i < 4 * GcSchedule::kLocalBuffer; ++i) {
    main->gc().CountAllocation(thread->breaker(), local, false);
  }
  thread->breaker().Set(BreakerEvent::kPleaseStop);  // stale: nothing to wait for (TS-97)
  thread->breaker().Set(BreakerEvent::kExplicitMerge);
  thread->breaker().Set(BreakerEvent::kJitInvalidateCold);
  thread->breaker().Set(BreakerEvent::kGilDropRequest);  // nobody waits
  ASSERT_TRUE(AddCall("call").ok());
  registry.signals().Trip(10);
  ASSERT_TRUE(
      main->threads().SetAsyncException(thread->thread_id(), Error::New(ErrorType::ValueError(), "a")));
  EXPECT_EQ(thread->Poll(), -1);
  if (kGilEnabled) {
    EXPECT_THAT(log, ElementsAre("signal", "call", "collect", "sweep"));
  } else {
    EXPECT_THAT(log, ElementsAre("signal", "call", "merge", "collect", "sweep"));
  }
  EXPECT_EQ(TakeException(), "ValueError: a");
  registry.signals().SetHandler(10, Signals::kDefault);
}

TEST_F(InterpreterTest, B083_AnEarlyFailureLeavesTheLaterBitsForTheNextPoll) {
  ASSERT_TRUE(AddCall("fails", absl::InternalError("call failed")).ok());
  thread->breaker().Set(BreakerEvent::kJitInvalidateCold);
  EXPECT_EQ(thread->Poll(), -1);
  EXPECT_THAT(log, ElementsAre("fails"));
  EXPECT_NE(TakeException(), "");
  EXPECT_TRUE(thread->breaker().IsSet(BreakerEvent::kJitInvalidateCold));
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_THAT(log, ElementsAre("fails", "sweep"));
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_FALSE(thread->breaker().AnyPending());
}

TEST_F(InterpreterTest, B084_ABitSetDuringHandlingSurvives) {
  static InterpreterTest* test;
  test = this;
  ASSERT_EQ(main->pending_calls().Add(
                [](void*) -> absl::Status {
                  test->thread->breaker().Set(BreakerEvent::kJitInvalidateCold);
                  return absl::OkStatus();
                },
                nullptr),
            PendingCalls::AddResult::kAdded);
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_THAT(log, IsEmpty()) << "one look at entry: it waits for the next poll";
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_THAT(log, ElementsAre("sweep"));
}

TEST_F(InterpreterTest, B093_MakePendingCallsElsewhereDoesNothing) {
  ASSERT_TRUE(AddCall("call").ok());
  thread->Detach();
  std::jthread([&] {
    ThreadState* worker = main->threads().NewBound();
    worker->Attach();
    EXPECT_EQ(Interpreter::MakePendingCalls(*worker), 0);
    EXPECT_THAT(log, IsEmpty());
    InterpreterThreads::Clear(*worker);
    InterpreterThreads::DeleteCurrent();
  }).join();
  thread->Attach();
  thread->breaker().Clear(BreakerEvent::kCallsToDo);
  EXPECT_EQ(Interpreter::MakePendingCalls(*thread), 0);
  EXPECT_THAT(log, ElementsAre("call"));
}

TEST_F(InterpreterTest, B094_InterpreterCallsArePickedUpByWhicheverThreadPollsNext) {
  thread->Detach();
  ASSERT_TRUE(AddCall("call").ok());  // nobody is attached
  std::jthread([&] {
    ThreadState* worker = main->threads().NewBound();  // made after the call was added
    worker->Attach();
    EXPECT_EQ(worker->Poll(), 0);
    EXPECT_THAT(log, ElementsAre("call"));
    InterpreterThreads::Clear(*worker);
    InterpreterThreads::DeleteCurrent();
  }).join();
  thread->Attach();
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_THAT(log, ElementsAre("call"));
  EXPECT_FALSE(thread->breaker().AnyPending());
  EXPECT_EQ(main->threads().link().breaker_on_attach.load(kRelaxed), 0u);
}

TEST_F(InterpreterTest, B092_MainCallsReachTheMainThreadOnly) {
  static std::vector<uint64_t> ran_on;
  ran_on.clear();
  const auto call = [](void*) -> absl::Status {
    ran_on.push_back(CurrentThreadIdent());
    return absl::OkStatus();
  };
  thread->Detach();
  std::jthread([&] {
    ASSERT_EQ(registry.AddMainCall(call, nullptr), PendingCalls::AddResult::kAdded);
    ThreadState* worker = main->threads().NewBound();
    worker->Attach();
    worker->breaker().Set(BreakerEvent::kCallsToDo);
    EXPECT_EQ(worker->Poll(), 0);
    EXPECT_THAT(ran_on, IsEmpty());
    InterpreterThreads::Clear(*worker);
    InterpreterThreads::DeleteCurrent();
  }).join();
  thread->Attach();
  // Attached to a subinterpreter the main thread does not run them either (EB-11).
  Interpreter* sub = NewSub();
  ThreadState* in_sub = sub->threads().NewBound(Whence::kInit);
  ThreadState::Swap(in_sub);
  in_sub->breaker().Set(BreakerEvent::kCallsToDo);
  EXPECT_EQ(in_sub->Poll(), 0);
  EXPECT_THAT(ran_on, IsEmpty());
  sub->Clear(*in_sub);
  registry.Delete(sub);
  thread->Attach();
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_THAT(ran_on, ElementsAre(CurrentThreadIdent()));
}

TEST_F(InterpreterTest, B054_CheckSignalsDeliversAsyncExceptionsAndCollects) {
  main->gc().SetCollector({[](void* self, int) -> int64_t {
                             Log(self, "collect");
                             return 0;
                           },
                           this});
  main->gc().SetThresholds(1);
  GcLocalCount local;
  for (int i = 0; i < 4 * GcSchedule::kLocalBuffer; ++i) {
    main->gc().CountAllocation(thread->breaker(), local, false);
  }
  ASSERT_TRUE(main->threads().SetAsyncException(
      thread->thread_id(), Ref<Object>::Share(const_cast<ErrorType*>(&ErrorType::KeyError()))));
  EXPECT_EQ(Interpreter::CheckSignals(*thread), -1);
  EXPECT_THAT(log, ElementsAre("collect"));
  EXPECT_EQ(TakeException(), "KeyError: ");
  EXPECT_EQ(Interpreter::CheckSignals(*thread), 0);
}

TEST_F(InterpreterTest, SignalsRunOnTheMainThreadAndAFailureBecomesItsException) {
  const SignalHandler handler{
      [](void*, int number) -> absl::Status { return Raise(ErrorType::ValueError(), "signal %d", number); }};
  registry.signals().SetHandler(10, &handler);
  registry.signals().Trip(10);
  EXPECT_EQ(thread->Poll(), -1);
  EXPECT_EQ(TakeException(), "ValueError: signal 10");
  EXPECT_TRUE(thread->breaker().IsSet(BreakerEvent::kSignalsPending)) << "EB-42: set again by a failure";
  EXPECT_EQ(thread->Poll(), 0);
  registry.signals().SetHandler(10, Signals::kDefault);
}

// ---- The end

TEST_F(InterpreterTest, B096_PendingCallsAreDrainedErrorsReportedAndAnEndlessChainIsBounded) {
  ASSERT_TRUE(AddCall("one").ok());
  ASSERT_TRUE(AddCall("two", absl::InternalError("two failed")).ok());
  ASSERT_TRUE(AddCall("three").ok());
  main->FinishPendingCalls(*thread);
  EXPECT_THAT(log, ElementsAre("one", "two", "|two failed", "three"));
  log.clear();
  static Interpreter* interp;
  static long long runs;
  interp = main;
  runs = 0;
  static PendingCalls::Function again = [](void*) -> absl::Status {
    ++runs;
    interp->pending_calls().Add(again, nullptr);
    return absl::OkStatus();
  };
  ASSERT_EQ(main->pending_calls().Add(again, nullptr), PendingCalls::AddResult::kAdded);
  main->FinishPendingCalls(*thread, 5);
  EXPECT_EQ(runs, 500);
  ASSERT_EQ(log.size(), 1u);
  EXPECT_THAT(log[0], testing::HasSubstr("5 rounds at finalization did not end it; the rest is dropped"));
  EXPECT_TRUE(main->pending_calls().IsEmpty());
}

TEST_F(InterpreterTest, B132_PreFinalizeServesWhatExitCallbacksLeaveBehindOnBothQueues) {
  static InterpreterTest* test;
  test = this;
  Ref<Object> registers = NativeFunction::New("registers", [this](Args) -> absl::StatusOr<Ref<Object>> {
    log.push_back("callback");
    EXPECT_TRUE(AddCall("interpreter call").ok());
    EXPECT_EQ(registry.AddMainCall(
                  [](void*) -> absl::Status {
                    test->log.push_back("main call");
                    return test->main->at_exit().Register(
                        NativeFunction::New("second", [](Args) -> absl::StatusOr<Ref<Object>> {
                          test->log.push_back("second callback");
                          return None();
                        }));
                  },
                  nullptr),
              PendingCalls::AddResult::kAdded);
    return None();
  });
  ASSERT_TRUE(main->at_exit().Register(registers).ok());
  StopTheWorld stop(registry.threads());
  main->PreFinalize(*thread, stop, {});
  EXPECT_THAT(log, ElementsAre("callback", "interpreter call", "main call", "second callback"));
  EXPECT_EQ(registry.AddMainCall([](void*) -> absl::Status { return absl::OkStatus(); }, nullptr),
            PendingCalls::AddResult::kClosed);
  stop.Start();
}

TEST_F(InterpreterTest, IN38_TheReportOfAFailedExitCallbackNamesItInTheMessage) {
  struct Nameless final : Object {
    const char* TypeName() const override { return "Nameless"; }
    absl::StatusOr<std::string> Repr() const override { return Raise(ErrorType::KeyError(), "no name"); }
    absl::StatusOr<Ref<Object>> Call(Args) override { return Raise(ErrorType::ValueError(), "two"); }
    bool IsCallable() const override { return true; }
  };
  ASSERT_TRUE(main->at_exit().Register(MakeRef<Nameless>()).ok());
  ASSERT_TRUE(
      main->at_exit()
          .Register(NativeFunction::New(
              "f", [](Args) -> absl::StatusOr<Ref<Object>> { return Raise(ErrorType::ValueError(), "one"); }))
          .ok());
  StopTheWorld stop(registry.threads());
  main->PreFinalize(*thread, stop, {});
  EXPECT_THAT(log, ElementsAre("Exception ignored in atexit callback <built-in function f>|one",
                               "Exception ignored in atexit callback <object repr() failed>|two"));
  stop.Start();
}

TEST_F(InterpreterTest, B061_AGuardHoldsTheEndUp) {
  auto guard = InterpreterGuard::FromCurrent();
  ASSERT_TRUE(guard.ok());
  Atomic<bool> released{false};
  std::jthread releaser([&] {
    // Until the finalizer waits: detached, that is.
    while (thread->attached()) YieldCpu();
    released.store(true, kRelease);
    guard->Close();
  });
  StopTheWorld stop(registry.threads());
  main->PreFinalize(*thread, stop, {});
  EXPECT_TRUE(released.load(kAcquire));
  EXPECT_EQ(InterpreterGuard::FromCurrent().status().message(), "cannot acquire finalization guard anymore");
  stop.Start();
}

TEST_F(InterpreterTest, LC34_MustExit) {
  EXPECT_FALSE(registry.MustExit(*thread));
  ThreadState* other = main->threads().NewBound();
  registry.SetFinalizing(thread);
  EXPECT_FALSE(registry.MustExit(*thread));
  EXPECT_FALSE(registry.MustExit(*other)) << "gh-109793: another state of the finalizing OS thread";
  std::jthread([&] { EXPECT_TRUE(registry.MustExit(*other)); }).join();
  registry.SetFinalizing(nullptr);
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

using InterpreterDeathTest = InterpreterTest;

TEST_F(InterpreterDeathTest, IN48_DeletingTheMainInterpreterWithOthersAlive) {
  NewSub();
  EXPECT_DEATH(
      {
        main->Clear(*thread);
        registry.Delete(main);
      },
      "PyInterpreterState_Delete: remaining subinterpreters");
  End(registry.head());
}

TEST_F(InterpreterDeathTest, IN48_RemainingThreads) {
  Interpreter* sub = NewSub();
  sub->threads().NewBound();
  EXPECT_DEATH(registry.Delete(sub), "PyInterpreterState_Delete: remaining threads");
  EXPECT_DEATH(registry.Delete(nullptr), "PyInterpreterState_Delete: NULL interpreter");
  ThreadState::Swap(sub->threads().Find(CurrentThreadIdent()));
  ThreadState* end = ThreadState::Current();
  end->DecRef();
  sub->Clear(*end);
  registry.Delete(sub);
  thread->Attach();
}

TEST_F(InterpreterDeathTest, NoCurrentInterpreter) {
  thread->Detach();
  EXPECT_DEATH(Interpreter::Get(), "PyInterpreterState_Get: no current interpreter");
  thread->Attach();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
