// ImportHost: what the importer asks of the interpreter that it works for. Every method has a default that
// suits a test or a host without the feature; runtime provides the real one.
//
// All are called attached, with no runtime lock held, and may run anything.

#ifndef PYRT_IMPORTLOCK_IMPORT_HOST_H_
#define PYRT_IMPORTLOCK_IMPORT_HOST_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

class ModuleLockRegistry;

class ImportHost {
 public:
  virtual ~ImportHost() = default;

  // How the calling thread waits: detached, and interrupted or failing as the interpreter wants. Null: without
  // detaching (allowed in the GIL-enabled build only if no second thread imports).
  virtual const WaitHooks* Hooks() { return nullptr; }
  // Why a wait ended that Hooks()->interrupted or must_fail ended; the import fails with it. Defaults:
  // KeyboardInterrupt, and PythonFinalizationError "can't import 'm' at interpreter shutdown".
  virtual absl::Status WaitFailure(LockStatus status, const std::string& module);

  // The audit event `import`: the name, None, sys.path, sys.meta_path, sys.path_hooks. An error vetoes.
  virtual absl::Status AuditImport(Args arguments) {
    static_cast<void>(arguments);
    return absl::OkStatus();
  }
  // warnings.warn. An error (a warning made an exception) fails the import.
  virtual absl::Status Warn(const ErrorType& category, const std::string& message) {
    static_cast<void>(category), static_cast<void>(message);
    return absl::OkStatus();
  }

  // What the program has put into the sys module as `meta_path`, `path`, `path_hooks` or `path_importer_cache`.
  // Null: nothing, and the importer's own counts.
  virtual Ref<Object> SysValue(std::string_view name) {
    static_cast<void>(name);
    return nullptr;
  }
  // The module of that name which the interpreter's core makes and no import (sys, builtins); null if there is
  // none.
  virtual Ref<Object> CoreModule(std::string_view name) {
    static_cast<void>(name);
    return nullptr;
  }
  // At the end, when all modules have left the table: those in cycles go now.
  virtual void CollectGarbage() {}

  // --- The interpreter that native modules are loaded into

  virtual bool IsMainInterpreter() { return true; }
  // InterpreterConfig: check_multi_interp_extensions, and gil == own.
  virtual bool ChecksMultiInterpExtensions() { return false; }
  virtual bool OwnsGil() { return false; }
  // Runs `body` attached to the main interpreter, and comes back. CPython: switch_to_main_interpreter.
  virtual absl::Status RunInMainInterpreter(const std::function<absl::Status()>& body) { return body(); }
  // The module locks of the main interpreter; asked for attached to it. Null: nobody else imports at the same time.
  virtual ModuleLockRegistry* MainModuleLocks() { return nullptr; }

  // --- The GIL of a GIL-disabled build (never called in the other). CPython: _PyEval_EnableGILTransient,
  // _PyEval_EnableGILPermanent, _PyEval_DisableGIL.
  // False where the configuration forbids or forces it: then neither of the others is called.
  virtual bool EnableGilForImport() { return false; }
  // True the first time, when a warning is due (GI-31).
  virtual bool KeepGilEnabled() { return true; }
  virtual void DisableGilAfterImport() {}
};

inline absl::Status ImportHost::WaitFailure(LockStatus status, const std::string& module) {
  if (status == LockStatus::kInterrupted) return Raise(ErrorType::KeyboardInterrupt(), "%s", "");
  return Raise(ErrorType::PythonFinalizationError(), "can't import '%s' at interpreter shutdown",
               module.c_str());
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_IMPORT_HOST_H_
