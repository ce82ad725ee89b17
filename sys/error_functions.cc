// The functions of sys about exceptions, their hooks and audit hooks.

#include <algorithm>
#include <cstdint>
#include <optional>
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
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/internal/sys_function.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_control.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT::internal {
namespace {

Result ExitFunction(SysModule&, Args args) {
  std::vector<Ref<Object>> arguments(args.begin(), args.end());
  // None is no argument, and a tuple is the arguments, as for every exception that is raised with a value.
  if (!args.empty() && IsNone(args[0])) arguments.clear();
  if (const Tuple* const tuple = args.empty() ? nullptr : As<Tuple>(args[0])) {
    const Args items = tuple->items();
    arguments.assign(items.begin(), items.end());
  }
  // An exception of the type is raised itself.
  if (!args.empty()) {
    Error* const given = As<Error>(args[0]);
    if (given != nullptr && given->IsA(ErrorType::SystemExit())) return ToStatus(Ref<Error>::Share(given));
  }
  return ToStatus(Error::New(ErrorType::SystemExit(), std::move(arguments)));
}

Result ExcepthookFunction(SysModule& sys, Args args) {
  auto* const error = As<Error>(args[1]);
  if (error == nullptr) {
    DisplayError(sys, Error::New(ErrorType::TypeError(),
                                 std::string("print_exception(): Exception expected for value, ") +
                                     args[1]->TypeName() + " found"));
    return None();
  }
  // Else it would not be shown.
  if (!error->traceback() && !IsNone(args[2])) error->set_traceback(args[2]);
  DisplayError(sys, Ref<Error>::Share(error));
  return None();
}

Result UnraisablehookFunction(SysModule& sys, Args args) {
  const auto* arguments = As<StructSequence>(args[0]);
  if (arguments == nullptr || &arguments->type() != UnraisableHookArgs().get()) {
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
  // As the variable is now, as in CPython.
  std::optional<std::string> variable;
  if (sys.config().use_environment) variable = sys.host().Environment("PYTHONBREAKPOINT");
  const std::string target = variable.value_or("pdb.set_trace");
  if (target == "0") return None();
  absl::StatusOr<Ref<Object>> hook = sys.host().Import(target);
  // What says no more than that there is no such thing; an interrupt or an error in the module is the
  // caller's.
  const bool unimportable = hook.ok() ? !*hook
                                      : IsError(hook.status(), ErrorType::ImportError()) ||
                                            IsError(hook.status(), ErrorType::AttributeError());
  if (!hook.ok() && !unimportable) return hook.status();
  if (unimportable) {
    const std::string text = "Ignoring unimportable $PYTHONBREAKPOINT: \"" + target + "\"";
    return Done(sys.host().Warn(ErrorType::RuntimeWarning(), text));
  }
  return (*hook)->Call(args);
}

Result AuditFunction(SysModule& sys, Args args) {
  const String* const event = As<String>(args[0]);
  if (event == nullptr) {
    return Raise(ErrorType::TypeError(), "audit() argument 1 must be str, not %s", NameOfType(*args[0]));
  }
  if (event->value().find('\0') != std::string::npos) {
    return Raise(ErrorType::ValueError(), "embedded null character");
  }
  if (!sys.auditor().ShouldAudit()) return None();
  return Done(sys.auditor().AuditTuple(event->value(), Tuple::Of(args.subspan(1))));
}

Result AddAuditHookFunction(SysModule& sys, Args args) {
  return Done(sys.auditor().AddHook(args[0]).status());
}

constexpr SysFunction kFunctions[] = {
    {"addaudithook", Arity::kNamed, 1, 1, &AddAuditHookFunction, "hook"},
    {"audit", Arity::kRange, 1, kAnyNumber, &AuditFunction},
    {"breakpointhook", Arity::kUnchecked, 0, kAnyNumber, &BreakpointhookFunction},
    {"displayhook", Arity::kOne, 1, 1,
     [](SysModule& sys, Args args) -> Result { return Done(DisplayHook(sys, args[0])); }},
    {"exc_info", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result { return Ref<Object>(ExcInfoTuple(CallingThread())); }},
    {"excepthook", Arity::kRange, 3, 3, &ExcepthookFunction},
    {"exception", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result { return CurrentException(CallingThread()); }},
    {"exit", Arity::kRange, 0, 1, &ExitFunction},
    {"unraisablehook", Arity::kOne, 1, 1, &UnraisablehookFunction},
};

}  // namespace

SysFunctions ErrorFunctions() {
  static_cast<void>(UnraisableHookArgs());  // before anybody forks, see ErrorType::MakeAll
  return kFunctions;
}

}  // namespace pyrt::inline PYRT_VARIANT::internal
