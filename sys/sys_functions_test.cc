// The functions of sys as callers see them: arguments, events, and sys.monitoring. What most of them do is tested beside it
// (sys_module_test, error_display_test), their argument errors against CPython (differential_test).

#include "pyrt/sys/sys_functions.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/monitoring.h"
#include "pyrt/sys/sys_test_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

Ref<Object> Str(const char* text) { return String::Of(text); }

TEST(MonitoringTest, ToolsEventsAndVersions) {
  SysTestWorld world;
  Monitoring& monitoring = world.sys().monitoring();
  const auto text = [](const absl::Status& status) { return std::string(status.message()); };
  EXPECT_EQ(text(monitoring.UseTool(6, Str("x"))), "invalid tool 6 (must be between 0 and 5)");
  ASSERT_TRUE(monitoring.UseTool(0, Str("debugger")).ok());
  EXPECT_EQ(text(monitoring.UseTool(0, Str("other"))), "tool 0 is already in use");
  EXPECT_EQ(text(monitoring.SetEvents(1, 1)), "tool 1 is not in use");
  EXPECT_EQ(text(monitoring.SetEvents(0, 1 << 19)), "invalid event set 0x80000");
  EXPECT_EQ(text(monitoring.SetEvents(0, -1)), "invalid event set 0xffffffff");
  EXPECT_EQ(text(monitoring.SetEvents(0, 1 << 16)), "cannot set C_RETURN or C_RAISE events independently");
  ASSERT_TRUE(monitoring.SetEvents(0, 1 << 18 | 1 << 17 | 1 << 16 | 1 << 4).ok());
  EXPECT_EQ(monitoring.GetEvents(0).value(), 1u << 4 | 1u << 8 | 1u << 9) << "CALL and both branches";
  const uintptr_t version = world.interp().instrumentation_version();
  ASSERT_TRUE(monitoring.SetEvents(0, 5).ok());
  EXPECT_NE(world.interp().instrumentation_version(), version);
  EXPECT_EQ(monitoring.active_events(), 5u);
  const uintptr_t changed = world.interp().instrumentation_version();
  ASSERT_TRUE(monitoring.SetEvents(0, 5).ok());
  EXPECT_EQ(world.interp().instrumentation_version(), changed) << "nothing changed";
  EXPECT_EQ(text(monitoring.RegisterCallback(0, 3, None()).status()),
            "The callback can only be set for one event at a time");
  EXPECT_TRUE(IsNone(monitoring.RegisterCallback(0, 4, Str("f")).value()));
  EXPECT_EQ(monitoring.Callback(0, 2)->Repr().value(), "'f'");
  EXPECT_EQ(monitoring.ToolsWatching(2), 1);
  ASSERT_TRUE(monitoring.ClearTool(0).ok());
  EXPECT_EQ(monitoring.active_events(), 0u);
  EXPECT_EQ(monitoring.Callback(0, 2), nullptr);
  EXPECT_EQ(monitoring.GetTool(0).value()->Repr().value(), "'debugger'") << "still in use";
  ASSERT_TRUE(monitoring.SetEvents(0, 4).ok());
  ASSERT_TRUE(monitoring.FreeTool(0).ok());
  EXPECT_EQ(monitoring.active_events(), 0u);
  EXPECT_EQ(monitoring.Callback(0, 2), nullptr);
  EXPECT_TRUE(IsNone(monitoring.GetTool(0).value()));
}

TEST(MonitoringTest, AFreeToolHasNoEventsAndKeepsItsCallbacks) {
  SysTestWorld world;
  Monitoring& monitoring = world.sys().monitoring();
  EXPECT_EQ(monitoring.GetEvents(1).value(), 0u);
  ASSERT_TRUE(monitoring.RegisterCallback(1, 4, Str("f")).ok());
  EXPECT_TRUE(monitoring.ClearTool(1).ok());
  EXPECT_TRUE(monitoring.FreeTool(1).ok());
  ASSERT_NE(monitoring.Callback(1, 2), nullptr);
  ASSERT_TRUE(monitoring.UseTool(1, Str("t")).ok());
  EXPECT_EQ(monitoring.Callback(1, 2)->Repr().value(), "'f'");
  ASSERT_TRUE(monitoring.FreeTool(1).ok());
  EXPECT_EQ(monitoring.Callback(1, 2), nullptr);
  for (const int64_t tool : {-1, 6}) {
    EXPECT_FALSE(monitoring.GetEvents(tool).ok());
    EXPECT_FALSE(monitoring.ClearTool(tool).ok());
  }
}

TEST(MonitoringTest, TheNamespaceOfSys) {
  SysTestWorld world;
  const auto call = [&](const char* name, std::vector<Ref<Object>> args) {
    Ref<Object> function = world.dict().Find("monitoring")->GetAttr(name).value();
    return SysTestWorld::Shown(function->Call(args));
  };
  const Ref<Object> monitoring = world.dict().Find("monitoring");
  const Ref<Object> events = monitoring->GetAttr("events").value();
  EXPECT_EQ(events->GetAttr("PY_START").value()->Repr().value(), "1");
  EXPECT_EQ(events->GetAttr("BRANCH").value()->Repr().value(), "262144");
  EXPECT_EQ(monitoring->GetAttr("OPTIMIZER_ID").value()->Repr().value(), "5");
  EXPECT_NE(monitoring->GetAttr("DISABLE").value(), monitoring->GetAttr("MISSING").value());
  EXPECT_EQ(call("use_tool_id", {Int::Of(0), Str("t")}), "None");
  EXPECT_EQ(call("use_tool_id", {Int::Of(0)}), "TypeError: use_tool_id expected 2 arguments, got 1");
  EXPECT_EQ(call("free_tool_id", {}),
            "TypeError: sys.monitoring.free_tool_id() takes exactly one argument (0 given)");
  EXPECT_EQ(call("set_events", {Int::Of(0), Int::Of(1 << 15)}), "None");
  EXPECT_EQ(call("_all_events", {}), "{'RERAISE': 1}");
  EXPECT_EQ(call("clear_tool_id", {Int::Of(0)}), "None");
  EXPECT_EQ(call("_all_events", {}), "{}");
}

// SY-51: what sys itself raises, with CPython's arguments.
TEST(SysFunctionsTest, SY51_EventsOfSys) {
  struct Host final : SysHost {
    Ref<Object> Frame(int64_t depth) override { return Int::Of(depth); }
    Ref<Object> FrameModuleName(int64_t depth) override { return depth < 1 ? Str("main") : Ref<Object>(); }
  };
  Host host;
  SysTestWorld world({}, &host);
  std::vector<std::string> events;
  ASSERT_TRUE(world.native()
                  .Add(
                      [](std::string_view event, const Ref<Tuple>& arguments, void* log) {
                        static_cast<std::vector<std::string>*>(log)->push_back(std::string(event) +
                                                                               arguments->Repr().value());
                        return absl::OkStatus();
                      },
                      &events, nullptr)
                  .value());
  const auto raised = [&](const char* name, std::vector<Ref<Object>> args) {
    events.clear();
    EXPECT_TRUE(world.Call(name, std::move(args)).ok()) << name;
    std::string all;
    for (const std::string& event : events) all += (all.empty() ? "" : " ") + event;
    return all;
  };
  Ref<Object> hook = NativeFunction::New("h", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
  EXPECT_EQ(raised("_getframe", {Int::Of(1)}), "sys._getframe(1,)");
  EXPECT_EQ(raised("_getframemodulename", {Int::Of(1)}), "sys._getframemodulename(1,)");
  EXPECT_EQ(raised("_current_frames", {}), "sys._current_frames()");
  EXPECT_EQ(raised("_current_exceptions", {}), "sys._current_exceptions()");
  EXPECT_EQ(raised("settrace", {None()}), "sys.settrace()");
  EXPECT_EQ(raised("_settraceallthreads", {None()}), "sys.settrace()");
  EXPECT_EQ(raised("setprofile", {None()}), "sys.setprofile()");
  EXPECT_EQ(raised("_setprofileallthreads", {None()}), "sys.setprofile()");
  EXPECT_EQ(raised("set_asyncgen_hooks", {hook, hook}),
            "sys.set_asyncgen_hook_finalizer() sys.set_asyncgen_hook_firstiter()");
  EXPECT_EQ(raised("audit", {Str("mine"), Int::Of(1), None()}), "mine(1, None)");
  EXPECT_EQ(raised("addaudithook", {hook}), "sys.addaudithook()");
  events.clear();
  Ref<Object> register_callback = world.dict().Find("monitoring")->GetAttr("register_callback").value();
  EXPECT_EQ(
      SysTestWorld::Shown(register_callback->Call(std::vector<Ref<Object>>{Int::Of(0), Int::Of(1), hook})),
      "None");
  EXPECT_EQ(events, (std::vector<std::string>{"sys.monitoring.register_callback(<built-in function h>,)"}));
  events.clear();
  for (const auto& [tool, event] : {std::pair(6, 1), std::pair(0, 3), std::pair(0, 1 << 20)}) {
    const auto refused =
        register_callback->Call(std::vector<Ref<Object>>{Int::Of(tool), Int::Of(event), hook});
    EXPECT_TRUE(IsError(refused.status(), ErrorType::ValueError()));
  }
  EXPECT_TRUE(events.empty()) << "what is not valid is not audited";
}

TEST(SysFunctionsTest, SY67_TheModuleOfAFrame) {
  struct Host final : SysHost {
    Ref<Object> FrameModuleName(int64_t depth) override { return depth == 0 ? Str("main") : Ref<Object>(); }
  };
  Host host;
  SysTestWorld world({}, &host);
  EXPECT_EQ(world.Shown("_getframemodulename"), "'main'");
  EXPECT_EQ(world.Shown("_getframemodulename", {Int::Of(-3)}), "'main'");
  EXPECT_EQ(world.Shown("_getframemodulename", {Int::Of(9)}), "None");
  EXPECT_EQ(world.Shown("_getframemodulename", {Int::Of(1), Int::Of(2)}),
            "TypeError: _getframemodulename() takes at most 1 argument (2 given)");
}

TEST(SysFunctionsTest, CallTracingRunsTracedInsideAHook) {
  SysTestWorld world;
  int32_t seen = -1;
  Ref<Object> look = NativeFunction::New("look", [&](Args args) -> absl::StatusOr<Ref<Object>> {
    seen = world.thread().data().tracing;
    return args[0];
  });
  world.thread().data().tracing = 1;  // inside a hook
  EXPECT_EQ(world.Shown("call_tracing", {look, Tuple::Of({Int::Of(5)})}), "5");
  EXPECT_EQ(seen, 0);
  EXPECT_EQ(world.thread().data().tracing, 1);
  world.thread().data().tracing = 0;
}

TEST(SysFunctionsTest, SY85_NoTrampoline) {
  SysTestWorld world;
  EXPECT_EQ(world.Shown("activate_stack_trampoline", {Str("perf")}),
            "ValueError: perf trampoline not available");
  EXPECT_EQ(world.Shown("activate_stack_trampoline", {Str("x")}), "ValueError: invalid backend: x");
  EXPECT_EQ(world.Shown("deactivate_stack_trampoline"), "None");
  EXPECT_EQ(world.Shown("is_stack_trampoline_active"), "False");
}

TEST(SysFunctionsTest, KnobsOfTheInterpreter) {
  struct Host final : SysHost {
    int64_t AllocatedBlocks() override { return 42; }
  };
  Host host;
  RuntimeConfig config;
  config.cpu_count = 3;
  config.remote_debug = false;
  SysTestWorld world(config, &host);
  EXPECT_EQ(world.Shown("getallocatedblocks"), "42");
  EXPECT_EQ(world.Shown("_get_cpu_count_config"), "3");
  EXPECT_EQ(world.Shown("is_remote_debug_enabled"), "False");
  EXPECT_EQ(world.Shown("setdlopenflags", {Int::Of(0x102)}), "None");
  EXPECT_EQ(world.Shown("getdlopenflags"), "258");
  EXPECT_EQ(world.Shown("set_coroutine_origin_tracking_depth", {Int::Of(4)}), "None");
  EXPECT_EQ(world.Shown("get_coroutine_origin_tracking_depth"), "4");
  EXPECT_EQ(world.Shown("set_coroutine_origin_tracking_depth", {Int::Of(-1)}),
            "ValueError: depth must be >= 0");
  EXPECT_EQ(world.Shown("_clear_internal_caches"), "None");
  EXPECT_EQ(world.Shown("intern", {Str("word")}), "'word'");
  EXPECT_EQ(world.Shown("getunicodeinternedsize"), "1");
}

TEST(SysFunctionsTest, FunctionsOfOneNamedParameterCountTheirArguments) {
  SysTestWorld world;
  for (const auto& [name, parameter] :
       {std::pair("set_int_max_str_digits", "maxdigits"),
        std::pair("set_coroutine_origin_tracking_depth", "depth"), std::pair("addaudithook", "hook")}) {
    EXPECT_EQ(world.Shown(name),
              std::string("TypeError: ") + name + "() missing required argument '" + parameter + "' (pos 1)");
    EXPECT_EQ(world.Shown(name, {Int::Of(700), Int::Of(2)}),
              std::string("TypeError: ") + name + "() takes at most 1 argument (2 given)");
  }
  EXPECT_EQ(world.Shown("get_int_max_str_digits"), "4300");
  EXPECT_EQ(world.Shown("get_coroutine_origin_tracking_depth"), "0");
  EXPECT_EQ(world.sys().auditor().own_hooks(), 0u);
}

// One object for all interpreters, so that calling a function of sys from many threads writes no shared count.
TEST(SysFunctionsTest, FunctionsAreImmortalAndShared) {
  Ref<Object> function;
  {
    SysTestWorld world;
    const auto is_immortal = [&](const char* name) {
      const Ref<Object> value = world.dict().Find(name);
      return value != nullptr && value->IsImmortal();
    };
    function = world.dict().Find("getrecursionlimit");
    for (const char* name :
         {"getrecursionlimit", "version", "platform", "byteorder", "maxsize", "float_info", "monitoring"}) {
      EXPECT_TRUE(is_immortal(name)) << name;
    }
    ASSERT_NE(world.dict().Find("argv"), nullptr);
    EXPECT_FALSE(is_immortal("argv"));
  }
  EXPECT_EQ(SysTestWorld::Shown(function->Call({})), "RuntimeError: no sys module");
  SysTestWorld world;
  EXPECT_EQ(world.dict().Find("getrecursionlimit"), function);
  EXPECT_EQ(SysTestWorld::Shown(function->Call({})), "1000");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
