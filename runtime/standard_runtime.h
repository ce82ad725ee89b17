// The whole: sys and imports as parts of one runtime, and what joins them, which neither can do alone.
//
//   AddStandardSubsystems({.sys = {.config = config}, .imports = {.inittab = &inittab, .path_finder = true}});
//   Runtime::Initialize(RuntimeOptionsOf(config));
//
//   sys.modules              the importer's table (a view: assigning to the name changes nothing but the name)
//   sys.meta_path, path,     what imports use, looked up anew by each: replacing a list, or None, takes effect.
//   path_hooks, ...          First they are the importer's own lists
//   audit event import       by the interpreter's Auditor, with CPython's five arguments
//   warnings                 by SysHost::Warn
//   -X importtime, lazy_imports, PYTHON_GIL, frozen_modules, module_search_paths: from the RuntimeConfig
//
// At the end path_hooks, path_importer_cache and meta_path go first, then the modules (IL-77).
//
// CPython counterpart: init_interp_main, init_importlib, finalize_modules.

#ifndef PYRT_RUNTIME_STANDARD_RUNTIME_H_
#define PYRT_RUNTIME_STANDARD_RUNTIME_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/import_subsystem.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/sys_subsystem.h"

namespace pyrt::inline PYRT_VARIANT {

struct StandardRuntimeOptions {
  SysSubsystemOptions sys;
  // Set here from sys.config and therefore ignored: use_frozen, path, import_time, lazy_imports, may_enable_gil, sys_value. The
  // inittab's names become sys.builtin_module_names.
  ImportSubsystemOptions imports;
};

// Before Runtime::Initialize; again between two lives, for other options in the next one.
void AddStandardSubsystems(StandardRuntimeOptions options);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_STANDARD_RUNTIME_H_
