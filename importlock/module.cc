#include "pyrt/importlock/module.h"

#include <algorithm>

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {

std::string_view ParentOf(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

std::string_view LastComponentOf(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

absl::StatusOr<Ref<Object>> Loader::Create(const Ref<ModuleSpec>&) { return Ref<Object>(); }

Ref<ModuleSpec> ModuleSpec::New(std::string_view name, Options options) {
  return Ref<ModuleSpec>::Adopt(new ModuleSpec(name, std::move(options)));
}

std::string_view ModuleSpec::parent() const {
  return is_package() ? std::string_view(name_) : ParentOf(name_);
}

void ModuleSpec::PushUninitialized(std::string_view child) {
  const MutexLock lock(mutex_);
  uninitialized_.emplace_back(child);
}

void ModuleSpec::PopUninitialized(std::string_view child) {
  const MutexLock lock(mutex_);
  const auto found = std::find(uninitialized_.rbegin(), uninitialized_.rend(), child);
  if (found != uninitialized_.rend()) uninitialized_.erase(std::next(found).base());
}

bool ModuleSpec::IsUninitialized(std::string_view child) const {
  const MutexLock lock(mutex_);
  return std::find(uninitialized_.begin(), uninitialized_.end(), child) != uninitialized_.end();
}

absl::StatusOr<std::string> ModuleSpec::Repr() const {
  std::string text = "ModuleSpec(name=" + ReprOfString(name_);
  if (!origin().empty()) text += ", origin=" + ReprOfString(origin());
  return text + ")";
}

absl::StatusOr<Ref<Object>> ModuleSpec::GetAttr(std::string_view name) {
  if (name == "name") return Ref<Object>(String::Of(name_));
  if (name == "parent") return Ref<Object>(String::Of(parent()));
  if (name == "origin") return origin().empty() ? None() : Ref<Object>(String::Of(origin()));
  if (name == "has_location") return BoolOf(has_location());
  if (name == "loader") return loader() ? Ref<Object>(loader()) : None();
  if (name == "_initializing") return BoolOf(initializing());
  if (name == "submodule_search_locations") {
    return is_package() ? Ref<Object>(List::OfStrings(search_path())) : None();
  }
  return Object::GetAttr(name);
}

Module::Module(std::string_view name, Ref<ModuleSpec> spec)
    : name_(String::Of(name)), spec_(std::move(spec)), dict_(Dict::New(/*capacity=*/5)) {
  dict_->Set("__name__", name_);
  dict_->Set("__doc__", None());
  dict_->Set("__package__", spec_ ? Ref<Object>(String::Of(spec_->parent())) : None());
  dict_->Set("__loader__", spec_ && spec_->loader() ? Ref<Object>(spec_->loader()) : None());
  dict_->Set("__spec__", spec_ ? Ref<Object>(spec_) : None());
  if (!spec_) return;
  if (spec_->is_package()) dict_->Set("__path__", List::OfStrings(spec_->search_path()));
  if (spec_->has_location()) dict_->Set("__file__", String::Of(spec_->origin()));
}

Module::~Module() { ClearState(); }

Ref<Module> Module::New(std::string_view name, Ref<ModuleSpec> spec) {
  return Ref<Module>::Adopt(new Module(name, std::move(spec)));
}

void Module::AllocateState(size_t size, void (*clear)(void* state)) {
  state_ = std::make_unique<unsigned char[]>(size == 0 ? 1 : size);
  clear_state_ = clear;
}

void Module::ClearState() {
  void (*const clear)(void*) = std::exchange(clear_state_, nullptr);
  if (clear != nullptr) clear(state_.get());
}

void Module::Wipe() {
  for (const bool private_names : {true, false}) {
    for (Dict::Item& item : dict_->Snapshot()) {
      const std::string& name = item.first;
      const bool is_private = name.starts_with('_') && !name.starts_with("__");
      if (is_private != private_names || name == "__builtins__") continue;
      dict_->Set(name, None());
      item.second = nullptr;  // if this was the last reference, its destructor finds the names behind it
    }
  }
  ClearState();
}

absl::StatusOr<std::string> Module::Repr() const {
  std::string text = "<module " + ReprOfString(name());
  if (spec_ && spec_->has_location()) {
    text += " from " + ReprOfString(spec_->origin());
  } else if (spec_ && !spec_->origin().empty()) {
    text += " (" + spec_->origin() + ")";
  }
  return text + ">";
}

absl::StatusOr<Ref<Object>> Module::GetAttr(std::string_view name) {
  if (Ref<Object> value = dict_->Get(name)) {
    if (value->kind() != ObjectKind::kHost) return value;
    auto* const deferred = dynamic_cast<Deferred*>(value.get());
    if (deferred == nullptr) return value;
    absl::StatusOr<Ref<Object>> resolved = deferred->Resolve();
    // What the program has bound meanwhile stays (but for another thread that binds at this very moment).
    if (resolved.ok() && dict_->Get(name) == value) dict_->Set(name, *resolved);
    return resolved;
  }
  if (name == "__dict__") return Ref<Object>(dict_);
  const int size = static_cast<int>(name.size());
  if (spec_ && spec_->IsUninitialized(name)) {
    return Raise(ErrorType::AttributeError(),
                 "cannot access submodule '%.*s' of module '%s' (most likely due to a circular import)", size,
                 name.data(), name_->value().c_str());
  }
  if (spec_ && spec_->initializing()) {
    return Raise(
        ErrorType::AttributeError(),
        "partially initialized module '%s' has no attribute '%.*s' (most likely due to a circular import)",
        name_->value().c_str(), size, name.data());
  }
  return Raise(ErrorType::AttributeError(), "module '%s' has no attribute '%.*s'", name_->value().c_str(),
               size, name.data());
}

absl::Status Module::SetAttr(std::string_view name, Ref<Object> value) {
  if (value) {
    dict_->Set(name, std::move(value));
    return absl::OkStatus();
  }
  if (!dict_->Pop(name)) {
    return Raise(ErrorType::AttributeError(), "module '%s' has no attribute '%.*s'", name_->value().c_str(),
                 static_cast<int>(name.size()), name.data());
  }
  return absl::OkStatus();
}

}  // namespace pyrt::inline PYRT_VARIANT
