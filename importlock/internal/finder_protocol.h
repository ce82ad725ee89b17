// Asking finders that may be any object: `find_spec`, as importlib calls it.

#ifndef PYRT_IMPORTLOCK_INTERNAL_FINDER_PROTOCOL_H_
#define PYRT_IMPORTLOCK_INTERNAL_FINDER_PROTOCOL_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "pyrt/importlock/module.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::internal {

// A place in sys.meta_path: find_spec(name, path, target). A Finder is asked directly; of another object the
// attribute `find_spec` is called, and one without it is passed over. It answers a ModuleSpec or None (TypeError
// for anything else). Null: it does not know the module.
absl::StatusOr<Ref<ModuleSpec>> AskMetaPathFinder(const Ref<Object>& finder, std::string_view name,
                                                  const std::vector<std::string>* path, const Object* target);

// What a path hook made for one directory: find_spec(name, target).
absl::StatusOr<Ref<ModuleSpec>> AskPathEntryFinder(const Ref<Object>& finder, std::string_view name,
                                                   const Object* target);

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_FINDER_PROTOCOL_H_
