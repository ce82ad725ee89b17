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
  strings.reserve(items.size());
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
  return size_;
}

Ref<Object> Dict::Get(std::string_view key) const {
  MutexLock lock(mutex_);
  const size_t at = FindLocked(key);
  return at == items_.size() ? nullptr : items_[at].second;
}

std::vector<Dict::Item> Dict::Snapshot() const {
  std::vector<Item> result;
  MutexLock lock(mutex_);
  result.reserve(size_);
  for (const Item& item : items_) {
    if (item.second) result.push_back(item);
  }
  return result;
}

void Dict::Set(std::string_view key, Ref<Object> value) {
  PYRT_CHECK(value, "Dict::Set", "the value for \"%.*s\" is null", static_cast<int>(key.size()), key.data());
  MutexLock lock(mutex_);
  const size_t at = FindLocked(key);
  if (at == items_.size()) return AddLocked(key, std::move(value));
  swap(items_[at].second, value);
  // The replaced object, now in `value`, is released with the parameters, after the lock.
}

Ref<Object> Dict::SetDefault(std::string_view key, Ref<Object> value) {
  PYRT_CHECK(value, "Dict::SetDefault", "the value for \"%.*s\" is null", static_cast<int>(key.size()),
             key.data());
  MutexLock lock(mutex_);
  const size_t at = FindLocked(key);
  if (at == items_.size()) AddLocked(key, std::move(value));
  return items_[at].second;
}

Ref<Object> Dict::Pop(std::string_view key) {
  MutexLock lock(mutex_);
  const size_t at = FindLocked(key);
  if (at == items_.size()) return nullptr;
  Ref<Object> value = std::move(items_[at].second);
  --size_;
  if (index_ == nullptr) {
    items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(at));
  } else {
    index_->erase(index_->find(key));
    if (items_.size() > 2 * size_) ReindexLocked();
  }
  return value;
}

void Dict::Clear() {
  std::vector<Item> old;  // outlives the lock
  MutexLock lock(mutex_);
  items_.swap(old);
  index_.reset();
  size_ = 0;
}

size_t Dict::FindLocked(std::string_view key) const {
  if (index_ != nullptr) {
    const auto found = index_->find(key);
    return found == index_->end() ? items_.size() : found->second;
  }
  size_t at = 0;
  while (at < items_.size() && items_[at].first != key) ++at;
  return at;
}

void Dict::AddLocked(std::string_view key, Ref<Object> value) {
  items_.emplace_back(key, std::move(value));
  ++size_;
  if (index_ != nullptr) {
    index_->emplace(key, items_.size() - 1);
  } else if (size_ >= kIndexedFrom) {
    ReindexLocked();
  }
}

// Without holes, and with an index if there are enough names.
void Dict::ReindexLocked() {
  std::erase_if(items_, [](const Item& item) { return !item.second; });
  index_.reset();
  if (size_ < kIndexedFrom) return;
  index_ = std::make_unique<Index>();
  for (size_t i = 0; i < items_.size(); ++i) index_->emplace(items_[i].first, i);
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
