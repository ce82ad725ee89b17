#include "pyrt/importlock/internal/finder_protocol.h"

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT::internal {
namespace {

Ref<Object> OrNone(const Object* object) {
  return object == nullptr ? None() : Ref<Object>::Share(const_cast<Object*>(object));
}

absl::StatusOr<Ref<ModuleSpec>> CallFindSpec(const Ref<Object>& finder, Args arguments, bool may_lack_it) {
  const absl::StatusOr<Ref<Object>> find_spec = finder->GetAttr("find_spec");
  if (!find_spec.ok()) {
    if (may_lack_it && IsError(find_spec.status(), ErrorType::AttributeError())) return Ref<ModuleSpec>();
    return find_spec.status();
  }
  absl::StatusOr<Ref<Object>> found = (*find_spec)->Call(arguments);
  if (!found.ok()) return found.status();
  if (!*found || IsNone(*found)) return Ref<ModuleSpec>();
  if (auto* const spec = dynamic_cast<ModuleSpec*>(found->get())) return Ref<ModuleSpec>::Share(spec);
  return Raise(ErrorType::TypeError(), "find_spec() must return a ModuleSpec or None, not %s",
               (*found)->TypeName());
}

}  // namespace

absl::StatusOr<Ref<ModuleSpec>> AskMetaPathFinder(const Ref<Object>& finder, std::string_view name,
                                                  const std::vector<std::string>* path,
                                                  const Object* target) {
  if (auto* const native = dynamic_cast<Finder*>(finder.get())) return native->FindSpec(name, path, target);
  const Ref<Object> arguments[] = {
      String::Of(name), path == nullptr ? None() : Ref<Object>(List::OfStrings(*path)), OrNone(target)};
  return CallFindSpec(finder, arguments, /*may_lack_it=*/true);
}

absl::StatusOr<Ref<ModuleSpec>> AskPathEntryFinder(const Ref<Object>& finder, std::string_view name,
                                                   const Object* target) {
  if (auto* const native = dynamic_cast<Finder*>(finder.get()))
    return native->FindSpec(name, nullptr, target);
  const Ref<Object> arguments[] = {String::Of(name), OrNone(target)};
  return CallFindSpec(finder, arguments, /*may_lack_it=*/false);
}

}  // namespace pyrt::inline PYRT_VARIANT::internal
