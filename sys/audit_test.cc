#include "pyrt/sys/audit.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using Log = std::vector<std::string>;

// A native hook that writes "name event(args)" and fails for events that start with `veto`.
struct NativeHook {
  std::string name;
  Log* log;
  std::string veto;
  const ErrorType* type = &ErrorType::RuntimeError();

  static absl::Status Run(std::string_view event, const Ref<Tuple>& arguments, void* data) {
    auto* const self = static_cast<NativeHook*>(data);
    self->log->push_back(self->name + " " + std::string(event) + arguments->Repr().value());
    if (!self->veto.empty() && event.rfind(self->veto, 0) == 0) return Raise(*self->type, "vetoed by native");
    return absl::OkStatus();
  }
};

class AuditTest : public ::testing::Test {
 protected:
  void SetUp() override {
    state_.Bind();
    state_.Attach();
  }
  void TearDown() override {
    state_.Detach();
    state_.UnbindGilState();
  }
  Ref<Object> ObjectHook(std::string name, const ErrorType* veto = nullptr) {
    return NativeFunction::New(
        "hook", [this, name = std::move(name), veto](Args args) -> absl::StatusOr<Ref<Object>> {
          log_.push_back(name + " " + As<String>(args[0])->value() + args[1]->Repr().value());
          if (veto != nullptr) return Raise(*veto, "vetoed by object");
          return None();
        });
  }

  Gil gil_;
  InterpreterLink link_{.gil = &gil_};
  ThreadState state_{link_, Whence::kUnknown, 1};
  Log log_;
  NativeAuditHooks native_;
  Auditor auditor_{native_};
};

TEST_F(AuditTest, B121_NoHookLooksAtNothing) {
  EXPECT_FALSE(auditor_.ShouldAudit());
  EXPECT_TRUE(auditor_.Audit("event", "this is no format", 1).ok()) << "arguments are not built";
}

TEST_F(AuditTest, B026_NativeHooksBeforeOwnInOrderOfRegistration) {
  NativeHook first{"n1", &log_, ""};
  NativeHook second{"n2", &log_, ""};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &first, nullptr).value()) << "before initialization: no event";
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o1")).value());
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &second, &auditor_).value());
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o2")).value());
  log_.clear();
  ASSERT_TRUE(auditor_.Audit("open", "si", "path", 3).ok());
  EXPECT_EQ(log_,
            (Log{"n1 open('path', 3)", "n2 open('path', 3)", "o1 open('path', 3)", "o2 open('path', 3)"}));
}

TEST_F(AuditTest, B026_AddingIsAnEventThatExistingHooksSee) {
  NativeHook hook{"n", &log_, ""};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &hook, &auditor_).value());
  EXPECT_TRUE(log_.empty());
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o")).value());
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &hook, &auditor_).value());
  EXPECT_EQ(log_, (Log{"n sys.addaudithook()", "n sys.addaudithook()", "o sys.addaudithook()"}));
}

TEST_F(AuditTest, B026_NativeAddIsVetoedByRuntimeErrorOnly) {
  NativeHook guard{"guard", &log_, "sys.addaudithook"};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &guard, nullptr).value());
  EXPECT_FALSE(native_.Add(&NativeHook::Run, &guard, &auditor_).value()) << "refused without an error";
  guard.type = &ErrorType::RecursionError();
  EXPECT_FALSE(native_.Add(&NativeHook::Run, &guard, &auditor_).value()) << "a subclass of it";
  guard.type = &ErrorType::ValueError();
  EXPECT_TRUE(IsError(native_.Add(&NativeHook::Run, &guard, &auditor_).status(), ErrorType::ValueError()));
  EXPECT_EQ(native_.size(), 1u);
}

TEST_F(AuditTest, B122_OwnAddIsVetoedByAnyExceptionSilently) {
  NativeHook guard{"guard", &log_, "sys.addaudithook"};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &guard, nullptr).value());
  for (const ErrorType* type :
       {&ErrorType::RuntimeError(), &ErrorType::ValueError(), &ErrorType::Exception()}) {
    guard.type = type;
    EXPECT_FALSE(auditor_.AddHook(ObjectHook("o")).value()) << type->name();
  }
  for (const ErrorType* type : {&ErrorType::KeyboardInterrupt(), &ErrorType::SystemExit()}) {
    guard.type = type;
    EXPECT_TRUE(IsError(auditor_.AddHook(ObjectHook("o")).status(), *type));
  }
  EXPECT_EQ(auditor_.own_hooks(), 0u);
}

TEST_F(AuditTest, B121_FirstFailureStopsTheRest) {
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o1")).value());
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o2", nullptr)).value());
  NativeHook guard{"n", &log_, "bad"};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &guard, nullptr).value());
  log_.clear();
  EXPECT_EQ(auditor_.Audit("bad").message(), "vetoed by native");
  EXPECT_EQ(log_, Log{"n bad()"});
}

TEST_F(AuditTest, B121_HookAppendedByAHookSeesTheSameEvent) {
  bool appended = false;
  Ref<Object> appender = NativeFunction::New("appender", [&](Args args) -> absl::StatusOr<Ref<Object>> {
    log_.push_back("appender " + As<String>(args[0])->value());
    if (!std::exchange(appended, true)) {
      EXPECT_TRUE(auditor_.AddHook(ObjectHook("late")).value());
    }
    return None();
  });
  ASSERT_TRUE(auditor_.AddHook(appender).value());
  ASSERT_TRUE(auditor_.Audit("e").ok());
  EXPECT_EQ(log_, (Log{"appender e", "appender sys.addaudithook", "late e()"}));
}

TEST_F(AuditTest, B121_PendingExceptionIsHiddenRestoredAndDropped) {
  Ref<Error> pending = Error::New(ErrorType::KeyError(), "k");
  bool saw_none = false;
  bool fail = false;
  ASSERT_TRUE(auditor_
                  .AddHook(NativeFunction::New("h",
                                               [&](Args) -> absl::StatusOr<Ref<Object>> {
                                                 saw_none = state_.data().current_exception == nullptr;
                                                 if (fail) return Raise(ErrorType::ValueError(), "no");
                                                 return None();
                                               }))
                  .value());
  state_.data().current_exception = pending;
  ASSERT_TRUE(auditor_.Audit("e").ok());
  EXPECT_TRUE(saw_none);
  EXPECT_EQ(state_.data().current_exception, pending);
  fail = true;
  EXPECT_TRUE(IsError(auditor_.Audit("e"), ErrorType::ValueError()));
  EXPECT_EQ(state_.data().current_exception, nullptr);
}

TEST_F(AuditTest, SY43_ArgumentsThatCannotBeBuiltDropThePendingExceptionToo) {
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o")).value());
  state_.data().current_exception = Error::New(ErrorType::KeyError(), "k");
  EXPECT_TRUE(IsError(auditor_.Audit("e", "i", "text"), ErrorType::SystemError()));
  EXPECT_EQ(state_.data().current_exception, nullptr);
}

// A hook with attributes.
class TraceableHook final : public Object {
 public:
  TraceableHook(ThreadState& state, Ref<Object> cantrace, int* tracing)
      : state_(state), cantrace_(std::move(cantrace)), tracing_(tracing) {}
  const char* TypeName() const override { return "TraceableHook"; }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    if (name == "__cantrace__") {
      if (!cantrace_) return Raise(ErrorType::ValueError(), "property failed");
      return cantrace_;
    }
    return Object::GetAttr(name);
  }
  absl::StatusOr<Ref<Object>> Call(Args) override {
    *tracing_ = state_.data().tracing;
    return None();
  }

 private:
  ThreadState& state_;
  const Ref<Object> cantrace_;
  int* const tracing_;
};

TEST_F(AuditTest, SY42_TracingIsOffUnlessTheHookMayBeTraced) {
  int plain = -1;
  int traced = -1;
  ASSERT_TRUE(auditor_.AddHook(MakeRef<TraceableHook>(state_, False(), &plain)).value());
  ASSERT_TRUE(auditor_.AddHook(MakeRef<TraceableHook>(state_, True(), &traced)).value());
  ASSERT_TRUE(auditor_.Audit("e").ok());
  EXPECT_EQ(plain, 1);
  EXPECT_EQ(traced, 0);
  EXPECT_EQ(state_.data().tracing, 0);
  ASSERT_TRUE(auditor_.AddHook(MakeRef<TraceableHook>(state_, nullptr, &plain)).value());
  EXPECT_EQ(auditor_.Audit("e").message(), "property failed") << "a failing look-up aborts the event";
  EXPECT_EQ(state_.data().tracing, 0);
}

TEST_F(AuditTest, RT28_EventOnADetachedThreadIsDropped) {
  NativeHook hook{"n", &log_, "e"};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &hook, nullptr).value());
  DetachedScope detached(state_);
  EXPECT_TRUE(auditor_.Audit("e", "bad format").ok());
  EXPECT_TRUE(log_.empty());
}

TEST_F(AuditTest, SY48_AuditTuple) {
  EXPECT_EQ(auditor_.AuditTuple("e", Int::Of(1)).message(), "args must be tuple, got int")
      << "whether or not there are hooks";
  ASSERT_TRUE(auditor_.AddHook(ObjectHook("o")).value());
  ASSERT_TRUE(auditor_.AuditTuple("e", nullptr).ok());
  ASSERT_TRUE(auditor_.AuditTuple("e", Tuple::Of({None()})).ok());
  EXPECT_EQ(log_, (Log{"o e()", "o e(None,)"}));
  EXPECT_EQ(auditor_.AuditTuple("e", None()).message(), "args must be tuple, got NoneType");
}

TEST_F(AuditTest, B026_ClearingIsTheLastEventAndCannotBeVetoed) {
  NativeHook first{"n1", &log_, "cpython"};
  NativeHook second{"n2", &log_, ""};
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &first, nullptr).value());
  ASSERT_TRUE(native_.Add(&NativeHook::Run, &second, nullptr).value());
  native_.Clear(&auditor_);
  EXPECT_EQ(log_, Log{"n1 cpython._PySys_ClearAuditHooks()"})
      << "a failure aborts later hooks, not the clearing";
  EXPECT_TRUE(native_.empty());
  EXPECT_TRUE(auditor_.Audit("e").ok());
}

// SY-50: readers run while others append; every reader sees a prefix of complete hooks. The lists themselves
// are what is shared, so this holds with and without the GIL.
TEST_F(AuditTest, SY50_AppendingWhileOthersTraverse) {
  constexpr int kHooks = 200;
  static std::atomic<int> calls;
  calls = 0;
  std::atomic<bool> done{false};
  std::thread reader([&] {
    ThreadState state(link_, Whence::kUnknown, 2);
    state.Bind();
    state.Attach();
    while (!done) {
      ASSERT_TRUE(auditor_.Audit("e").ok());
      state.Detach();
      state.Attach();
    }
    state.Detach();
    state.UnbindGilState();
  });
  for (int i = 0; i < kHooks; ++i) {
    ASSERT_TRUE(native_
                    .Add(
                        [](std::string_view, const Ref<Tuple>&, void* data) {
                          static_cast<std::atomic<int>*>(data)->fetch_add(1, std::memory_order_relaxed);
                          return absl::OkStatus();
                        },
                        &calls, nullptr)
                    .value());
    DetachedScope detached(state_);
  }
  {
    DetachedScope detached(state_);
    done = true;
    reader.join();
  }
  const int before = calls;
  ASSERT_TRUE(auditor_.Audit("e").ok());
  EXPECT_EQ(calls, before + kHooks);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
