// The queue of a Gil: who waits, who keeps time, who spins. Everything here is guarded by the Gil's queue
// lock, except GilWaiter::signal.

#ifndef PYRT_GIL_INTERNAL_GIL_QUEUE_H_
#define PYRT_GIL_INTERNAL_GIL_QUEUE_H_

#include <cstdint>

#include "pyrt/gil/gil_holder.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// A thread in the queue, on that thread's stack. It leaves the stack only after the thread has seen kGranted
// or kDisabled, or has dequeued itself under the queue lock; who notifies it uses nothing but the address of
// `signal` after the store (gh-114944, gh-148820).
struct GilWaiter {
  enum Signal : uint32_t {
    kNone,
    kLookAgain,  // something changed: the GIL may be free, it is this waiter's turn to ask, or it must leave
    kGranted,    // the GIL is this waiter's; it is no longer in the queue
    kDisabled,   // the GIL was switched off; it is no longer in the queue
  };

  explicit GilWaiter(GilHolder& the_holder) : holder(the_holder) {}

  GilHolder& holder;
  GilWaiter* previous = nullptr;
  GilWaiter* next = nullptr;
  Atomic<uint32_t> signal{kNone};  // the futex; written under the queue lock
  bool parked = false;             // must be woken, a store is not enough
  bool requested = false;          // has asked the present holder to drop
  bool overdue = false;            // the time keeper found that it is time for the head to ask
  bool interactive = false;        // has credit: asks at once and stands ahead of those that have not
  bool preempted = false;          // gave the GIL to an interactive thread: stands right behind those
  int64_t arrived = 0;             // when it was queued
  int64_t head_since = 0;          // when it became the head
  int64_t notified_at = 0;         // when it was last woken, to learn what a wake-up costs
};

// What remains to be done after the queue lock is released: wake a parked waiter.
struct GilWake {
  const Atomic<uint32_t>* futex = nullptr;

  void Do() const {
    if (futex != nullptr) FutexWake(futex, 1);
  }
};

class GilQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  uint32_t size() const { return size_; }
  GilWaiter* head() const { return head_; }
  GilWaiter* tail() const { return tail_; }
  bool IsHead(const GilWaiter& waiter) const { return head_ == &waiter; }
  bool IsTail(const GilWaiter& waiter) const { return tail_ == &waiter; }

  // The tail keeps time for the head, whoever that is: it came last, so it was awake when it took the job
  // over, and it leaves last, so the job need not be handed on (which would cost a wake-up).
  int64_t interval_start = 0;           // when the present interval began
  uint64_t interval_switch_number = 0;  // the switch number then: any switch starts the interval anew (GI-11)

  // At most one waiter spins.
  GilWaiter* spinner = nullptr;

  // Queues `waiter` behind all others, or, when `ahead`, behind the interactive ones only.
  void Insert(GilWaiter& waiter, bool ahead) {
    GilWaiter* before = nullptr;  // whom to stand in front of
    if (ahead) {
      before = head_;
      while (before != nullptr && before->interactive) before = before->next;
    }
    waiter.next = before;
    waiter.previous = before != nullptr ? before->previous : tail_;
    (waiter.previous != nullptr ? waiter.previous->next : head_) = &waiter;
    (before != nullptr ? before->previous : tail_) = &waiter;
    ++size_;
  }

  void Remove(GilWaiter& waiter) {
    (waiter.previous != nullptr ? waiter.previous->next : head_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->previous : tail_) = waiter.previous;
    waiter.previous = waiter.next = nullptr;
    --size_;
  }

 private:
  GilWaiter* head_ = nullptr;
  GilWaiter* tail_ = nullptr;
  uint32_t size_ = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_INTERNAL_GIL_QUEUE_H_
