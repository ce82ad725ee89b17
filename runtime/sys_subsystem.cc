#include "pyrt/runtime/sys_subsystem.h"

#include <string>
#include <utility>

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/runtime_status.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/stdio.h"
#include "pyrt/sys/sys_values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State {
  SysSubsystemOptions options;
  NativeAuditHooks hooks;
  // For events where no interpreter has a sys: before it is made and after it is gone, only native hooks listen.
  Auditor process{hooks};
};

State& TheState() {
  static State* const state = new State;  // threads may audit late
  return *state;
}

Auditor& CurrentAuditor() {
  SysModule* const sys = SysModule::Current();
  return sys == nullptr ? TheState().process : sys->auditor();
}

absl::Status InitCore(void*, Interpreter& interp) {
  State& state = TheState();
  if (interp.table(Interpreter::Table::kBuiltins) == nullptr) {
    static_cast<void>(interp.set_table(Interpreter::Table::kBuiltins, Dict::New()));
  }
  SysModule::Options options;
  options.config = state.options.config;
  options.native_hooks = &state.hooks;
  options.host = state.options.host;
  return SysModule::Create(interp, std::move(options)).status();
}

absl::Status InitMain(void*, Interpreter& interp) {
  State& state = TheState();
  if (!state.options.open_streams) return absl::OkStatus();
  StandardStreams streams;
  const ConfigStatus status = OpenStandardStreams(state.options.config, &ThreadStreamHooks(), &streams);
  if (!status.ok()) return RuntimeStatus::Error(status.message(), status.function()).ToStatus();
  SysModule::Of(interp)->SetStreams(streams);
  return absl::OkStatus();
}

absl::Status RaiseAuditEvent(void*, const char* event, Args arguments) {
  Auditor& auditor = CurrentAuditor();
  if (!auditor.ShouldAudit()) return absl::OkStatus();
  return auditor.AuditTuple(event, Tuple::Of(arguments));
}

bool ShowUnraisable(void*, const absl::Status& error, const char* what, const Ref<Object>& object) {
  SysModule* const sys = SysModule::Current();
  if (sys == nullptr) return false;
  WriteUnraisable(*sys, ErrorFromStatus(error), what, object);
  return true;
}

absl::Status ShowWarning(void*, const char* category, const char* text) {
  SysModule* const sys = SysModule::Current();
  if (sys == nullptr) return absl::OkStatus();  // nobody is left who could read it
  const ErrorType* const type = ErrorType::Find(category);
  return sys->host().Warn(type != nullptr ? *type : ErrorType::RuntimeWarning(), text);
}

// The lock of the process that every new interpreter takes: those with a GIL of their own are not stopped in the
// GIL-enabled build.
void BeforeForkStopped(void*, Interpreter&) PYRT_NO_THREAD_SAFETY_ANALYSIS { ImmortalTexts().BeforeFork(); }

void AfterForkInParent(void*, Interpreter&) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  ImmortalTexts().AfterForkInParent();
}

void AfterForkInChild(void*, Interpreter& interp) {
  ImmortalTexts().ReinitAfterFork();
  TheState().hooks.ReinitAfterFork();
  SysModule::Of(interp)->ReinitAfterFork();
}

}  // namespace

Subsystem SysSubsystem(SysSubsystemOptions options) {
  TheState().options = std::move(options);
  return {
      .name = "sys",
      .init_core = &InitCore,
      .init_main = &InitMain,
      .flush = [](void*, Interpreter& interp) { return FlushStandardStreams(*SysModule::Of(interp)) == 0; },
      .finalize_modules =
          [](void*, Interpreter& interp) {
            SysModule* const sys = SysModule::Of(interp);
            if (sys == nullptr) return;
            // builtins._ first: it may be the last reference to anything (CPython's finalize_modules_delete_special).
            const Ref<Object> builtins = interp.table(Interpreter::Table::kBuiltins);
            if (auto* const names = As<Dict>(builtins)) names->Set("_", None());
            sys->PrepareForEnd();
          },
      .clear_interpreter =
          [](void*, Interpreter& interp) {
            if (SysModule* const sys = SysModule::Of(interp)) sys->Clear();
          },
      // The event reaches the native hooks, after which there are none (bpo-41162: not earlier).
      .finalize_process = [](void*) { TheState().hooks.Clear(&TheState().process); },
      .before_fork_stopped = &BeforeForkStopped,
      .after_fork_in_parent = &AfterForkInParent,
      .after_fork_in_child = &AfterForkInChild,
      .reinit_after_fork =
          [](void*, Interpreter& interp) {
            if (SysModule* const sys = SysModule::Of(interp)) sys->ReinitAfterFork();
          },
      .audit = &RaiseAuditEvent,
      .unraisable = &ShowUnraisable,
      .warn = &ShowWarning,
  };
}

RuntimeOptions RuntimeOptionsOf(const RuntimeConfig& config) {
  RuntimeOptions options;
  options.enable_gil = kGilEnabled || config.gil == GilMode::kEnable;
  options.install_signal_handlers = config.install_signal_handlers;
  return options;
}

absl::StatusOr<bool> AddAuditHook(NativeAuditHook hook, void* data) {
  SysModule* const sys = SysModule::Current();
  return TheState().hooks.Add(hook, data, sys == nullptr ? nullptr : &sys->auditor());
}

}  // namespace pyrt::inline PYRT_VARIANT
