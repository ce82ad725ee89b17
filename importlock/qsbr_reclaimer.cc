#include "pyrt/importlock/qsbr_reclaimer.h"

namespace pyrt::inline PYRT_VARIANT {

QsbrReclaimer::~QsbrReclaimer() { FreeAll(); }

void QsbrReclaimer::FreeAll() {
  for (;;) {
    Retired* retired;
    {
      const MutexLock lock(mutex_);
      if (first_ == nullptr) return;
      retired = first_;
      first_ = retired->next;
      --size_;
    }
    retired->free(retired->object);  // may retire more
    delete retired;
  }
}

void QsbrReclaimer::Retire(void* object, void (*free)(void* object)) {
  auto* const retired = new Retired{object, free};
  bool full;
  {
    const MutexLock lock(mutex_);
    retired->goal = qsbr_.Advance();  // under the lock: the queue is in the order of goals
    (first_ == nullptr ? first_ : last_->next) = retired;
    last_ = retired;
    full = ++size_ % kBatch == 0;
  }
  if (full) Collect();
}

void QsbrReclaimer::Collect() {
  for (;;) {
    Retired* retired;
    {
      const MutexLock lock(mutex_);
      if (first_ == nullptr || !qsbr_.Poll(first_->goal)) return;
      retired = first_;
      first_ = retired->next;
      --size_;
    }
    retired->free(retired->object);
    delete retired;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
