#include "pyrt/importlock/frozen.h"

#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class FrozenLoader final : public Loader {
 public:
  FrozenLoader(const FrozenModule& module, std::string_view original, RunFrozen run)
      : module_(module), original_(original), run_(std::move(run)) {}

  absl::Status Exec(const Ref<ModuleSpec>& spec, const Ref<Object>& module) override {
    if (module_.code == nullptr) return FrozenError(FrozenStatus::kExcluded, spec->name());
    if (module_.size == 0) return FrozenError(FrozenStatus::kInvalid, spec->name());
    return run_(module_, module, original_);
  }
  const char* TypeName() const override { return "FrozenImporter"; }

 private:
  const FrozenModule& module_;
  const std::string original_;
  const RunFrozen run_;
};

const FrozenModule* Search(const std::vector<FrozenModule>& table, std::string_view name) {
  for (const FrozenModule& module : table) {
    if (module.name == name) return &module;
  }
  return nullptr;
}

}  // namespace

FrozenTables::Result FrozenTables::Find(std::string_view name, bool use_frozen) const {
  Result result;
  if (name.empty() || name.find('\0') != std::string_view::npos) {
    result.status = FrozenStatus::kBadName;
    return result;
  }
  result.original = name;
  result.module = Search(bootstrap, name);
  if (result.module == nullptr) result.module = Search(embedder, name);
  if (result.module == nullptr) {
    result.module = Search(stdlib, name);
    if (result.module == nullptr) result.module = Search(test, name);
    if (result.module != nullptr && !use_frozen) {
      result.module = nullptr;
      result.status = FrozenStatus::kDisabled;
      return result;
    }
  }
  if (result.module == nullptr) return result;
  result.status = result.module->code == nullptr ? FrozenStatus::kExcluded
                  : result.module->size == 0     ? FrozenStatus::kInvalid
                                                 : FrozenStatus::kFound;
  for (const FrozenAlias& alias : aliases) {
    if (alias.name == name) result.original = alias.original;
  }
  return result;
}

absl::Status FrozenError(FrozenStatus status, std::string_view name) {
  const std::string shown = ReprOfString(name);
  switch (status) {
    case FrozenStatus::kBadName:
    case FrozenStatus::kNotFound:
      return internal::ImportErrorFor(name, "No such frozen object named " + shown);
    case FrozenStatus::kDisabled:
      return internal::ImportErrorFor(
          name, "Frozen modules are disabled and the frozen object named " + shown + " is not essential");
    case FrozenStatus::kExcluded:
      return internal::ImportErrorFor(name, "Excluded frozen object named " + shown);
    case FrozenStatus::kInvalid:
      return internal::ImportErrorFor(name, "Frozen object named " + shown + " is invalid");
    case FrozenStatus::kFound:
      break;
  }
  PYRT_UNREACHABLE("frozen module %s was found", shown.c_str());
}

absl::StatusOr<bool> ImportFrozenModule(Importer& importer, const FrozenTables& tables, std::string_view name,
                                        bool use_frozen, const RunFrozen& run) {
  const FrozenTables::Result found = tables.Find(name, use_frozen);
  if (found.status == FrozenStatus::kNotFound || found.status == FrozenStatus::kDisabled ||
      found.status == FrozenStatus::kBadName) {
    return false;
  }
  if (found.status != FrozenStatus::kFound) return FrozenError(found.status, name);
  const absl::StatusOr<Ref<Object>> module = importer.ExecModule(name, [&](const Ref<Object>& target) {
    if (found.module->is_package) {  // code that imports submodules needs it at once
      if (absl::Status status = target->SetAttr("__path__", List::Of()); !status.ok()) return status;
    }
    const Ref<Object> original = found.original.empty() ? None() : Ref<Object>(String::Of(found.original));
    if (absl::Status status = target->SetAttr("__origname__", original); !status.ok()) return status;
    return run(*found.module, target, found.original);
  });
  if (!module.ok()) return module.status();
  return true;
}

absl::StatusOr<Ref<ModuleSpec>> FrozenFinder::FindSpec(std::string_view name, const std::vector<std::string>*,
                                                       const Object*) {
  const FrozenTables::Result found = tables_.Find(name, use_frozen_);
  // Excluded and invalid ones are found, and fail when they are loaded.
  if (found.module == nullptr) return Ref<ModuleSpec>();
  ModuleSpec::Options options;
  options.loader = MakeRef<FrozenLoader>(*found.module, found.original, run_);
  options.origin = "frozen";
  options.is_package = found.module->is_package;
  return ModuleSpec::New(name, std::move(options));
}

}  // namespace pyrt::inline PYRT_VARIANT
