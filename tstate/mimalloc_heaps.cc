#include "pyrt/tstate/mimalloc_heaps.h"

#include <mimalloc.h>

#include "pyrt/tstate/thread_heaps.h"

namespace pyrt::inline PYRT_VARIANT {

void InstallMimallocHeaps() {
  static constexpr HeapProvider kMimalloc{
      .name = "mimalloc",
      .create = []() -> void* { return mi_heap_new(); },
      // Live blocks migrate to the thread's default heap, and to whoever adopts it when the thread ends.
      .abandon = [](void* heap) { mi_heap_delete(static_cast<mi_heap_t*>(heap)); },
      .allocate = [](void* heap, size_t size) { return mi_heap_malloc(static_cast<mi_heap_t*>(heap), size); },
      .reallocate = [](void* heap, void* block,
                       size_t size) { return mi_heap_realloc(static_cast<mi_heap_t*>(heap), block, size); },
      .free = [](void* block) { mi_free(block); },
  };
  ThreadHeaps::SetProvider(&kMimalloc);
}

}  // namespace pyrt::inline PYRT_VARIANT
