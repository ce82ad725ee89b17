#include "pyrt/importlock/inittab.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

InittabSnapshot::InittabSnapshot(const std::vector<InittabEntry>& entries) {
  for (const InittabEntry& entry : entries) entries_.emplace(entry.name, entry);  // the first one stays
}

const InittabEntry* InittabSnapshot::Find(std::string_view name) const {
  const auto found = entries_.find(std::string(name));
  return found == entries_.end() ? nullptr : &found->second;
}

int InittabSnapshot::IsBuiltin(std::string_view name) const {
  const InittabEntry* const entry = Find(name);
  return entry == nullptr ? 0 : entry->init == nullptr ? -1 : 1;
}

std::vector<std::string> InittabSnapshot::Names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status Inittab::CheckName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("a built-in module needs a name");
  const size_t nul = name.find('\0');
  if (nul != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name of a built-in module has a NUL at byte ", nul, ": leave it out"));
  }
  return absl::OkStatus();
}

absl::Status Inittab::Append(std::string_view name, ModuleInitFunction init) {
  if (frozen_)
    Fatal("PyImport_AppendInittab", "PyImport_AppendInittab() may not be called after Py_Initialize()");
  if (absl::Status status = CheckName(name); !status.ok()) return status;
  entries_.push_back({std::string(name), init});
  return absl::OkStatus();
}

absl::Status Inittab::Extend(absl::Span<const InittabEntry> entries) {
  if (frozen_)
    Fatal("PyImport_ExtendInittab", "PyImport_ExtendInittab() may not be called after Py_Initialize()");
  for (const InittabEntry& entry : entries) {
    if (absl::Status status = CheckName(entry.name); !status.ok()) return status;
  }
  entries_.insert(entries_.end(), entries.begin(), entries.end());
  return absl::OkStatus();
}

std::shared_ptr<const InittabSnapshot> Inittab::Freeze() {
  frozen_ = true;
  return std::make_shared<const InittabSnapshot>(entries_);
}

absl::StatusOr<Ref<ModuleSpec>> BuiltinFinder::FindSpec(std::string_view name,
                                                        const std::vector<std::string>*, const Object*) {
  const InittabEntry* const entry = inittab_->Find(name);
  if (entry == nullptr) return Ref<ModuleSpec>();
  ModuleSpec::Options options;
  options.loader = entry->init == nullptr ? native_.LoaderForCore(name) : native_.LoaderFor(entry->init);
  if (!options.loader) return Ref<ModuleSpec>();  // a name, and nobody has made the module
  options.origin = "built-in";
  return ModuleSpec::New(name, std::move(options));
}

}  // namespace pyrt::inline PYRT_VARIANT
