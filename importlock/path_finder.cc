#include "pyrt/importlock/path_finder.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <sys/stat.h>

#include <optional>
#include <utility>

#include "pyrt/importlock/internal/finder_protocol.h"
#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/importlock/internal/items.h"
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

// A symbol that the object itself defines, or null. dlsym also finds those of the objects that it depends on,
// which may be modules of their own.
void* OwnSymbol(void* handle, const char* name) {
  void* const symbol = dlsym(handle, name);
  link_map* own = nullptr;
  void* home = nullptr;
  Dl_info info;
  if (symbol == nullptr || dlinfo(handle, RTLD_DI_LINKMAP, &own) != 0 ||
      dladdr1(symbol, &info, &home, RTLD_DL_LINKMAP) == 0) {
    return nullptr;
  }
  return home == own ? symbol : nullptr;
}

// A shared object stays loaded for the life of the process: functions of it may be anywhere.
class SharedObjectLoader final : public Loader {
 public:
  SharedObjectLoader(NativeModules& native, int flags) : native_(native), flags_(flags) {}

  absl::StatusOr<Ref<Object>> Create(const Ref<ModuleSpec>& spec) override {
    void* const handle = dlopen(spec->origin().c_str(), flags_);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's dlerror is the thread's own
    if (handle == nullptr) return ErrorWithPath(spec, dlerror());
    const auto slots = reinterpret_cast<ModuleExportFunction>(OwnSymbol(handle, kModuleExportSymbol));
    const auto init = reinterpret_cast<ModuleInitFunction>(OwnSymbol(handle, kModuleInitSymbol));
    if (slots == nullptr && init == nullptr) {
      return ErrorWithPath(spec, std::string("dynamic module does not define module export function (") +
                                     kModuleExportSymbol + " or " + kModuleInitSymbol + ")");
    }
    // Before anything of it runs: it may see all objects with another layout.
    const auto* const abi = static_cast<const ModuleAbi*>(OwnSymbol(handle, kModuleAbiSymbol));
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

// The names in a directory. An errno, 0 for none.
int ReadNames(const std::string& directory, std::unordered_set<std::string>& names) {
  DIR* const stream = ::opendir(directory.c_str());
  if (stream == nullptr) return errno;
  int error = 0;
  for (;;) {
    errno = 0;  // which tells an error from the end
    const dirent* const entry =
        ::readdir(stream);  // NOLINT(concurrency-mt-unsafe): nobody else has this stream
    if (entry == nullptr) {
      error = errno;
      break;
    }
    names.insert(entry->d_name);
  }
  ::closedir(stream);
  return error;
}

bool IsDirectory(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool IsFile(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const PathFinder::Listing>> PathFinder::ListingOf(
    const std::string& directory) {
  struct stat status;
  const bool exists = ::stat(directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
  Version version;
  if (exists) {
    version.modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    version.device = status.st_dev;
    version.inode = status.st_ino;
  }
  {
    const MutexLock lock(mutex_);
    const auto found = listings_.find(directory);
    if (found != listings_.end() && found->second->version == version) return found->second;
  }
  auto listing = std::make_shared<Listing>();
  listing->version = version;
  if (exists) {
    if (const int error = ReadNames(directory, listing->names); error != 0) {
      // importlib's exceptions: that a directory has gone, or may not be read, makes it empty. Anything else
      // passes, while the directory stays as it is: nothing may be remembered of it.
      if (error != ENOENT && error != EACCES && error != EPERM && error != ENOTDIR) {
        return ToStatus(NewOsError(error, directory));
      }
      listing->names.clear();
    }
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
  const std::optional<std::vector<Ref<Object>>> list = internal::Items(hooks);
  if (!list.has_value() || list->empty()) return Ref<Object>();
  const Ref<Object> cache = SysValue("path_importer_cache", path_importer_cache_);
  Dict* const known = As<Dict>(cache);
  if (known != nullptr) {
    if (Ref<Object> finder = known->Get(entry)) return IsNone(finder) ? Ref<Object>() : finder;
  }
  Ref<Object> finder = None();
  const Ref<Object> argument[] = {String::Of(entry)};
  for (const Ref<Object>& hook : *list) {
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

absl::StatusOr<Ref<ModuleSpec>> PathFinder::FindIn(const std::string& directory, std::string_view name,
                                                   std::vector<std::string>& namespaces) {
  const std::string tail(LastComponentOf(name));
  const std::string where = directory.empty() ? "." : directory;
  const absl::StatusOr<std::shared_ptr<const Listing>> listing = ListingOf(where);
  if (!listing.ok()) return listing.status();
  const std::unordered_set<std::string>& names = (*listing)->names;
  const std::string base = where + "/" + tail;
  const bool has_directory = names.contains(tail) && IsDirectory(base);
  if (has_directory) {
    for (const Suffix& suffix : options_.suffixes) {
      if (suffix.package_file.empty()) continue;
      const std::string file = base + "/" + suffix.package_file;
      if (IsFile(file)) return FileSpec(name, file, suffix, base);
    }
  }
  if (options_.native != nullptr && !options_.native_suffix.empty() &&
      names.contains(tail + options_.native_suffix)) {
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
    if (!names.contains(tail + suffix.suffix)) continue;
    const std::string file = base + suffix.suffix;
    if (IsFile(file)) return FileSpec(name, file, suffix, "");
  }
  if (has_directory) namespaces.push_back(base);
  return Ref<ModuleSpec>();
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
    entries = internal::StringItems(SysValue("path", path_));  // None: nothing is searched
  }
  std::vector<std::string> namespaces;
  for (const std::string& entry : entries) {
    const absl::StatusOr<Ref<Object>> finder = EntryFinder(entry);
    if (!finder.ok()) return finder.status();
    if (!*finder) {
      absl::StatusOr<Ref<ModuleSpec>> spec = FindIn(entry, name, namespaces);
      if (!spec.ok() || *spec) return spec;
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
