// Importer: finds, loads and hands out the modules of one interpreter.
//
//   Import("a.b.c")
//     1  in the table and finished: returned, without any lock
//     2  in the table and initializing: waits for its module lock, and looks again
//     3  absent: audit event; waits for those of its packages that are being imported, and imports a.b if that
//        is absent, from the outside in, with no module lock held (gh-83065); then the lock of a.b.c; looks
//        again; finds a spec; loads
//     4  a wait that would never end: the half-made module, as importlib decides (IL-29)
//
//   load: make the module, mark its spec, put it into the table, run the body; failure takes it out again;
//         success moves it to the end (order of completion), unmarks it, then sets it in its parent
//
// A load that ends in any other way than by returning (the body's thread ends: pthread_exit) counts as a failure.
//
// No thread but those that import in a circle ever sees a half-made module, no body runs twice, and an import
// that was started never blocks on one that waits for it, by way of module locks. Other waits are not seen (IL-31),
// that for the import lock included: a finder runs under it, and must not import, or wait for a thread that imports,
// what another thread may be importing at that time and needs finders for (IL-7).
//
// All methods: attached, on any thread; not async-signal-safe but re-entrant from every callback. They may
// block, detached. Errors carry exceptions with CPython's texts.
//
// CPython counterpart: Python/import.c and importlib._bootstrap, in their 3.15 form.

#ifndef PYRT_IMPORTLOCK_IMPORTER_H_
#define PYRT_IMPORTLOCK_IMPORTER_H_

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/import_host.h"
#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/import_time.h"
#include "pyrt/importlock/module.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/importlock/module_table.h"
#include "pyrt/importlock/reclaimer.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class Importer final : public Object {
 public:
  // `host` and `reclaimer` outlive the importer.
  Importer(ImportHost& host, Reclaimer& reclaimer);

  // The module of that absolute name, imported if need be. CPython: PyImport_ImportModule,
  // importlib.import_module.
  absl::StatusOr<Ref<Object>> Import(std::string_view name) {
    if (Ref<Object> module = modules_.GetFinished(name)) [[likely]]
      return module;
    return ImportSlow(name);
  }

  // The same, but null instead of ModuleNotFoundError if it is this very module that is missing. CPython: the
  // lookup of a lazy submodule (IL-74).
  absl::StatusOr<Ref<Object>> ImportIfPresent(std::string_view name);

  // The statement: `import a.b` gives a, `from a.b import x, y` gives a.b with submodules x and y imported, a
  // relative name is resolved by `globals` (a Dict, or null). CPython: PyImport_ImportModuleLevelObject.
  absl::StatusOr<Ref<Object>> ImportModuleLevel(std::string_view name, Object* globals,
                                                const std::vector<std::string>& from_list, int level);

  // `from module import name`: the attribute, or the submodule that a circular import has not set yet.
  // CPython: import_from.
  absl::StatusOr<Ref<Object>> ImportFrom(const Ref<Object>& module, std::string_view name);

  // Runs the body of a module once more, in the same object; not if it is being reloaded already: then that is
  // the result, at once. DeadlockError if its import waits for this thread. CPython: PyImport_ReloadModule.
  absl::StatusOr<Ref<Object>> Reload(const Ref<Object>& module);

  // The module if it is in the table, after waiting for its import; null if it is not (no error). CPython:
  // PyImport_GetModule.
  absl::StatusOr<Ref<Object>> GetModule(std::string_view name) {
    if (Ref<Object> module = modules_.GetFinished(name)) [[likely]]
      return module;
    return GetModuleSlow(name);
  }
  // The module of that name, or a new empty one, which is then in the table. All callers get the same
  // (gh-137422). CPython: PyImport_AddModuleRef.
  Ref<Object> AddModule(std::string_view name);

  // Runs `body` in the module of that name, which is made if need be: for code that did not come from a finder. A
  // failure takes the module out of the table. What is in the table afterwards; ImportError "Loaded module 'm' not
  // found in sys.modules". CPython: PyImport_ExecCodeModuleObject.
  absl::StatusOr<Ref<Object>> ExecModule(std::string_view name,
                                         const std::function<absl::Status(const Ref<Object>& module)>& body);

  ModuleTable& modules() { return modules_; }
  ImportLock& import_lock() { return import_lock_; }
  ModuleLockRegistry& module_locks() { return module_locks_; }
  ImportHost& host() { return host_; }
  ImportTime& import_time() { return import_time_; }

  // The importer's own sys.path, sys.meta_path (finders: Finder, or any object with `find_spec`) and
  // sys.path_hooks: shared lists, used unless the host has others (ImportHost::SysValue). A null meta_path is
  // CPython's None at shutdown. Setting them is the initializer's and finalizer's.
  const Ref<List>& path() const { return path_; }
  Ref<List> meta_path() const;
  const Ref<List>& path_hooks() const { return path_hooks_; }
  void set_meta_path(Ref<List> meta_path);

  // The end of the interpreter, in CPython's order (IL-77): path hooks go; no finder any more; every module's
  // entry becomes None in the order of import, and those that nothing else refers to die; the table is emptied; a
  // collection; what is left is wiped (Module::Wipe), last imported first, sys and builtins at the very end.
  // Imports fail from then on. No other thread imports or reads the table any more.
  void Finalize();
  // Whether a frame is inside an import, reload or ExecModule, or code that these call, or waits for one. At the end
  // of the interpreter that is a thread which hangs for good, or the caller's own import up the stack: the importer
  // must then be kept (IL-79).
  bool InUse() const;

  // Brackets a fork: the import lock and the module locks; in the child, modules that other threads were
  // importing leave the table, since nobody will complete them (FK-7). After ParkingLot::AfterForkInChild.
  // BeforeFork is its two steps at once. Where the world is stopped for the fork it is stopped in between: a thread
  // that waits for the locks of the second step is attached, and would not stop.
  void BeforeFork();
  void BeforeForkTakeImportLock();  // may wait and detach
  void BeforeForkStopped();         // what threads hold only while they are attached
  void AfterForkInParent();
  void AfterForkInChild();
  // In the child, of an interpreter whose importer nobody called BeforeFork of, because another one forked. No thread
  // was attached to it, or all were stopped; but for a main one that ran under another GIL, and whose tables are as
  // the fork found them.
  void ReinitAfterFork();

  const char* TypeName() const override { return "Importer"; }

 private:
  friend class LazyImports;

  ~Importer() override = default;

  // A call that comes back to the importer from code of the program, on its stack.
  class Frame {
   public:
    explicit Frame(Importer& importer) : Frame(importer, {}, {}) {}
    // Of a reload. `name` outlives the frame.
    Frame(Importer& importer, std::string_view name, Ref<Object> module);
    ~Frame();
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    // What another frame reloads under this name; null: this one does.
    const Ref<Object>& reloaded_already() const { return already_; }

   private:
    friend class Importer;

    Importer& importer_;
    const uint64_t thread_;
    const std::string_view name_;
    Ref<Object> module_;  // null: reloads nothing
    Ref<Object> already_;
    Frame* next_;
    Frame* previous_ = nullptr;
  };

  absl::StatusOr<Ref<Object>> ImportSlow(std::string_view name);
  absl::StatusOr<Ref<Object>> GetModuleSlow(std::string_view name);
  // What the table has of a name; if it is being imported, after that. Null: nothing, and `waited` says
  // whether there was something.
  absl::StatusOr<Ref<Object>> Present(std::string_view name, bool& waited);
  // An import that begins with an absent module. `audited`: the lengths of those parts of the name that the
  // audit hooks have been asked about. `again`: nothing has come out of it; start over.
  absl::StatusOr<Ref<Object>> ImportAbsent(std::string_view name, std::set<size_t>& audited, bool& again);
  absl::Status WaitForPackages(std::string_view name);
  // The import of a module whose parent packages are imported, if it is absent only when `may_load`.
  absl::StatusOr<Ref<Object>> ImportOne(std::string_view name, bool may_load, bool& again);
  absl::StatusOr<Ref<Object>> FindAndLoad(std::string_view name);
  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                           const Object* target);
  absl::StatusOr<Ref<Object>> Load(const Ref<ModuleSpec>& spec, const Ref<Object>& parent);
  absl::Status SetInParent(std::string_view name, const Ref<Object>& parent, const Ref<Object>& module);
  // What is in sys.meta_path now; ImportError if it is None.
  absl::StatusOr<std::vector<Ref<Object>>> CurrentFinders(std::string_view name);
  absl::Status Audit(std::string_view name);
  // kAcquired or kDeadlock, or the error of a wait that ended otherwise.
  absl::StatusOr<ModuleLockStatus> Lock(ModuleLock& lock);
  absl::Status HandleFromList(const Ref<Object>& module, const std::vector<std::string>& from_list);

  // Whether `error` says that just `name` was not found.
  bool IsMissing(const absl::Status& error, std::string_view name) const;
  void DropAfterFork();

  ImportHost& host_;
  Reclaimer& reclaimer_;
  ModuleTable modules_;
  ImportLock import_lock_;
  ModuleLockRegistry module_locks_;
  ImportTime import_time_;
  const Ref<List> path_;
  const Ref<List> path_hooks_;
  mutable Mutex meta_path_mutex_;
  Ref<List> meta_path_ PYRT_GUARDED_BY(meta_path_mutex_);
  mutable Mutex frames_mutex_;
  Frame* frames_ PYRT_GUARDED_BY(frames_mutex_) = nullptr;
  Atomic<bool> finalized_{false};
};

// The absolute name that `name` means at `level` in a module with these globals. CPython: resolve_name.
absl::StatusOr<std::string> ResolveImportName(std::string_view name, Object* globals, int level,
                                              ImportHost& host);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_IMPORTER_H_
