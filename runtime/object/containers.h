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
  static Ref<Dict> New() { return Ref<Dict>::Adopt(new Dict); }

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
  Dict() : Object(ObjectKind::kDict) {}

  // Removed items leave a hole (null value) until the holes outnumber the items.
  void CompactLocked() PYRT_REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::vector<Item> items_ PYRT_GUARDED_BY(mutex_);
  std::unordered_map<std::string, size_t> index_ PYRT_GUARDED_BY(mutex_);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_CONTAINERS_H_
