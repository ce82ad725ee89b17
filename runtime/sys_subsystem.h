// sys as a part of the runtime: a SysModule for each interpreter, standard streams, audit hooks.
//
//   Runtime::AddSubsystem(SysSubsystem());               // before Runtime::Initialize
//   ...
//   SysModule::Current()->dict().Find("stdout")
//
// Native audit hooks are the process' own: they may be added before Initialize, see the events of every
// interpreter, and are the last thing that finalization clears (RT-26).
//
// The runtime's own events (interpreters, threads, imports, fork) go to the hooks of the current interpreter. What
// cannot be raised goes to its sys.unraisablehook and warnings to SysHost::Warn, unless RuntimeOptions names other
// places. At the end sys.path, sys.last_exc and their like become None, the original streams come back, both are
// flushed before and after.
//
// CPython counterpart: _PySys_Create, init_sys_streams, flush_std_files, PySys_AddAuditHook,
// _PySys_ClearAuditHooks.

#ifndef PYRT_RUNTIME_SYS_SUBSYSTEM_H_
#define PYRT_RUNTIME_SYS_SUBSYSTEM_H_

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/subsystem.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT {

struct SysSubsystemOptions {
  RuntimeConfig config;
  SysHost* host = nullptr;  // outlives the runtime; null: the defaults
  // Standard streams over descriptors 0, 1 and 2. Without: only the preliminary stderr.
  bool open_streams = true;
};

// The last options given are those of the next life of the runtime.
Subsystem SysSubsystem(SysSubsystemOptions options = {});

// What `config` says to Runtime::Initialize: the GIL, the signal handlers.
RuntimeOptions RuntimeOptionsOf(const RuntimeConfig& config);

// True if the hook was added, false if an existing one refused it with a RuntimeError; another exception is
// returned. Any time; attached or not. CPython: PySys_AddAuditHook.
absl::StatusOr<bool> AddAuditHook(NativeAuditHook hook, void* data);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYS_SUBSYSTEM_H_
