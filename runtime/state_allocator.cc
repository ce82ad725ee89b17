#include "pyrt/runtime/state_allocator.h"

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/allocator.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// The domain aligns to 16 bytes, states to cache lines: the block's own address stands in front of the state.
void* AllocateState(size_t size, size_t alignment) {
  void* const block = Allocate(AllocatorDomain::kRaw, size + alignment + sizeof(void*));
  if (block == nullptr) return nullptr;
  const uintptr_t first = reinterpret_cast<uintptr_t>(block) + sizeof(void*);
  void** const state = reinterpret_cast<void**>((first + alignment - 1) & ~(uintptr_t{alignment} - 1));
  state[-1] = block;
  return state;
}

void DeallocateState(void* memory, size_t, size_t) {
  Free(AllocatorDomain::kRaw, static_cast<void**>(memory)[-1]);
}

}  // namespace

const ThreadRegistry::Allocator& RawDomainForStates() {
  static constexpr ThreadRegistry::Allocator kRawDomain{&AllocateState, &DeallocateState};
  return kRawDomain;
}

}  // namespace pyrt::inline PYRT_VARIANT
