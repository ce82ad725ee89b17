// The import statement: relative names, from-lists, `from x import y`, and reload.

#include <optional>
#include <utility>

#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/importlock/internal/items.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using internal::ImportErrorFor;
using internal::ModuleNotFound;

// CPython: hasattr. An error that is no AttributeError is the caller's.
absl::StatusOr<bool> HasAttr(const Ref<Object>& object, std::string_view name) {
  const absl::StatusOr<Ref<Object>> value = object->GetAttr(name);
  if (value.ok()) return true;
  if (IsError(value.status(), ErrorType::AttributeError())) return false;
  return value.status();
}

absl::Status NoName() { return Raise(ErrorType::KeyError(), "'__name__' not in globals"); }

// The package that a module with these globals belongs to. CPython: the first half of resolve_name.
absl::StatusOr<std::string> PackageOf(Object* globals, ImportHost& host) {
  if (globals == nullptr) return NoName();
  const Dict* const dict = As<Dict>(globals);
  if (dict == nullptr) return Raise(ErrorType::TypeError(), "globals must be a dict");
  const Ref<Object> package = dict->Get("__package__");
  const Ref<Object> spec = dict->Get("__spec__");
  const bool has_spec = spec && !IsNone(spec);

  if (package && !IsNone(package)) {
    const String* const text = As<String>(package);
    if (text == nullptr) return Raise(ErrorType::TypeError(), "package must be a string");
    if (has_spec) {
      const absl::StatusOr<Ref<Object>> parent = spec->GetAttr("parent");
      if (!parent.ok()) return parent.status();
      const String* const other = As<String>(*parent);
      if (other == nullptr || other->value() != text->value()) {
        if (absl::Status status =
                host.Warn(ErrorType::DeprecationWarning(), "__package__ != __spec__.parent");
            !status.ok()) {
          return status;
        }
      }
    }
    return text->value();
  }
  if (has_spec) {
    const absl::StatusOr<Ref<Object>> parent = spec->GetAttr("parent");
    if (!parent.ok()) return parent.status();
    const String* const text = As<String>(*parent);
    if (text == nullptr) return Raise(ErrorType::TypeError(), "__spec__.parent must be a string");
    return text->value();
  }
  if (absl::Status status = host.Warn(ErrorType::ImportWarning(),
                                      "can't resolve package from __spec__ or __package__, falling back on "
                                      "__name__ and __path__");
      !status.ok()) {
    return status;
  }
  const Ref<Object> name = dict->Get("__name__");
  if (!name) return NoName();
  const String* const text = As<String>(name);
  if (text == nullptr) return Raise(ErrorType::TypeError(), "__name__ must be a string");
  if (dict->Get("__path__")) return text->value();
  return std::string(ParentOf(text->value()));
}

}  // namespace

absl::StatusOr<std::string> ResolveImportName(std::string_view name, Object* globals, int level,
                                              ImportHost& host) {
  if (level < 0) return Raise(ErrorType::ValueError(), "level must be >= 0");
  if (level == 0) {
    if (name.empty()) return Raise(ErrorType::ValueError(), "Empty module name");
    return std::string(name);
  }
  absl::StatusOr<std::string> package = PackageOf(globals, host);
  if (!package.ok()) return package;
  if (package->empty()) {
    return Raise(ErrorType::ImportError(), "attempted relative import with no known parent package");
  }
  std::string_view base = *package;
  for (int up = 1; up < level; ++up) {
    base = ParentOf(base);
    if (base.empty()) {
      return Raise(ErrorType::ImportError(), "attempted relative import beyond top-level package");
    }
  }
  std::string absolute(base);
  if (!name.empty()) absolute.append(".").append(name);
  return absolute;
}

absl::StatusOr<Ref<Object>> Importer::ImportModuleLevel(std::string_view name, Object* globals,
                                                        const std::vector<std::string>& from_list,
                                                        int level) {
  std::optional<Frame> frame;
  if (level != 0) frame.emplace(*this);  // what globals name, and warnings, may finalize the runtime
  const absl::StatusOr<std::string> resolved = ResolveImportName(name, globals, level, host_);
  if (!resolved.ok()) return resolved.status();
  const std::string& absolute = *resolved;
  if (import_time_.logs_cached() && modules_.GetFinished(absolute)) import_time_.LogCached(absolute);
  absl::StatusOr<Ref<Object>> module = Import(absolute);
  if (!module.ok()) return module;

  if (!from_list.empty()) {
    if (absl::Status status = HandleFromList(*module, from_list); !status.ok()) return status;
    return module;
  }
  if (level != 0 && name.empty()) return module;
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos) return module;
  if (level == 0) return Import(name.substr(0, dot));
  const std::string_view head = std::string_view(absolute).substr(0, absolute.size() - (name.size() - dot));
  Ref<Object> found = modules_.Get(head);
  if (!found) {
    return Raise(ErrorType::KeyError(), "%s not in sys.modules as expected", ReprOfString(head).c_str());
  }
  return found;
}

absl::Status Importer::HandleFromList(const Ref<Object>& module, const std::vector<std::string>& from_list) {
  std::optional<Frame> frame;
  if (AsModule(module) == nullptr)
    frame.emplace(*this);  // its attributes are code that may finalize the runtime
  const absl::StatusOr<bool> is_package = HasAttr(module, "__path__");
  if (!is_package.ok()) return is_package.status();
  if (!*is_package) return absl::OkStatus();  // no submodules
  const absl::StatusOr<Ref<Object>> package_name = module->GetAttr("__name__");
  if (!package_name.ok()) return package_name.status();
  const String* const package = As<String>(*package_name);
  if (package == nullptr) return Raise(ErrorType::TypeError(), "__name__ must be a string");
  for (const std::string& item : from_list) {
    if (item == "*") {
      const absl::StatusOr<Ref<Object>> all = module->GetAttr("__all__");
      if (!all.ok()) {
        if (!IsError(all.status(), ErrorType::AttributeError())) return all.status();
        continue;
      }
      std::vector<std::string> items = internal::StringItems(*all);
      std::erase(items, "*");
      if (absl::Status status = HandleFromList(module, items); !status.ok()) return status;
      continue;
    }
    const absl::StatusOr<bool> is_there = HasAttr(module, item);
    if (!is_there.ok()) return is_there.status();
    if (*is_there) continue;
    const std::string submodule = package->value() + "." + item;
    const absl::StatusOr<Ref<Object>> imported = Import(submodule);
    if (imported.ok()) continue;
    // There is no such submodule: the name may be a mistake of the from-list, which ImportFrom will report. A
    // submodule that exists and fails, or that is forbidden by None, is an error here.
    if (!IsMissing(imported.status(), submodule)) return imported.status();
  }
  return absl::OkStatus();
}

bool Importer::IsMissing(const absl::Status& error, std::string_view name) const {
  if (!IsError(error, ErrorType::ModuleNotFoundError())) return false;
  const absl::StatusOr<Ref<Object>> missing = ErrorFromStatus(error)->GetAttr("name");
  const String* const missing_name = missing.ok() ? As<String>(*missing) : nullptr;
  return missing_name != nullptr && missing_name->value() == name && !IsNone(modules_.Get(name));
}

absl::StatusOr<Ref<Object>> Importer::ImportIfPresent(std::string_view name) {
  absl::StatusOr<Ref<Object>> module = Import(name);
  if (!module.ok() && IsMissing(module.status(), name)) return Ref<Object>();
  return module;
}

absl::StatusOr<Ref<Object>> Importer::ExecModule(
    std::string_view name, const std::function<absl::Status(const Ref<Object>& module)>& body) {
  if (finalized_.load(kAcquire)) return Raise(ErrorType::RuntimeError(), "unable to get sys.modules");
  Frame frame(*this);  // the body may finalize the runtime: what it comes back to is kept
  const Ref<Object> module = AddModule(name);
  if (absl::Status status = body(module); !status.ok()) {
    modules_.Remove(name);
    return status;
  }
  Ref<Object> result = modules_.Get(name);
  if (result) return result;
  return ImportErrorFor(name, "Loaded module " + ReprOfString(name) + " not found in sys.modules");
}

absl::StatusOr<Ref<Object>> Importer::ImportFrom(const Ref<Object>& module, std::string_view name) {
  std::optional<Frame> frame;
  if (AsModule(module) == nullptr) frame.emplace(*this);  // as in HandleFromList
  absl::StatusOr<Ref<Object>> value = module->GetAttr(name);
  if (value.ok() || !IsError(value.status(), ErrorType::AttributeError())) return value;

  const absl::StatusOr<Ref<Object>> module_name = module->GetAttr("__name__");
  const String* const text = module_name.ok() ? As<String>(*module_name) : nullptr;
  if (text != nullptr) {
    if (Ref<Object> found = modules_.Get(text->value() + "." + std::string(name))) return found;
  }
  const std::string shown = text == nullptr ? "'<unknown module name>'" : ReprOfString(text->value());
  const Module* const native = AsModule(module);
  const bool partial = native != nullptr && native->spec() && native->spec()->initializing();
  const absl::StatusOr<Ref<Object>> file = module->GetAttr("__file__");
  const String* const path = file.ok() ? As<String>(*file) : nullptr;
  std::string message = "cannot import name " + ReprOfString(name) + " from ";
  message +=
      partial ? "partially initialized module " + shown + " (most likely due to a circular import)" : shown;
  message += " (" + (path == nullptr ? std::string("unknown location") : path->value()) + ")";
  return ImportErrorFor(text == nullptr ? std::string_view() : std::string_view(text->value()), message);
}

absl::StatusOr<Ref<Object>> Importer::Reload(const Ref<Object>& module) {
  std::optional<Frame> asking;
  if (AsModule(module) == nullptr) asking.emplace(*this);  // as in HandleFromList
  const absl::StatusOr<Ref<Object>> module_name = module->GetAttr("__name__");
  const String* const text = module_name.ok() ? As<String>(*module_name) : nullptr;
  if (text == nullptr) return Raise(ErrorType::TypeError(), "reload() argument must be a module");
  const std::string& name = text->value();
  if (modules_.Get(name) != module) return ImportErrorFor(name, "module " + name + " not in sys.modules");
  Frame frame(*this, name, module);
  if (frame.reloaded_already()) return frame.reloaded_already();
  const std::string_view parent_name = ParentOf(name);
  std::vector<std::string> directories;
  if (!parent_name.empty()) {
    const Ref<Object> parent = modules_.Get(parent_name);
    if (!parent) {
      return ImportErrorFor(parent_name, "parent " + ReprOfString(parent_name) + " not in sys.modules");
    }
    const absl::StatusOr<Ref<Object>> path = parent->GetAttr("__path__");
    if (!path.ok()) return path.status();
    directories = internal::StringItems(*path);
  }
  const absl::StatusOr<Ref<ModuleSpec>> spec =
      FindSpec(name, parent_name.empty() ? nullptr : &directories, module.get());
  if (!spec.ok()) return spec.status();
  if (!*spec) return ModuleNotFound(name, "spec not found for the module " + ReprOfString(name));

  ModuleLock lock(module_locks_, name);
  const absl::StatusOr<ModuleLockStatus> locked = Lock(lock);
  if (!locked.ok()) return locked.status();
  // Another thread is inside its body, which must not run twice at a time.
  if (*locked == ModuleLockStatus::kDeadlock) return lock.DeadlockError();
  if (modules_.Get(name) != module) {
    return ImportErrorFor(name, "module " + ReprOfString(name) + " not in sys.modules");
  }
  absl::Status status;
  if ((*spec)->loader()) {
    status = (*spec)->loader()->Exec(*spec, module);
  } else if (!(*spec)->is_package()) {
    status = ImportErrorFor(name, "missing loader");
  }
  // Whatever has come of it: a module that fails to reload stays what it was, and is the last one.
  Ref<Object> result = modules_.MoveToEnd(name);
  if (!result) return ToStatus(Error::New(ErrorType::KeyError(), {String::Of(name)}));
  if (!status.ok()) return status;
  return result;
}

}  // namespace pyrt::inline PYRT_VARIANT
