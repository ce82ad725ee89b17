#include "pyrt/sys/sys_module.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/sys_control.h"
#include "pyrt/sys/sys_test_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

Ref<Object> Str(const char* text) { return String::Of(text); }

TEST(SysModuleTest, EveryValueOfTheRuntimeIsThere) {
  SysTestWorld world;
  for (const char* name : {"flags",
                           "version",
                           "version_info",
                           "hexversion",
                           "api_version",
                           "implementation",
                           "platform",
                           "byteorder",
                           "maxsize",
                           "maxunicode",
                           "int_info",
                           "float_info",
                           "hash_info",
                           "thread_info",
                           "abi_info",
                           "abiflags",
                           "executable",
                           "prefix",
                           "base_prefix",
                           "exec_prefix",
                           "base_exec_prefix",
                           "platlibdir",
                           "argv",
                           "orig_argv",
                           "path",
                           "meta_path",
                           "path_hooks",
                           "path_importer_cache",
                           "modules",
                           "builtin_module_names",
                           "stdlib_module_names",
                           "warnoptions",
                           "_xoptions",
                           "dont_write_bytecode",
                           "pycache_prefix",
                           "float_repr_style",
                           "copyright",
                           "stderr",
                           "__stderr__",
                           "__displayhook__",
                           "__excepthook__",
                           "__unraisablehook__",
                           "__breakpointhook__",
                           "monitoring",
                           "exit",
                           "intern",
                           "audit",
                           "addaudithook",
                           "settrace",
                           "_getframe"}) {
    EXPECT_TRUE(world.dict().Contains(name)) << name;
  }
}

TEST(SysModuleTest, OneModuleForEachInterpreter) {
  SysTestWorld world;
  EXPECT_EQ(SysModule::Current(), &world.sys());
  SysModule::Options options;
  options.native_hooks = &world.native();
  EXPECT_TRUE(
      IsError(SysModule::Create(world.interp(), std::move(options)).status(), ErrorType::RuntimeError()));
  DetachedScope detached(world.thread());
  EXPECT_EQ(SysModule::Current(), nullptr);
}

// LC-9: who writes to the only stderr that there is before the streams are open, or for good without them, must not keep
// the others from attaching and from stopping the world.
TEST(SysModuleTest, LC9_AWriteToThePreliminaryStderrIsDetached) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const int capacity = ::fcntl(pipe[1], F_GETPIPE_SZ);
  ASSERT_GT(capacity, 0);
  const size_t size_of_write = static_cast<size_t>(capacity) + (size_t{1} << 20);
  SysTestWorld world({}, nullptr, pipe[1]);
  const Ref<Object> stream = world.dict().Find("stderr");
  std::atomic<ThreadState*> writing{nullptr};
  std::thread writer([&] {
    ThreadState* const state = world.interp().threads().NewBound(Whence::kThreading);
    state->Attach();
    writing = state;
    EXPECT_TRUE(WriteToStream(stream, std::string(size_of_write, 'x')).ok());
    InterpreterThreads::Clear(*state);
    InterpreterThreads::DeleteCurrent();
  });
  DetachedScope detached(world.thread());
  while (writing == nullptr) std::this_thread::yield();
  int in_pipe = 0;
  while (in_pipe < capacity && !HasFailure()) {
    EXPECT_EQ(::ioctl(pipe[0], FIONREAD, &in_pipe), 0);
    std::this_thread::yield();
  }
  EXPECT_FALSE(writing.load()->attached());
  std::string chunk(65536, '\0');
  for (size_t all = 0; all < size_of_write && !HasFailure();) {
    const ssize_t size = ::read(pipe[0], chunk.data(), chunk.size());
    EXPECT_GT(size, 0);
    if (size <= 0) break;
    all += static_cast<size_t>(size);
  }
  // After a failure the writer may still wait, and is told.
  ::signal(SIGPIPE, SIG_IGN);
  ::close(pipe[0]);
  writer.join();
  ::close(pipe[1]);
}

TEST(SysModuleTest, B137_AStreamAttachesForHandlersUnlessAnotherThreadEndsTheRuntime) {
  SysTestWorld world;
  ThreadState* const other = world.interp().threads().New(Whence::kThreading);
  const StreamHooks& hooks = ThreadStreamHooks();
  ASSERT_TRUE(hooks.detach());
  EXPECT_TRUE(hooks.may_attach());
  world.registry().SetFinalizing(other);
  EXPECT_FALSE(hooks.may_attach());
  world.registry().SetFinalizing(nullptr);
  hooks.attach();
  world.registry().SetFinalizing(&world.thread());
  ASSERT_TRUE(hooks.detach());
  EXPECT_TRUE(hooks.may_attach()) << "it ends the runtime itself";
  hooks.attach();
  world.registry().SetFinalizing(nullptr);
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

TEST(SysModuleTest, SY5_TheDictionaryDoesNotRuleTheState) {
  SysTestWorld world;
  world.dict().Set("flags", None());
  world.dict().Set("getrecursionlimit", None());
  EXPECT_EQ(GetRecursionLimit(world.sys()), 1000);
  EXPECT_TRUE(world.sys().SetIntMaxStrDigits(640).ok()) << "flags that are no flags any more are left alone";
  EXPECT_TRUE(IsNone(world.dict().Find("flags")));
}

TEST(SysModuleTest, B128_ChangingADigitLimitReplacesFlags) {
  SysTestWorld world;
  Ref<Object> before = world.dict().Find("flags");
  EXPECT_EQ(world.Shown("set_int_max_str_digits", {Int::Of(700)}), "None");
  EXPECT_NE(world.dict().Find("flags"), before);
  EXPECT_EQ(world.Shown("get_int_max_str_digits"), "700");
  EXPECT_EQ(world.Shown("set_int_max_str_digits", {Int::Of(639)}),
            "ValueError: maxdigits must be >= 640 or 0 for unlimited");
}

TEST(SysModuleTest, SY5_OnlyFlagsAreReplacedByFlags) {
  SysTestWorld world;
  const Ref<Object> other = world.dict().Find("version_info");
  world.dict().Set("flags", other);
  EXPECT_EQ(world.Shown("set_int_max_str_digits", {Int::Of(1000)}), "None");
  EXPECT_EQ(world.dict().Find("flags"), other);
  EXPECT_EQ(world.Shown("get_int_max_str_digits"), "1000");
}

TEST(SysModuleTest, B128_SettersThatMeetLeaveLimitAndFlagTheSame) {
  SysTestWorld world;
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> ready{0};
    std::vector<std::thread> setters;
    for (const int64_t base : {1000, 2000}) {
      setters.emplace_back([&, base] {
        ThreadState* state = world.interp().threads().NewBound(Whence::kThreading);
        ++ready;
        while (ready != 2) std::this_thread::yield();
        state->Attach();
        for (int64_t i = 0; i < 20; ++i) EXPECT_TRUE(world.sys().SetIntMaxStrDigits(base + i).ok());
        InterpreterThreads::Clear(*state);
        InterpreterThreads::DeleteCurrent();
      });
    }
    {
      DetachedScope detached(world.thread());
      for (std::thread& setter : setters) setter.join();
    }
    const Ref<Object> flag = world.dict().Find("flags")->GetAttr("int_max_str_digits").value();
    ASSERT_EQ(As<Int>(flag)->value(), world.sys().int_max_str_digits());
  }
}

TEST(SysModuleTest, B123_SwitchInterval) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("getswitchinterval"), "0.005");
  for (const double bad : {0.0, -1.0, std::nan("")}) {
    EXPECT_EQ(world.Shown("setswitchinterval", {Float::Of(bad)}),
              "ValueError: switch interval must be strictly positive");
  }
  EXPECT_EQ(world.Shown("setswitchinterval", {Float::Of(HUGE_VAL)}),
            "ValueError: switch interval must be finite");
  EXPECT_EQ(world.Shown("getswitchinterval"), "0.005") << "a refused value changes nothing";
  EXPECT_EQ(world.Shown("setswitchinterval", {Float::Of(0.0000019)}), "None");
  EXPECT_EQ(world.interp().gil().interval(), 1u) << "truncated";
  EXPECT_EQ(world.Shown("setswitchinterval", {Int::Of(1)}), "None");
  EXPECT_EQ(world.Shown("getswitchinterval"), "1.0");
  EXPECT_EQ(world.Shown("setswitchinterval", {Float::Of(1e300)}), "None");
  EXPECT_EQ(world.interp().gil().interval(), uint64_t{INT64_MAX}) << "clamped";
  const auto big = [](const std::string& digits) { return Int::FromDecimal(digits).value(); };
  EXPECT_EQ(world.Shown("setswitchinterval", {Int::Of(1)}), "None");
  EXPECT_EQ(world.Shown("setswitchinterval", {big("1" + std::string(30, '0'))}), "None");
  EXPECT_EQ(world.interp().gil().interval(), uint64_t{INT64_MAX}) << "an int beyond a long is as good";
  EXPECT_EQ(world.Shown("setswitchinterval", {big("-1" + std::string(30, '0'))}),
            "ValueError: switch interval must be strictly positive");
  EXPECT_EQ(world.Shown("setswitchinterval", {big("1" + std::string(400, '0'))}),
            "OverflowError: int too large to convert to float");
  EXPECT_EQ(world.Shown("setswitchinterval", {Str("x")}), "TypeError: must be real number, not str");
}

TEST(SysModuleTest, B124_RecursionLimit) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("setrecursionlimit", {Int::Of(0)}),
            "ValueError: recursion limit must be greater or equal than 1");
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(world.thread().data().recursion.Enter().ok());
  EXPECT_EQ(
      world.Shown("setrecursionlimit", {Int::Of(5)}),
      "RecursionError: cannot set the recursion limit to 5 at the recursion depth 5: the limit is too low");
  EXPECT_EQ(world.Shown("setrecursionlimit", {Int::Of(6)}), "None");
  EXPECT_EQ(world.thread().data().recursion.depth(), 5);
  EXPECT_EQ(world.thread().data().recursion.remaining(), 1);
  EXPECT_EQ(world.Shown("getrecursionlimit"), "6");
  for (int i = 0; i < 5; ++i) world.thread().data().recursion.Leave();
}

TEST(SysModuleTest, B124_RecursionLimitReachesAllThreadsAndKeepsTheirDepth) {
  SysTestWorld world;
  ThreadState* other = world.interp().threads().New(Whence::kThreading);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(other->data().recursion.Enter().ok());
  EXPECT_EQ(world.Shown("setrecursionlimit", {Int::Of(7)}), "None");
  EXPECT_EQ(other->data().recursion.depth(), 10);
  EXPECT_EQ(other->data().recursion.remaining(), -3) << "a deeper thread fails at its next check";
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

// A second interpreter with a thread that is detached, for the length of a test.
class OtherInterpreter {
 public:
  explicit OtherInterpreter(SysTestWorld& world) : world_(world) {
    interp_ = world.registry()
                  .New(&world.thread(), InterpreterConfig::Isolated(), InterpreterWhence::kCApi)
                  .value();
    thread_ = interp_->threads().NewBound(Whence::kCApi);
  }
  ~OtherInterpreter() {
    ThreadState::Swap(thread_);
    interp_->Clear(*thread_);
    world_.registry().Delete(interp_);
    world_.thread().Attach();
  }
  Interpreter& interp() { return *interp_; }
  ThreadState& thread() { return *thread_; }

 private:
  SysTestWorld& world_;
  Interpreter* interp_ = nullptr;
  ThreadState* thread_ = nullptr;
};

TEST(SysModuleTest, B124_RecursionLimitsOfOtherInterpretersStay) {
  SysTestWorld world;
  OtherInterpreter other(world);
  const int32_t limit = other.interp().recursion_limit();
  const int32_t remaining = other.thread().data().recursion.remaining();
  EXPECT_EQ(world.Shown("setrecursionlimit", {Int::Of(77)}), "None");
  EXPECT_EQ(world.thread().data().recursion.remaining(), 77);
  EXPECT_EQ(other.interp().recursion_limit(), limit);
  EXPECT_EQ(other.thread().data().recursion.remaining(), remaining);
}

TEST(SysModuleTest, SY68_ExcInfoIsTheInnermostHandledException) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("exc_info"), "(None, None, None)");
  EXPECT_EQ(world.Shown("exception"), "None");
  {
    HandlingScope outer(world.thread().data().exc_info, Error::New(ErrorType::ValueError(), "outer"));
    EXPECT_EQ(world.Shown("exc_info"), "(<class 'ValueError'>, ValueError('outer'), None)");
    ExcInfo generator;
    world.thread().data().exc_info.Push(generator);
    EXPECT_EQ(world.Shown("exception"), "ValueError('outer')");
    generator.value = Error::New(ErrorType::KeyError(), "inner");
    EXPECT_EQ(world.Shown("exception"), "KeyError('inner')");
    world.thread().data().exc_info.Pop(generator);
    EXPECT_EQ(world.Shown("exception"), "ValueError('outer')");
  }
  EXPECT_EQ(world.Shown("exception"), "None");
}

TEST(SysModuleTest, B129_IsFinalizingFollowsTheRuntime) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("is_finalizing"), "False");
  world.registry().SetFinalizing(&world.thread());
  EXPECT_EQ(world.Shown("is_finalizing"), "True");
  world.registry().SetFinalizing(nullptr);
}

TEST(SysModuleTest, GilIsEnabledByBuild) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("_is_gil_enabled"), world.interp().gil().enabled() ? "True" : "False");
}

TEST(SysModuleTest, B119_AttributesThatAreMissingHaveCPythonsTexts) {
  SysTestWorld world;
  EXPECT_EQ(SysTestWorld::Shown(world.sys().GetAttr("x")),
            "AttributeError: module 'sys' has no attribute 'x'");
  EXPECT_EQ(world.sys().SetAttr("x", nullptr).message(), "'module' object has no attribute 'x'");
  EXPECT_TRUE(world.sys().SetAttr("x", None()).ok());
  EXPECT_TRUE(world.sys().SetAttr("x", nullptr).ok());
  EXPECT_FALSE(world.dict().Contains("x"));
}

TEST(SysModuleTest, SY71_Intern) {
  SysTestWorld world;
  Ref<Object> name = Str("some name");
  EXPECT_EQ(world.Call("intern", {name}).value(), name);
  EXPECT_EQ(world.Call("intern", {Str("some name")}).value(), name);
  EXPECT_EQ(world.Shown("_is_interned", {name}), "True");
  EXPECT_EQ(world.Shown("_is_interned", {Str("some name")}), "False");
  EXPECT_EQ(world.Shown("intern", {Bytes::Of("x")}), "TypeError: intern() argument must be str, not bytes");
}

TEST(SysModuleTest, SY82_AsyncGenHooks) {
  SysTestWorld world;
  Ref<Object> hook = NativeFunction::New("hook", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
  EXPECT_EQ(world.Shown("set_asyncgen_hooks", {Int::Of(1), Str("x")}),
            "TypeError: callable finalizer expected, got str");
  EXPECT_EQ(world.Shown("set_asyncgen_hooks", {Int::Of(1)}),
            "TypeError: callable firstiter expected, got int");
  EXPECT_EQ(world.Shown("set_asyncgen_hooks", {hook, hook}), "None");
  EXPECT_EQ(world.Shown("get_asyncgen_hooks"),
            "asyncgen_hooks(firstiter=<built-in function hook>, finalizer=<built-in function hook>)");
  // The audit hook forbids the second of the two events: the first is taken back.
  ASSERT_TRUE(world.sys()
                  .auditor()
                  .AddHook(NativeFunction::New("veto",
                                               [](Args args) -> absl::StatusOr<Ref<Object>> {
                                                 if (As<String>(args[0])->value() ==
                                                     "sys.set_asyncgen_hook_firstiter") {
                                                   return Raise(ErrorType::ValueError(), "no");
                                                 }
                                                 return None();
                                               }))
                  .value());
  EXPECT_EQ(world.Shown("set_asyncgen_hooks", {None(), None()}), "ValueError: no");
  EXPECT_EQ(world.thread().data().async_gen_finalizer, hook);
  EXPECT_EQ(world.thread().data().async_gen_firstiter, hook);
}

TEST(SysModuleTest, SY47_AuditChecksItsArgumentsWithoutHooksToo) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("audit"), "TypeError: audit expected at least 1 argument, got 0");
  EXPECT_EQ(world.Shown("audit", {Int::Of(1)}), "TypeError: audit() argument 1 must be str, not int");
  EXPECT_EQ(world.Shown("audit", {String::Of(std::string_view("a\0b", 3))}),
            "ValueError: embedded null character");
  EXPECT_EQ(world.Shown("audit", {Str("e"), None()}), "None");
}

int TraceNothing(Object*, void*, int, Object*) { return 0; }

TEST(SysModuleTest, SY59_TraceFunctionsAreReplacedBeforeTheOldOneDies) {
  struct Retracer final : Object {
    explicit Retracer(SysModule& sys, Ref<Object> next) : sys(sys), next(std::move(next)) {}
    ~Retracer() override { EXPECT_TRUE(SetThreadHook(sys, HookKind::kTrace, &TraceNothing, next).ok()); }
    const char* TypeName() const override { return "Retracer"; }
    SysModule& sys;
    const Ref<Object> next;
  };
  SysTestWorld world;
  const uintptr_t version = world.interp().instrumentation_version();
  ASSERT_TRUE(SetThreadHook(world.sys(), HookKind::kTrace, &TraceNothing,
                            MakeRef<Retracer>(world.sys(), Str("from destructor")))
                  .ok());
  EXPECT_NE(world.interp().instrumentation_version(), version)
      << "the first tracer makes instrumented code look";
  // gh-98257: the destructor of the old object installs another one, which stays.
  ASSERT_TRUE(SetThreadHook(world.sys(), HookKind::kTrace, &TraceNothing, Str("direct")).ok());
  EXPECT_EQ(world.Shown("gettrace"), "'from destructor'");
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 1);
  EXPECT_EQ(world.Shown("settrace", {None()}), "None");
  EXPECT_EQ(world.Shown("gettrace"), "None");
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 0);
}

TEST(SysModuleTest, SY63_AllThreadsFormReachesTheOthers) {
  SysTestWorld world;
  ThreadState* other = world.interp().threads().New(Whence::kThreading);
  ASSERT_TRUE(SetAllThreadsHook(world.sys(), HookKind::kProfile, &TraceNothing, Str("p")).ok());
  EXPECT_EQ(other->data().profile.function, &TraceNothing);
  EXPECT_EQ(world.Shown("getprofile"), "'p'");
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 2);
  ASSERT_TRUE(SetAllThreadsHook(world.sys(), HookKind::kProfile, nullptr, nullptr).ok());
  EXPECT_EQ(other->data().profile.object, nullptr);
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 0);
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
}

TEST(SysModuleTest, SY63_AllThreadsFormLeavesOtherInterpretersAlone) {
  SysTestWorld world;
  OtherInterpreter other(world);
  for (const HookKind kind : {HookKind::kTrace, HookKind::kProfile}) {
    ASSERT_TRUE(SetAllThreadsHook(world.sys(), kind, &TraceNothing, Str("p")).ok());
  }
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 2);
  EXPECT_EQ(other.thread().data().trace.function, nullptr);
  EXPECT_EQ(other.thread().data().profile.function, nullptr);
  for (const HookKind kind : {HookKind::kTrace, HookKind::kProfile}) {
    ASSERT_TRUE(SetAllThreadsHook(world.sys(), kind, nullptr, nullptr).ok());
  }
}

TEST(SysModuleTest, SY59_AThreadThatEndsTracedIsNotCountedFurther) {
  SysTestWorld world;
  ThreadState* other = world.interp().threads().New(Whence::kThreading);
  ASSERT_TRUE(SetAllThreadsHook(world.sys(), HookKind::kTrace, &TraceNothing, Str("t")).ok());
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 2);
  InterpreterThreads::Clear(*other);
  InterpreterThreads::Delete(other);
  const uintptr_t version = world.interp().instrumentation_version();
  EXPECT_EQ(world.Shown("settrace", {None()}), "None");
  EXPECT_EQ(world.sys().tracing_threads().load(kRelaxed), 0);
  EXPECT_NE(world.interp().instrumentation_version(), version) << "the last tracer is gone";
}

TEST(SysModuleTest, SY60_TraceFunctionThatRaisesIsRemoved) {
  SysTestWorld world;
  Ref<Object> failing = NativeFunction::New("t", [](Args) -> absl::StatusOr<Ref<Object>> {
    return Raise(ErrorType::ZeroDivisionError(), "in the tracer");
  });
  EXPECT_EQ(world.Shown("settrace", {failing}), "None");
  const ThreadHook hook = world.thread().data().trace;
  EXPECT_EQ(hook.function(hook.object.get(), nullptr, 0, nullptr), -1);
  EXPECT_EQ(world.Shown("gettrace"), "None");
  EXPECT_EQ(std::exchange(world.thread().data().current_exception, nullptr)->Message(), "in the tracer");
}

// What hook.function does when the host calls it, with the exception that it leaves.
std::string CallHook(SysTestWorld& world, const ThreadHook& installed) {
  const ThreadHook hook = installed;  // keeps the object alive, as a host must
  const int result = hook.function(hook.object.get(), nullptr, 0, nullptr);
  const Ref<Error> error = std::exchange(world.thread().data().current_exception, nullptr);
  return std::to_string(result) + (error ? " " + error->Message() : "");
}

TEST(SysModuleTest, SY60_AFailureRemovesWhateverTheTraceFunctionHasInstalledMeanwhile) {
  SysTestWorld world;
  Ref<Object> failing = NativeFunction::New("t", [&](Args) -> absl::StatusOr<Ref<Object>> {
    EXPECT_EQ(world.Shown(
                  "settrace",
                  {NativeFunction::New("other", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); })}),
              "None");
    return Raise(ErrorType::ZeroDivisionError(), "in the tracer");
  });
  EXPECT_EQ(world.Shown("settrace", {failing}), "None");
  EXPECT_EQ(CallHook(world, world.thread().data().trace), "-1 in the tracer");
  EXPECT_EQ(world.Shown("gettrace"), "None");
}

TEST(SysModuleTest, SY60_AFailureRemovesTheHookOfItsOwnKindOnly) {
  SysTestWorld world;
  Ref<Object> failing = NativeFunction::New(
      "t", [](Args) -> absl::StatusOr<Ref<Object>> { return Raise(ErrorType::ZeroDivisionError(), "no"); });
  for (const bool traces : {true, false}) {
    EXPECT_EQ(world.Shown("settrace", {failing}), "None");
    EXPECT_EQ(world.Shown("setprofile", {failing}), "None");
    const ThreadData& data = world.thread().data();
    EXPECT_EQ(CallHook(world, traces ? data.trace : data.profile), "-1 no");
    EXPECT_EQ(world.Shown("gettrace"), traces ? "None" : "<built-in function t>");
    EXPECT_EQ(world.Shown("getprofile"), traces ? "<built-in function t>" : "None");
  }
  EXPECT_EQ(world.Shown("settrace", {None()}), "None");
}

TEST(SysModuleTest, SY61_WhatAHookRunsIsNotTraced) {
  SysTestWorld world;
  std::vector<int32_t> seen;
  bool fails = false;
  Ref<Object> looks = NativeFunction::New("t", [&](Args) -> absl::StatusOr<Ref<Object>> {
    seen.push_back(world.thread().data().tracing);
    if (fails) return Raise(ErrorType::ValueError(), "no");
    return None();
  });
  EXPECT_EQ(world.Shown("settrace", {looks}), "None");
  EXPECT_EQ(world.Shown("setprofile", {looks}), "None");
  EXPECT_EQ(CallHook(world, world.thread().data().trace), "0");
  fails = true;
  EXPECT_EQ(CallHook(world, world.thread().data().profile), "-1 no");
  EXPECT_EQ(seen, (std::vector<int32_t>{1, 1}));
  EXPECT_EQ(world.thread().data().tracing, 0);
  EXPECT_EQ(world.Shown("settrace", {None()}), "None");
}

TEST(SysModuleTest, SY66_SnapshotsOfAllThreads) {
  struct Host final : SysHost {
    Ref<Object> FrameObject(void* frame) override {
      EXPECT_TRUE(kGilEnabled || world->interp().threads().stop_state().stopped.load(kAcquire))
          << "other threads may leave their frames";
      // Under the head lock this would not return (gh-106883).
      EXPECT_EQ(world->interp().threads().size(), 2u);
      return frame == &shown ? object : nullptr;
    }
    SysTestWorld* world = nullptr;
    int shown = 0;
    int hidden = 0;
    const Ref<Object> object = Str("frame");
  };
  Host host;
  SysTestWorld world({}, &host);
  host.world = &world;
  world.thread().data().current_frame.store(&host.shown, kRelease);
  Ref<Error> handled = Error::New(ErrorType::ValueError(), "x");
  std::atomic<int> step{0};
  std::thread other([&] {
    ThreadState* state = world.interp().threads().NewBound(Whence::kThreading);
    state->Attach();
    {
      HandlingScope handling(state->data().exc_info, Error::New(ErrorType::KeyError(), "theirs"));
      step = 1;
      while (step != 2) {
        DetachedScope detached(*state);
        std::this_thread::yield();
      }
    }
    InterpreterThreads::Clear(*state);
    InterpreterThreads::DeleteCurrent();
  });
  {
    DetachedScope detached(world.thread());
    while (step != 1) std::this_thread::yield();
  }
  const auto frames = CurrentFrames(world.sys()).value();
  ASSERT_EQ(frames.size(), 1u) << "a thread without a frame is absent";
  EXPECT_EQ(frames[0].first, world.thread().thread_id());
  EXPECT_EQ(frames[0].second, host.object);
  world.thread().data().current_frame.store(&host.hidden, kRelease);
  EXPECT_TRUE(CurrentFrames(world.sys()).value().empty()) << "the host leaves it out";
  const auto exceptions = CurrentExceptions(world.sys()).value();
  ASSERT_EQ(exceptions.size(), 2u);
  for (const auto& [ident, error] : exceptions) {
    if (ident == world.thread().thread_id()) {
      EXPECT_EQ(error, nullptr) << "idle";
    } else {
      EXPECT_EQ(error->Repr().value(), "KeyError('theirs')");
    }
  }
  step = 2;
  {
    DetachedScope detached(world.thread());
    other.join();
  }
  world.thread().data().current_frame.store(nullptr, kRelease);
}

TEST(SysModuleTest, SY67_GetFrameAsksTheHost) {
  struct Host final : SysHost {
    Ref<Object> Frame(int64_t depth) override { return depth < 2 ? Ref<Object>(Int::Of(depth)) : nullptr; }
  };
  Host host;
  SysTestWorld world({}, &host);
  EXPECT_EQ(world.Shown("_getframe"), "0");
  EXPECT_EQ(world.Shown("_getframe", {Int::Of(-7)}), "0") << "negative is 0";
  EXPECT_EQ(world.Shown("_getframe", {Int::Of(1)}), "1");
  EXPECT_EQ(world.Shown("_getframe", {Int::Of(2)}), "ValueError: call stack is not deep enough");
}

TEST(SysModuleTest, SY80_BreakpointhookFollowsTheVariable) {
  struct Host final : SysHost {
    absl::StatusOr<Ref<Object>> Import(std::string_view name) override {
      if (name == "failing") return Raise(*failure, "in the module");
      if (name != "my.hook") return Ref<Object>();
      return Ref<Object>(
          NativeFunction::New("hook", [](Args args) -> absl::StatusOr<Ref<Object>> { return args[0]; }));
    }
    absl::Status Warn(const ErrorType& category, const std::string& text) override {
      warning = category.name() + ": " + text;
      return absl::OkStatus();
    }
    std::optional<std::string> Environment(const char* name) override {
      EXPECT_STREQ(name, "PYTHONBREAKPOINT");
      return variable;
    }
    std::string warning;
    std::optional<std::string> variable;
    const ErrorType* failure = nullptr;
  };
  Host host;
  {
    SysTestWorld world({}, &host);
    // No more than that there is no such thing becomes a warning.
    host.variable = "failing";
    for (const ErrorType* type :
         {&ErrorType::ImportError(), &ErrorType::ModuleNotFoundError(), &ErrorType::AttributeError()}) {
      host.failure = type;
      host.warning.clear();
      EXPECT_EQ(world.Shown("breakpointhook"), "None") << type->name();
      EXPECT_EQ(host.warning, "RuntimeWarning: Ignoring unimportable $PYTHONBREAKPOINT: \"failing\"");
    }
    for (const ErrorType* type : {&ErrorType::ValueError(), &ErrorType::KeyboardInterrupt()}) {
      host.failure = type;
      host.warning.clear();
      EXPECT_EQ(world.Shown("breakpointhook"), type->name() + ": in the module");
      EXPECT_EQ(host.warning, "");
    }
    host.variable = "my.hook";
    EXPECT_EQ(world.Shown("breakpointhook", {Int::Of(5)}), "5");
    EXPECT_EQ(SysTestWorld::Shown(CallBreakpointHook(world.sys(), std::vector<Ref<Object>>{Int::Of(6)})),
              "6");
    host.variable = "0";
    EXPECT_EQ(world.Shown("breakpointhook"), "None");
    host.variable = "no.such";
    EXPECT_EQ(world.Shown("breakpointhook"), "None");
    EXPECT_EQ(host.warning, "RuntimeWarning: Ignoring unimportable $PYTHONBREAKPOINT: \"no.such\"");
    world.dict().Delete("breakpointhook");
    EXPECT_EQ(SysTestWorld::Shown(CallBreakpointHook(world.sys(), {})),
              "RuntimeError: lost sys.breakpointhook");
  }
  RuntimeConfig config;
  config.use_environment = false;
  SysTestWorld world(config, &host);
  EXPECT_EQ(world.Shown("breakpointhook"), "None");
  EXPECT_EQ(host.warning, "RuntimeWarning: Ignoring unimportable $PYTHONBREAKPOINT: \"pdb.set_trace\"");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
