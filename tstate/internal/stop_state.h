// StopState: the data of stop-the-world for one scope, an interpreter or the process. The operations are
// StopTheWorld's (stop_the_world.h); a new thread state asks whether it must start suspended.

#ifndef PYRT_TSTATE_INTERNAL_STOP_STATE_H_
#define PYRT_TSTATE_INTERNAL_STOP_STATE_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/internal/stop_counter.h"

namespace pyrt::inline PYRT_VARIANT {

class ThreadState;

struct StopState {
  // One stop of this scope at a time. Waiting for it detaches.
  RankedMutex<LockRank::kStopTheWorldMutex> mutex;
  StopCounter counter;

  // Who stops: 0, or the ident of the thread from the moment that it owns `mutex`. Written by the owner of
  // `mutex`; the thread itself compares it with its own ident.
  Atomic<uint64_t> owner{0};

  // Written under the head lock: from here on new states start suspended.
  Atomic<bool> requested{false};
  // All have stopped.
  Atomic<bool> stopped{false};
  // The state that was attached on the stopping thread, null if none; it is not stopped. Owner of `mutex`.
  ThreadState* requester = nullptr;

  // Statistics: written by the owner of `mutex`.
  Atomic<uint64_t> stops{0};
  Atomic<uint64_t> parks{0};      // stops that had to sleep, each after one membarrier
  Atomic<uint64_t> rollbacks{0};  // stops that gave up at their deadline

  void ReinitAfterFork() {
    mutex.ReinitAfterFork();
    counter.ReinitAfterFork();
    owner.store(0, kRelaxed);
    requested.store(false, kRelaxed);
    stopped.store(false, kRelaxed);
    requester = nullptr;
  }
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_STOP_STATE_H_
