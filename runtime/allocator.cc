#include "pyrt/runtime/allocator.h"

#include <mimalloc.h>

#include <new>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr size_t AtLeastOne(size_t size) { return size == 0 ? 1 : size; }

constexpr Allocator kMimalloc = {
    .context = nullptr,
    .malloc = [](void*, size_t size) -> void* { return mi_malloc(AtLeastOne(size)); },
    .calloc = [](void*, size_t elements, size_t size) -> void* {
      return elements == 0 || size == 0 ? mi_zalloc(1) : mi_calloc(elements, size);
    },
    .realloc = [](void*, void* block, size_t size) -> void* { return mi_realloc(block, AtLeastOne(size)); },
    .free = [](void*, void* block) { mi_free(block); },
};

// Tables that were set. Never freed: a call may be reading an old one, and no thread says when it has done so. One that
// comes again, as with an allocator that is set and restored over and over, is found here.
struct KeptTable {
  const Allocator table;
  const KeptTable* next;
};
constinit Atomic<const KeptTable*> kept_tables{nullptr};

bool IsSame(const Allocator& a, const Allocator& b) {
  return a.context == b.context && a.malloc == b.malloc && a.calloc == b.calloc && a.realloc == b.realloc &&
         a.free == b.free;
}

// RT-31 asks for a raw block that does not come from the very tables which are being replaced.
const Allocator* Keep(const Allocator& allocator) {
  const KeptTable* first = kept_tables.load(kAcquire);
  for (const KeptTable* kept = first; kept != nullptr; kept = kept->next) {
    if (IsSame(kept->table, allocator)) return &kept->table;
  }
  auto* const kept = new KeptTable{allocator, first};
  while (!kept_tables.compare_exchange_weak(kept->next, kept, kRelease, kRelaxed)) {
  }
  return &kept->table;
}

}  // namespace

namespace internal {
constinit Atomic<const Allocator*> allocators[kAllocatorDomains] = {Atomic<const Allocator*>(&kMimalloc),
                                                                    Atomic<const Allocator*>(&kMimalloc),
                                                                    Atomic<const Allocator*>(&kMimalloc)};
}  // namespace internal

const Allocator& DefaultAllocator() { return kMimalloc; }

Allocator GetAllocator(AllocatorDomain domain) { return internal::AllocatorOf(domain); }

void SetAllocator(AllocatorDomain domain, const Allocator& allocator) {
  PYRT_CHECK(allocator.malloc != nullptr && allocator.calloc != nullptr && allocator.realloc != nullptr &&
                 allocator.free != nullptr,
             "PyMem_SetAllocator", "the table for domain %d lacks a function: all four must be set",
             static_cast<int>(domain));
  internal::allocators[static_cast<size_t>(domain)].store(Keep(allocator), kRelease);
}

void ResetAllocators() {
  for (auto& allocator : internal::allocators) allocator.store(&kMimalloc, kRelease);
}

}  // namespace pyrt::inline PYRT_VARIANT
