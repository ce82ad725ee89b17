#include "pyrt/sys/intern_table.h"

#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"

namespace pyrt::inline PYRT_VARIANT {

Ref<String> InternTable::Find(std::string_view text) const {
  MutexLock lock(mutex_);
  const auto found = strings_.find(text);
  return found != strings_.end() ? found->second : nullptr;
}

Ref<String> InternTable::Intern(std::string_view text) {
  if (Ref<String> known = Find(text)) return known;
  return Intern(String::Of(text));
}

Ref<String> InternTable::Intern(Ref<String> string) {
  // The node is made before the lock is taken. (The table itself grows under it when its room is used up.)
  Strings made;
  made.try_emplace(string->value(), string);
  Strings::insert_return_type inserted;  // with the node, if it was not needed, until the lock is released
  MutexLock lock(mutex_);
  inserted = strings_.insert(made.extract(made.begin()));
  return inserted.position->second;
}

absl::StatusOr<Ref<String>> InternTable::InternObject(const Ref<Object>& object) {
  String* string = As<String>(object);
  if (string == nullptr) {
    return Raise(ErrorType::TypeError(), "intern() argument must be str, not %s", object->TypeName());
  }
  return Intern(Ref<String>::Share(string));
}

bool InternTable::IsInterned(const String& string) const {
  MutexLock lock(mutex_);
  const auto found = strings_.find(string.value());
  return found != strings_.end() && found->second.get() == &string;
}

size_t InternTable::size() const {
  MutexLock lock(mutex_);
  return strings_.size();
}

}  // namespace pyrt::inline PYRT_VARIANT
