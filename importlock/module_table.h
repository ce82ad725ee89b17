// ModuleTable: sys.modules. Name -> module, in the order in which imports completed.
//
//   reads     lock-free, no store but the reference count of the result; scale with cores (Peek has no
//             store at all)
//   writes    one mutex per table; every call is atomic, so that there is no check-then-act (bpo-30891,
//             gh-137422)
//   iteration over a snapshot, safe against any change
//
// How a reader stays safe. Entries are immutable and own a reference to their module. A writer unlinks an
// entry, or replaces a grown array, and retires it; it is freed, and the reference given back, when every
// thread that was attached at that moment has been quiescent (Reclaimer). A reader is attached and takes its
// own reference before it can be quiescent: what it found lives. Under the GIL nobody else runs meanwhile,
// and retiring is freeing.
//
//   array_ -> [ null | entry | kRemoved | ... ]   open addressing, power of two, at most 2/3 used
//
// Readers and writers: attached to the table's interpreter, in both builds. Values may be any object; None
// means that the import is forbidden (IL-46).
//
// CPython counterpart: interp->imports.modules (a dict: readers of the free-threaded build scale as well, and
// pay for an interned key, a probe and a shared reference count).

#ifndef PYRT_IMPORTLOCK_MODULE_TABLE_H_
#define PYRT_IMPORTLOCK_MODULE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyrt/importlock/internal/module_table_entry.h"
#include "pyrt/importlock/internal/name_hash.h"
#include "pyrt/importlock/module.h"
#include "pyrt/importlock/reclaimer.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class ModuleTable {
 public:
  using Item = std::pair<std::string, Ref<Object>>;

  // What is known of a name.
  struct Found {
    Ref<Object> module;    // null: absent
    Ref<ModuleSpec> spec;  // null: none, which counts as finished
    bool initializing() const { return spec && spec->initializing(); }
  };

  // `reclaimer` outlives the table.
  explicit ModuleTable(Reclaimer& reclaimer);
  ModuleTable(const ModuleTable&) = delete;
  ModuleTable& operator=(const ModuleTable&) = delete;
  ~ModuleTable();

  // The module, or null. CPython: PyDict_GetItem on sys.modules.
  Ref<Object> Get(std::string_view name) const {
    const Entry* const entry = Find(name, internal::HashName(name));
    return entry == nullptr ? Ref<Object>() : entry->value;
  }
  Found Look(std::string_view name) const {
    const Entry* const entry = Find(name, internal::HashName(name));
    return entry == nullptr ? Found{} : Found{entry->value, entry->spec};
  }

  // The module without a reference of its own, or null: valid until the thread detaches, polls its eval
  // breaker or calls anything that may. For readers that must not write to shared memory at all.
  Object* Peek(std::string_view name) const {
    const Entry* const entry = Find(name, internal::HashName(name));
    return entry == nullptr ? nullptr : entry->value.get();
  }

  // The fast path of every import: the module if its import has ended well, else null (absent, None, still
  // initializing). Takes no lock. A module that was found finished is looked for once more, because it may
  // have been initializing before and left the table when that failed (gh-143650).
  Ref<Object> GetFinished(std::string_view name) const {
    const uint64_t hash = internal::HashName(name);
    const Entry* const entry = Find(name, hash);
    if (entry == nullptr) return {};
    if (entry->spec) {
      if (entry->spec->initializing()) return {};
      if (Find(name, hash) != entry && !PYRT_MUTANT(gh_143650_no_second_look)) return {};
    }
    if (entry->is_none) [[unlikely]]
      return {};
    return entry->value;
  }

  // Adds or replaces; a replaced module keeps its place in the order. Without `spec` a Module's own counts.
  void Set(std::string_view name, Ref<Object> value, Ref<ModuleSpec> spec = {});
  // The present module or, if there is none, `value`, which is then in the table. CPython:
  // PyImport_AddModuleRef.
  Ref<Object> SetDefault(std::string_view name, Ref<Object> value);
  // The module that was removed, or null.
  Ref<Object> Remove(std::string_view name);
  // Removes it only if it is still `expected`.
  bool RemoveIf(std::string_view name, const Object* expected);
  // Puts an entry at the end of the order, as if it had been popped and inserted, but never absent for
  // others. The module, or null if there is none.
  Ref<Object> MoveToEnd(std::string_view name);
  // Removes everything.
  void Clear();

  // Brackets a fork: nobody is in the middle of a change in the child.
  void BeforeFork() PYRT_ACQUIRE(mutex_) { mutex_.Lock(); }
  void AfterForkInParent() PYRT_RELEASE(mutex_) { mutex_.Unlock(); }
  void AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS { mutex_.ReinitAfterFork(); }

  size_t size() const;
  // In the order of completion.
  std::vector<Item> Snapshot() const;
  // Bytes of the table itself: arrays and entries, without modules.
  size_t MemoryUsage() const;

 private:
  using Entry = internal::ModuleTableEntry;
  using Array = internal::ModuleTableArray;

  const Entry* Find(std::string_view name, uint64_t hash) const {
    // Acquire, twice: what the writer put into the array, and into the entry, before it published them.
    const Array* const array = array_.load(PYRT_MUTANT(module_table_reads_relaxed) ? kRelaxed : kAcquire);
    for (uint64_t at = hash;; ++at) {
      const Entry* const entry =
          array->slot(at).load(PYRT_MUTANT(module_table_reads_relaxed) ? kRelaxed : kAcquire);
      if (entry == nullptr) return nullptr;
      if (entry->hash == hash && entry->name() == name) return entry;
    }
  }

  // The slot of `name`, or null.
  Atomic<const Entry*>* FindSlot(std::string_view name, uint64_t hash) PYRT_REQUIRES(mutex_);
  // Locks, with room for one more entry.
  void LockWithRoom() PYRT_ACQUIRE(mutex_);
  void Insert(Entry& entry) PYRT_REQUIRES(mutex_);
  void Replace(Atomic<const Entry*>& slot, Entry& old, Entry& entry) PYRT_REQUIRES(mutex_);
  Entry* Unlink(Atomic<const Entry*>& slot) PYRT_REQUIRES(mutex_);
  void RetireEntry(Entry* entry);

  Reclaimer& reclaimer_;
  Atomic<Array*> array_;
  mutable Mutex mutex_;
  size_t size_ PYRT_GUARDED_BY(mutex_) = 0;
  size_t used_ PYRT_GUARDED_BY(mutex_) = 0;  // with removed ones
  Entry* first_ PYRT_GUARDED_BY(mutex_) = nullptr;
  Entry* last_ PYRT_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_MODULE_TABLE_H_
