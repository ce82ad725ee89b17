// Module and ModuleSpec: what an import makes, and the plan by which it was made.
//
// A Module is a name, a dictionary of attributes, and the state of a native module. Hosts derive their own
// from it, or let their loaders make any other Object: the import system itself needs the spec only.
//
// A ModuleSpec is immutable but for two things that belong to a running import: `initializing`, which keeps
// other threads from taking a half-made module for a finished one, and the stack of submodules that are being
// loaded, for error messages.
//
// CPython counterpart: PyModuleObject, importlib.machinery.ModuleSpec.

#ifndef PYRT_IMPORTLOCK_MODULE_H_
#define PYRT_IMPORTLOCK_MODULE_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class ModuleSpec;

// Makes and fills a module. Called attached, with no runtime lock; may run anything.
class Loader : public Object {
 public:
  const char* TypeName() const override { return "Loader"; }

  // The new module, or null for a plain Module. Default: null.
  virtual absl::StatusOr<Ref<Object>> Create(const Ref<ModuleSpec>& spec);
  // Runs the body. `module` is in the table already; the body may replace or delete it there.
  virtual absl::Status Exec(const Ref<ModuleSpec>& spec, const Ref<Object>& module) = 0;
};

// Knows where modules come from. Called attached, under the interpreter's import lock (and nothing else).
class Finder : public Object {
 public:
  const char* TypeName() const override { return "Finder"; }

  // The plan for `name`, or null if this finder does not know it. `path` is the parent package's search path,
  // null for a top-level module. `target` is the module that is being reloaded, or null.
  virtual absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name,
                                                   const std::vector<std::string>* path,
                                                   const Object* target) = 0;
};

class ModuleSpec final : public Object {
 public:
  struct Options {
    Ref<Loader> loader;         // null: a namespace package if is_package, else not loadable
    std::string origin;         // where from: a path, "built-in", "frozen"; "" if unknown
    bool has_location = false;  // origin is a path, which becomes __file__
    bool is_package = false;
    std::vector<std::string> search_path;  // of a package: __path__
  };

  static Ref<ModuleSpec> New(std::string_view name, Options options);

  const std::string& name() const { return name_; }
  // The package that relative imports start from: the name itself for a package, else all before the last
  // dot.
  std::string_view parent() const;
  const Ref<Loader>& loader() const { return options_.loader; }
  const std::string& origin() const { return options_.origin; }
  bool has_location() const { return options_.has_location; }
  bool is_package() const { return options_.is_package; }
  const std::vector<std::string>& search_path() const { return options_.search_path; }

  // Whether the module's body has not ended. Acquire pairs with the release of the end: who reads false sees
  // everything that the body did, and that a module which failed has left the table (gh-143650).
  bool initializing() const {
    return initializing_.load(PYRT_MUTANT(module_spec_initializing_is_relaxed) ? kRelaxed : kAcquire);
  }
  void set_initializing(bool initializing) {
    initializing_.store(initializing, PYRT_MUTANT(module_spec_initializing_is_relaxed) ? kRelaxed : kRelease);
  }

  // The last components of submodules that are being loaded now. CPython: _uninitialized_submodules.
  void PushUninitialized(std::string_view child);
  void PopUninitialized(std::string_view child);
  bool IsUninitialized(std::string_view child) const;

  const char* TypeName() const override { return "ModuleSpec"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;

 private:
  ModuleSpec(std::string_view name, Options options) : name_(name), options_(std::move(options)) {}

  const std::string name_;
  const Options options_;
  Atomic<bool> initializing_{false};
  mutable Mutex mutex_;
  std::vector<std::string> uninitialized_ PYRT_GUARDED_BY(mutex_);
};

// A module's attribute that stands for another object until somebody asks for it (lazy_import.h): Module::GetAttr
// gives that object, and keeps it in the placeholder's stead.
class Deferred : public Object {
 public:
  virtual absl::StatusOr<Ref<Object>> Resolve() = 0;
};

class Module : public Object {
 public:
  // `spec` may be null (AddModule). Sets __name__, __spec__, __package__, __loader__ and, as far as the spec
  // has them, __path__ and __file__.
  static Ref<Module> New(std::string_view name, Ref<ModuleSpec> spec = {});

  const std::string& name() const { return name_->value(); }
  const Ref<ModuleSpec>& spec() const { return spec_; }
  const Ref<Dict>& dict() const { return dict_; }

  // The native module's own memory, zeroed; null before it is allocated. `clear` runs once, when the module
  // dies or its interpreter clears it. CPython: PyModule_GetState, m_clear and m_free.
  void* state() const { return state_.get(); }
  void AllocateState(size_t size, void (*clear)(void* state));
  void ClearState();
  // What a native module is executed by (native_loader.h), whoever created it; null for others. Of its creator,
  // before anybody else sees it. CPython: md_def.
  const Ref<Object>& definition() const { return definition_; }
  void set_definition(Ref<Object> definition) { definition_ = std::move(definition); }
  // The end of a module that something still refers to: its names become None, those with one leading underscore
  // before the others and __builtins__ never, so that destructors that run meanwhile find as much as possible;
  // then its state is cleared. CPython: _PyModule_Clear.
  void Wipe();

  const char* TypeName() const override { return "module"; }
  absl::StatusOr<std::string> Repr() const override;  // <module 'm' from '/x/m.so'>
  // With CPython's texts for what a circular import has not made yet.
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;
  absl::Status SetAttr(std::string_view name, Ref<Object> value) override;

 protected:
  Module(std::string_view name, Ref<ModuleSpec> spec);
  ~Module() override;

 private:
  const Ref<String> name_;  // what __name__ is at first
  const Ref<ModuleSpec> spec_;
  const Ref<Dict> dict_;
  std::unique_ptr<unsigned char[]> state_;
  void (*clear_state_)(void*) = nullptr;
  Ref<Object> definition_;
};

// The object as a Module, or null. A dynamic_cast: for slow paths.
inline Module* AsModule(const Ref<Object>& object) { return dynamic_cast<Module*>(object.get()); }

// "a.b" of "a.b.c", "" of "a"; "c" and "a".
std::string_view ParentOf(std::string_view name);
std::string_view LastComponentOf(std::string_view name);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_MODULE_H_
