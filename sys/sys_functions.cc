#include "pyrt/sys/sys_functions.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/internal/sys_function.h"
#include "pyrt/sys/monitoring.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/sys/sys_values.h"

namespace pyrt::inline PYRT_VARIANT {

namespace internal {

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

}  // namespace internal

namespace {

using internal::Arity;
using internal::SysFunction;
using internal::SysFunctions;
using Named = std::vector<std::pair<std::string, Ref<Object>>>;

absl::Status CheckArity(const char* module, const SysFunction& function, size_t given) {
  switch (function.arity) {
    case Arity::kNone:
      if (given == 0) return absl::OkStatus();
      return Raise(ErrorType::TypeError(), "%s.%s() takes no arguments (%zu given)", module, function.name,
                   given);
    case Arity::kOne:
      if (given == 1) return absl::OkStatus();
      return Raise(ErrorType::TypeError(), "%s.%s() takes exactly one argument (%zu given)", module,
                   function.name, given);
    case Arity::kRange: {
      if (given >= function.min && given <= function.max) return absl::OkStatus();
      const size_t bound = given < function.min ? function.min : function.max;
      const char* const quantifier = function.min == function.max ? ""
                                     : given < function.min       ? "at least "
                                                                  : "at most ";
      return Raise(ErrorType::TypeError(), "%s expected %s%zu argument%s, got %zu", function.name, quantifier,
                   bound, bound == 1 ? "" : "s", given);
    }
    case Arity::kNamed:
      if (given > function.max) {
        return Raise(ErrorType::TypeError(), "%s() takes at most %zu argument%s (%zu given)", function.name,
                     function.max, function.max == 1 ? "" : "s", given);
      }
      if (given >= function.min) return absl::OkStatus();
      return Raise(ErrorType::TypeError(), "%s() missing required argument '%s' (pos %zu)", function.name,
                   function.parameter, given + 1);
    case Arity::kUnchecked:
      break;
  }
  return absl::OkStatus();
}

Ref<Object> Immortal(Ref<Object> object) {
  Object* const made = object.get();
  if (made != nullptr && !made->IsImmortal()) made->MakeImmortal();
  return object;
}

// One object for all interpreters: it works on the sys of whoever calls it.
Ref<Object> MakeFunction(const char* module, const SysFunction& function) {
  return Immortal(NativeFunction::New(function.name, [module, &function](Args args) -> internal::Result {
    absl::Status arity = CheckArity(module, function, args.size());
    if (!arity.ok()) return arity;
    SysModule* const sys = SysModule::Current();
    if (sys == nullptr) return Raise(ErrorType::RuntimeError(), "no sys module");
    return function.body(*sys, args);
  }));
}

Named MakeFunctions(const char* module, SysFunctions functions) {
  Named made;
  for (const SysFunction& function : functions) {
    made.emplace_back(function.name, MakeFunction(module, function));
  }
  return made;
}

// sys.monitoring.DISABLE and MISSING: objects of which only the identity counts.
class Marker final : public Object {
 public:
  const char* TypeName() const override { return "object"; }
};

Ref<Object> MakeMonitoring() {
  Named attributes = MakeFunctions("sys.monitoring", internal::MonitoringFunctions());
  Named events;
  for (int64_t event = 0; event < Monitoring::kEvents; ++event) {
    events.emplace_back(Monitoring::EventName(event), Immortal(Int::Of(int64_t{1} << event)));
  }
  events.emplace_back("NO_EVENTS", Int::Of(0));
  attributes.emplace_back("events", Immortal(MakeNamespace("namespace", std::move(events))));
  for (const auto& [name, tool] : {std::pair("DEBUGGER_ID", 0), std::pair("COVERAGE_ID", 1),
                                   std::pair("PROFILER_ID", 2), std::pair("OPTIMIZER_ID", 5)}) {
    attributes.emplace_back(name, Int::Of(tool));
  }
  attributes.emplace_back("DISABLE", Immortal(MakeRef<Marker>()));
  attributes.emplace_back("MISSING", Immortal(MakeRef<Marker>()));
  return Immortal(MakeNamespace("sys.monitoring", std::move(attributes)));
}

}  // namespace

void AddSysFunctions(SysDict& dict) {
  static const Named* const functions = [] {
    auto* const all = new Named;
    for (const SysFunctions& subject :
         {internal::ControlFunctions(), internal::ErrorFunctions(), internal::IntrospectionFunctions()}) {
      for (auto& function : MakeFunctions("sys", subject)) all->push_back(std::move(function));
    }
    all->emplace_back("monitoring", MakeMonitoring());
    return all;
  }();
  for (const auto& [name, function] : *functions) dict.Set(name, function);
  for (const char* hook : {"displayhook", "excepthook", "unraisablehook", "breakpointhook"}) {
    dict.Set("__" + std::string(hook) + "__", dict.Find(hook));
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
