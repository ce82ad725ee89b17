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
  // Never freed: a call may be reading the old one, and no thread says when it has done so. RT-31 asks for a
  // raw block that does not come from the very tables which are being replaced.
  const Allocator* const table = new Allocator(allocator);
  internal::allocators[static_cast<size_t>(domain)].store(table, kRelease);
}

void ResetAllocators() {
  for (auto& allocator : internal::allocators) allocator.store(&kMimalloc, kRelease);
}

}  // namespace pyrt::inline PYRT_VARIANT
