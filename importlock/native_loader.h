// NativeLoader: makes modules from init functions, with the checks that subinterpreters and the GIL need.
//
//   init function   in a GIL-disabled build with the GIL on, until the module has said that it does not need it;
//                   if it does not say so, the GIL stays on, with a RuntimeWarning (GI-36)
//   multi-phase     definition -> compatibility check -> state -> create slot, exec slots; per interpreter
//   single-phase    check -> runs once in the process, attached to the main interpreter -> cached; every
//                   interpreter gets a module with a copy of its dictionary
//
// The check (IL-67): in a subinterpreter that asks for it (its configuration, or the override) a module must be
// multi-phase and support several interpreters, with their own GIL if this one has its own; otherwise
// ImportError "module m does not support loading in subinterpreters".
//
// CPython counterpart: import_run_extension, _PyImport_CheckSubinterpIncompatibleExtensionAllowed,
// PyModule_FromDefAndSpec, PyModule_ExecDef.

#ifndef PYRT_IMPORTLOCK_NATIVE_LOADER_H_
#define PYRT_IMPORTLOCK_NATIVE_LOADER_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/import_host.h"
#include "pyrt/importlock/module.h"
#include "pyrt/importlock/module_def.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

// The single-phase modules of the process, by origin and name. Entries are never removed. One per runtime,
// shared by its interpreters. CPython: _PyRuntime.imports.extensions.
class ExtensionCache {
 public:
  struct Extension {
    std::vector<Dict::Item> attributes;
    GilUse gil;
  };

  std::shared_ptr<const Extension> Find(const std::string& key) const;
  // The entry that counts: an earlier one of the same key wins (gh-123880).
  std::shared_ptr<const Extension> Add(const std::string& key, Extension extension);
  size_t size() const;

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<const Extension>> extensions_ PYRT_GUARDED_BY(mutex_);
};

// What the native modules of one interpreter share.
class NativeModules {
 public:
  NativeModules(ImportHost& host, ExtensionCache& cache) : host_(host), cache_(cache) {}
  NativeModules(const NativeModules&) = delete;
  NativeModules& operator=(const NativeModules&) = delete;

  // A loader for modules that `init` makes. Null `init`: an ImportError when it is used.
  Ref<Loader> LoaderFor(ModuleInitFunction init);

  // -1 no check, +1 check, 0 as configured. Returns the value before; RuntimeError with CPython's text in the
  // main interpreter and in a GIL-disabled build. CPython: _imp._override_multi_interp_extensions_check.
  absl::StatusOr<int> OverrideMultiInterpExtensionsCheck(int override);
  bool ChecksExtensions() const;

  absl::StatusOr<Ref<Object>> Create(ModuleInitFunction init, const Ref<ModuleSpec>& spec);
  absl::Status Exec(const ModuleDef& def, const Ref<Object>& module);

 private:
  absl::Status CheckCompatible(const Ref<ModuleSpec>& spec, bool compatible) const;
  absl::StatusOr<Ref<Object>> FromDef(const ModuleDef& def, const Ref<ModuleSpec>& spec);
  absl::StatusOr<Ref<Object>> SinglePhase(const std::string& key, ModuleInitFunction init,
                                          const Ref<ModuleSpec>& spec, const ModuleInit* answered);
  absl::Status SettleGil(bool enabled, GilUse use, const Ref<ModuleSpec>& spec);

  ImportHost& host_;
  ExtensionCache& cache_;
  Atomic<int> override_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_NATIVE_LOADER_H_
