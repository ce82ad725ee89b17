#include "pyrt/importlock/module_table.h"

#include <cstring>
#include <memory>
#include <new>

#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace internal {

ModuleTableEntry::ModuleTableEntry(uint64_t the_hash, uint32_t the_size, Ref<Object> the_value,
                                   Ref<ModuleSpec> the_spec)
    : hash(the_hash),
      name_size(the_size),
      is_none(IsNone(the_value)),
      value(std::move(the_value)),
      spec(std::move(the_spec)) {}

ModuleTableEntry* ModuleTableEntry::New(std::string_view name, uint64_t hash, Ref<Object> value,
                                        Ref<ModuleSpec> spec) {
  void* const memory = ::operator new(sizeof(ModuleTableEntry) + name.size());
  auto* const entry = new (memory)
      ModuleTableEntry(hash, static_cast<uint32_t>(name.size()), std::move(value), std::move(spec));
  std::memcpy(static_cast<void*>(entry + 1), name.data(), name.size());
  return entry;
}

void ModuleTableEntry::Delete(void* entry) {
  static_cast<ModuleTableEntry*>(entry)->~ModuleTableEntry();
  ::operator delete(entry);
}

ModuleTableArray* ModuleTableArray::New(size_t capacity) {
  void* const memory = ::operator new(sizeof(ModuleTableArray) + capacity * sizeof(Slot));
  auto* const array = new (memory) ModuleTableArray(capacity);
  for (size_t i = 0; i < capacity; ++i) new (&array->slots()[i]) Slot(nullptr);
  return array;
}

void ModuleTableArray::Delete(void* array) { ::operator delete(array); }

const ModuleTableEntry* ModuleTableArray::Removed() {
  // The empty name, with a hash that is not its own.
  static const ModuleTableEntry* const removed = ModuleTableEntry::New("", ~HashName(""), {}, {});
  return removed;
}

}  // namespace internal

namespace {
constexpr size_t kFirstCapacity = 64;
}  // namespace

ModuleTable::ModuleTable(Reclaimer& reclaimer) : reclaimer_(reclaimer), array_(Array::New(kFirstCapacity)) {
  static_cast<void>(Array::Removed());
}

ModuleTable::~ModuleTable() {
  Clear();
  Array::Delete(array_.load(kRelaxed));
}

Atomic<const internal::ModuleTableEntry*>* ModuleTable::FindSlot(std::string_view name, uint64_t hash) {
  Array* const array = array_.load(kRelaxed);
  for (uint64_t at = hash;; ++at) {
    const Entry* const entry = array->slot(at).load(kRelaxed);
    if (entry == nullptr) return nullptr;
    if (entry->hash == hash && entry->name() == name) return &array->slot(at);
  }
}

void ModuleTable::LockWithRoom() {
  Array* fresh = nullptr;
  for (;;) {
    mutex_.Lock();
    Array* const array = array_.load(kRelaxed);
    if ((used_ + 1) * 3 <= array->capacity() * 2) break;
    // Room for twice what is in it; removed slots are not copied.
    size_t capacity = kFirstCapacity;
    while (capacity < (size_ + 1) * 3) capacity *= 2;
    if (fresh != nullptr && fresh->capacity() >= capacity) {
      for (Entry* entry = first_; entry != nullptr; entry = entry->next) {
        uint64_t at = entry->hash;
        while (fresh->slot(at).load(kRelaxed) != nullptr) ++at;
        fresh->slot(at).store(entry, kRelaxed);
      }
      used_ = size_;
      // Release: readers that get the new array see its slots.
      array_.store(fresh, PYRT_MUTANT(module_table_publishes_relaxed) ? kRelaxed : kRelease);
      mutex_.Unlock();
      fresh = nullptr;
      reclaimer_.Retire(array, &Array::Delete);
      continue;
    }
    mutex_.Unlock();  // allocates, and never under the lock
    if (fresh != nullptr) Array::Delete(fresh);
    fresh = Array::New(capacity);
  }
  if (fresh == nullptr) return;
  mutex_.Unlock();
  Array::Delete(fresh);  // somebody else made room meanwhile
  LockWithRoom();
}

void ModuleTable::Insert(Entry& entry) {
  Array* const array = array_.load(kRelaxed);
  uint64_t at = entry.hash;
  const Entry* present = array->slot(at).load(kRelaxed);
  while (present != nullptr && present != Array::Removed()) present = array->slot(++at).load(kRelaxed);
  if (present == nullptr) ++used_;
  entry.previous = last_;
  (last_ == nullptr ? first_ : last_->next) = &entry;
  last_ = &entry;
  ++size_;
  // Release: readers that get the entry see what is in it.
  array->slot(at).store(&entry, PYRT_MUTANT(module_table_publishes_relaxed) ? kRelaxed : kRelease);
}

void ModuleTable::Replace(Atomic<const Entry*>& slot, Entry& old, Entry& entry) {
  entry.previous = old.previous;
  entry.next = old.next;
  (entry.previous == nullptr ? first_ : entry.previous->next) = &entry;
  (entry.next == nullptr ? last_ : entry.next->previous) = &entry;
  if (PYRT_MUTANT(module_table_replaces_in_two_steps)) slot.store(Array::Removed(), kRelease);
  slot.store(&entry, kRelease);  // as in Insert
}

internal::ModuleTableEntry* ModuleTable::Unlink(Atomic<const Entry*>& slot) {
  // Only readers need them constant.
  auto* const entry = const_cast<Entry*>(slot.load(kRelaxed));
  // Relaxed: a reader may find the entry a little longer; one that must not is told by spec->initializing(),
  // which is written later, with release.
  slot.store(Array::Removed(), kRelaxed);
  (entry->previous == nullptr ? first_ : entry->previous->next) = entry->next;
  (entry->next == nullptr ? last_ : entry->next->previous) = entry->previous;
  --size_;
  return entry;
}

void ModuleTable::RetireEntry(Entry* entry) {
  if (entry != nullptr) reclaimer_.Retire(entry, &Entry::Delete);
}

void ModuleTable::Set(std::string_view name, Ref<Object> value, Ref<ModuleSpec> spec) {
  const uint64_t hash = internal::HashName(name);
  if (!spec) {
    if (const Module* const module = AsModule(value)) spec = module->spec();
  }
  std::unique_ptr<Entry, void (*)(void*)> fresh(Entry::New(name, hash, std::move(value), std::move(spec)),
                                                &Entry::Delete);
  Entry* old = nullptr;
  LockWithRoom();  // may be short of memory
  Entry* const entry = fresh.release();
  if (Atomic<const Entry*>* const slot = FindSlot(name, hash)) {
    old = const_cast<Entry*>(slot->load(kRelaxed));
    Replace(*slot, *old, *entry);
  } else {
    Insert(*entry);
  }
  mutex_.Unlock();
  RetireEntry(old);
}

Ref<Object> ModuleTable::SetDefault(std::string_view name, Ref<Object> value) {
  const uint64_t hash = internal::HashName(name);
  if (const Entry* const entry = Find(name, hash)) return entry->value;
  Ref<ModuleSpec> spec;
  if (const Module* const module = AsModule(value)) spec = module->spec();
  std::unique_ptr<Entry, void (*)(void*)> fresh(Entry::New(name, hash, value, std::move(spec)),
                                                &Entry::Delete);
  LockWithRoom();  // may be short of memory
  if (const Atomic<const Entry*>* const slot = FindSlot(name, hash)) {
    value = slot->load(kRelaxed)->value;
    mutex_.Unlock();
    return value;
  }
  Insert(*fresh.release());
  mutex_.Unlock();
  return value;
}

Ref<Object> ModuleTable::Remove(std::string_view name) {
  const uint64_t hash = internal::HashName(name);
  Entry* entry = nullptr;
  {
    const MutexLock lock(mutex_);
    if (Atomic<const Entry*>* const slot = FindSlot(name, hash)) entry = Unlink(*slot);
  }
  if (entry == nullptr) return {};
  Ref<Object> value = entry->value;
  RetireEntry(entry);
  return value;
}

bool ModuleTable::RemoveIf(std::string_view name, const Object* expected) {
  const uint64_t hash = internal::HashName(name);
  Entry* entry = nullptr;
  {
    const MutexLock lock(mutex_);
    Atomic<const Entry*>* const slot = FindSlot(name, hash);
    if (slot == nullptr || slot->load(kRelaxed)->value.get() != expected) return false;
    entry = Unlink(*slot);
  }
  RetireEntry(entry);
  return true;
}

Ref<Object> ModuleTable::MoveToEnd(std::string_view name) {
  const uint64_t hash = internal::HashName(name);
  const MutexLock lock(mutex_);
  Atomic<const Entry*>* const slot = FindSlot(name, hash);
  if (slot == nullptr) return {};
  auto& entry = const_cast<Entry&>(*slot->load(kRelaxed));
  if (entry.next != nullptr) {
    (entry.previous == nullptr ? first_ : entry.previous->next) = entry.next;
    entry.next->previous = entry.previous;
    entry.previous = last_;
    entry.next = nullptr;
    last_->next = &entry;
    last_ = &entry;
  }
  return entry.value;
}

void ModuleTable::Clear() {
  for (;;) {
    Entry* entry = nullptr;
    {
      const MutexLock lock(mutex_);
      if (first_ == nullptr) return;
      entry = Unlink(*FindSlot(first_->name(), first_->hash));
    }
    RetireEntry(entry);
  }
}

size_t ModuleTable::size() const {
  const MutexLock lock(mutex_);
  return size_;
}

std::vector<ModuleTable::Item> ModuleTable::Snapshot() const {
  std::vector<const Entry*> entries;
  for (;;) {
    const size_t expected = size();
    entries.reserve(expected);
    const MutexLock lock(mutex_);
    if (size_ > entries.capacity()) continue;
    for (const Entry* entry = first_; entry != nullptr; entry = entry->next) entries.push_back(entry);
    break;
  }
  // Entries that leave the table now live until this thread is quiescent.
  std::vector<Item> items;
  items.reserve(entries.size());
  for (const Entry* entry : entries) items.emplace_back(entry->name(), entry->value);
  return items;
}

size_t ModuleTable::MemoryUsage() const {
  const MutexLock lock(mutex_);
  size_t bytes = sizeof(*this) + array_.load(kRelaxed)->bytes();
  for (const Entry* entry = first_; entry != nullptr; entry = entry->next) {
    bytes += sizeof(Entry) + entry->name_size;
  }
  return bytes;
}

}  // namespace pyrt::inline PYRT_VARIANT
