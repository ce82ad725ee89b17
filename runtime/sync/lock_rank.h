// The order of the runtime's locks, asserted in debug builds and free in release builds.
//
// A thread may take a lock only if its rank is greater than the rank of every lock that it holds. One bit of
// a thread-local word per held rank: the check is a shift.
//
//   kStopTheWorldMutex             one per interpreter, and the runtime's
//     kHeadLock                      lists of interpreters and thread states. Never detaches; nothing under it
//       |                            attaches, detaches, calls back or allocates
//       +- kThreadHandle, kQsbr, kRefcountQueue, kAudit, kAtExit, kExtensions, kSysDict
//                                    leaves of components; in this order should two ever nest
//
// Without a rank, since nothing of the above can be taken the wrong way round with them: the import lock, which is
// outside of all and held for as long as its user likes; the gate that stops of all interpreters close, between
// kStopTheWorldMutex and kHeadLock; and the raw mutexes of the GIL's queue and of the parking lot, which code of ours
// alone holds for some instructions that take no lock.
//
// CPython counterpart: none; its order is folklore (gh-102126, gh-119369, gh-137433).

#ifndef PYRT_RUNTIME_SYNC_LOCK_RANK_H_
#define PYRT_RUNTIME_SYNC_LOCK_RANK_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

enum class LockRank : uint8_t {
  kStopTheWorldMutex,
  kHeadLock,
  kThreadHandle,
  kQsbr,
  kRefcountQueue,
  kAudit,
  kAtExit,
  kExtensions,
  kSysDict,
};

// "kHeadLock" and so on.
const char* LockRankName(LockRank rank);

namespace internal {
// Bit r is set while this thread holds a lock of rank r.
PYRT_THREAD_LOCAL(uint64_t, held_lock_ranks) = 0;

[[noreturn]] void LockRankViolation(LockRank wanted, uint64_t held);
}  // namespace internal

// Before taking a lock of `rank`; fatal in debug builds if the thread holds one of the same or a greater
// rank.
inline void LockRankAcquire(LockRank rank) {
  if constexpr (kDebug) {
    const uint64_t held = internal::held_lock_ranks;
    if ((held >> static_cast<int>(rank)) != 0) internal::LockRankViolation(rank, held);
    internal::held_lock_ranks = held | uint64_t{1} << static_cast<int>(rank);
  }
}

// After giving it up, or after a try or a timed wait that failed. On the thread that took it.
inline void LockRankRelease(LockRank rank) {
  if constexpr (kDebug)
    internal::held_lock_ranks = internal::held_lock_ranks & ~(uint64_t{1} << static_cast<int>(rank));
}

// In a forked child: the locks that were held across the fork are not given up, but made anew.
inline void LockRankForgetAfterFork() { internal::held_lock_ranks = 0; }

// True in a debug build while this thread holds a lock of `rank`; always true in a release build, so that it
// serves in assertions.
inline bool LockRankHeld(LockRank rank) {
  if constexpr (!kDebug) return true;
  return (internal::held_lock_ranks >> static_cast<int>(rank) & 1) != 0;
}

// Fatal in debug builds if this thread holds any ranked lock: where code may block for long, call back or
// attach.
void AssertNoRankedLockHeld(const char* function);

// A Mutex with a place in the order. One byte.
template <LockRank kRank>
class PYRT_CAPABILITY("mutex") RankedMutex {
 public:
  constexpr RankedMutex() = default;

  void Lock(const WaitHooks* hooks = nullptr) PYRT_ACQUIRE() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    LockRankAcquire(kRank);
    mutex_.Lock(hooks);
  }
  bool TryLock() PYRT_TRY_ACQUIRE(true) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    // A try cannot deadlock, yet the order is the order: it would be taken the wrong way round.
    LockRankAcquire(kRank);
    if (mutex_.TryLock()) return true;
    LockRankRelease(kRank);
    return false;
  }
  LockStatus LockTimed(Timeout timeout, const WaitHooks* hooks = nullptr) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    LockRankAcquire(kRank);
    const LockStatus status = mutex_.LockTimed(timeout, hooks);
    if (status != LockStatus::kAcquired) LockRankRelease(kRank);
    return status;
  }
  // On the thread that locked it.
  void Unlock() PYRT_RELEASE() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    mutex_.Unlock();
    LockRankRelease(kRank);
  }
  void AssertHeld() const PYRT_ASSERT_CAPABILITY(this) { mutex_.AssertHeld(); }
  bool IsLocked() const { return mutex_.IsLocked(); }
  void ReinitAfterFork() {
    mutex_.ReinitAfterFork();
    LockRankRelease(kRank);
  }

 private:
  Mutex mutex_;
};

template <LockRank kRank>
using RankedMutexLock = BasicMutexLock<RankedMutex<kRank>>;

static_assert(sizeof(RankedMutex<LockRank::kHeadLock>) == sizeof(Mutex));

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_LOCK_RANK_H_
