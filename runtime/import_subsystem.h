// Imports as a part of the runtime: an Importer for each interpreter, which lives, forks and ends with it.
//
//   Runtime::AddSubsystem(ImportSubsystem());            // before Runtime::Initialize
//   ...
//   ImporterOf(Interpreter::Get())->Import("module");
//
// The importer waits detached and lets signal handlers end its waits; it fails instead of waiting once the
// interpreter is finalizing (a module lock may belong to a thread that hangs); single-phase modules run in the
// main interpreter; a module that needs the GIL switches it on in a GIL-disabled build.
//
// CPython counterpart: PyInterpreterState.imports, init_importlib, finalize_modules, _PyImport_ReInitLock.

#ifndef PYRT_RUNTIME_IMPORT_SUBSYSTEM_H_
#define PYRT_RUNTIME_IMPORT_SUBSYSTEM_H_

#include "pyrt/importlock/importer.h"
#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/subsystem.h"

namespace pyrt::inline PYRT_VARIANT {

Subsystem ImportSubsystem();

// The interpreter's importer; null without the subsystem, before init_core and after the end. Attached.
Importer* ImporterOf(Interpreter& interp);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_IMPORT_SUBSYSTEM_H_
