#include "pyrt/runtime/object/containers.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// The containers whose repr is being made on this thread, innermost first: one that contains itself prints
// dots.
class ReprScope {
 public:
  explicit ReprScope(const Object* object);
  ~ReprScope();
  bool is_recursive() const { return recursive_; }

 private:
  const Object* const object_;
  const ReprScope* const previous_;
  bool recursive_ = false;
};

}  // namespace

PYRT_THREAD_LOCAL(const void*, innermost_repr) = nullptr;

namespace {

ReprScope::ReprScope(const Object* object)
    : object_(object), previous_(static_cast<const ReprScope*>(innermost_repr)) {
  for (const ReprScope* scope = previous_; scope != nullptr; scope = scope->previous_) {
    recursive_ = recursive_ || scope->object_ == object;
  }
  innermost_repr = this;
}

ReprScope::~ReprScope() { innermost_repr = previous_; }

}  // namespace

Ref<List> List::Of(std::vector<Ref<Object>> items) { return Ref<List>::Adopt(new List(std::move(items))); }

Ref<List> List::OfStrings(const std::vector<std::string>& items) {
  std::vector<Ref<Object>> strings;
  for (const std::string& item : items) strings.push_back(String::Of(item));
  return Of(std::move(strings));
}

size_t List::size() const {
  MutexLock lock(mutex_);
  return items_.size();
}

Ref<Object> List::Get(size_t index) const {
  MutexLock lock(mutex_);
  return index < items_.size() ? items_[index] : nullptr;
}

std::vector<Ref<Object>> List::Snapshot() const {
  MutexLock lock(mutex_);
  return items_;
}

void List::Append(Ref<Object> item) {
  MutexLock lock(mutex_);
  items_.push_back(std::move(item));
}

void List::Insert(size_t index, Ref<Object> item) {
  MutexLock lock(mutex_);
  items_.insert(items_.begin() + static_cast<ptrdiff_t>(std::min(index, items_.size())), std::move(item));
}

void List::Assign(std::vector<Ref<Object>> items) {
  {
    MutexLock lock(mutex_);
    items_.swap(items);
  }
  items.clear();  // the old ones: their destructors may use the list
}

absl::StatusOr<std::string> List::Repr() const {
  ReprScope scope(this);
  if (scope.is_recursive()) return std::string("[...]");
  absl::StatusOr<std::string> items = ReprOfItems(Snapshot());
  if (!items.ok()) return items.status();
  return "[" + *items + "]";
}

size_t Dict::size() const {
  MutexLock lock(mutex_);
  return index_.size();
}

Ref<Object> Dict::Get(std::string_view key) const {
  MutexLock lock(mutex_);
  const auto found = index_.find(std::string(key));
  return found == index_.end() ? nullptr : items_[found->second].second;
}

std::vector<Dict::Item> Dict::Snapshot() const {
  std::vector<Item> result;
  MutexLock lock(mutex_);
  result.reserve(index_.size());
  for (const Item& item : items_) {
    if (item.second) result.push_back(item);
  }
  return result;
}

void Dict::Set(std::string_view key, Ref<Object> value) {
  PYRT_CHECK(value, "Dict::Set", "the value for \"%.*s\" is null", static_cast<int>(key.size()), key.data());
  MutexLock lock(mutex_);
  const auto [entry, is_new] = index_.try_emplace(std::string(key), items_.size());
  if (is_new) {
    items_.emplace_back(entry->first, std::move(value));
  } else {
    swap(items_[entry->second].second, value);
  }
  // The replaced object, now in `value`, is released with the parameters, after the lock.
}

Ref<Object> Dict::SetDefault(std::string_view key, Ref<Object> value) {
  PYRT_CHECK(value, "Dict::SetDefault", "the value for \"%.*s\" is null", static_cast<int>(key.size()),
             key.data());
  MutexLock lock(mutex_);
  const auto [entry, is_new] = index_.try_emplace(std::string(key), items_.size());
  if (is_new) items_.emplace_back(entry->first, std::move(value));
  return items_[entry->second].second;
}

Ref<Object> Dict::Pop(std::string_view key) {
  MutexLock lock(mutex_);
  const auto found = index_.find(std::string(key));
  if (found == index_.end()) return nullptr;
  Ref<Object> value = std::move(items_[found->second].second);
  index_.erase(found);
  if (items_.size() > 8 && items_.size() > 2 * index_.size()) CompactLocked();
  return value;
}

void Dict::CompactLocked() {
  std::erase_if(items_, [](const Item& item) { return !item.second; });
  for (size_t i = 0; i < items_.size(); ++i) index_[items_[i].first] = i;
}

void Dict::Clear() {
  std::vector<Item> old;  // outlives the lock
  MutexLock lock(mutex_);
  items_.swap(old);
  index_.clear();
}

absl::StatusOr<std::string> Dict::Repr() const {
  ReprScope scope(this);
  if (scope.is_recursive()) return std::string("{...}");
  std::string result = "{";
  for (const auto& [key, value] : Snapshot()) {
    if (result.size() > 1) result += ", ";
    absl::StatusOr<std::string> text = value->Repr();
    if (!text.ok()) return text.status();
    result += ReprOfString(key) + ": " + *text;
  }
  return result + "}";
}

}  // namespace pyrt::inline PYRT_VARIANT
