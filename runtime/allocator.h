// Allocator: the three domains of memory, each replaceable.
//
//   kRaw     with or without a thread state; state structures and what outlives them
//   kMem     attached threads: buffers
//   kObject  attached threads: objects
//
// All three are mimalloc unless replaced. An allocator is a table of four functions and a context; a hook is
// an allocator that calls the one it replaced. A block must go back to the table that it came from: replace a
// domain before it has live blocks, or by something that passes on to the old one.
//
// A request for 0 bytes yields a block of its own; one for more than PTRDIFF_MAX bytes fails; a calloc whose
// product overflows fails. Failure is null, and sets no error.
//
// CPython counterpart: PyMem_RawMalloc, PyMem_Malloc, PyObject_Malloc and relatives, PyMem_GetAllocator,
// PyMem_SetAllocator, PyMemAllocatorEx.

#ifndef PYRT_RUNTIME_ALLOCATOR_H_
#define PYRT_RUNTIME_ALLOCATOR_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

enum class AllocatorDomain : uint8_t { kRaw = 0, kMem = 1, kObject = 2 };
inline constexpr int kAllocatorDomains = 3;

struct Allocator {
  void* context = nullptr;
  void* (*malloc)(void* context, size_t size) = nullptr;
  void* (*calloc)(void* context, size_t elements, size_t size) = nullptr;
  void* (*realloc)(void* context, void* block, size_t size) = nullptr;
  void (*free)(void* context, void* block) = nullptr;
};

// mimalloc's.
const Allocator& DefaultAllocator();

// A copy of the domain's table. Any thread.
Allocator GetAllocator(AllocatorDomain domain);

// Replaces the domain's table for calls from now on. All four functions must be set; those of kRaw must be
// callable from any thread at any time. Calls that are under way end in the old table. Any thread.
void SetAllocator(AllocatorDomain domain, const Allocator& allocator);

// All domains are mimalloc's again. For tests, and for a runtime that starts again.
void ResetAllocators();

namespace internal {
// Tables are immutable and live for ever, so that a call needs one load. They are few.
extern Atomic<const Allocator*> allocators[kAllocatorDomains];
inline const Allocator& AllocatorOf(AllocatorDomain domain) {
  return *allocators[static_cast<size_t>(domain)].load(kAcquire);
}
}  // namespace internal

inline void* Allocate(AllocatorDomain domain, size_t size) {
  if (size > static_cast<size_t>(PTRDIFF_MAX)) return nullptr;
  const Allocator& allocator = internal::AllocatorOf(domain);
  return allocator.malloc(allocator.context, size);
}

inline void* AllocateZeroed(AllocatorDomain domain, size_t elements, size_t size) {
  if (size != 0 && elements > static_cast<size_t>(PTRDIFF_MAX) / size) return nullptr;
  const Allocator& allocator = internal::AllocatorOf(domain);
  return allocator.calloc(allocator.context, elements, size);
}

// Null `block`: as Allocate. On failure `block` stays as it was.
inline void* Reallocate(AllocatorDomain domain, void* block, size_t size) {
  if (size > static_cast<size_t>(PTRDIFF_MAX)) return nullptr;
  const Allocator& allocator = internal::AllocatorOf(domain);
  return allocator.realloc(allocator.context, block, size);
}

// Null `block`: nothing.
inline void Free(AllocatorDomain domain, void* block) {
  const Allocator& allocator = internal::AllocatorOf(domain);
  allocator.free(allocator.context, block);
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_ALLOCATOR_H_
