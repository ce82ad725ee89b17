// Threads that sleep until an address is unparked: the queue that Mutex, Event, OnceFlag and RwMutex do not
// carry.
//
// 257 buckets, chosen by address modulo 257, each with a raw mutex and a FIFO list of waiters. A waiter is a
// node on the sleeping thread's stack with a futex of its own.
//
//   Park                                      Unpark
//     lock bucket                               lock bucket
//     compare the word; differs: kAgain         take the oldest waiter of the address, mark it claimed
//     append node; unlock                       callback(waiter's argument or null, more waiters?)
//     sleep on node.signal                      unlock
//                                               node.signal = 1 (release) ; wake its futex
//
// Whoever changes the word of a lock that may have sleepers does it inside the callback, thus under the
// bucket lock: a waiter compares before the change and is in the list, or after it and does not sleep. No
// wake-up is lost.
//
// A claim beats a time-out or an interruption: a waiter that finds itself claimed waits for its signal,
// however long the unparker is preempted, and reports kOk. So the node outlives the unparker's last access,
// the store to `signal`; the futex call that follows it uses only the address (gh-114944, gh-148820).
//
// Place in the lock order: a bucket's lock is a leaf. Nothing else is locked, and nothing blocks, under it.
//
// CPython counterpart: _PyParkingLot. Differences: "more waiters" is exact for the address (there, of the
// bucket); a thread leaves the queue before it re-attaches, so that one which never comes back takes no
// wake-up with it (gh-137433); the deadline is absolute.

#ifndef PYRT_RUNTIME_SYNC_PARKING_LOT_H_
#define PYRT_RUNTIME_SYNC_PARKING_LOT_H_

#include <cstddef>
#include <type_traits>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

// CPython: Py_PARK_OK and its siblings, with their values.
enum class ParkResult : int {
  kOk = 0,            // an unparker took this waiter
  kAgain = -1,        // the word did not hold the expected value; did not sleep
  kTimeout = -2,      // the deadline passed
  kInterrupted = -3,  // a signal handler ran
};

class ParkingLot {
 public:
  // Sleeps while parked at `&word`, if `word` holds `expected` at the moment of queueing, at the latest until
  // `deadline` (one in the past queues and looks once). `argument` is handed to the unparker's callback.
  //
  // Attached or not: hooks->before_park and after_park bracket the sleep (not for kAgain). hooks->interrupted
  // and must_fail are the caller's business. Blocks; not async-signal-safe; thread-safe. The thread's stack
  // must stay valid while it sleeps.
  template <typename T>
  static ParkResult Park(const Atomic<T>& word, T expected, Deadline deadline, void* argument = nullptr,
                         const WaitHooks* hooks = nullptr) {
    static_assert(std::is_integral_v<T>, "park on an integer of 1, 2, 4 or 8 bytes");
    return ParkIf(&word, &Holds<T>, &expected, deadline, argument, hooks);
  }

  // The same for any condition on any address. `validate(address, expected)` runs under the bucket's lock: it
  // may load, and nothing else.
  using Validator = bool (*)(const void* address, const void* expected);
  static ParkResult ParkIf(const void* address, Validator validate, const void* expected, Deadline deadline,
                           void* argument, const WaitHooks* hooks);

  // Takes the oldest waiter of `address` and calls `callback(void* argument, bool more)` under the bucket's
  // lock: with its argument, or with null if nobody waits (the callback runs in any case), and whether others
  // wait at this address. Then wakes the waiter. The callback may store atomics and write to what the
  // argument points to, and nothing else. `address` is not dereferenced.
  //
  // Never blocks on other waiters; does not detach; not async-signal-safe.
  template <typename Callback>
  static void Unpark(const void* address, Callback&& callback) {
    using Target = std::remove_reference_t<Callback>;
    UnparkOne(
        address,
        [](void* target, void* argument, bool more) { (*static_cast<Target*>(target))(argument, more); },
        const_cast<void*>(static_cast<const void*>(&callback)));
  }

  // Takes and wakes every waiter of `address`, oldest first. `address` is not dereferenced.
  static void UnparkAll(const void* address);

  // How many threads are queued at `address`. For tests and diagnostics: outdated when it returns.
  static size_t CountParked(const void* address);

  // In a forked child, before any lock that uses the parking lot is reset or used: forgets every waiter (they
  // are threads of the parent) and frees every bucket.
  static void AfterForkInChild();

  // The number of buckets: addresses that differ by a multiple share one.
  static constexpr size_t kBuckets = 257;

 private:
  using UnparkCallback = void (*)(void* target, void* argument, bool more);
  static void UnparkOne(const void* address, UnparkCallback callback, void* target);

  template <typename T>
  static bool Holds(const void* address, const void* expected) {
    // Relaxed: every change that must wake this waiter is made under the bucket's lock, which is held here,
    // or before taking it (Event, OnceFlag, RwMutex: change, then UnparkAll): the bucket's lock orders the
    // two, and this load reads the change or something newer.
    return static_cast<const Atomic<T>*>(address)->load(kRelaxed) == *static_cast<const T*>(expected);
  }
};

inline void ParkingLotAfterForkInChild() { ParkingLot::AfterForkInChild(); }

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_PARKING_LOT_H_
