#include "pyrt/importlock/path_finder.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include <utility>

#include "pyrt/importlock/internal/finder_protocol.h"
#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class FileLoader final : public Loader {
 public:
  FileLoader(std::string path, PathFinder::Run run) : path_(std::move(path)), run_(std::move(run)) {}
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>& module) override {
    return run_(path_, module);
  }
  const char* TypeName() const override { return "SourceFileLoader"; }

 private:
  const std::string path_;
  const PathFinder::Run run_;
};

// A shared object stays loaded for the life of the process: functions of it may be anywhere.
class SharedObjectLoader final : public Loader {
 public:
  SharedObjectLoader(NativeModules& native, int flags) : native_(native), flags_(flags) {}

  absl::StatusOr<Ref<Object>> Create(const Ref<ModuleSpec>& spec) override {
    void* const handle = dlopen(spec->origin().c_str(), flags_);
    if (handle == nullptr) return ErrorWithPath(spec, dlerror());
    const auto slots = reinterpret_cast<ModuleExportFunction>(dlsym(handle, kModuleExportSymbol));
    const auto init = reinterpret_cast<ModuleInitFunction>(dlsym(handle, kModuleInitSymbol));
    if (slots == nullptr && init == nullptr) {
      return ErrorWithPath(spec, std::string("dynamic module does not define module export function (") +
                                     kModuleExportSymbol + " or " + kModuleInitSymbol + ")");
    }
    // Before anything of it runs: it may see all objects with another layout.
    const auto* const abi = static_cast<const ModuleAbi*>(dlsym(handle, kModuleAbiSymbol));
    if (abi == nullptr) {
      return ErrorWithPath(spec, spec->name() + ": no ABI information (" + kModuleAbiSymbol + ")");
    }
    if (absl::Status status = CheckModuleAbi(*abi, spec->name()); !status.ok()) return status;
    if (slots != nullptr) {
      const ModuleSlot* const exported = slots();
      if (exported != nullptr) return native_.Create(exported, spec);
      return Raise(ErrorType::SystemError(), "module export hook for module '%s' failed",
                   spec->name().c_str());
    }
    return native_.Create(init, spec);
  }
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>& module) override {
    return native_.Exec(module);
  }
  const char* TypeName() const override { return "ExtensionFileLoader"; }

 private:
  static absl::Status ErrorWithPath(const Ref<ModuleSpec>& spec, const std::string& message) {
    return ToStatus(Error::New(ErrorType::ImportError(), message)
                        ->WithAttribute("name", String::Of(spec->name()))
                        ->WithAttribute("path", String::Of(spec->origin())));
  }

  NativeModules& native_;
  const int flags_;
};

bool IsDirectory(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool IsFile(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

std::shared_ptr<const PathFinder::Listing> PathFinder::ListingOf(const std::string& directory) {
  struct stat status;
  const bool exists = ::stat(directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
  const int64_t modified =
      exists ? int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec : int64_t{-1};
  {
    const MutexLock lock(mutex_);
    const auto found = listings_.find(directory);
    if (found != listings_.end() && found->second->modified_ns == modified) return found->second;
  }
  auto listing = std::make_shared<Listing>();
  listing->modified_ns = modified;
  if (DIR* const stream = exists ? ::opendir(directory.c_str()) : nullptr) {
    while (const dirent* const entry = ::readdir(stream)) listing->names.insert(entry->d_name);
    ::closedir(stream);
  }
  std::shared_ptr<const Listing> result = std::move(listing);
  std::map<std::string, std::shared_ptr<const Listing>> node;  // allocated before the lock
  node.emplace(directory, result);
  std::shared_ptr<const Listing> old;
  const MutexLock lock(mutex_);
  ++listing_count_;
  const auto found = listings_.find(directory);
  if (found == listings_.end()) {
    listings_.merge(node);
  } else {
    old = std::exchange(found->second, result);
  }
  return result;
}

void PathFinder::InvalidateCaches() {
  {
    std::map<std::string, std::shared_ptr<const Listing>> old;
    const MutexLock lock(mutex_);
    old.swap(listings_);
  }
  const Ref<Object> cache = SysValue("path_importer_cache", path_importer_cache_);
  const Dict* const dict = As<Dict>(cache);
  if (dict == nullptr) return;
  for (const Dict::Item& item : dict->Snapshot()) {
    if (IsNone(item.second)) {
      static_cast<void>(As<Dict>(cache)->Pop(item.first));
    } else if (const absl::StatusOr<Ref<Object>> invalidate = item.second->GetAttr("invalidate_caches");
               invalidate.ok()) {
      (*invalidate)->Call({}).status().IgnoreError();
    }
  }
}

Ref<Object> PathFinder::SysValue(const char* name, const Ref<Object>& own) const {
  Ref<Object> value = options_.host == nullptr ? nullptr : options_.host->SysValue(name);
  return value ? value : own;
}

absl::StatusOr<Ref<Object>> PathFinder::EntryFinder(const std::string& entry) {
  const Ref<Object> hooks = SysValue("path_hooks", path_hooks_);
  const List* const list = As<List>(hooks);
  if (list == nullptr || list->size() == 0) return Ref<Object>();
  const Ref<Object> cache = SysValue("path_importer_cache", path_importer_cache_);
  Dict* const known = As<Dict>(cache);
  if (known != nullptr) {
    if (Ref<Object> finder = known->Get(entry)) return IsNone(finder) ? Ref<Object>() : finder;
  }
  Ref<Object> finder = None();
  const Ref<Object> argument[] = {String::Of(entry)};
  for (const Ref<Object>& hook : list->Snapshot()) {
    absl::StatusOr<Ref<Object>> made = hook->Call(argument);
    if (made.ok()) {
      finder = *made ? *std::move(made) : None();
      break;
    }
    if (!IsError(made.status(), ErrorType::ImportError())) return made;
  }
  if (known != nullptr) known->Set(entry, finder);
  return IsNone(finder) ? Ref<Object>() : finder;
}

uint64_t PathFinder::listings() const {
  const MutexLock lock(mutex_);
  return listing_count_;
}

Ref<ModuleSpec> PathFinder::FileSpec(std::string_view name, const std::string& file, const Suffix& suffix,
                                     const std::string& package_directory) {
  ModuleSpec::Options options;
  options.loader = MakeRef<FileLoader>(file, suffix.run);
  options.origin = file;
  options.has_location = true;
  options.is_package = !package_directory.empty();
  if (options.is_package) options.search_path = {package_directory};
  return ModuleSpec::New(name, std::move(options));
}

Ref<ModuleSpec> PathFinder::FindIn(const std::string& directory, std::string_view name,
                                   std::vector<std::string>& namespaces) {
  const std::string tail(LastComponentOf(name));
  const std::string where = directory.empty() ? "." : directory;
  const std::shared_ptr<const Listing> listing = ListingOf(where);
  const std::string base = where + "/" + tail;
  const bool has_directory = listing->names.contains(tail) && IsDirectory(base);
  if (has_directory) {
    for (const Suffix& suffix : options_.suffixes) {
      if (suffix.package_file.empty()) continue;
      const std::string file = base + "/" + suffix.package_file;
      if (IsFile(file)) return FileSpec(name, file, suffix, base);
    }
  }
  if (options_.native != nullptr && !options_.native_suffix.empty() &&
      listing->names.contains(tail + options_.native_suffix)) {
    const std::string file = base + options_.native_suffix;
    if (IsFile(file)) {
      ModuleSpec::Options options;
      options.loader = MakeRef<SharedObjectLoader>(
          *options_.native, options_.dlopen_flags == 0 ? RTLD_NOW : options_.dlopen_flags);
      options.origin = file;
      options.has_location = true;
      return ModuleSpec::New(name, std::move(options));
    }
  }
  for (const Suffix& suffix : options_.suffixes) {
    if (!listing->names.contains(tail + suffix.suffix)) continue;
    const std::string file = base + suffix.suffix;
    if (IsFile(file)) return FileSpec(name, file, suffix, "");
  }
  if (has_directory) namespaces.push_back(base);
  return {};
}

absl::StatusOr<Ref<ModuleSpec>> PathFinder::FindSpec(std::string_view name,
                                                     const std::vector<std::string>* path,
                                                     const Object* target) {
  const std::string_view tail = LastComponentOf(name);
  // What no file can be called: it would name a directory, climb out of one, or end a C string early.
  if (tail.empty() || tail.find('/') != std::string_view::npos || tail.find('\0') != std::string_view::npos) {
    return Ref<ModuleSpec>();
  }
  std::vector<std::string> entries;
  if (path != nullptr) {
    entries = *path;
  } else {
    const Ref<Object> top = SysValue("path", path_);
    const List* const list = As<List>(top);
    if (list == nullptr) return Ref<ModuleSpec>();  // None: nothing is searched
    for (const Ref<Object>& item : list->Snapshot()) {
      if (const String* const entry = As<String>(item)) entries.push_back(entry->value());
    }
  }
  std::vector<std::string> namespaces;
  for (const std::string& entry : entries) {
    const absl::StatusOr<Ref<Object>> finder = EntryFinder(entry);
    if (!finder.ok()) return finder.status();
    if (!*finder) {
      if (Ref<ModuleSpec> spec = FindIn(entry, name, namespaces)) return spec;
      continue;
    }
    absl::StatusOr<Ref<ModuleSpec>> spec = internal::AskPathEntryFinder(*finder, name, target);
    if (!spec.ok()) return spec;
    if (!*spec) continue;
    if ((*spec)->loader()) return spec;
    // Without a loader: its portion of a namespace package.
    if (!(*spec)->is_package()) return internal::ImportErrorFor(name, "spec missing loader");
    namespaces.insert(namespaces.end(), (*spec)->search_path().begin(), (*spec)->search_path().end());
  }
  if (namespaces.empty()) return Ref<ModuleSpec>();
  ModuleSpec::Options options;
  options.is_package = true;
  options.search_path = std::move(namespaces);
  return ModuleSpec::New(name, std::move(options));
}

}  // namespace pyrt::inline PYRT_VARIANT
