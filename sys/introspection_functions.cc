// The functions of sys that look: at frames, threads, strings, the state of the runtime.

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
#include "pyrt/sys/sys_control.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT::internal {
namespace {

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

// The name of the module of that frame; None when the host does not know it, or the stack is not so deep.
Result GetFrameModuleNameFunction(SysModule& sys, Args args) {
  int64_t depth = 0;
  if (!args.empty()) {
    absl::StatusOr<int64_t> given = CIntArgument(args[0]);
    if (!given.ok()) return given.status();
    depth = *given;
  }
  absl::Status audit = sys.auditor().Audit("sys._getframemodulename", "i", depth);
  if (!audit.ok()) return audit;
  Ref<Object> name = sys.host().FrameModuleName(std::max<int64_t>(depth, 0));
  return name ? name : None();
}

Result CurrentFramesFunction(SysModule& sys, Args) {
  auto frames = CurrentFrames(sys);
  if (!frames.ok()) return frames.status();
  Ref<Dict> result = Dict::New();
  for (const auto& [ident, frame] : *frames) result->Set(std::to_string(ident), frame);
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

constexpr SysFunction kFunctions[] = {
    {"_clear_internal_caches", Arity::kNone, 0, 0, &NothingToDo},
    {"_clear_type_cache", Arity::kNone, 0, 0, &NothingToDo},
    {"_current_exceptions", Arity::kNone, 0, 0, &CurrentExceptionsFunction},
    {"_current_frames", Arity::kNone, 0, 0, &CurrentFramesFunction},
    {"_get_cpu_count_config", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.config().cpu_count); }},
    {"_getframe", Arity::kRange, 0, 1, &GetFrameFunction},
    {"_getframemodulename", Arity::kNamed, 0, 1, &GetFrameModuleNameFunction, "depth"},
    {"_is_gil_enabled", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return BoolOf(IsGilEnabled(sys)); }},
    {"_is_immortal", Arity::kOne, 1, 1,
     [](SysModule&, Args args) -> Result { return BoolOf(args[0]->IsImmortal()); }},
    {"_is_interned", Arity::kOne, 1, 1, &IsInternedFunction},
    {"getallocatedblocks", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(sys.host().AllocatedBlocks()); }},
    {"getdefaultencoding", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return Text("utf-8"); }},
    {"getfilesystemencodeerrors", Arity::kNone, 0, 0,
     [](SysModule&, Args) -> Result { return Text("surrogateescape"); }},
    {"getfilesystemencoding", Arity::kNone, 0, 0, [](SysModule&, Args) -> Result { return Text("utf-8"); }},
    {"getunicodeinternedsize", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return Number(static_cast<int64_t>(sys.interns().size())); }},
    {"intern", Arity::kOne, 1, 1, &InternFunction},
    {"is_finalizing", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return BoolOf(IsFinalizing(sys)); }},
    {"is_remote_debug_enabled", Arity::kNone, 0, 0,
     [](SysModule& sys, Args) -> Result { return BoolOf(sys.config().remote_debug); }},
};

}  // namespace

SysFunctions IntrospectionFunctions() { return kFunctions; }

}  // namespace pyrt::inline PYRT_VARIANT::internal
