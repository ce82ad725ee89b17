#include "pyrt/sys/sys_functions.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_control.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/sys/sys_values.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using Result = absl::StatusOr<Ref<Object>>;

// How the number of arguments is checked, which CPython words differently.
enum class Arity : uint8_t {
  kNone,   // METH_NOARGS
  kOne,    // METH_O
  kRange,  // PyArg_UnpackTuple
  kAudit,  // sys.audit
  kUnchecked,
};

struct Function {
  const char* name;
  Arity arity;
  size_t min;
  size_t max;
  Result (*body)(SysModule& sys, Args args);
};

absl::Status CheckArity(const Function& function, size_t given) {
  switch (function.arity) {
    case Arity::kNone:
      if (given == 0) return absl::OkStatus();
      return Raise(ErrorType::TypeError(), "sys.%s() takes no arguments (%zu given)", function.name, given);
    case Arity::kOne:
      if (given == 1) return absl::OkStatus();
      return Raise(ErrorType::TypeError(), "sys.%s() takes exactly one argument (%zu given)", function.name,
                   given);
    case Arity::kRange:
    case Arity::kAudit: {
      if (given >= function.min && given <= function.max) return absl::OkStatus();
      const size_t bound = given < function.min ? function.min : function.max;
      const char* const quantifier = function.min == function.max ? ""
                                     : given < function.min       ? "at least "
                                                                  : "at most ";
      return Raise(ErrorType::TypeError(), "%s expected %s%zu argument%s, got %zu", function.name, quantifier,
                   bound, bound == 1 ? "" : "s", given);
    }
    case Arity::kUnchecked:
      break;
  }
  return absl::OkStatus();
}

// What the argument is called in messages: CPython writes None and not NoneType.
const char* NameOfType(const Object& object) { return IsNone(&object) ? "None" : object.TypeName(); }

absl::StatusOr<int64_t> IntArgument(const Ref<Object>& object) {
  if (const Int* number = As<Int>(object)) {
    if (number->fits_int64()) return number->value();
    return Raise(ErrorType::OverflowError(), "Python int too large to convert to C long");
  }
  if (const Bool* flag = As<Bool>(object)) return flag->value() ? 1 : 0;
  return Raise(ErrorType::TypeError(), "'%.200s' object cannot be interpreted as an integer",
               object->TypeName());
}

absl::StatusOr<int64_t> CIntArgument(const Ref<Object>& object) {
  absl::StatusOr<int64_t> value = IntArgument(object);
  const Int* const number = As<Int>(object);
  if ((value.ok() && (*value < INT32_MIN || *value > INT32_MAX)) ||
      (number != nullptr && !number->fits_int64())) {
    return Raise(ErrorType::OverflowError(), "Python int too large to convert to C int");
  }
  return value;
}

Result Done(absl::Status status) {
  if (!status.ok()) return status;
  return None();
}
Result Number(int64_t value) { return Ref<Object>(Int::Of(value)); }

ThreadState& Thread() { return ThreadState::Get("sys"); }

// ---- Control

Result SetSwitchIntervalFunction(SysModule& sys, Args args) {
  if (const auto* number = As<Float>(args[0])) return Done(SetSwitchInterval(sys, number->value()));
  if (As<Int>(args[0]) == nullptr && As<Bool>(args[0]) == nullptr) {
    return Raise(ErrorType::TypeError(), "must be real number, not %.50s", args[0]->TypeName());
  }
  absl::StatusOr<int64_t> whole = IntArgument(args[0]);
  if (!whole.ok()) return Raise(ErrorType::OverflowError(), "int too large to convert to float");
  return Done(SetSwitchInterval(sys, static_cast<double>(*whole)));
}

Result SetRecursionLimitFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> limit = CIntArgument(args[0]);
  if (!limit.ok()) return limit.status();
  return Done(SetRecursionLimit(sys, *limit));
}

Result SetIntMaxStrDigitsFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> digits = CIntArgument(args[0]);
  if (!digits.ok()) return digits.status();
  return Done(sys.SetIntMaxStrDigits(*digits));
}

Result SetDlopenFlagsFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> flags = CIntArgument(args[0]);
  if (!flags.ok()) return flags.status();
  sys.set_dlopen_flags(*flags);
  return None();
}

Result SetCoroutineDepthFunction(SysModule&, Args args) {
  absl::StatusOr<int64_t> depth = CIntArgument(args[0]);
  if (!depth.ok()) return depth.status();
  return Done(SetCoroutineOriginTrackingDepth(Thread(), *depth));
}

Result SetAsyncGenHooksFunction(SysModule& sys, Args args) {
  return Done(SetAsyncGenHooks(sys, Thread(), !args.empty() ? args[0] : Ref<Object>(),
                               args.size() > 1 ? args[1] : Ref<Object>()));
}

Result GetAsyncGenHooksFunction(SysModule&, Args) {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("asyncgen_hooks", {"firstiter", "finalizer"}, 2);
  const ThreadData& data = Thread().data();
  const auto or_none = [](const Ref<Object>& hook) { return hook ? hook : None(); };
  return Ref<Object>(type->Make({or_none(data.async_gen_firstiter), or_none(data.async_gen_finalizer)}));
}

// The trace function of objects: calls the object with the event's number and argument; the host's frame is its affair.
int CallTraceObject(Object* object, void* /*frame*/, int event, Object* argument) {
  const std::vector<Ref<Object>> args{Int::Of(event),
                                      argument == nullptr ? None() : Ref<Object>::Share(argument)};
  absl::StatusOr<Ref<Object>> result = object->Call(args);
  if (result.ok()) return 0;
  // SY-60: a trace function that raises is removed. The object is kept alive by the caller.
  ThreadState& thread = Thread();
  if (SysModule* sys = SysModule::Current()) {
    for (const HookKind kind : {HookKind::kTrace, HookKind::kProfile}) {
      ThreadHook& hook = kind == HookKind::kTrace ? thread.data().trace : thread.data().profile;
      if (hook.object.get() == object) (void)SetThreadHook(*sys, kind, nullptr, nullptr);
    }
  }
  thread.data().current_exception = ErrorFromStatus(result.status());
  return -1;
}

template <HookKind kKind, bool kAll>
Result SetHookFunction(SysModule& sys, Args args) {
  const bool removes = IsNone(args[0]);
  const TraceFunction function = removes ? nullptr : &CallTraceObject;
  const Ref<Object> object = removes ? Ref<Object>() : args[0];
  return Done(kAll ? SetAllThreadsHook(sys, kKind, function, object)
                   : SetThreadHook(sys, kKind, function, object));
}

template <HookKind kKind>
Result GetHookFunction(SysModule&, Args) {
  return GetThreadHook(Thread(), kKind);
}

// ---- Exceptions

Result ExitFunction(SysModule&, Args args) {
  std::vector<Ref<Object>> arguments(args.begin(), args.end());
  // None is no argument, and a tuple is the arguments, as for every exception that is raised with a value.
  if (!args.empty() && IsNone(args[0])) arguments.clear();
  if (const Tuple* const tuple = args.empty() ? nullptr : As<Tuple>(args[0])) {
    const Args items = tuple->items();
    arguments.assign(items.begin(), items.end());
  }
  // An exception of the type is raised itself.
  if (arguments.size() == 1) {
    Error* const given = As<Error>(arguments[0]);
    if (given != nullptr && given->IsA(ErrorType::SystemExit())) return ToStatus(Ref<Error>::Share(given));
  }
  return ToStatus(Error::New(ErrorType::SystemExit(), std::move(arguments)));
}

Result ExcepthookFunction(SysModule& sys, Args args) {
  if (auto* error = As<Error>(args[1])) DisplayError(sys, Ref<Error>::Share(error));
  return None();
}

Result UnraisablehookFunction(SysModule& sys, Args args) {
  const auto* arguments = As<StructSequence>(args[0]);
  if (arguments == nullptr || arguments->type().name() != "UnraisableHookArgs") {
    return Raise(ErrorType::TypeError(), "sys.unraisablehook argument type must be UnraisableHookArgs");
  }
  if (auto* error = As<Error>((*arguments)[1])) {
    const auto* message = As<String>((*arguments)[3]);
    WriteUnraisableByDefault(sys, Ref<Error>::Share(error), message == nullptr ? "" : message->value(),
                             (*arguments)[4]);
  }
  return None();
}

Result BreakpointhookFunction(SysModule& sys, Args args) {
  const std::string target = sys.config().breakpoint.value_or("pdb.set_trace");
  if (target == "0") return None();
  absl::StatusOr<Ref<Object>> hook = sys.host().Import(target);
  if (!hook.ok() || !*hook) {
    const std::string text = "Ignoring unimportable $PYTHONBREAKPOINT: \"" + target + "\"";
    return Done(sys.host().Warn(ErrorType::RuntimeWarning(), text));
  }
  return (*hook)->Call(args);
}

// ---- Audit

Result AuditFunction(SysModule& sys, Args args) {
  const String* const event = As<String>(args[0]);
  if (event == nullptr) {
    return Raise(ErrorType::TypeError(), "audit() argument 1 must be str, not %s", NameOfType(*args[0]));
  }
  if (event->value().find('\0') != std::string::npos) {
    return Raise(ErrorType::ValueError(), "embedded null character");
  }
  if (!sys.auditor().ShouldAudit()) return None();
  return Done(sys.auditor().AuditTuple(event->value(),
                                       Tuple::Of(std::vector<Ref<Object>>(args.begin() + 1, args.end()))));
}

Result AddAuditHookFunction(SysModule& sys, Args args) {
  if (args.empty()) {
    return Raise(ErrorType::TypeError(), "addaudithook() missing required argument 'hook' (pos 1)");
  }
  return Done(sys.auditor().AddHook(args[0]).status());
}

// ---- Introspection

Result GetFrameFunction(SysModule& sys, Args args) {
  int64_t depth = 0;
  if (!args.empty()) {
    absl::StatusOr<int64_t> given = CIntArgument(args[0]);
    if (!given.ok()) return given.status();
    depth = std::max<int64_t>(*given, 0);
  }
  Ref<Object> frame = sys.host().Frame(depth);
  if (!frame) return Raise(ErrorType::ValueError(), "call stack is not deep enough");
  absl::Status audit = sys.auditor().Audit("sys._getframe", "(O)", frame);
  if (!audit.ok()) return audit;
  return frame;
}

Result CurrentFramesFunction(SysModule& sys, Args) {
  auto frames = CurrentFrames(sys);
  if (!frames.ok()) return frames.status();
  Ref<Dict> result = Dict::New();
  for (const auto& [ident, frame] : *frames) {
    if (Ref<Object> object = sys.host().FrameObject(frame)) result->Set(std::to_string(ident), object);
  }
  return Ref<Object>(result);
}

Result CurrentExceptionsFunction(SysModule& sys, Args) {
  auto exceptions = CurrentExceptions(sys);
  if (!exceptions.ok()) return exceptions.status();
  Ref<Dict> result = Dict::New();
  for (const auto& [ident, error] : *exceptions) {
    result->Set(std::to_string(ident), error ? Ref<Object>(error) : None());
  }
  return Ref<Object>(result);
}

Result InternFunction(SysModule& sys, Args args) {
  if (As<String>(args[0]) == nullptr) {
    return Raise(ErrorType::TypeError(), "intern() argument must be str, not %s", NameOfType(*args[0]));
  }
  absl::StatusOr<Ref<String>> interned = sys.interns().InternObject(args[0]);
  if (!interned.ok()) return interned.status();
  return Ref<Object>(*interned);
}

Result IsInternedFunction(SysModule& sys, Args args) {
  const String* const string = As<String>(args[0]);
  if (string == nullptr) {
    return Raise(ErrorType::TypeError(), "_is_interned() argument must be str, not %s", NameOfType(*args[0]));
  }
  return BoolOf(sys.interns().IsInterned(*string));
}

// Caches that an evaluation loop has and a runtime does not: there is nothing to clear.
Result NothingToDo(SysModule&, Args) { return None(); }

Result Text(const char* text) { return Ref<Object>(String::Of(text)); }

constexpr size_t kAny = SIZE_MAX;

constexpr Function kFunctions[] = {
    {"_clear_internal_caches", Arity::kNone, 0, 0, &NothingToDo},
    {"_clear_type_cache", Arity::kNone, 0, 0, &NothingToDo},
    {"_current_exceptions", Arity::kNone, 0, 0, &CurrentExceptionsFunction},
    {"_current_frames", Arity::kNone, 0, 0, &CurrentFramesFunction},
    {"_getframe", Arity::kRange, 0, 1, &GetFrameFunction},
    {"_is_gil_enabled", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return BoolOf(IsGilEnabled(sys)); }},
    {"_is_immortal", Arity::kOne, 1, 1,
     [](SysModule&, Args args) -> Result { return BoolOf(args[0]->IsImmortal()); }},
    {"_is_interned", Arity::kOne, 1, 1, &IsInternedFunction},
    {"_settraceallthreads", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kTrace, true>},
    {"_setprofileallthreads", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kProfile, true>},
    {"addaudithook", Arity::kUnchecked, 1, 1, &AddAuditHookFunction},
    {"audit", Arity::kAudit, 1, kAny, &AuditFunction},
    {"breakpointhook", Arity::kUnchecked, 0, kAny, &BreakpointhookFunction},
    {"displayhook", Arity::kOne, 1, 1,
     [](SysModule& sys, Args args) -> Result { return Done(DisplayHook(sys, args[0])); }},
    {"exc_info", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result { return Ref<Object>(ExcInfoTuple(Thread())); }},
    {"excepthook", Arity::kRange, 3, 3, &ExcepthookFunction},
    {"exception", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return CurrentException(Thread()); }},
    {"exit", Arity::kRange, 0, 1, &ExitFunction},
    {"get_asyncgen_hooks", Arity::kNone, 0, 0, &GetAsyncGenHooksFunction},
    {"get_coroutine_origin_tracking_depth", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result { return Number(Thread().data().coroutine_origin_tracking_depth); }},
    {"get_int_max_str_digits", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.int_max_str_digits()); }},
    {"getallocatedblocks", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.host().AllocatedBlocks()); }},
    {"getdefaultencoding", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return Text("utf-8"); }},
    {"getdlopenflags", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.dlopen_flags()); }},
    {"getfilesystemencodeerrors", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result { return Text("surrogateescape"); }},
    {"getfilesystemencoding", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return Text("utf-8"); }},
    {"getprofile", Arity::kNone, 0, 0, &GetHookFunction<HookKind::kProfile>},
    {"getrecursionlimit", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(GetRecursionLimit(sys)); }},
    {"getswitchinterval", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Ref<Object>(Float::Of(GetSwitchInterval(sys))); }},
    {"gettrace", Arity::kNone, 0, 0, &GetHookFunction<HookKind::kTrace>},
    {"intern", Arity::kOne, 1, 1, &InternFunction},
    {"is_finalizing", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return BoolOf(IsFinalizing(sys)); }},
    {"is_stack_trampoline_active", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return False(); }},
    {"set_asyncgen_hooks", Arity::kRange, 0, 2, &SetAsyncGenHooksFunction},
    {"set_coroutine_origin_tracking_depth", Arity::kUnchecked, 1, 1, &SetCoroutineDepthFunction},
    {"set_int_max_str_digits", Arity::kUnchecked, 1, 1, &SetIntMaxStrDigitsFunction},
    {"setdlopenflags", Arity::kOne, 1, 1, &SetDlopenFlagsFunction},
    {"setprofile", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kProfile, false>},
    {"setrecursionlimit", Arity::kOne, 1, 1, &SetRecursionLimitFunction},
    {"setswitchinterval", Arity::kOne, 1, 1, &SetSwitchIntervalFunction},
    {"settrace", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kTrace, false>},
    {"unraisablehook", Arity::kOne, 1, 1, &UnraisablehookFunction},
};

// ---- sys.monitoring

Result UseToolId(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  if (!tool.ok()) return tool.status();
  if (As<String>(args[1]) == nullptr) return Raise(ErrorType::ValueError(), "tool name must be a str");
  return Done(sys.monitoring().UseTool(*tool, args[1]));
}
Result FreeToolId(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  if (!tool.ok()) return tool.status();
  return Done(sys.monitoring().FreeTool(*tool));
}
Result GetToolFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  if (!tool.ok()) return tool.status();
  return sys.monitoring().GetTool(*tool);
}
Result SetEventsFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  absl::StatusOr<int64_t> events = CIntArgument(args[1]);
  if (!tool.ok()) return tool.status();
  if (!events.ok()) return events.status();
  return Done(sys.monitoring().SetEvents(*tool, *events));
}
Result GetEventsFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  if (!tool.ok()) return tool.status();
  absl::StatusOr<uint32_t> events = sys.monitoring().GetEvents(*tool);
  if (!events.ok()) return events.status();
  return Number(*events);
}
Result RegisterCallbackFunction(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  absl::StatusOr<int64_t> event = CIntArgument(args[1]);
  if (!tool.ok()) return tool.status();
  if (!event.ok()) return event.status();
  return sys.monitoring().RegisterCallback(*tool, *event, args[2]);
}

constexpr Function kMonitoringFunctions[] = {
    {"use_tool_id", Arity::kRange, 2, 2, &UseToolId},
    {"free_tool_id", Arity::kRange, 1, 1, &FreeToolId},
    {"get_tool", Arity::kRange, 1, 1, &GetToolFunction},
    {"set_events", Arity::kRange, 2, 2, &SetEventsFunction},
    {"get_events", Arity::kRange, 1, 1, &GetEventsFunction},
    {"register_callback", Arity::kRange, 3, 3, &RegisterCallbackFunction},
    {"restart_events", Arity::kRange, 0, 0,
     [](SysModule& sys, Args) -> Result { return Done(sys.monitoring().RestartEvents()); }},
};

Ref<Object> MakeFunction(const Function& function) {
  return NativeFunction::New(function.name, [&function](Args args) -> Result {
    absl::Status arity = CheckArity(function, args.size());
    if (!arity.ok()) return arity;
    SysModule* const sys = SysModule::Current();
    if (sys == nullptr) return Raise(ErrorType::RuntimeError(), "no sys module");
    return function.body(*sys, args);
  });
}

}  // namespace

void AddSysFunctions(SysDict& dict) {
  for (const Function& function : kFunctions) dict.Set(function.name, MakeFunction(function));
  for (const char* hook : {"displayhook", "excepthook", "unraisablehook", "breakpointhook"}) {
    dict.Set("__" + std::string(hook) + "__", dict.Find(hook));
  }
  std::vector<std::pair<std::string, Ref<Object>>> monitoring;
  for (const Function& function : kMonitoringFunctions) {
    monitoring.emplace_back(function.name, MakeFunction(function));
  }
  dict.Set("monitoring", MakeNamespace("sys.monitoring", std::move(monitoring)));
}

}  // namespace pyrt::inline PYRT_VARIANT
