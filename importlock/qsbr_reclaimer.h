// QsbrReclaimer: a Reclaimer over an interpreter's Qsbr, for the GIL-disabled build.
//
// CPython counterpart: _PyMem_FreeDelayed, _PyMem_ProcessDelayed.

#ifndef PYRT_IMPORTLOCK_QSBR_RECLAIMER_H_
#define PYRT_IMPORTLOCK_QSBR_RECLAIMER_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "pyrt/importlock/reclaimer.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/tstate/qsbr.h"

namespace pyrt::inline PYRT_VARIANT {

class QsbrReclaimer final : public Reclaimer {
 public:
  // How many retired objects may wait before a Retire looks whether some can go: a look may cost a
  // membarrier.
  static constexpr size_t kBatch = 64;

  explicit QsbrReclaimer(Qsbr& qsbr) : qsbr_(qsbr) {}
  QsbrReclaimer(const QsbrReclaimer&) = delete;
  QsbrReclaimer& operator=(const QsbrReclaimer&) = delete;
  // Frees what is left: no reader may exist any more.
  ~QsbrReclaimer();

  void Retire(void* object, void (*free)(void* object)) override;
  void FreeAll() override;

  void Collect() override;
  // How many objects still wait.
  size_t waiting() const {
    const MutexLock lock(mutex_);
    return size_;
  }

 private:
  std::optional<uint64_t> ReachedGoal();

  struct Retired {
    void* const object;
    void (*const free)(void* object);
    uint64_t goal = 0;
    Retired* next = nullptr;
  };

  Qsbr& qsbr_;
  mutable Mutex mutex_;
  Retired* first_ PYRT_GUARDED_BY(mutex_) = nullptr;  // in the order of goals
  Retired* last_ PYRT_GUARDED_BY(mutex_) = nullptr;
  size_t size_ PYRT_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_QSBR_RECLAIMER_H_
