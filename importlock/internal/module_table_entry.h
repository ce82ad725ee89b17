// What module_table.h is made of. Include module_table.h instead.

#ifndef PYRT_IMPORTLOCK_INTERNAL_MODULE_TABLE_ENTRY_H_
#define PYRT_IMPORTLOCK_INTERNAL_MODULE_TABLE_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "pyrt/importlock/module.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT::internal {

// Immutable for readers once it is in an array. The name stands behind the struct.
struct ModuleTableEntry {
  static ModuleTableEntry* New(std::string_view name, uint64_t hash, Ref<Object> value, Ref<ModuleSpec> spec);
  static void Delete(void* entry);

  std::string_view name() const { return {reinterpret_cast<const char*>(this + 1), name_size}; }

  const uint64_t hash;
  const uint32_t name_size;
  const bool is_none;
  const Ref<Object> value;
  const Ref<ModuleSpec> spec;

  // The order of completion. Guarded by the table's mutex; readers do not look.
  ModuleTableEntry* previous = nullptr;
  ModuleTableEntry* next = nullptr;

  ModuleTableEntry(uint64_t the_hash, uint32_t the_size, Ref<Object> the_value, Ref<ModuleSpec> the_spec);
};

// 2^n slots, which stand behind the struct.
class ModuleTableArray {
 public:
  using Slot = Atomic<const ModuleTableEntry*>;

  static ModuleTableArray* New(size_t capacity);
  static void Delete(void* array);

  // Marks a slot whose entry was removed: a search goes on behind it. Its hash and name match nothing.
  static const ModuleTableEntry* Removed();

  Slot& slot(uint64_t at) { return slots()[at & mask_]; }
  const Slot& slot(uint64_t at) const { return slots()[at & mask_]; }
  size_t capacity() const { return mask_ + 1; }
  size_t bytes() const { return sizeof(ModuleTableArray) + capacity() * sizeof(Slot); }

 private:
  explicit ModuleTableArray(size_t capacity) : mask_(capacity - 1) {}
  Slot* slots() { return reinterpret_cast<Slot*>(this + 1); }
  const Slot* slots() const { return reinterpret_cast<const Slot*>(this + 1); }

  const size_t mask_;
};

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_MODULE_TABLE_ENTRY_H_
