// What a program may put where a sequence belongs (sys.path, sys.meta_path, __path__, __all__): a list or a tuple.

#ifndef PYRT_IMPORTLOCK_INTERNAL_ITEMS_H_
#define PYRT_IMPORTLOCK_INTERNAL_ITEMS_H_

#include <optional>
#include <string>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT::internal {

// The items as they are now; nothing if `object` is null or neither of the two.
inline std::optional<std::vector<Ref<Object>>> Items(const Ref<Object>& object) {
  if (const List* const list = As<List>(object)) return list->Snapshot();
  if (const Tuple* const tuple = As<Tuple>(object)) {
    return std::vector<Ref<Object>>(tuple->items().begin(), tuple->items().end());
  }
  return std::nullopt;
}

// The strings among them: a search path.
inline std::vector<std::string> StringItems(const Ref<Object>& object) {
  std::vector<std::string> strings;
  const std::optional<std::vector<Ref<Object>>> items = Items(object);
  if (!items.has_value()) return strings;
  for (const Ref<Object>& item : *items) {
    if (const String* const string = As<String>(item)) strings.push_back(string->value());
  }
  return strings;
}

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_ITEMS_H_
