// The functions of sys that turn a knob or read one.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/internal/sys_function.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_control.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT::internal {
namespace {

Result SetSwitchIntervalFunction(SysModule& sys, Args args) {
  if (const auto* number = As<Float>(args[0])) return Done(SetSwitchInterval(sys, number->value()));
  if (As<Int>(args[0]) == nullptr && As<Bool>(args[0]) == nullptr) {
    return Raise(ErrorType::TypeError(), "must be real number, not %.50s", args[0]->TypeName());
  }
  absl::StatusOr<int64_t> whole = IntArgument(args[0]);
  if (whole.ok()) return Done(SetSwitchInterval(sys, static_cast<double>(*whole)));
  absl::StatusOr<std::string> digits = args[0]->Repr();
  if (!digits.ok()) return digits.status();
  const double seconds = std::strtod(digits->c_str(), nullptr);
  if (std::isinf(seconds)) {
    return Raise(ErrorType::OverflowError(), "int too large to convert to float");
  }
  return Done(SetSwitchInterval(sys, seconds));
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
  return Done(SetCoroutineOriginTrackingDepth(CallingThread(), *depth));
}

Result SetAsyncGenHooksFunction(SysModule& sys, Args args) {
  return Done(SetAsyncGenHooks(sys, CallingThread(), !args.empty() ? args[0] : Ref<Object>(),
                               args.size() > 1 ? args[1] : Ref<Object>()));
}

const Ref<StructSequenceType>& AsyncGenHooksType() {
  static const Ref<StructSequenceType> type =
      StructSequenceType::New("asyncgen_hooks", {"firstiter", "finalizer"}, 2);
  return type;
}

Result GetAsyncGenHooksFunction(SysModule&, Args) {
  const ThreadData& data = CallingThread().data();
  const auto or_none = [](const Ref<Object>& hook) { return hook ? hook : None(); };
  return Ref<Object>(
      AsyncGenHooksType()->Make({or_none(data.async_gen_firstiter), or_none(data.async_gen_finalizer)}));
}

// The trace function of objects: calls the object with the event's number and argument; the host's frame is its affair.
template <HookKind kKind>
int CallTraceObject(Object* object, void* /*frame*/, int event, Object* argument) {
  const std::vector<Ref<Object>> args{Int::Of(event),
                                      argument == nullptr ? None() : Ref<Object>::Share(argument)};
  ThreadState& thread = CallingThread();
  ++thread.data().tracing;  // what the hook runs is not traced (SY-61)
  absl::StatusOr<Ref<Object>> result = object->Call(args);
  --thread.data().tracing;
  if (result.ok()) return 0;
  // SY-60: whatever is installed by then, another one that the hook has put there too. The object is kept alive by the
  // caller.
  if (SysModule* sys = SysModule::Current()) (void)SetThreadHook(*sys, kKind, nullptr, nullptr);
  thread.data().current_exception = ErrorFromStatus(result.status());
  return -1;
}

template <HookKind kKind, bool kAll>
Result SetHookFunction(SysModule& sys, Args args) {
  const bool removes = IsNone(args[0]);
  const TraceFunction function = removes ? nullptr : &CallTraceObject<kKind>;
  const Ref<Object> object = removes ? Ref<Object>() : args[0];
  return Done(kAll ? SetAllThreadsHook(sys, kKind, function, object)
                   : SetThreadHook(sys, kKind, function, object));
}

template <HookKind kKind>
Result GetHookFunction(SysModule&, Args) {
  return GetThreadHook(CallingThread(), kKind);
}

// sys.call_tracing(func, args): func(*args) with tracing as it is for code that is traced, from inside a hook.
Result CallTracingFunction(SysModule&, Args args) {
  const Tuple* const arguments = As<Tuple>(args[1]);
  if (arguments == nullptr) {
    return Raise(ErrorType::TypeError(), "call_tracing() argument 2 must be tuple, not %s",
                 NameOfType(*args[1]));
  }
  ThreadState& thread = CallingThread();
  const int32_t saved = std::exchange(thread.data().tracing, 0);
  Result result = args[0]->Call(arguments->items());
  thread.data().tracing = saved;
  return result;
}

// The runtime has no code of its own to write a trampoline for.
Result ActivateStackTrampoline(SysModule&, Args args) {
  const String* const backend = As<String>(args[0]);
  if (backend == nullptr) {
    return Raise(ErrorType::TypeError(), "activate_stack_trampoline() argument must be str, not %s",
                 NameOfType(*args[0]));
  }
  if (backend->value() == "perf" || backend->value() == "perf_jit") {
    return Raise(ErrorType::ValueError(), "perf trampoline not available");
  }
  return Raise(ErrorType::ValueError(), "invalid backend: %s", backend->value().c_str());
}

constexpr SysFunction kFunctions[] = {
    {"_settraceallthreads", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kTrace, true>},
    {"_setprofileallthreads", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kProfile, true>},
    {"activate_stack_trampoline", Arity::kOne, 1, 1, &ActivateStackTrampoline},
    {"call_tracing", Arity::kRange, 2, 2, &CallTracingFunction},
    {"deactivate_stack_trampoline", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return None(); }},
    {"get_asyncgen_hooks", Arity::kNone, 0, 0, &GetAsyncGenHooksFunction},
    {"get_coroutine_origin_tracking_depth", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result {
       return Number(CallingThread().data().coroutine_origin_tracking_depth);
     }},
    {"get_int_max_str_digits", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.int_max_str_digits()); }},
    {"getdlopenflags", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.dlopen_flags()); }},
    {"getprofile", Arity::kNone, 0, 0, &GetHookFunction<HookKind::kProfile>},
    {"getrecursionlimit", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(GetRecursionLimit(sys)); }},
    {"getswitchinterval", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Ref<Object>(Float::Of(GetSwitchInterval(sys))); }},
    {"gettrace", Arity::kNone, 0, 0, &GetHookFunction<HookKind::kTrace>},
    {"is_stack_trampoline_active", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return False(); }},
    {"set_asyncgen_hooks", Arity::kRange, 0, 2, &SetAsyncGenHooksFunction},
    {"set_coroutine_origin_tracking_depth", Arity::kNamed, 1, 1, &SetCoroutineDepthFunction, "depth"},
    {"set_int_max_str_digits", Arity::kNamed, 1, 1, &SetIntMaxStrDigitsFunction, "maxdigits"},
    {"setdlopenflags", Arity::kOne, 1, 1, &SetDlopenFlagsFunction},
    {"setprofile", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kProfile, false>},
    {"setrecursionlimit", Arity::kOne, 1, 1, &SetRecursionLimitFunction},
    {"setswitchinterval", Arity::kOne, 1, 1, &SetSwitchIntervalFunction},
    {"settrace", Arity::kOne, 1, 1, &SetHookFunction<HookKind::kTrace, false>},
};

}  // namespace

SysFunctions ControlFunctions() {
  static_cast<void>(AsyncGenHooksType());  // before anybody forks, see ErrorType::MakeAll
  return kFunctions;
}

}  // namespace pyrt::inline PYRT_VARIANT::internal
