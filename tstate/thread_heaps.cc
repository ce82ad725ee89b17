#include "pyrt/tstate/thread_heaps.h"

#include <cstdlib>

namespace pyrt::inline PYRT_VARIANT {

constinit const HeapProvider* ThreadHeaps::provider_ = nullptr;

void ThreadHeaps::SetProvider(const HeapProvider* provider) { provider_ = provider; }

void* ThreadHeaps::Heap(HeapKind kind) {
  void*& heap = heaps_[static_cast<int>(kind)];
  if (heap == nullptr) heap = provider_->create();
  return heap;
}

void* ThreadHeaps::Allocate(HeapKind kind, size_t size) {
  if (provider_ == nullptr) return std::malloc(size == 0 ? 1 : size);
  void* const heap = Heap(kind);
  return heap == nullptr ? nullptr : provider_->allocate(heap, size);
}

void* ThreadHeaps::Reallocate(HeapKind kind, void* block, size_t size) {
  if (provider_ == nullptr) return std::realloc(block, size == 0 ? 1 : size);
  void* const heap = Heap(kind);
  return heap == nullptr ? nullptr : provider_->reallocate(heap, block, size);
}

void ThreadHeaps::Free(void* block) {
  if (provider_ == nullptr) {
    std::free(block);
  } else {
    provider_->free(block);
  }
}

void ThreadHeaps::Abandon(bool on_own_thread) {
  for (void*& heap : heaps_) {
    if (heap != nullptr && on_own_thread) provider_->abandon(heap);
    heap = nullptr;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
