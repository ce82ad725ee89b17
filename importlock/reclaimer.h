// Reclaimer: frees memory that lock-free readers may still look at.
//
// In the GIL-enabled build nobody can: a reader holds the GIL from the load to its last look. In the
// GIL-disabled build memory is freed when every attached thread has been quiescent once: QsbrReclaimer.
//
// CPython counterpart: _PyMem_FreeDelayed.

#ifndef PYRT_IMPORTLOCK_RECLAIMER_H_
#define PYRT_IMPORTLOCK_RECLAIMER_H_

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

class Reclaimer {
 public:
  // Calls free(object) now or later, attached, with no runtime lock held: it may run destructors of the host.
  // `object` is unlinked already. Call with no lock held.
  virtual void Retire(void* object, void (*free)(void* object)) = 0;
  // Frees what no reader can see any more, of what still waits. Attached, at a point where the caller holds no pointer
  // into a table.
  virtual void Collect() {}
  // Frees everything that was retired, because there are no readers but the caller any more: at the end of an
  // interpreter, attached, where the caller holds no pointer into a table.
  virtual void FreeAll() {}

 protected:
  ~Reclaimer() = default;
};

// Frees at once: for the GIL-enabled build, and for tables that one thread uses.
class ImmediateReclaimer final : public Reclaimer {
 public:
  void Retire(void* object, void (*free)(void* object)) override { free(object); }
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_RECLAIMER_H_
