#include "pyrt/importlock/native_loader.h"

#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A native module knows the definition that its exec slots come from.
class NativeModule final : public Module {
 public:
  NativeModule(const Ref<ModuleSpec>& spec, const ModuleDef& the_def)
      : Module(spec->name(), spec), def(the_def) {}
  const ModuleDef& def;
};

class InitLoader final : public Loader {
 public:
  InitLoader(NativeModules& owner, ModuleInitFunction init) : owner_(owner), init_(init) {}

  absl::StatusOr<Ref<Object>> Create(const Ref<ModuleSpec>& spec) override {
    return owner_.Create(init_, spec);
  }
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>& module) override {
    auto* const native = dynamic_cast<NativeModule*>(module.get());
    return native == nullptr ? absl::OkStatus() : owner_.Exec(native->def, module);
  }
  const char* TypeName() const override { return "NativeLoader"; }

 private:
  NativeModules& owner_;
  const ModuleInitFunction init_;
};

}  // namespace

std::shared_ptr<const ExtensionCache::Extension> ExtensionCache::Find(const std::string& key) const {
  const MutexLock lock(mutex_);
  const auto found = extensions_.find(key);
  return found == extensions_.end() ? nullptr : found->second;
}

std::shared_ptr<const ExtensionCache::Extension> ExtensionCache::Add(const std::string& key,
                                                                     Extension extension) {
  std::map<std::string, std::shared_ptr<const Extension>> node;  // allocated before the lock
  node.emplace(key, std::make_shared<const Extension>(std::move(extension)));
  const MutexLock lock(mutex_);
  extensions_.merge(node);
  return extensions_.find(key)->second;
}

size_t ExtensionCache::size() const {
  const MutexLock lock(mutex_);
  return extensions_.size();
}

Ref<Loader> NativeModules::LoaderFor(ModuleInitFunction init) { return MakeRef<InitLoader>(*this, init); }

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

absl::Status NativeModules::SettleGil(bool enabled, GilUse use, const Ref<ModuleSpec>& spec) {
  if (!enabled) return absl::OkStatus();
  if (use == GilUse::kNotUsed) {
    host_.DisableGilAfterImport();
    return absl::OkStatus();
  }
  host_.KeepGilEnabled();
  return host_.Warn(ErrorType::RuntimeWarning(),
                    "The global interpreter lock (GIL) has been enabled to load module '" + spec->name() +
                        "', which has not declared that it can run safely without the GIL. To override this "
                        "behavior and keep the GIL disabled (at your own risk), run with PYTHON_GIL=0 or "
                        "-Xgil=0.");
}

absl::StatusOr<Ref<Object>> NativeModules::Create(ModuleInitFunction init, const Ref<ModuleSpec>& spec) {
  if (init == nullptr) {
    return internal::ImportErrorFor(spec->name(), "cannot re-init module " + ReprOfString(spec->name()));
  }
  const std::string key = spec->origin() + ":" + spec->name();
  if (const auto cached = cache_.Find(key)) {
    if (absl::Status status = CheckCompatible(spec, false); !status.ok()) return status;
    // A module that needs the GIL needs it in every interpreter that loads it.
    const bool enabled = !kGilEnabled && cached->gil == GilUse::kUsed && host_.EnableGilForImport();
    if (absl::Status status = SettleGil(enabled, cached->gil, spec); !status.ok()) return status;
    return SinglePhase(key, init, spec, nullptr);
  }

  // With the GIL, as long as the module has not said that it can do without. The init function of a
  // single-phase module may run in the main interpreter only, and which kind it is turns out by running it: so
  // it runs there (IL-69). A definition is static and serves everywhere.
  const bool gil_enabled = !kGilEnabled && host_.EnableGilForImport();
  ModuleInit answer(spec);
  absl::Status status;
  const auto run = [&] {
    init(answer);
    return answer.Check();
  };
  status = host_.IsMainInterpreter() ? run() : host_.RunInMainInterpreter(run);
  if (!status.ok()) {
    if (gil_enabled) host_.DisableGilAfterImport();
    return status;
  }
  GilUse use = answer.gil();
  if (answer.def() != nullptr) {
    const absl::StatusOr<ModuleDefSlots> slots = ModuleDefSlots::Parse(*answer.def());
    if (!slots.ok()) {
      if (gil_enabled) host_.DisableGilAfterImport();
      return slots.status();
    }
    use = slots->gil;
  }
  if (answer.def() == nullptr) {
    // Into the cache before the check: it has run, and may not run again.
    if (const Module* const module = AsModule(answer.module())) {
      cache_.Add(key, {module->dict()->Snapshot(), use});
    }
    if (absl::Status compatible = CheckCompatible(spec, false); !compatible.ok()) {
      if (gil_enabled) host_.DisableGilAfterImport();
      return compatible;
    }
  }
  if (absl::Status settled = SettleGil(gil_enabled, use, spec); !settled.ok()) return settled;
  if (answer.def() != nullptr) return FromDef(*answer.def(), spec);
  return SinglePhase(key, init, spec, &answer);
}

absl::StatusOr<Ref<Object>> NativeModules::FromDef(const ModuleDef& def, const Ref<ModuleSpec>& spec) {
  const absl::StatusOr<ModuleDefSlots> slots = ModuleDefSlots::Parse(def);
  if (!slots.ok()) return slots.status();
  const MultipleInterpreters needed =
      host_.OwnsGil() ? MultipleInterpreters::kPerInterpreterGilSupported : MultipleInterpreters::kSupported;
  if (absl::Status status = CheckCompatible(spec, slots->multiple_interpreters >= needed); !status.ok()) {
    return status;
  }
  if (slots->create != nullptr) {
    absl::StatusOr<Ref<Object>> made = slots->create(spec);
    if (made.ok() && !*made) {
      return Raise(ErrorType::SystemError(), "creation of module %s failed without setting an exception",
                   spec->name().c_str());
    }
    return made;
  }
  return Ref<Object>(MakeRef<NativeModule>(spec, def));
}

absl::Status NativeModules::Exec(const ModuleDef& def, const Ref<Object>& module) {
  Module* const native = AsModule(module);
  if (native->state() == nullptr) native->AllocateState(def.state_size, def.clear);  // not on reload
  for (const ModuleSlot& slot : def.slots) {
    if (slot.kind != ModuleSlot::Kind::kExec) continue;
    if (absl::Status status = slot.exec(module); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Ref<Object>> NativeModules::SinglePhase(const std::string& key, ModuleInitFunction,
                                                       const Ref<ModuleSpec>& spec,
                                                       const ModuleInit* answered) {
  // The module that the init function made belongs to the main interpreter.
  if (answered != nullptr && (host_.IsMainInterpreter() || AsModule(answered->module()) == nullptr)) {
    return answered->module();
  }
  const auto cached = cache_.Find(key);
  Ref<Module> module = Module::New(spec->name(), spec);
  for (const Dict::Item& item : cached->attributes) {
    const bool is_of_the_import = item.first == "__spec__" || item.first == "__loader__" ||
                                  item.first == "__name__" || item.first == "__package__";
    if (!is_of_the_import) module->dict()->Set(item.first, item.second);
  }
  return Ref<Object>(std::move(module));
}

}  // namespace pyrt::inline PYRT_VARIANT
