#include "pyrt/runtime/sys_subsystem.h"

#include <string>
#include <utility>

#include "pyrt/runtime/object/error.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/stdio.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State {
  SysSubsystemOptions options;
  NativeAuditHooks hooks;
  // The main interpreter's, between its clear and the clear of the hooks, which raises a last event.
  Ref<SysModule> last;
};

State& TheState() {
  static State* const state = new State;  // threads may audit late
  return *state;
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
  if (!status.ok()) return status.ToStatus();
  SysModule::Of(interp)->SetStreams(streams);
  return absl::OkStatus();
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
            if (SysModule* sys = SysModule::Of(interp)) sys->RestoreStreams();
          },
      .clear_interpreter =
          [](void*, Interpreter& interp) {
            SysModule* const sys = SysModule::Of(interp);
            if (sys == nullptr) return;
            if (interp.is_main()) TheState().last = Ref<SysModule>::Share(sys);
            sys->Clear();
          },
      .finalize_process =
          [](void*) {
            State& state = TheState();
            const Ref<SysModule> last = std::exchange(state.last, nullptr);
            state.hooks.Clear(last == nullptr ? nullptr : &last->auditor());
          },
      .after_fork_in_child =
          [](void*, Interpreter& interp) {
            TheState().hooks.ReinitAfterFork();
            SysModule::Of(interp)->ReinitAfterFork();
          },
      .audit =
          [](void*, const char* event) {
            SysModule* const sys = SysModule::Current();
            return sys == nullptr ? absl::OkStatus() : sys->auditor().Audit(event);
          },
  };
}

absl::StatusOr<bool> AddAuditHook(NativeAuditHook hook, void* data) {
  SysModule* const sys = SysModule::Current();
  return TheState().hooks.Add(hook, data, sys == nullptr ? nullptr : &sys->auditor());
}

}  // namespace pyrt::inline PYRT_VARIANT
