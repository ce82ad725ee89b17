#include "pyrt/runtime/sync/parking_lot.h"

#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/internal/tsan_mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/raw_mutex.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// One sleeping thread, on its stack. All but `signal` belongs to the bucket's lock; a claimed node is out of
// the list, and `next` then links it in the private list of its unparker.
struct Waiter {
  Waiter(const void* the_address, void* the_argument) : address(the_address), argument(the_argument) {}

  const void* const address;
  void* const argument;
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
  bool claimed = false;
  Atomic<uint32_t> signal{0};  // the futex; 1 when the unparker is done with this node
};

// A cache line each: threads that park at different addresses do not disturb each other.
struct alignas(64) Bucket {
  RawMutex mutex;
  Waiter* head PYRT_GUARDED_BY(mutex) = nullptr;
  Waiter* tail PYRT_GUARDED_BY(mutex) = nullptr;

  void Append(Waiter& waiter) PYRT_REQUIRES(mutex) {
    waiter.previous = tail;
    (tail == nullptr ? head : tail->next) = &waiter;
    tail = &waiter;
  }

  void Remove(Waiter& waiter) PYRT_REQUIRES(mutex) {
    (waiter.previous == nullptr ? head : waiter.previous->next) = waiter.next;
    (waiter.next == nullptr ? tail : waiter.next->previous) = waiter.previous;
    waiter.previous = waiter.next = nullptr;
  }

  // The oldest waiter of `address` from `waiter` on, or null.
  static Waiter* Find(const void* address, Waiter* waiter) {
    while (waiter != nullptr && waiter->address != address) waiter = waiter->next;
    return waiter;
  }
};

constinit Bucket buckets[ParkingLot::kBuckets];

Bucket& BucketOf(const void* address) {
  return buckets[reinterpret_cast<uintptr_t>(address) % ParkingLot::kBuckets];
}

// The unparker's last access to the node is the store; after it the waiter's frame may be gone, and the
// wake-up, for which the kernel uses the address as a key only, is at worst a spurious one for somebody else.
void Signal(Waiter& waiter) {
  const Atomic<uint32_t>* const futex = &waiter.signal;
  // Pairs with the acquire load in ParkIf: the waiter sees what the callback wrote to its argument.
  waiter.signal.store(1, PYRT_MUTANT(parking_lot_relaxed_signal) ? kRelaxed : kRelease);
  if (PYRT_MUTANT(parking_lot_forgets_wake)) return;
  FutexWake(futex, 1);
}

// Leaves the queue after a time-out or an interruption. False if an unparker came first.
bool Withdraw(Bucket& bucket, Waiter& waiter) {
  const RawMutexLock lock(bucket.mutex);
  if (waiter.claimed) return false;
  bucket.Remove(waiter);
  return true;
}

// Sleeps until signalled, or until the node is out of the queue for another reason.
ParkResult Sleep(Bucket& bucket, Waiter& waiter, Deadline deadline) {
  ParkResult result = ParkResult::kOk;
  while (waiter.signal.load(kAcquire) == 0) {
    const FutexResult woken = FutexWait(&waiter.signal, 0, deadline);
    // kWoken may be spurious and kChanged is our signal: the loop's condition tells. The deadline is
    // absolute, so a spurious wake-up does not extend it (B006).
    if (result != ParkResult::kOk) continue;  // claimed: nothing but the signal ends this wait
    if (woken == FutexResult::kTimedOut) {
      result = ParkResult::kTimeout;
    } else if (woken == FutexResult::kInterrupted) {
      result = ParkResult::kInterrupted;
    } else {
      continue;
    }
    if (PYRT_MUTANT(gh_137433_in_the_queue_while_reattaching) || Withdraw(bucket, waiter)) return result;
    if (PYRT_MUTANT(gh_148820_leave_before_signal)) return ParkResult::kOk;
    deadline = kNoDeadline;
  }
  return ParkResult::kOk;
}

}  // namespace

ParkResult ParkingLot::ParkIf(const void* address, Validator validate, const void* expected,
                              Deadline deadline, void* argument, const WaitHooks* hooks) {
  Bucket& bucket = BucketOf(address);
  Waiter waiter(address, argument);
  bucket.mutex.Lock();
  if (!PYRT_MUTANT(parking_lot_skips_validation) && !validate(address, expected)) {
    bucket.mutex.Unlock();
    return ParkResult::kAgain;
  }
  bucket.Append(waiter);
  bucket.mutex.Unlock();

  if (hooks != nullptr && hooks->before_park != nullptr) hooks->before_park(hooks->context);
  const ParkResult result = Sleep(bucket, waiter, deadline);
  if (hooks != nullptr && hooks->after_park != nullptr) hooks->after_park(hooks->context);
  if (PYRT_MUTANT(gh_137433_in_the_queue_while_reattaching) && result != ParkResult::kOk) {
    static_cast<void>(Withdraw(bucket, waiter));
  }
  return result;
}

void ParkingLot::UnparkOne(const void* address, UnparkCallback callback, void* target) {
  Bucket& bucket = BucketOf(address);
  bucket.mutex.Lock();
  Waiter* const waiter = Bucket::Find(address, bucket.head);
  bool more = false;
  if (waiter != nullptr) {
    more = Bucket::Find(address, waiter->next) != nullptr;
    bucket.Remove(*waiter);
    waiter->claimed = true;
  }
  callback(target, waiter == nullptr ? nullptr : waiter->argument, more);
  bucket.mutex.Unlock();
  if (waiter != nullptr) Signal(*waiter);
}

void ParkingLot::UnparkAll(const void* address) {
  Bucket& bucket = BucketOf(address);
  Waiter* first = nullptr;
  Waiter** end = &first;
  bucket.mutex.Lock();
  for (Waiter* waiter = Bucket::Find(address, bucket.head); waiter != nullptr;) {
    Waiter* const next = Bucket::Find(address, waiter->next);
    bucket.Remove(*waiter);
    waiter->claimed = true;
    *end = waiter;
    end = &waiter->next;
    waiter = next;
  }
  bucket.mutex.Unlock();
  // A claimed waiter stays until its signal, so `next` is read before it.
  while (first != nullptr) {
    Waiter* const next = first->next;
    Signal(*first);
    first = next;
  }
}

size_t ParkingLot::CountParked(const void* address) {
  Bucket& bucket = BucketOf(address);
  const RawMutexLock lock(bucket.mutex);
  size_t count = 0;
  for (Waiter* waiter = Bucket::Find(address, bucket.head); waiter != nullptr;
       waiter = Bucket::Find(address, waiter->next)) {
    ++count;
  }
  return count;
}

void ParkingLot::AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  TsanMutex::AfterForkInChild();
  for (Bucket& bucket : buckets) {
    bucket.mutex.ReinitAfterFork();
    bucket.head = bucket.tail = nullptr;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
