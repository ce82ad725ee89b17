#include "pyrt/runtime/standard_runtime.h"

#include <string>
#include <string_view>
#include <utility>

#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// sys.modules: the table as an object.
class ModulesView final : public Object {
 public:
  explicit ModulesView(Importer& importer) : importer_(Ref<Importer>::Share(&importer)) {}

  const char* TypeName() const override { return "dict"; }
  absl::StatusOr<std::string> Repr() const override {
    std::string text;
    for (const ModuleTable::Item& item : importer_->modules().Snapshot()) {
      absl::StatusOr<std::string> shown = item.second->Repr();
      if (!shown.ok()) return shown;
      text += (text.empty() ? "" : ", ") + ReprOfString(item.first) + ": " + *shown;
    }
    return "{" + text + "}";
  }
  absl::StatusOr<bool> IsTrue() const override { return importer_->modules().size() != 0; }

 private:
  const Ref<Importer> importer_;
};

absl::Status InitCore(void*, Interpreter& interp) {
  Importer& importer = *ImporterOf(interp);
  SysModule& sys = *SysModule::Of(interp);
  const Ref<Object> modules = MakeRef<ModulesView>(importer);
  static_cast<void>(interp.set_table(Interpreter::Table::kModules, modules));
  sys.dict().Set("modules", modules);
  sys.dict().Set("meta_path", importer.meta_path());
  sys.dict().Set("path", importer.path());
  sys.dict().Set("path_hooks", importer.path_hooks());
  importer.modules().Set("sys", Ref<Object>::Share(&sys));
  return absl::OkStatus();
}

// Before the importer's own end, which takes the modules: no finder and no hook outlives what it may refer to.
void FinalizeModules(void*, Interpreter& interp) {
  SysModule* const sys = SysModule::Of(interp);
  if (sys == nullptr) return;
  sys->dict().Set("path_hooks", List::Of());
  const Ref<Object> cache = sys->dict().Find("path_importer_cache");
  if (Dict* const entries = As<Dict>(cache)) entries->Clear();
  sys->dict().Set("meta_path", None());
}

}  // namespace

void AddStandardSubsystems(StandardRuntimeOptions options) {
  RuntimeConfig& config = options.sys.config;
  ImportSubsystemOptions& imports = options.imports;
  imports.use_frozen = config.use_frozen_modules;
  imports.path = config.module_search_paths;
  imports.import_time = config.import_time;
  imports.lazy_imports = config.lazy_imports > 0 ? LazyImportsMode::kAll : LazyImportsMode::kNormal;
  imports.may_enable_gil = config.gil == GilMode::kDefault;
  if (imports.inittab != nullptr) config.builtin_module_names = imports.inittab->Names();
  imports.sys_value = [](Interpreter& interp, std::string_view name) {
    SysModule* const sys = SysModule::Of(interp);
    return sys == nullptr ? Ref<Object>() : sys->dict().Find(name);
  };

  const Subsystem sys = SysSubsystem(std::move(options.sys));
  const Subsystem import = ImportSubsystem(std::move(imports));
  static bool added = false;  // one thread at a time starts or ends the runtime
  if (std::exchange(added, true)) return;
  // On the way down the reverse: sys lets go of what keeps modules alive before the importer ends them, and of the
  // importer before that goes (IL-77).
  Runtime::AddSubsystem(import);
  Runtime::AddSubsystem(sys);
  Runtime::AddSubsystem({.name = "standard",
                         .init_core = &InitCore,
                         .finalize_modules = &FinalizeModules,
                         .clear_interpreter = [](void*, Interpreter& interp) {
                           const Ref<Object> modules =
                               interp.set_table(Interpreter::Table::kModules, nullptr);
                         }});
}

}  // namespace pyrt::inline PYRT_VARIANT
