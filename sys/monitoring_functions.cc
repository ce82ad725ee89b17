// The functions of sys.monitoring.

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/internal/sys_function.h"
#include "pyrt/sys/monitoring.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT::internal {
namespace {

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
Result ClearToolId(SysModule& sys, Args args) {
  absl::StatusOr<int64_t> tool = CIntArgument(args[0]);
  if (!tool.ok()) return tool.status();
  return Done(sys.monitoring().ClearTool(*tool));
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
  absl::Status valid = Monitoring::CheckCallback(*tool, *event);
  if (!valid.ok()) return valid;
  absl::Status audit = sys.auditor().Audit("sys.monitoring.register_callback", "(O)", args[2]);
  if (!audit.ok()) return audit;
  return sys.monitoring().RegisterCallback(*tool, *event, args[2]);
}

// {"CALL": 1}: which tools, as bits, watch an event that anybody watches.
Result AllEventsFunction(SysModule& sys, Args) {
  Ref<Dict> result = Dict::New();
  for (int64_t event = 0; event < Monitoring::kEvents; ++event) {
    const int64_t tools = sys.monitoring().ToolsWatching(event);
    if (tools != 0) result->Set(Monitoring::EventName(event), Int::Of(tools));
  }
  return Ref<Object>(result);
}

constexpr SysFunction kFunctions[] = {
    {"use_tool_id", Arity::kRange, 2, 2, &UseToolId},
    {"free_tool_id", Arity::kOne, 1, 1, &FreeToolId},
    {"clear_tool_id", Arity::kOne, 1, 1, &ClearToolId},
    {"get_tool", Arity::kOne, 1, 1, &GetToolFunction},
    {"set_events", Arity::kRange, 2, 2, &SetEventsFunction},
    {"get_events", Arity::kOne, 1, 1, &GetEventsFunction},
    {"register_callback", Arity::kRange, 3, 3, &RegisterCallbackFunction},
    {"restart_events", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Done(sys.monitoring().RestartEvents()); }},
    {"_all_events", Arity::kNone, 0, 0, &AllEventsFunction},
};

}  // namespace

SysFunctions MonitoringFunctions() { return kFunctions; }

}  // namespace pyrt::inline PYRT_VARIANT::internal
