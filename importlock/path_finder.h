// PathFinder: modules from directories.
//
// The suffixes are the host's (".lua", "/init.lua" is `package_file` "init.lua"), each with a function that runs
// a file; shared objects with PyrtModuleInit are built in (`native_suffix`). For `a.b` each directory of the
// search path is asked, in order, for
//
//   b/<package file>     a package
//   b<suffix>            a module, suffixes in order
//   b/                   a namespace package, if no directory of the path has one of the above
//
// An entry of the search path may be no directory at all: sys.path_hooks are asked first, in order, for a finder of
// the entry (an ImportError means no), once per entry: the answer is kept in sys.path_importer_cache, None if no hook
// wants it. Without path hooks nothing is cached there.
//
// A directory's listing is cached and read again when its modification time changes, or another directory is of
// that name (the current one changes), or after InvalidateCaches. Directory times are coarse: a file that
// appears in the same tick in which the directory was read may be missed until then, as in CPython. What is no
// directory, or may not be read, is empty; a directory that cannot be read for another reason is an OSError of
// the import, and not cached.
//
// CPython counterpart: PathFinder and FileFinder (sys.path_importer_cache), ExtensionFileLoader.

#ifndef PYRT_IMPORTLOCK_PATH_FINDER_H_
#define PYRT_IMPORTLOCK_PATH_FINDER_H_

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/import_host.h"
#include "pyrt/importlock/module.h"
#include "pyrt/importlock/native_loader.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class PathFinder final : public Finder {
 public:
  // Runs the file `path` in `module`.
  using Run = std::function<absl::Status(const std::string& path, const Ref<Object>& module)>;

  struct Suffix {
    std::string suffix;        // ".py"
    std::string package_file;  // "__init__.py", or "" if packages have no file of this kind
    Run run;
  };

  struct Options {
    std::vector<Suffix> suffixes;
    std::string native_suffix = ".so";  // "" for none
    NativeModules* native = nullptr;    // null: no native modules
    int dlopen_flags = 0;               // 0: RTLD_NOW
    // Asked for sys.path, path_hooks and path_importer_cache; null, or where it has none: the finder's own.
    ImportHost* host = nullptr;
    Ref<List> path_hooks;
  };

  // `path` is sys.path, for top-level modules.
  PathFinder(Ref<List> path, Options options)
      : path_(std::move(path)),
        path_hooks_(options.path_hooks ? std::move(options.path_hooks) : List::Of()),
        options_(std::move(options)) {}

  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                           const Object* target) override;

  // Forgets every listing and every entry that no hook wanted, and calls invalidate_caches() of the entries'
  // finders. Attached, any thread. CPython: importlib.invalidate_caches.
  void InvalidateCaches();
  const Ref<Dict>& path_importer_cache() const { return path_importer_cache_; }
  // How often a directory was listed, for tests.
  uint64_t listings() const;

  const char* TypeName() const override { return "PathFinder"; }

 private:
  // Which directory it was, and as of when. All zero: none.
  struct Version {
    bool operator==(const Version&) const = default;

    int64_t modified_ns = 0;
    dev_t device = 0;
    ino_t inode = 0;
  };
  struct Listing {
    Version version;
    std::unordered_set<std::string> names;
  };

  Ref<Object> SysValue(const char* name, const Ref<Object>& own) const;
  // What a path hook has made for `entry`; null: none, look into the directory.
  absl::StatusOr<Ref<Object>> EntryFinder(const std::string& entry);
  absl::StatusOr<std::shared_ptr<const Listing>> ListingOf(const std::string& directory);
  // The spec of `name` in this directory, or null; a directory without package file is added to `namespaces`.
  absl::StatusOr<Ref<ModuleSpec>> FindIn(const std::string& directory, std::string_view name,
                                         std::vector<std::string>& namespaces);
  Ref<ModuleSpec> FileSpec(std::string_view name, const std::string& file, const Suffix& suffix,
                           const std::string& package_directory);

  const Ref<List> path_;
  const Ref<List> path_hooks_;
  const Ref<Dict> path_importer_cache_ = Dict::New();
  const Options options_;
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<const Listing>> listings_ PYRT_GUARDED_BY(mutex_);
  uint64_t listing_count_ PYRT_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_PATH_FINDER_H_
