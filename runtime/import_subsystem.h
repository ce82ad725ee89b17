// Imports as a part of the runtime: an Importer for each interpreter, which lives, forks and ends with it.
//
//   Runtime::AddSubsystem(ImportSubsystem());            // before Runtime::Initialize
//   ...
//   ImporterOf(Interpreter::Get())->Import("module");
//
// The importer waits detached and lets signal handlers end its waits; it fails instead of waiting once the
// interpreter is finalizing (a lock may belong to a thread that hangs); single-phase modules run in the main
// interpreter; a module that needs the GIL switches it on in a GIL-disabled build.
//
// Alone it knows nothing of sys: audit events go nowhere and warnings to stderr unless the options say otherwise.
// runtime/standard_runtime.h joins the two.
//
// CPython counterpart: PyInterpreterState.imports, init_importlib, finalize_modules, _PyImport_ReInitLock.

#ifndef PYRT_RUNTIME_IMPORT_SUBSYSTEM_H_
#define PYRT_RUNTIME_IMPORT_SUBSYSTEM_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/importlock/frozen.h"
#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/inittab.h"
#include "pyrt/importlock/lazy_import.h"
#include "pyrt/importlock/native_loader.h"
#include "pyrt/importlock/path_finder.h"
#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/subsystem.h"

namespace pyrt::inline PYRT_VARIANT {

struct ImportSubsystemOptions {
  // The finders that every interpreter's meta_path begins with, each if it is asked for. Pointers outlive the
  // runtime. The inittab is frozen while the runtime is initialized (IL-53) and may grow between two lives.
  Inittab* inittab = nullptr;
  const FrozenTables* frozen = nullptr;
  bool use_frozen = true;
  FrozenFinder::Run run_frozen;
  // A PathFinder: for files with these suffixes, and shared objects (native_suffix, "" for none).
  bool path_finder = false;
  std::vector<PathFinder::Suffix> suffixes;
  std::string native_suffix = ".so";
  std::vector<std::string> path;  // sys.path at first

  // -X importtime: 0, 1 or 2. Null sink: stderr.
  int import_time = 0;
  ImportTime::Sink import_time_sink;

  // -X lazy_imports.
  LazyImportsMode lazy_imports = LazyImportsMode::kNormal;

  // Whether loading a module that needs the GIL may switch it on in a GIL-disabled build: not if the
  // configuration has settled it (PYTHON_GIL, -X gil).
  bool may_enable_gil = true;

  // See ImportHost::SysValue. Null: there is no sys.
  std::function<Ref<Object>(Interpreter& interp, std::string_view name)> sys_value;
};

// The last options given are those of the next life of the runtime.
Subsystem ImportSubsystem(ImportSubsystemOptions options = {});

// The interpreter's importer, what its native modules go through (also the override of the check for
// subinterpreters), and its lazy imports; null without the subsystem, before init_core and after the end. Attached.
Importer* ImporterOf(Interpreter& interp);
NativeModules* NativeModulesOf(Interpreter& interp);
LazyImports* LazyImportsOf(Interpreter& interp);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_IMPORT_SUBSYSTEM_H_
