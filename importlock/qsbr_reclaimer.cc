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

// Whether the oldest that waits can go, and with it all of the same goal. Polls without the lock: a poll may have to ask
// the threads.
std::optional<uint64_t> QsbrReclaimer::ReachedGoal() {
  uint64_t goal;
  {
    const MutexLock lock(mutex_);
    if (first_ == nullptr) return std::nullopt;
    goal = first_->goal;
  }
  if (!qsbr_.Poll(goal)) return std::nullopt;
  return goal;
}

void QsbrReclaimer::Collect() {
  while (const std::optional<uint64_t> goal = ReachedGoal()) {
    for (;;) {
      Retired* retired;
      {
        const MutexLock lock(mutex_);
        if (first_ == nullptr || !Qsbr::AtMost(first_->goal, *goal)) break;
        retired = first_;
        first_ = retired->next;
        --size_;
      }
      retired->free(retired->object);
      delete retired;
    }
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
