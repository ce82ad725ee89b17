// NativeLoader: makes modules from init functions, with the checks that subinterpreters and the GIL need.
//
//   init function   in a GIL-disabled build with the GIL on, until the module has been created and has said that it
//                   does not need it; if it does not say so, the GIL stays on, with a RuntimeWarning the first
//                   time (GI-31, GI-36). A module that cannot be created leaves the GIL as it was
//   multi-phase     definition, or exported slots (PEP 793) -> compatibility check -> create slot -> state -> exec
//                   slots; per interpreter
//   single-phase    runs once in the process, attached to the main interpreter -> cached -> check; every other
//                   interpreter gets a module with a copy of its dictionary, whose values become immortal because
//                   interpreters share them
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
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/import_host.h"
#include "pyrt/importlock/module.h"
#include "pyrt/importlock/module_def.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/lock_rank.h"
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

  // Brackets a fork: it may come while another interpreter, with a GIL of its own, is in here.
  void BeforeFork() PYRT_ACQUIRE(mutex_) { mutex_.Lock(); }
  void AfterForkInParent() PYRT_RELEASE(mutex_) { mutex_.Unlock(); }
  void AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS { mutex_.ReinitAfterFork(); }

 private:
  RankedMutex<LockRank::kExtensions> mutable mutex_;
  std::map<std::string, std::shared_ptr<const Extension>> extensions_ PYRT_GUARDED_BY(mutex_);
};

// What the native modules of one interpreter share.
class NativeModules {
 public:
  NativeModules(ImportHost& host, ExtensionCache& cache) : host_(host), cache_(cache) {}
  NativeModules(const NativeModules&) = delete;
  NativeModules& operator=(const NativeModules&) = delete;

  // A loader for modules that `init` makes, or that `slots` (ended by kEnd) describe. Null `init`: an ImportError
  // when it is used.
  Ref<Loader> LoaderFor(ModuleInitFunction init);
  Ref<Loader> LoaderFor(const ModuleSlot* slots);
  // A loader of the module that the interpreter's core has made under this name (ImportHost::CoreModule); null:
  // none.
  Ref<Loader> LoaderForCore(std::string_view name);

  // -1 no check, +1 check, 0 as configured. Returns the value before; RuntimeError with CPython's text in the
  // main interpreter and in a GIL-disabled build. CPython: _imp._override_multi_interp_extensions_check.
  absl::StatusOr<int> OverrideMultiInterpExtensionsCheck(int override);
  bool ChecksExtensions() const;

  // A new module, not yet executed and in no table. CPython: PyImport_CreateModuleFromInitfunc,
  // PyModule_FromSlotsAndSpec.
  absl::StatusOr<Ref<Object>> Create(ModuleInitFunction init, const Ref<ModuleSpec>& spec);
  absl::StatusOr<Ref<Object>> Create(const ModuleSlot* slots, const Ref<ModuleSpec>& spec);
  // Makes the state and runs the exec slots; nothing for a module that has its state already (reload), or that
  // is not one of Create's multi-phase modules, made by a create slot or without. CPython: PyModule_ExecDef,
  // _imp.exec_dynamic.
  absl::Status Exec(const Ref<Object>& module);

 private:
  class ImportGil;

  absl::StatusOr<Ref<Object>> CreateFrom(ModuleInitFunction init, const Ref<ModuleSpec>& spec, GilUse& gil);
  absl::Status CheckCompatible(const Ref<ModuleSpec>& spec, bool compatible) const;
  absl::StatusOr<Ref<Object>> FromDef(const ModuleDef& def, const Ref<ModuleSpec>& spec);
  static Ref<Object> CopyOf(const ExtensionCache::Extension& extension, const Ref<ModuleSpec>& spec);

  ImportHost& host_;
  ExtensionCache& cache_;
  Atomic<int> override_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_NATIVE_LOADER_H_
