// SysDict: the dictionary of an interpreter's sys module.
//
// Everybody may change it at any time, so every reader must cope with an entry that is missing, replaced or
// of another type. All accessors own what they return (gh-130163: borrowed entries were use-after-free as
// soon as somebody assigned to sys.stdout).
//
//   call                     missing                          no dictionary (null SysDict*)
//   Find                     null                             -
//   SysGetAttr               RuntimeError "lost sys.NAME"     RuntimeError "no sys module"
//   SysGetOptionalAttr       null, no error                   null, no error
//   SysGetObject             null, no error                   null, no error
//   SysSetObject             sets                             RuntimeError "no sys module"
//   SysDelObject             no error                         RuntimeError "no sys module"
//
// Readers take no lock and write nothing but the reference count of what they return. With the GIL nobody
// writes at the same time. Without it:
//
//   table_ -> Table -> Entry (name, hash: fixed) -> value   each published with release, read with acquire
//
// and whatever a writer unlinks (a value's reference, an entry, a table) is released through the thread's
// DelayedFrees once every attached thread has been quiescent: a reader that found a value adds its reference
// before that. Readers must therefore be attached, or alone.
//
// That reference is what many readers of one value wait for: a count in one cache line, which goes from core to
// core. Two ways around it: what never changes is immortal and has no count to write (sys_values.h), and Borrow()
// takes no reference.
//
// Writers take a lock of rank kSysDict, under which nothing is allocated, released or called.
//
// Names are looked up by a hash that a constant name has at compile time: static constexpr SysName
// kStdout("stdout"). A name that comes as an object is hashed once and kept as a SysKey.
//
// CPython counterpart: interp->sysdict, PySys_GetAttr, PySys_GetOptionalAttr, PySys_GetObject,
// PySys_SetObject.

#ifndef PYRT_SYS_SYS_DICT_H_
#define PYRT_SYS_SYS_DICT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/sys/internal/sys_name_hash.h"
#include "pyrt/tstate/delayed_free.h"

namespace pyrt::inline PYRT_VARIANT {

// A name with its hash. The text is borrowed.
class SysName {
 public:
  // NOLINTBEGIN(google-explicit-constructor): a name is a string that has been hashed.
  constexpr SysName(const char* text) : SysName(std::string_view(text)) {}
  constexpr SysName(std::string_view text) : text_(text), hash_(internal::HashSysName(text)) {}
  SysName(const std::string& text) : SysName(std::string_view(text)) {}
  // NOLINTEND(google-explicit-constructor)

  constexpr std::string_view text() const { return text_; }
  constexpr uint64_t hash() const { return hash_; }

 private:
  std::string_view text_;
  uint64_t hash_;
};

// A name object with its hash: for who looks the same name up again and again, as an evaluation loop does with
// the names of its code. Copies refer to the same string. CPython: an interned string, which caches its hash.
class SysKey {
 public:
  // `string` is not null.
  explicit SysKey(Ref<String> string) : string_(std::move(string)), name_(string_->value()) {}

  operator SysName() const { return name_; }  // NOLINT(google-explicit-constructor): it is one
  const Ref<String>& string() const { return string_; }

 private:
  Ref<String> string_;
  SysName name_;  // of string_'s text, which does not move
};

class SysDict {
 public:
  SysDict();
  SysDict(const SysDict&) = delete;
  SysDict& operator=(const SysDict&) = delete;
  ~SysDict();  // no readers any more

  // The value or null. Attached; any thread; wait-free.
  Ref<Object> Find(SysName name) const {
    const Entry* const entry = FindEntry(name);
    if (entry == nullptr) return nullptr;
    Object* const value = entry->value.load(kAcquire);
    return value == nullptr ? nullptr : Ref<Object>::Share(value);
  }
  // The value, borrowed, or null: nothing is written, so that any number of threads read one value at the speed of
  // one. Good until the thread polls, detaches (whatever blocks does), changes this or another lock-free table, or
  // calls what may do one of these; to keep it longer, Ref<Object>::Share it before. For short looks: is stdout None,
  // which type is it.
  //
  // Why it holds: with the GIL nobody else runs before this thread polls or detaches. Without it a writer hands the
  // replaced value to DelayedFrees after it has unlinked it, and that waits for every thread that was attached then;
  // this one is seen outside only at its next poll or detach. Attached; wait-free.
  Object* Borrow(SysName name) const {
    const Entry* const entry = FindEntry(name);
    return entry == nullptr ? nullptr : entry->value.load(kAcquire);
  }

  bool Contains(SysName name) const { return Borrow(name) != nullptr; }

  // `value` may not be null. The replaced value is released, which may run its destructor now or, without the
  // GIL, at a later call of this thread. Attached.
  void Set(SysName name, Ref<Object> value);

  // False when there was none.
  bool Delete(SysName name);

  // Everything, in the order in which the present names were set first. Attached.
  std::vector<std::pair<std::string, Ref<Object>>> Snapshot() const;
  size_t size() const { return count_.load(kRelaxed); }
  // Slots of the table: 256, or up to six times as many as there were names at one time, however many came and went.
  size_t capacity() const { return table_.load(kAcquire)->mask + 1; }

  // Deletes all. At the interpreter's end, when only one thread is left.
  void Clear();

  void ReinitAfterFork() { lock_.ReinitAfterFork(); }

 private:
  friend class SysDictTestPeer;
  // A table of that many slots at least, a power of two.
  explicit SysDict(size_t least_capacity);

  struct Entry;
  struct Table;
  struct Garbage;
  class RetiredValue;

  // What readers may still see when it goes carries what its release needs, so that a change which has been made
  // cannot fail for want of memory.
  struct Entry : DelayedFree {
    Entry(SysName sys_name) : name(sys_name.text()), hash(sys_name.hash()) {}
    const std::string name;
    const uint64_t hash;
    Atomic<Object*> value{nullptr};  // null: deleted; the dictionary owns a reference
    uint64_t order = 0;              // guarded by lock_
  };
  struct Table : DelayedFree {
    explicit Table(size_t capacity);
    const size_t mask;
    std::vector<Atomic<Entry*>> slots;  // at most half are used, so that a search ends
  };

  const Entry* FindEntry(SysName name) const {
    const Table& table = *table_.load(kAcquire);
    for (size_t i = name.hash() & table.mask;; i = (i + 1) & table.mask) {
      const Entry* const entry = table.slots[i].load(kAcquire);
      if (entry == nullptr) return nullptr;
      if (entry->hash == name.hash() && internal::SameSysName(entry->name, name.text())) return entry;
    }
  }
  static void Insert(Table& table, Entry* entry);
  // Moves the living entries to `fresh` and publishes it; what is left over goes into `garbage`.
  void MoveLocked(Table* fresh, Garbage* garbage) PYRT_REQUIRES(lock_);

  const size_t least_capacity_;
  Atomic<Table*> table_;
  Atomic<size_t> count_{0};
  RankedMutex<LockRank::kSysDict> mutable lock_;
  size_t used_ PYRT_GUARDED_BY(lock_) = 0;  // slots, deleted ones included
  uint64_t next_order_ PYRT_GUARDED_BY(lock_) = 0;
};

// The PySys_* functions. `dict` is null before the sys module exists and after it is gone.
absl::StatusOr<Ref<Object>> SysGetAttr(const SysDict* dict, SysName name);
absl::StatusOr<Ref<Object>> SysGetOptionalAttr(const SysDict* dict, SysName name);
inline Ref<Object> SysGetObject(const SysDict* dict, SysName name) {
  return dict == nullptr ? Ref<Object>() : dict->Find(name);
}
// A null `value` deletes.
absl::Status SysSetObject(SysDict* dict, SysName name, Ref<Object> value);
absl::Status SysDelObject(SysDict* dict, SysName name);

// The forms with a name that is an object: TypeError "attribute name must be string, not '...'" (SY-1).
absl::StatusOr<Ref<Object>> SysGetAttr(const SysDict* dict, const Ref<Object>& name);
absl::StatusOr<Ref<Object>> SysGetOptionalAttr(const SysDict* dict, const Ref<Object>& name);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_SYS_DICT_H_
