#include "pyrt/sys/sys_dict.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/delayed_free.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A sys module has about a hundred names.
constexpr size_t kInitialCapacity = 256;

// Slots for `living` names: a third of them, so that the table has room until a half is used; what was deleted counts
// among the used, and is left behind.
size_t CapacityFor(size_t living, size_t least) { return std::max(least, std::bit_ceil(3 * living)); }

// Hands `item` to the thread's delayed frees, where readers may still see it; frees it now where there are
// none.
void FreeAfterReaders(DelayedFree* item) {
  ThreadState* const thread = ThreadState::Current();
  if (kGilEnabled || thread == nullptr || thread->link().qsbr == nullptr ||
      PYRT_MUTANT(gh_130163_frees_under_readers)) {
    item->free(item);
    return;
  }
  DelayedFrees& frees = thread->data().delayed_frees;
  frees.Free(*item, thread->link().qsbr, thread->qsbr_slot());
  // Changes of sys are rare and somebody may wait for the old object's destructor (a file that is to be
  // flushed): ask at once instead of after the usual number of frees.
  frees.Process(*thread->link().qsbr, thread->qsbr_slot());
}

template <typename T>
void DeleteAfterReaders(T* item) {
  item->free = [](DelayedFree* self) { delete static_cast<T*>(self); };
  FreeAfterReaders(item);
}

}  // namespace

// What a change has unlinked, collected under the lock and retired after it. Reserved before it, too: there
// is no allocation under the lock.
struct SysDict::Garbage {
  std::vector<Entry*> entries;
  Table* table = nullptr;

  ~Garbage() {
    for (Entry* entry : entries) DeleteAfterReaders(entry);
    if (table != nullptr) DeleteAfterReaders(table);
  }
};

// The reference that a change takes away. Made before the change, empty if there was none; goes after the lock.
class SysDict::RetiredValue {
 public:
  RetiredValue() {
    if constexpr (!kGilEnabled) item_ = new Item;
  }
  RetiredValue(const RetiredValue&) = delete;
  RetiredValue& operator=(const RetiredValue&) = delete;
  ~RetiredValue() {
    if (value != nullptr && !kGilEnabled && !value->IsImmortal()) {
      item_->value = value;
      DeleteAfterReaders(item_);
      return;
    }
    delete item_;
    if (value != nullptr) value->DecRef();
  }
  Object* value = nullptr;

 private:
  struct Item : DelayedFree {
    ~Item() {
      if (value != nullptr) value->DecRef();
    }
    Object* value = nullptr;
  };
  Item* item_ = nullptr;
};

SysDict::Table::Table(size_t capacity) : mask(capacity - 1), slots(capacity) {}

SysDict::SysDict() : SysDict(kInitialCapacity) {}

SysDict::SysDict(size_t least_capacity)
    : least_capacity_(least_capacity), table_(new Table(least_capacity)) {}

SysDict::~SysDict() {
  Clear();
  Table* const table = table_.load(kRelaxed);
  for (Atomic<Entry*>& slot : table->slots) delete slot.load(kRelaxed);
  delete table;
}

void SysDict::Insert(Table& table, Entry* entry) {
  size_t i = entry->hash & table.mask;
  while (table.slots[i].load(kRelaxed) != nullptr) i = (i + 1) & table.mask;
  // Release: a reader that finds the entry sees its name.
  table.slots[i].store(entry, PYRT_MUTANT(sys_dict_publishes_relaxed) ? kRelaxed : kRelease);
}

void SysDict::MoveLocked(Table* fresh, Garbage* garbage) {
  Table* const old = table_.load(kRelaxed);
  used_ = 0;
  for (Atomic<Entry*>& slot : old->slots) {
    Entry* const entry = slot.load(kRelaxed);
    if (entry == nullptr) continue;
    if (entry->value.load(kRelaxed) == nullptr) {
      garbage->entries.push_back(entry);
    } else {
      Insert(*fresh, entry);
      ++used_;
    }
  }
  // Release: pairs with FindEntry's load, which then sees the whole table.
  table_.store(fresh, kRelease);
  garbage->table = old;
}

void SysDict::Set(SysName name, Ref<Object> value) {
  PYRT_CHECK(value, "SysDict::Set", "the value for \"%s\" is null", std::string(name.text()).c_str());
  std::unique_ptr<Entry> fresh;
  std::unique_ptr<Table> table;
  Garbage garbage;
  RetiredValue replaced;
  while (true) {
    size_t capacity_wanted = 0;
    size_t used = 0;
    {
      BasicMutexLock lock(lock_);
      if (const Entry* found = FindEntry(name)) {
        auto* const entry = const_cast<Entry*>(found);
        // Release: a reader of the pointer sees the object. Acquire is not needed: the old object's last
        // owner's DecRef synchronises.
        replaced.value = entry->value.exchange(value.release(), kRelease);
        if (replaced.value == nullptr || PYRT_MUTANT(sys_dict_counts_replaced_entries)) {
          entry->order = next_order_++;
          count_.store(count_.load(kRelaxed) + 1, kRelaxed);
        }
        break;
      }
      const bool full = 2 * (used_ + 1) > capacity();
      const size_t needed = CapacityFor(size() + 1, least_capacity_);
      if (fresh != nullptr && full && table != nullptr && table->mask + 1 >= needed &&
          garbage.entries.capacity() >= used_) {
        MoveLocked(table.release(), &garbage);
      } else if (full) {
        capacity_wanted = needed;
        used = used_;
      }
      if (capacity_wanted == 0 && fresh != nullptr) {
        fresh->value.store(value.release(), kRelaxed);
        fresh->order = next_order_++;
        count_.store(count_.load(kRelaxed) + 1, kRelaxed);
        Insert(*table_.load(kRelaxed), fresh.release());
        ++used_;
        break;
      }
    }
    if (fresh == nullptr) fresh = std::make_unique<Entry>(name);
    if (capacity_wanted != 0) {
      table = std::make_unique<Table>(capacity_wanted);
      garbage.entries.reserve(used);
    }
  }
}

bool SysDict::Delete(SysName name) {
  RetiredValue removed;
  {
    BasicMutexLock lock(lock_);
    if (const Entry* found = FindEntry(name)) {
      // Relaxed: nothing is published by a null.
      removed.value = const_cast<Entry*>(found)->value.exchange(nullptr, kRelaxed);
      if (removed.value != nullptr) count_.store(count_.load(kRelaxed) - 1, kRelaxed);
    }
  }
  return removed.value != nullptr;
}

std::vector<std::pair<std::string, Ref<Object>>> SysDict::Snapshot() const {
  struct Item {
    const Entry* entry;
    uint64_t order;
    Ref<Object> value;
  };
  std::vector<Item> items;
  // Room is made without the lock; a name that is added meanwhile means another round.
  while (true) {
    items.clear();
    items.reserve(size() + 8);
    BasicMutexLock lock(lock_);
    if (items.capacity() < size()) continue;
    for (const Atomic<Entry*>& slot : table_.load(kRelaxed)->slots) {
      const Entry* const entry = slot.load(kRelaxed);
      if (entry == nullptr) continue;
      if (Object* value = entry->value.load(kAcquire)) {
        items.push_back({entry, entry->order, Ref<Object>::Share(value)});
      }
    }
    break;
  }
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.order < b.order; });
  std::vector<std::pair<std::string, Ref<Object>>> result;
  result.reserve(items.size());
  for (Item& item : items) result.emplace_back(item.entry->name, std::move(item.value));
  return result;
}

void SysDict::Clear() {
  // Newest first: what was set up first (the standard streams) serves the destructors of what came later.
  std::vector<std::pair<std::string, Ref<Object>>> items = Snapshot();
  while (!items.empty()) {
    Delete(items.back().first);
    items.pop_back();
  }
}

namespace {

absl::Status NoSysModule() { return Raise(ErrorType::RuntimeError(), "no sys module"); }

absl::StatusOr<SysName> NameOf(const Ref<Object>& name) {
  const String* const text = As<String>(name);
  if (text == nullptr) {
    return Raise(ErrorType::TypeError(), "attribute name must be string, not '%.200s'", name->TypeName());
  }
  return SysName(text->value());
}

}  // namespace

absl::StatusOr<Ref<Object>> SysGetAttr(const SysDict* dict, SysName name) {
  if (dict == nullptr) return NoSysModule();
  Ref<Object> value = dict->Find(name);
  if (value) return value;
  return Raise(ErrorType::RuntimeError(), "lost sys.%s", std::string(name.text()).c_str());
}

absl::StatusOr<Ref<Object>> SysGetOptionalAttr(const SysDict* dict, SysName name) {
  return dict == nullptr ? Ref<Object>() : dict->Find(name);
}

absl::Status SysSetObject(SysDict* dict, SysName name, Ref<Object> value) {
  if (!value) return SysDelObject(dict, name);
  if (dict == nullptr) return NoSysModule();
  dict->Set(name, std::move(value));
  return absl::OkStatus();
}

absl::Status SysDelObject(SysDict* dict, SysName name) {
  if (dict == nullptr) return NoSysModule();
  dict->Delete(name);
  return absl::OkStatus();
}

absl::StatusOr<Ref<Object>> SysGetAttr(const SysDict* dict, const Ref<Object>& name) {
  absl::StatusOr<SysName> text = NameOf(name);
  if (!text.ok()) return text.status();
  return SysGetAttr(dict, *text);
}

absl::StatusOr<Ref<Object>> SysGetOptionalAttr(const SysDict* dict, const Ref<Object>& name) {
  absl::StatusOr<SysName> text = NameOf(name);
  if (!text.ok()) return text.status();
  return SysGetOptionalAttr(dict, *text);
}

}  // namespace pyrt::inline PYRT_VARIANT
