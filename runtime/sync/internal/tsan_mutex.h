// Tells ThreadSanitizer which word is a lock, so that it reports lock-order inversions, double locks and the
// locks held at a race. The happens-before edges come from the atomics themselves.
//
// Each event is announced while the lock is held: after the atomic that took it, before the one that gives it
// up. (The usual form brackets the whole acquisition, and TSan then ignores everything inside, which would
// blind it to the hooks that run while a thread waits.)

#ifndef PYRT_RUNTIME_SYNC_INTERNAL_TSAN_MUTEX_H_
#define PYRT_RUNTIME_SYNC_INTERNAL_TSAN_MUTEX_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

#if PYRT_TSAN_HOOKS
#include <sanitizer/tsan_interface.h>
#define PYRT_TSAN_CALL(call) call
#else
#define PYRT_TSAN_CALL(call) static_cast<void>(0)
#endif

namespace pyrt::inline PYRT_VARIANT {

// The empty base class of a lock: forgets the lock when it dies. Trivial outside TSan.
template <bool enabled>
class TsanMutexBase {
 protected:
  void TsanLocked() {}
  void TsanTryLocked() {}
  void TsanUnlocking() {}
  void TsanReadLocked() {}
  void TsanReadUnlocking() {}
  void TsanForget() {}
};

template <>
class TsanMutexBase<true> {
 protected:
  constexpr TsanMutexBase() = default;
  ~TsanMutexBase() { TsanForget(); }

  void TsanLocked() {
    PYRT_TSAN_CALL(__tsan_mutex_pre_lock(this, 0));
    PYRT_TSAN_CALL(__tsan_mutex_post_lock(this, 0, 0));
  }
  void TsanTryLocked() {
    PYRT_TSAN_CALL(__tsan_mutex_pre_lock(this, __tsan_mutex_try_lock));
    PYRT_TSAN_CALL(__tsan_mutex_post_lock(this, __tsan_mutex_try_lock, 0));
  }
  void TsanUnlocking() {
    PYRT_TSAN_CALL(__tsan_mutex_pre_unlock(this, 0));
    PYRT_TSAN_CALL(__tsan_mutex_post_unlock(this, 0));
  }
  void TsanReadLocked() {
    PYRT_TSAN_CALL(__tsan_mutex_pre_lock(this, __tsan_mutex_read_lock));
    PYRT_TSAN_CALL(__tsan_mutex_post_lock(this, __tsan_mutex_read_lock, 0));
  }
  void TsanReadUnlocking() {
    PYRT_TSAN_CALL(__tsan_mutex_pre_unlock(this, __tsan_mutex_read_lock));
    PYRT_TSAN_CALL(__tsan_mutex_post_unlock(this, __tsan_mutex_read_lock));
  }
  void TsanForget() { PYRT_TSAN_CALL(__tsan_mutex_destroy(this, __tsan_mutex_not_static)); }
};

using TsanMutex = TsanMutexBase<kTsan && !kDetsched>;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_INTERNAL_TSAN_MUTEX_H_
