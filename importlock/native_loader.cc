#include "pyrt/importlock/native_loader.h"

#include <optional>

#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Module::definition of a multi-phase module: where its exec slots come from.
class Definition final : public Object {
 public:
  explicit Definition(const ModuleDef& the_def) : def(the_def) {}
  const char* TypeName() const override { return "moduledef"; }
  const ModuleDef def;
};

// Of a module that is there before any import, and needs no body.
class CoreLoader final : public Loader {
 public:
  explicit CoreLoader(Ref<Object> module) : module_(std::move(module)) {}

  absl::StatusOr<Ref<Object>> Create(const Ref<ModuleSpec>&) override { return module_; }
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>&) override { return absl::OkStatus(); }
  const char* TypeName() const override { return "NativeLoader"; }

 private:
  const Ref<Object> module_;
};

// Source: a ModuleInitFunction or the slots.
template <typename Source>
class NativeLoader final : public Loader {
 public:
  NativeLoader(NativeModules& owner, Source source) : owner_(owner), source_(source) {}

  absl::StatusOr<Ref<Object>> Create(const Ref<ModuleSpec>& spec) override {
    return owner_.Create(source_, spec);
  }
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>& module) override {
    return owner_.Exec(module);
  }
  const char* TypeName() const override { return "NativeLoader"; }

 private:
  NativeModules& owner_;
  const Source source_;
};

// What each interpreter's copy of a single-phase module has of its own.
bool BelongsToTheImport(std::string_view attribute) {
  return attribute == "__spec__" || attribute == "__loader__" || attribute == "__name__" ||
         attribute == "__package__" || attribute == "__file__";
}

}  // namespace

std::shared_ptr<const ExtensionCache::Extension> ExtensionCache::Find(const std::string& key) const {
  const BasicMutexLock lock(mutex_);
  const auto found = extensions_.find(key);
  return found == extensions_.end() ? nullptr : found->second;
}

std::shared_ptr<const ExtensionCache::Extension> ExtensionCache::Add(const std::string& key,
                                                                     Extension extension) {
  std::map<std::string, std::shared_ptr<const Extension>> node;  // allocated before the lock
  node.emplace(key, std::make_shared<const Extension>(std::move(extension)));
  const BasicMutexLock lock(mutex_);
  extensions_.merge(node);
  return extensions_.find(key)->second;
}

size_t ExtensionCache::size() const {
  const BasicMutexLock lock(mutex_);
  return extensions_.size();
}

Ref<Loader> NativeModules::LoaderFor(ModuleInitFunction init) {
  return MakeRef<NativeLoader<ModuleInitFunction>>(*this, init);
}

Ref<Loader> NativeModules::LoaderFor(const ModuleSlot* slots) {
  return MakeRef<NativeLoader<const ModuleSlot*>>(*this, slots);
}

Ref<Loader> NativeModules::LoaderForCore(std::string_view name) {
  Ref<Object> module = host_.CoreModule(name);
  return module ? Ref<Loader>(MakeRef<CoreLoader>(std::move(module))) : Ref<Loader>();
}

absl::StatusOr<int> NativeModules::OverrideMultiInterpExtensionsCheck(int override) {
  if (host_.IsMainInterpreter()) {
    return Raise(ErrorType::RuntimeError(),
                 "_imp._override_multi_interp_extensions_check() cannot be used in the main interpreter");
  }
  if constexpr (!kGilEnabled) {
    return Raise(ErrorType::RuntimeError(),
                 "_imp._override_multi_interp_extensions_check() cannot be used in the free-threaded build");
  }
  return override_.exchange(override, kRelaxed);
}

bool NativeModules::ChecksExtensions() const {
  const int override = override_.load(kRelaxed);
  return override < 0 ? false : override > 0 || host_.ChecksMultiInterpExtensions();
}

absl::Status NativeModules::CheckCompatible(const Ref<ModuleSpec>& spec, bool compatible) const {
  if (compatible || host_.IsMainInterpreter() || !ChecksExtensions()) return absl::OkStatus();
  return internal::ImportErrorFor(spec->name(),
                                  "module " + spec->name() + " does not support loading in subinterpreters");
}

// The GIL of a GIL-disabled build while a module is created: on, and off again at the end unless Settle keeps it.
class NativeModules::ImportGil {
 public:
  explicit ImportGil(ImportHost& host, bool wanted = true)
      : host_(host), enabled_(!kGilEnabled && wanted && host.EnableGilForImport()) {}
  ~ImportGil() {
    if (enabled_) host_.DisableGilAfterImport();
  }
  ImportGil(const ImportGil&) = delete;
  ImportGil& operator=(const ImportGil&) = delete;

  // The module exists: now it counts what it has said. CPython: _PyImport_CheckGILState.
  absl::Status Settle(GilUse use, const std::string& name) {
    if (!enabled_ || use == GilUse::kNotUsed) return absl::OkStatus();
    enabled_ = false;
    if (!host_.KeepGilEnabled()) return absl::OkStatus();
    return host_.Warn(ErrorType::RuntimeWarning(),
                      "The global interpreter lock (GIL) has been enabled to load module '" + name +
                          "', which has not declared that it can run safely without the GIL. To override "
                          "this behavior and keep "
                          "the GIL disabled (at your own risk), run with PYTHON_GIL=0 or -Xgil=0.");
  }

 private:
  ImportHost& host_;
  bool enabled_;
};

absl::StatusOr<Ref<Object>> NativeModules::Create(ModuleInitFunction init, const Ref<ModuleSpec>& spec) {
  if (init == nullptr) {
    return internal::ImportErrorFor(spec->name(), "cannot re-init module " + ReprOfString(spec->name()));
  }
  const auto cached = cache_.Find(spec->origin() + ":" + spec->name());
  // Of one that has run before it is known what it needs: the same in every interpreter that loads it.
  ImportGil gil(host_, cached == nullptr || cached->gil == GilUse::kUsed);
  GilUse use = GilUse::kUsed;
  absl::StatusOr<Ref<Object>> module;
  if (cached == nullptr) {
    module = CreateFrom(init, spec, use);
  } else {
    if (absl::Status status = CheckCompatible(spec, false); !status.ok()) return status;
    use = cached->gil;
    module = CopyOf(*cached, spec);
  }
  if (!module.ok()) return module;
  if (absl::Status settled = gil.Settle(use, spec->name()); !settled.ok()) return settled;
  return module;
}

absl::StatusOr<Ref<Object>> NativeModules::Create(const ModuleSlot* slots, const Ref<ModuleSpec>& spec) {
  const absl::StatusOr<ModuleDef> def = DefFromSlots(slots, spec->name().c_str());
  if (!def.ok()) return def.status();
  const absl::StatusOr<ModuleDefSlots> parsed = ModuleDefSlots::Parse(*def);
  if (!parsed.ok()) return parsed.status();
  ImportGil gil(host_, parsed->gil == GilUse::kUsed);
  absl::StatusOr<Ref<Object>> module = FromDef(*def, spec);
  if (!module.ok()) return module;
  if (absl::Status settled = gil.Settle(parsed->gil, spec->name()); !settled.ok()) return settled;
  return module;
}

// The init function of a single-phase module may run in the main interpreter only, and which kind it is turns out by
// running it: so it runs there (IL-69). A definition is static and serves everywhere; what a single-phase module has
// made belongs to the main interpreter and never leaves it, but for the cache's values.
absl::StatusOr<Ref<Object>> NativeModules::CreateFrom(ModuleInitFunction init, const Ref<ModuleSpec>& spec,
                                                      GilUse& gil) {
  const bool is_main = host_.IsMainInterpreter();
  const ModuleDef* def = nullptr;
  Ref<Object> module;  // single-phase, in the main interpreter
  std::shared_ptr<const ExtensionCache::Extension> extension;
  const std::string key = spec->origin() + ":" + spec->name();
  const auto run = [&]() -> absl::Status {
    // Whoever runs it is in the main interpreter, where an import of that name has this lock as well: one at a time, and
    // the others find what it has made. As a lock of these imports it is in the graph of their waits.
    std::optional<ModuleLock> lock;
    if (ModuleLockRegistry* const locks = host_.MainModuleLocks()) {
      lock.emplace(*locks, spec->name());
      switch (lock->Acquire(host_.Hooks())) {
        case ModuleLockStatus::kAcquired:
          break;
        case ModuleLockStatus::kDeadlock:
          return lock->DeadlockError();
        case ModuleLockStatus::kFailure:
          return host_.WaitFailure(LockStatus::kFailure, spec->name());
        case ModuleLockStatus::kInterrupted:
          return host_.WaitFailure(LockStatus::kInterrupted, spec->name());
      }
      extension = cache_.Find(key);
      if (extension != nullptr) {
        gil = extension->gil;
        if (is_main) module = CopyOf(*extension, spec);
        return absl::OkStatus();
      }
    }
    ModuleInit answer(spec);
    init(answer);
    if (absl::Status status = answer.Check(); !status.ok()) return status;
    def = answer.def();
    gil = answer.gil();
    if (def != nullptr) return absl::OkStatus();
    if (const Module* const made = AsModule(answer.module())) {
      // Into the cache before the check: it has run, and may not run again.
      std::vector<Dict::Item> attributes = made->dict()->Snapshot();
      std::erase_if(attributes, [](const Dict::Item& item) { return BelongsToTheImport(item.first); });
      for (const Dict::Item& item : attributes) item.second->MakeImmortal();
      extension = cache_.Add(key, {std::move(attributes), gil});
    }
    if (is_main) module = answer.module();
    return absl::OkStatus();
  };
  if (absl::Status status = is_main ? run() : host_.RunInMainInterpreter(run); !status.ok()) return status;

  if (def != nullptr) {
    const absl::StatusOr<ModuleDefSlots> slots = ModuleDefSlots::Parse(*def);
    if (!slots.ok()) return slots.status();
    gil = slots->gil;
    return FromDef(*def, spec);
  }
  if (is_main) return module;
  if (absl::Status status = CheckCompatible(spec, false); !status.ok()) return status;
  if (extension == nullptr) {
    return internal::ImportErrorFor(spec->name(), "module " + spec->name() +
                                                      " is no module object and cannot be copied into a "
                                                      "subinterpreter");
  }
  return CopyOf(*extension, spec);
}

absl::StatusOr<Ref<Object>> NativeModules::FromDef(const ModuleDef& def, const Ref<ModuleSpec>& spec) {
  const absl::StatusOr<ModuleDefSlots> slots = ModuleDefSlots::Parse(def);
  if (!slots.ok()) return slots.status();
  const MultipleInterpreters needed =
      host_.OwnsGil() ? MultipleInterpreters::kPerInterpreterGilSupported : MultipleInterpreters::kSupported;
  if (absl::Status status = CheckCompatible(spec, slots->multiple_interpreters >= needed); !status.ok()) {
    return status;
  }
  const char* const name = spec->name().c_str();
  absl::StatusOr<Ref<Object>> made =
      slots->create == nullptr ? Ref<Object>(Module::New(spec->name(), spec)) : slots->create(spec);
  if (!made.ok()) return made;
  if (!*made) {
    return Raise(ErrorType::SystemError(), "creation of module %s failed without setting an exception", name);
  }
  if (Module* const module = AsModule(*made)) {
    module->set_definition(MakeRef<Definition>(def));
    return made;
  }
  if (def.state_size != 0 || def.clear != nullptr) {
    return Raise(ErrorType::SystemError(), "module %s is not a module object, but requests module state",
                 name);
  }
  if (slots->executes) {
    return Raise(ErrorType::SystemError(),
                 "module %s specifies execution slots, but did not create a ModuleType instance", name);
  }
  return made;
}

absl::Status NativeModules::Exec(const Ref<Object>& module) {
  Module* const native = AsModule(module);
  if (native == nullptr || native->state() != nullptr) return absl::OkStatus();
  const Ref<Object> held = native->definition();  // whatever the slots do
  const auto* const definition = dynamic_cast<const Definition*>(held.get());
  if (definition == nullptr) return absl::OkStatus();
  native->AllocateState(definition->def.state_size, definition->def.clear);
  for (const ModuleSlot& slot : definition->def.slots) {
    if (slot.kind != ModuleSlot::Kind::kExec) continue;
    if (absl::Status status = slot.exec(module); !status.ok()) return status;
  }
  return absl::OkStatus();
}

Ref<Object> NativeModules::CopyOf(const ExtensionCache::Extension& extension, const Ref<ModuleSpec>& spec) {
  Ref<Module> module = Module::New(spec->name(), spec);
  for (const Dict::Item& item : extension.attributes) module->dict()->Set(item.first, item.second);
  return module;
}

}  // namespace pyrt::inline PYRT_VARIANT
