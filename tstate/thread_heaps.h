// ThreadHeaps: a thread's own heaps, one per kind of memory, so that allocation needs no lock and pages are
// not shared between threads.
//
// Where heaps come from is decided at link time: without a provider everything is malloc's; a program that
// links //tstate:mimalloc_heaps and calls InstallMimallocHeaps() before its first thread state gets
// mimalloc's. A heap is made by the first allocation from it, so a thread that allocates nothing pays
// nothing.
//
// Allocate and Reallocate: the thread that the state is bound to, attached or not. Free: any thread.
//
// CPython counterpart: struct _mimalloc_thread_state, _Py_MIMALLOC_HEAP_MEM and its siblings.

#ifndef PYRT_TSTATE_THREAD_HEAPS_H_
#define PYRT_TSTATE_THREAD_HEAPS_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

enum class HeapKind : uint8_t {
  kMem,          // buffers
  kObject,       // objects without a GC header
  kGc,           // objects with one
  kGcPreHeader,  // and with a managed dict or weak references in front
};
inline constexpr int kHeapKinds = 4;

// An allocator with heaps. All functions are thread-safe but for `allocate` and `reallocate` of one heap.
struct HeapProvider {
  const char* name;
  void* (*create)();  // a heap of the calling thread; null when memory is short
  void (*abandon)(
      void* heap);  // its thread will not use it any more; what is in it stays valid. On the thread.
  void* (*allocate)(void* heap, size_t size);
  void* (*reallocate)(void* heap, void* block, size_t size);
  void (*free)(void* block);
};

class ThreadHeaps {
 public:
  constexpr ThreadHeaps() = default;
  ThreadHeaps(const ThreadHeaps&) = delete;
  ThreadHeaps& operator=(const ThreadHeaps&) = delete;

  // For all threads of the process; before the first thread state. Null: malloc's.
  static void SetProvider(const HeapProvider* provider);
  static const HeapProvider* provider() { return provider_; }

  // `size` bytes, null when memory is short.
  void* Allocate(HeapKind kind, size_t size);
  void* Reallocate(HeapKind kind, void* block, size_t size);
  static void Free(void* block);

  // The state is cleared. `on_own_thread` false: another thread clears it (finalization, fork), and the heaps
  // go when their thread ends.
  void Abandon(bool on_own_thread);

  bool has(HeapKind kind) const { return heaps_[static_cast<int>(kind)] != nullptr; }

 private:
  void* Heap(HeapKind kind);

  static const HeapProvider* provider_;
  void* heaps_[kHeapKinds] = {};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_THREAD_HEAPS_H_
