#include "pyrt/importlock/importer.h"

#include <optional>
#include <utility>

#include "pyrt/importlock/internal/finder_protocol.h"
#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/importlock/internal/items.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using internal::ImportErrorFor;
using internal::ModuleNotFound;

absl::Status Halted(std::string_view name) {
  return ModuleNotFound(name, "import of " + std::string(name) + " halted; None in sys.modules");
}

// What the table holds, as the result of an import.
absl::StatusOr<Ref<Object>> ResultOf(const ModuleTable::Found& found, std::string_view name) {
  if (IsNone(found.module)) return Halted(name);
  return found.module;
}

// __path__ of a package as strings; an error if `parent` is none.
absl::StatusOr<std::vector<std::string>> SearchPathOf(const Ref<Object>& parent, std::string_view parent_name,
                                                      std::string_view name) {
  const absl::StatusOr<Ref<Object>> path = parent->GetAttr("__path__");
  if (!path.ok()) {
    if (!IsError(path.status(), ErrorType::AttributeError())) return path.status();
    return ModuleNotFound(name, "No module named " + ReprOfString(name) + "; " + ReprOfString(parent_name) +
                                    " is not a package");
  }
  return internal::StringItems(*path);
}

// A name among its package's unfinished submodules.
class Uninitialized {
 public:
  Uninitialized(const Module* package, std::string_view name)
      : package_(package == nullptr ? nullptr : package->spec()), name_(LastComponentOf(name)) {
    if (package_) package_->PushUninitialized(name_);
  }
  ~Uninitialized() {
    if (package_) package_->PopUninitialized(name_);
  }
  Uninitialized(const Uninitialized&) = delete;
  Uninitialized& operator=(const Uninitialized&) = delete;

 private:
  const Ref<ModuleSpec> package_;
  const std::string_view name_;
};

// A module that is being loaded: its entry in the table and its name among its package's unfinished submodules.
// Leaving the scope without Finish takes the entry away, also when the body's thread ends (its stack is unwound):
// else others would take the half-made module for theirs as soon as its lock is free.
class LoadScope {
 public:
  LoadScope(ModuleTable& modules, const Ref<ModuleSpec>& spec, const Ref<Object>& module,
            const Module* package)
      : modules_(modules), spec_(*spec), uninitialized_(package, spec->name()) {
    spec_.set_initializing(true);  // before the table shows it to others
    // Last: what needs memory and fails leaves no entry.
    modules_.Set(spec_.name(), module, spec);
  }
  ~LoadScope() {
    if (finished_) return;
    if (PYRT_MUTANT(gh_143650_finished_before_removed)) spec_.set_initializing(false);
    // Tolerates that the body removed it itself. First out of the table, then no longer initializing: whoever
    // reads the latter and looks once more finds it gone (gh-143650).
    modules_.Remove(spec_.name());
    spec_.set_initializing(false);
  }
  LoadScope(const LoadScope&) = delete;
  LoadScope& operator=(const LoadScope&) = delete;

  // The body has ended well. What is in the table under the name now, moved to the end: the body may have replaced
  // it (IL-43). Null if the body has removed it.
  Ref<Object> Finish() {
    Ref<Object> result = modules_.MoveToEnd(spec_.name());
    spec_.set_initializing(false);
    finished_ = true;
    return result;
  }

 private:
  ModuleTable& modules_;
  ModuleSpec& spec_;
  const Uninitialized uninitialized_;
  bool finished_ = false;
};

}  // namespace

Importer::Importer(ImportHost& host, Reclaimer& reclaimer)
    : host_(host),
      reclaimer_(reclaimer),
      modules_(reclaimer),
      path_(List::Of()),
      path_hooks_(List::Of()),
      meta_path_(List::Of()) {}

Ref<List> Importer::meta_path() const {
  const MutexLock lock(meta_path_mutex_);
  return meta_path_;
}

void Importer::set_meta_path(Ref<List> meta_path) {
  const MutexLock lock(meta_path_mutex_);
  std::swap(meta_path_, meta_path);  // the old one is released after the lock: parameters die last
}

absl::StatusOr<ModuleLockStatus> Importer::Lock(ModuleLock& lock) {
  switch (const ModuleLockStatus status = lock.Acquire(host_.Hooks())) {
    case ModuleLockStatus::kAcquired:
    case ModuleLockStatus::kDeadlock:
      return status;
    case ModuleLockStatus::kFailure:
      return host_.WaitFailure(LockStatus::kFailure, std::string(lock.name()));
    case ModuleLockStatus::kInterrupted:
      return host_.WaitFailure(LockStatus::kInterrupted, std::string(lock.name()));
  }
  PYRT_UNREACHABLE("no such status");
}

__attribute__((noinline)) absl::StatusOr<Ref<Object>> Importer::ImportSlow(std::string_view name) {
  if (name.empty()) return Raise(ErrorType::ValueError(), "Empty module name");
  if (finalized_.load(kAcquire)) return Raise(ErrorType::RuntimeError(), "unable to get sys.modules");
  const Frame frame(*this);  // audit hooks, finders and bodies may finalize the runtime
  bool waited = false;
  absl::StatusOr<Ref<Object>> module = Present(name, waited);
  if (!module.ok() || *module) return module;

  const ImportTime::Scope timed(import_time_, name);
  // gh-83065: the parents are imported before anybody waits for this module's lock.
  std::optional<ModuleLock> early;
  if (PYRT_MUTANT(gh_83065_child_lock_before_parent)) {
    early.emplace(module_locks_, name);
    if (early->Acquire(host_.Hooks()) == ModuleLockStatus::kDeadlock) return early->DeadlockError();
  }
  std::set<size_t> audited;
  bool again = true;
  while (again) {
    again = false;
    module = ImportAbsent(name, audited, again);
  }
  return module;
}

absl::StatusOr<Ref<Object>> Importer::Present(std::string_view name, bool& waited) {
  for (;;) {
    const ModuleTable::Found found = modules_.Look(name);
    if (!found.module) return Ref<Object>();
    if (IsNone(found.module)) return Halted(name);
    if (PYRT_MUTANT(bpo_30891_hands_out_the_half_made)) return found.module;
    if (!found.initializing()) {
      // Looks twice, as the fast path: it may have been initializing a moment ago, and failed.
      if (Ref<Object> module = modules_.GetFinished(name)) return module;
      waited = true;
      continue;
    }
    waited = true;
    ModuleLock lock(module_locks_, name);
    const absl::StatusOr<ModuleLockStatus> locked = Lock(lock);
    if (!locked.ok()) return locked.status();
    // Whatever is there now: complete, or half-made by this thread or in a circle with it (IL-29, IL-35).
    const ModuleTable::Found now = modules_.Look(name);
    return now.module ? ResultOf(now, name) : Ref<Object>();
  }
}

absl::StatusOr<Ref<Object>> Importer::ImportAbsent(std::string_view name, std::set<size_t>& audited,
                                                   bool& again) {
  const auto audit = [&](std::string_view part) {
    return audited.insert(part.size()).second ? Audit(part) : absl::OkStatus();
  };
  if (absl::Status vetoed = audit(name); !vetoed.ok()) return vetoed;
  if (absl::Status ended = WaitForPackages(name); !ended.ok()) return ended;
  // From the module outwards to the first package that is there, one audit event for each that is not; then
  // inwards again. A loop, not a recursion: ten thousand levels are not too many.
  std::string_view outermost = name;
  for (std::string_view parent = ParentOf(name); !parent.empty(); parent = ParentOf(parent)) {
    if (modules_.GetFinished(parent)) break;
    if (!modules_.Get(parent)) {
      if (absl::Status vetoed = audit(parent); !vetoed.ok()) return vetoed;
    }
    outermost = parent;
  }
  for (std::string_view part = outermost; part.size() < name.size();) {
    const bool absent = audited.contains(part.size());
    std::optional<ImportTime::Scope> timed_part;
    if (absent) timed_part.emplace(import_time_, part);
    absl::StatusOr<Ref<Object>> package = ImportOne(part, absent, again);
    if (!package.ok() || again) return package;
    part = name.substr(0, std::min(name.find('.', part.size() + 1), name.size()));
  }
  return ImportOne(name, /*may_load=*/true, again);
}

// Also for packages outside of one that is finished: their bodies may still be making what the module relies
// on. From the outside in, with no lock of a submodule held, and no longer than until a circle is found (IL-29).
absl::Status Importer::WaitForPackages(std::string_view name) {
  std::vector<std::string_view> initializing;
  for (std::string_view parent = ParentOf(name); !parent.empty(); parent = ParentOf(parent)) {
    if (modules_.Look(parent).initializing()) initializing.push_back(parent);
  }
  for (; !initializing.empty(); initializing.pop_back()) {
    ModuleLock lock(module_locks_, initializing.back());
    const absl::StatusOr<ModuleLockStatus> locked = Lock(lock);
    if (!locked.ok()) return locked.status();
  }
  return absl::OkStatus();
}

absl::StatusOr<Ref<Object>> Importer::ImportOne(std::string_view name, bool may_load, bool& again) {
  bool waited = false;
  absl::StatusOr<Ref<Object>> module = Present(name, waited);
  if (!module.ok() || *module) return module;
  // If its import failed meanwhile it is this thread's turn (B108), from the start: its package may have gone
  // too, and nobody may have been asked whether it may be loaded (IL-50).
  again = waited || !may_load;
  if (again) return Ref<Object>();
  return FindAndLoad(name);
}

absl::StatusOr<Ref<Object>> Importer::FindAndLoad(std::string_view name) {
  const std::string_view parent_name = ParentOf(name);
  Ref<Object> parent;
  std::vector<std::string> directories;
  if (!parent_name.empty()) {
    parent = modules_.Get(parent_name);
    if (!parent) return ToStatus(Error::New(ErrorType::KeyError(), {String::Of(parent_name)}));
    absl::StatusOr<std::vector<std::string>> path = SearchPathOf(parent, parent_name, name);
    if (!path.ok()) return path.status();
    directories = *std::move(path);
  }

  ModuleLock lock(module_locks_, name);
  const absl::StatusOr<ModuleLockStatus> locked = Lock(lock);
  if (!locked.ok()) return locked.status();
  // Somebody else may have imported it, or this thread, as a side effect of its parent's body (IL-38).
  if (const ModuleTable::Found found = modules_.Look(name); found.module) return ResultOf(found, name);
  if (*locked == ModuleLockStatus::kDeadlock) return lock.DeadlockError();

  const absl::StatusOr<Ref<ModuleSpec>> spec = FindSpec(name, parent ? &directories : nullptr, nullptr);
  if (!spec.ok()) return spec.status();
  if (!*spec) return ModuleNotFound(name, "No module named " + ReprOfString(name));
  return Load(*spec, parent);
}

absl::Status Importer::Audit(std::string_view name) {
  const auto current = [this](const char* list, const Ref<List>& own) {
    const Ref<Object> value = host_.SysValue(list);
    return value ? value : own ? Ref<Object>(own) : None();
  };
  const Ref<Object> event[] = {String::Of(name), None(), current("path", path_),
                               current("meta_path", meta_path()), current("path_hooks", path_hooks_)};
  return host_.AuditImport(event);
}

absl::StatusOr<std::vector<Ref<Object>>> Importer::CurrentFinders(std::string_view name) {
  const Ref<List> own = meta_path();
  const Ref<Object> value = own ? host_.SysValue("meta_path") : nullptr;
  if (!own || IsNone(value)) {
    return ImportErrorFor(name, "sys.meta_path is None, Python is likely shutting down");
  }
  if (!value) return own->Snapshot();
  std::optional<std::vector<Ref<Object>>> items = internal::Items(value);
  if (!items.has_value()) {
    return Raise(ErrorType::TypeError(), "'%s' object is not iterable", value->TypeName());
  }
  return *std::move(items);
}

absl::StatusOr<Ref<ModuleSpec>> Importer::FindSpec(std::string_view name,
                                                   const std::vector<std::string>* path,
                                                   const Object* target) {
  // As they are at first: finders may change the list (gh-130094).
  const absl::StatusOr<std::vector<Ref<Object>>> finders = CurrentFinders(name);
  if (!finders.ok()) return finders.status();
  if (finders->empty()) {
    if (absl::Status status = host_.Warn(ErrorType::ImportWarning(), "sys.meta_path is empty");
        !status.ok()) {
      return status;
    }
  }
  const bool is_reload = modules_.Get(name) != nullptr;
  for (const Ref<Object>& finder : *finders) {
    absl::StatusOr<Ref<ModuleSpec>> spec;
    {
      // Not for ever: its owner may be a thread that hangs inside a finder since the end has begun (IL-79).
      const LockStatus locked = import_lock_.AcquireTimed(kForever, host_.Hooks());
      if (locked != LockStatus::kAcquired) return host_.WaitFailure(locked, std::string(name));
      const ImportLockScope scope = ImportLockScope::Adopt(import_lock_);
      spec = internal::AskMetaPathFinder(finder, name, path, target);
    }
    if (!spec.ok()) return spec;
    if (!*spec) continue;
    if (!is_reload) {  // the finder may have imported it: then its own spec counts (IL-42)
      const ModuleTable::Found found = modules_.Look(name);
      if (found.module && found.spec) return found.spec;
    }
    return spec;
  }
  return Ref<ModuleSpec>();
}

absl::StatusOr<Ref<Object>> Importer::Load(const Ref<ModuleSpec>& spec, const Ref<Object>& parent) {
  const std::string& name = spec->name();
  if (!spec->loader() && !spec->is_package()) return ImportErrorFor(name, "missing loader");
  Ref<Object> module;
  if (spec->loader()) {
    absl::StatusOr<Ref<Object>> made = spec->loader()->Create(spec);
    if (!made.ok()) return made;
    module = *std::move(made);
  }
  if (!module) module = Module::New(name, spec);

  Ref<Object> result;
  {
    LoadScope scope(modules_, spec, module, parent ? AsModule(parent) : nullptr);
    if (spec->loader()) {
      if (absl::Status status = spec->loader()->Exec(spec, module); !status.ok()) return status;
    }
    result = scope.Finish();
  }
  if (!result && !PYRT_MUTANT(gh_134100_hands_out_nothing)) {  // gh-134100
    return ToStatus(Error::New(ErrorType::KeyError(), {String::Of(name)}));
  }
  if (parent) {
    if (absl::Status set = SetInParent(name, parent, result); !set.ok()) return set;
  }
  return result;
}

absl::Status Importer::SetInParent(std::string_view name, const Ref<Object>& parent,
                                   const Ref<Object>& module) {
  const std::string_view child = LastComponentOf(name);
  absl::Status status = parent->SetAttr(child, module);
  if (status.ok() || !IsError(status, ErrorType::AttributeError())) return status;
  return host_.Warn(ErrorType::ImportWarning(), "Cannot set an attribute on " + ReprOfString(ParentOf(name)) +
                                                    " for child module " + ReprOfString(child));
}

absl::StatusOr<Ref<Object>> Importer::GetModuleSlow(std::string_view name) {
  for (;;) {
    const ModuleTable::Found found = modules_.Look(name);
    if (!found.module || IsNone(found.module)) return found.module;
    if (!found.initializing()) {
      // Looks twice, as an import: what was initializing a moment ago may have failed (IL-33).
      if (Ref<Object> module = modules_.GetFinished(name)) return module;
      continue;
    }
    ModuleLock lock(module_locks_, name);
    const absl::StatusOr<ModuleLockStatus> locked = Lock(lock);
    if (!locked.ok()) return locked.status();
    return modules_.Get(name);
  }
}

Ref<Object> Importer::AddModule(std::string_view name) {
  if (Ref<Object> module = modules_.Get(name); module && AsModule(module) != nullptr) return module;
  const Ref<Object> fresh = Module::New(name);
  for (;;) {
    Ref<Object> present = modules_.SetDefault(name, fresh);
    if (AsModule(present) != nullptr) return present;
    modules_.RemoveIf(name, present.get());  // what is not a module is replaced, by one of the callers
  }
}

Importer::Frame::Frame(Importer& importer, std::string_view name, Ref<Object> module)
    : importer_(importer), thread_(CurrentThreadIdent()), name_(name) {
  const MutexLock lock(importer_.frames_mutex_);
  for (const Frame* frame = importer_.frames_; module && frame != nullptr; frame = frame->next_) {
    if (!frame->module_ || frame->name_ != name) continue;
    already_ = frame->module_;
    break;
  }
  if (!already_) module_ = std::move(module);
  next_ = importer_.frames_;
  if (next_ != nullptr) next_->previous_ = this;
  importer_.frames_ = this;
}

Importer::Frame::~Frame() {
  const MutexLock lock(importer_.frames_mutex_);
  (previous_ == nullptr ? importer_.frames_ : previous_->next_) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
}

bool Importer::InUse() const {
  {
    const MutexLock lock(frames_mutex_);
    if (frames_ != nullptr) return true;
  }
  return module_locks_.size() != 0 || import_lock_.Held() || import_lock_.waiters() != 0;
}

void Importer::Finalize() {
  path_hooks_->Assign({});
  set_meta_path(nullptr);
  std::vector<ModuleTable::Item> survivors, last;
  // The last reference is the one in our hand.
  const auto is_unused = [](const ModuleTable::Item& item) { return item.second->RefCount() == 1; };
  for (ModuleTable::Item& item : modules_.Snapshot()) {
    modules_.Set(item.first, None());
    if (item.first == "sys" || item.first == "builtins") {
      last.push_back(std::move(item));
      continue;
    }
    reclaimer_.FreeAll();  // the table's reference
    if (!is_unused(item)) {
      survivors.push_back(std::move(item));
    } else {
      item.second.reset();
    }
  }
  modules_.Clear();
  finalized_.store(true, kRelease);
  reclaimer_.FreeAll();
  host_.CollectGarbage();
  for (; !survivors.empty(); survivors.pop_back()) {
    Module* const module = AsModule(survivors.back().second);
    if (module != nullptr && !is_unused(survivors.back())) module->Wipe();
  }
  for (const char* const name : {"sys", "builtins"}) {
    for (const ModuleTable::Item& item : last) {
      Module* const module = item.first == name ? AsModule(item.second) : nullptr;
      if (module != nullptr) module->Wipe();
    }
  }
}

void Importer::BeforeFork() {
  BeforeForkTakeImportLock();
  BeforeForkStopped();
}

void Importer::BeforeForkTakeImportLock() { import_lock_.BeforeFork(host_.Hooks()); }

void Importer::BeforeForkStopped() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  module_locks_.BeforeFork();
  modules_.BeforeFork();
  frames_mutex_.Lock();
}

void Importer::AfterForkInParent() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  frames_mutex_.Unlock();
  modules_.AfterForkInParent();
  module_locks_.AfterForkInParent();
  import_lock_.AfterForkInParent();
}

void Importer::AfterForkInChild() {
  DropAfterFork();
  import_lock_.AfterForkInChild();
}

void Importer::ReinitAfterFork() {
  DropAfterFork();
  import_lock_.ReinitAfterFork();
}

// What threads were at that do not exist in the child.
void Importer::DropAfterFork() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  frames_mutex_.ReinitAfterFork();
  // The stacks of the other threads are still mapped, but nobody will ever come back to these frames.
  Frame** link = &frames_;
  while (Frame* const frame = *link) {
    if (frame->thread_ == CurrentThreadIdent()) {
      link = &frame->next_;
      continue;
    }
    *link = frame->next_;
    if (*link != nullptr) (*link)->previous_ = frame->previous_;
  }
  modules_.AfterForkInChild();
  for (const std::string& name : module_locks_.AfterForkInChild()) {
    const ModuleTable::Found found = modules_.Look(name);
    if (!found.module || !found.initializing()) continue;
    modules_.RemoveIf(name, found.module.get());
    found.spec->set_initializing(false);
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
