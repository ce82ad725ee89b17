#include "pyrt/importlock/lazy_import.h"

#include <algorithm>
#include <utility>

#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {

LazyImport::LazyImport(Importer& importer, std::string_view name, std::vector<std::string> from_list,
                       std::string_view attribute)
    : importer_(Ref<Importer>::Share(&importer)),
      module_(name),
      from_list_(std::move(from_list)),
      attribute_(attribute),
      shown_(attribute.empty() ? module_ : module_ + "." + attribute_) {}

bool LazyImport::resolved() const {
  const MutexLock lock(mutex_);
  return value_ != nullptr;
}

absl::StatusOr<Ref<Object>> LazyImport::Load() const {
  absl::StatusOr<Ref<Object>> module = importer_->ImportModuleLevel(module_, nullptr, from_list_, 0);
  if (!module.ok() || attribute_.empty()) return module;
  return importer_->ImportFrom(*module, attribute_);
}

absl::StatusOr<Ref<Object>> LazyImport::Resolve() {
  {
    const MutexLock lock(mutex_);
    if (value_ != nullptr) return value_;
  }
  absl::StatusOr<Ref<Object>> loaded = Load();
  if (loaded.ok()) {
    const MutexLock lock(mutex_);
    if (value_ == nullptr) value_ = *loaded;
    return value_;
  }
  const Ref<Error> error = ErrorFromStatus(loaded.status());
  const bool has_chain =
      error->cause() != nullptr || error->context() != nullptr || error->suppress_context();
  if (!has_chain) {
    error->set_cause(Error::New(ErrorType::ImportError(),
                                "lazy import of '" + shown_ + "' raised an exception during resolution"));
  }
  return ToStatus(error);
}

Ref<LazyImport> LazyImport::From(std::string_view attribute) const {
  return MakeRef<LazyImport>(*importer_, module_, std::vector<std::string>{std::string(attribute)},
                             attribute);
}

absl::StatusOr<std::string> LazyImport::Repr() const { return "<lazy_import " + ReprOfString(shown_) + ">"; }

absl::StatusOr<Ref<Object>> LazyImport::GetAttr(std::string_view name) {
  if (name != "resolve") return Object::GetAttr(name);
  return Ref<Object>(NativeFunction::New(
      "resolve", [self = Ref<LazyImport>::Share(this)](Args) { return self->Resolve(); }));
}

absl::StatusOr<Ref<Object>> ResolveIfLazy(const Ref<Object>& value) {
  if (value == nullptr || value->kind() != ObjectKind::kHost) return value;
  auto* const lazy = dynamic_cast<Deferred*>(value.get());
  return lazy == nullptr ? value : lazy->Resolve();
}

absl::Status LazyImports::SetFilter(Ref<Object> filter) {
  if (IsNone(filter)) filter = nullptr;
  if (filter != nullptr && !filter->IsCallable()) {
    return Raise(ErrorType::ValueError(), "filter provided but is not callable");
  }
  const MutexLock lock(mutex_);
  std::swap(filter_, filter);  // the old one is released after the lock: parameters die last
  return absl::OkStatus();
}

Ref<Object> LazyImports::filter() const {
  const MutexLock lock(mutex_);
  return filter_;
}

std::vector<std::string> LazyImports::names() const {
  const MutexLock lock(mutex_);
  return {names_.begin(), names_.end()};
}

absl::StatusOr<bool> LazyImports::IsLazy(const std::string& name, Object* globals,
                                         const std::vector<std::string>& from_list, bool is_explicit) const {
  const LazyImportsMode mode = this->mode();
  if (mode == LazyImportsMode::kNone || (mode == LazyImportsMode::kNormal && !is_explicit)) return false;
  if (std::find(from_list.begin(), from_list.end(), "*") != from_list.end()) return false;
  const Ref<Object> filter = this->filter();
  if (filter == nullptr) return true;
  const Dict* const dict = As<Dict>(globals);
  const Ref<Object> importing = dict == nullptr ? nullptr : dict->Get("__name__");
  TupleBuilder items(from_list.size());
  for (const std::string& item : from_list) items.Append(String::Of(item));
  const Ref<Object> arguments[] = {importing ? importing : None(), String::Of(name),
                                   from_list.empty() ? None() : Ref<Object>(items.Finish())};
  const absl::StatusOr<Ref<Object>> answer = filter->Call(arguments);
  if (!answer.ok()) return answer.status();
  return (*answer)->IsTrue();
}

absl::StatusOr<Ref<Object>> LazyImports::ImportModuleLevel(std::string_view name, Object* globals,
                                                           const std::vector<std::string>& from_list,
                                                           int level, bool is_explicit) {
  const Importer::Frame frame(importer_);  // the filter, as what globals name, may finalize the runtime
  const absl::StatusOr<std::string> absolute = ResolveImportName(name, globals, level, importer_.host());
  if (!absolute.ok()) return absolute.status();
  const absl::StatusOr<bool> is_lazy = IsLazy(*absolute, globals, from_list, is_explicit);
  if (!is_lazy.ok()) return is_lazy.status();
  if (!*is_lazy) return importer_.ImportModuleLevel(name, globals, from_list, level);
  std::set<std::string> node = {*absolute};  // allocated before the lock
  {
    const MutexLock lock(mutex_);
    names_.merge(node);
  }
  return Ref<Object>(MakeRef<LazyImport>(importer_, *absolute, from_list));
}

}  // namespace pyrt::inline PYRT_VARIANT
