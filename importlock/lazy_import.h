// Lazy imports (PEP 810): a placeholder now, the import when it is first used.
//
//   LazyImports lazy(importer);                                  // one per interpreter
//   value = lazy.ImportModuleLevel("json.decoder", globals, {}, 0, /*is_explicit=*/true);
//
//                            mode normal     mode all              mode none
//   lazy import a            placeholder     placeholder           imports now
//   import a                 imports now     placeholder           imports now
//
// and where a placeholder is due the filter is asked, if there is one; a false answer imports now. `from a import *`
// is never lazy. The name is made absolute at once, so that errors of relative names show where they are written.
//
// A use resolves: an attribute that Module::GetAttr finds does so by itself; for names that it loads from a
// dictionary or keeps elsewhere the evaluation loop calls Resolve. What needs a compiler is not here: the keyword, where
// it is allowed, `__lazy_modules__`, the place of the statement in tracebacks.
//
// Attached, any thread. No lock is held while importing: two threads that resolve at once meet at the module lock, and
// both get the same.
//
// CPython counterpart: PyLazyImport_Type, _PyImport_LoadLazyImportTstate, PyImport_SetLazyImportsMode,
// PyImport_SetLazyImportsFilter, sys.lazy_modules.

#ifndef PYRT_IMPORTLOCK_LAZY_IMPORT_H_
#define PYRT_IMPORTLOCK_LAZY_IMPORT_H_

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/module.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

// CPython: PyImport_LAZY_*.
enum class LazyImportsMode : uint8_t { kNormal, kAll, kNone };

// An import that has not happened yet.
class LazyImport final : public Deferred {
 public:
  // Of what the statement gives: the module `name` (absolute; without a from-list `import a.b` gives a) or, with
  // `attribute`, that name in it.
  LazyImport(Importer& importer, std::string_view name, std::vector<std::string> from_list,
             std::string_view attribute = {});

  // The object, imported at the first call; the same afterwards. A failure changes nothing: the next use tries again.
  // Its exception's cause is an ImportError "lazy import of 'a.x' raised an exception during resolution", unless it
  // has a cause or context of its own.
  absl::StatusOr<Ref<Object>> Resolve() override;
  bool resolved() const;

  // `from a import x` of a placeholder of a.
  Ref<LazyImport> From(std::string_view attribute) const;

  // What it is a placeholder of: "a.b", "a.x".
  const std::string& name() const { return shown_; }

  const char* TypeName() const override { return "lazy_import"; }
  absl::StatusOr<std::string> Repr() const override;  // <lazy_import 'a.x'>
  // `resolve`.
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;

 private:
  absl::StatusOr<Ref<Object>> Load() const;

  const Ref<Importer> importer_;
  const std::string module_;
  const std::vector<std::string> from_list_;
  const std::string attribute_;
  const std::string shown_;
  mutable Mutex mutex_;
  Ref<Object> value_ PYRT_GUARDED_BY(mutex_);
};

// The placeholder's object, or `value` itself if it is none. For evaluation loops.
absl::StatusOr<Ref<Object>> ResolveIfLazy(const Ref<Object>& value);

class LazyImports {
 public:
  explicit LazyImports(Importer& importer) : importer_(importer) {}
  LazyImports(const LazyImports&) = delete;
  LazyImports& operator=(const LazyImports&) = delete;

  LazyImportsMode mode() const { return mode_.load(kRelaxed); }
  void set_mode(LazyImportsMode mode) { mode_.store(mode, kRelaxed); }

  // filter(importing, imported, fromlist): whether that import may be lazy; names, None for what has none, a tuple or
  // None. Null or None: no filter. ValueError for what cannot be called.
  absl::Status SetFilter(Ref<Object> filter);
  Ref<Object> filter() const;

  // An import statement at module level. A LazyImport or, if it is not to be lazy, Importer::ImportModuleLevel's result.
  absl::StatusOr<Ref<Object>> ImportModuleLevel(std::string_view name, Object* globals,
                                                const std::vector<std::string>& from_list, int level,
                                                bool is_explicit);

  // Names that were imported lazily so far, sorted. CPython: sys.lazy_modules.
  std::vector<std::string> names() const;

 private:
  absl::StatusOr<bool> IsLazy(const std::string& name, Object* globals,
                              const std::vector<std::string>& from_list, bool is_explicit) const;

  Importer& importer_;
  Atomic<LazyImportsMode> mode_{LazyImportsMode::kNormal};
  mutable Mutex mutex_;
  Ref<Object> filter_ PYRT_GUARDED_BY(mutex_);
  std::set<std::string> names_ PYRT_GUARDED_BY(mutex_);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_LAZY_IMPORT_H_
