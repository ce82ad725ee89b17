// DelayedFrees: memory that a thread has unlinked from a lock-free structure and that readers may still see.
//
// GIL-enabled build: nobody reads at the same time, so it is freed at once. GIL-disabled build: it is queued
// with a goal of the interpreter's Qsbr, and freed by a later call once every thread has passed it. A poll
// costs a membarrier, so it is tried only when enough has piled up.
//
// Owned by the thread; attached. A thread that ends leaves its queue to the domain (Abandon), from which the
// next thread's Process() frees it.
//
// CPython counterpart: _PyMem_FreeDelayed, _PyMem_ProcessDelayed, _PyMem_AbandonDelayed.

#ifndef PYRT_TSTATE_DELAYED_FREE_H_
#define PYRT_TSTATE_DELAYED_FREE_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/qsbr.h"

namespace pyrt::inline PYRT_VARIANT {

// Embedded in, or placed over, what is to be freed: queueing never allocates, so it never fails.
struct DelayedFree {
  void (*free)(DelayedFree* self) = nullptr;
  DelayedFree* next = nullptr;
  uint64_t goal = 0;
};

class DelayedFrees {
 public:
  static constexpr size_t kPollEvery = 32;

  constexpr DelayedFrees() = default;
  DelayedFrees(const DelayedFrees&) = delete;
  DelayedFrees& operator=(const DelayedFrees&) = delete;

  // Calls item.free(&item) when no thread can see it any more; perhaps now. `item` has been unlinked.
  // `domain` null: the interpreter has no lock-free tables, frees now. May call other queued items'
  // functions.
  void Free(DelayedFree& item, Qsbr* domain, QsbrSlot* self);

  // Frees what can be freed. True if nothing is left.
  bool Process(Qsbr& domain, QsbrSlot* self);

  // The thread ends: its queue goes to `domain`. No lock is held while anything is freed.
  void Abandon(Qsbr* domain);

  // Takes over what another thread has queued. That thread is kept out; frees nothing and takes no lock.
  void TakeFrom(DelayedFrees& other);

  // Nobody else exists (end of the interpreter): frees all, with what was left to `domain` (may be null).
  void FreeAll(Qsbr* domain = nullptr);

  size_t size() const { return size_; }

 private:
  void TakeOrphans(Qsbr& domain);

  DelayedFree* first_ = nullptr;
  DelayedFree* last_ = nullptr;
  size_t size_ = 0;
  size_t since_poll_ = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_DELAYED_FREE_H_
