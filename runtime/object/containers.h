// The two mutable containers that the runtime shares with its host: a list (sys.path, sys.argv, warnoptions)
// and a dictionary with string keys that remembers the order of insertion (a module's names, sys.modules as
// Python code sees it).
//
// Every operation is atomic: callable by several threads at a time in both builds, attached. None calls back
// while the container is locked: replaced values are released after the lock, and iteration works on a
// snapshot.
//
// For tables that many threads read at full speed there are SysDict and ModuleTable; these here take a lock.
//
// CPython counterpart: PyList_Type, PyDict_Type.

#ifndef PYRT_RUNTIME_OBJECT_CONTAINERS_H_
#define PYRT_RUNTIME_OBJECT_CONTAINERS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class List final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kList; }
  static Ref<List> Of(std::vector<Ref<Object>> items = {});
  static Ref<List> OfStrings(const std::vector<std::string>& items);

  size_t size() const;
  // The item, or null when there is none.
  Ref<Object> Get(size_t index) const;
  std::vector<Ref<Object>> Snapshot() const;

  void Append(Ref<Object> item);
  // list.insert: an index behind the end appends.
  void Insert(size_t index, Ref<Object> item);
  // list[:] = items. The old items are released last.
  void Assign(std::vector<Ref<Object>> items);

  const char* TypeName() const override { return "list"; }
  absl::StatusOr<std::string> Repr() const override;  // "[...]" inside itself
  absl::StatusOr<bool> IsTrue() const override { return size() != 0; }

 private:
  explicit List(std::vector<Ref<Object>> items) : Object(ObjectKind::kList), items_(std::move(items)) {}

  mutable Mutex mutex_;
  std::vector<Ref<Object>> items_ PYRT_GUARDED_BY(mutex_);
};

class Dict final : public Object {
 public:
  using Item = std::pair<std::string, Ref<Object>>;

  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kDict; }
  // With room for `capacity` names; more may come.
  static Ref<Dict> New(size_t capacity = 0) { return Ref<Dict>::Adopt(new Dict(capacity)); }

  size_t size() const;
  // The value, or null when there is none.
  Ref<Object> Get(std::string_view key) const;
  // In the order of first insertion.
  std::vector<Item> Snapshot() const;

  // `value` may not be null.
  void Set(std::string_view key, Ref<Object> value);
  // The present value, or `value`, which is then stored.
  Ref<Object> SetDefault(std::string_view key, Ref<Object> value);
  // The removed value, or null when there was none.
  Ref<Object> Pop(std::string_view key);
  void Clear();

  const char* TypeName() const override { return "dict"; }
  absl::StatusOr<std::string> Repr() const override;  // "{...}" inside itself
  absl::StatusOr<bool> IsTrue() const override { return size() != 0; }

 private:
  explicit Dict(size_t capacity) : Object(ObjectKind::kDict) { items_.reserve(capacity); }

  // By name, without making a string of it.
  struct HashOfName {
    using is_transparent = void;
    size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
  };
  using Index = std::unordered_map<std::string, size_t, HashOfName, std::equal_to<>>;

  // Up to here a search through the names is as fast as an index, which would be three quarters of the memory of a
  // module that has little but its dunder names.
  static constexpr size_t kIndexedFrom = 9;

  // Where in items_, or items_.size().
  size_t FindLocked(std::string_view key) const PYRT_REQUIRES(mutex_);
  void AddLocked(std::string_view key, Ref<Object> value) PYRT_REQUIRES(mutex_);
  void ReindexLocked() PYRT_REQUIRES(mutex_);

  mutable Mutex mutex_;
  size_t size_ PYRT_GUARDED_BY(mutex_) = 0;
  // With an index, removed items leave a hole (null value) until the holes outnumber the items.
  std::vector<Item> items_ PYRT_GUARDED_BY(mutex_);
  std::unique_ptr<Index> index_ PYRT_GUARDED_BY(mutex_);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_CONTAINERS_H_
