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
#define PYRT_TSAN_FLAG(flags) (flags)
#else
#define PYRT_TSAN_FLAG(flags) 0u
#define PYRT_TSAN_CALL(call) static_cast<void>(0)
#endif

namespace pyrt::inline PYRT_VARIANT {

// The empty base class of a lock: forgets the lock when it dies. Trivial outside TSan.
template <bool enabled>
class TsanMutexBase {
 public:
  static void AfterForkInChild() {}

 protected:
  void TsanLocked() {}
  void TsanTryLocked() {}
  void TsanUnlocking() {}
  void TsanReadLocked() {}
  void TsanTryReadLocked() {}
  void TsanReadUnlocking() {}
};

template <>
class TsanMutexBase<true> {
 public:
  // TSan does not look at a process that was forked from several threads; its records of who holds what are
  // the parent's.
  static void AfterForkInChild() { in_forked_child_ = true; }

 protected:
  constexpr TsanMutexBase() = default;
  ~TsanMutexBase() {
    if (!in_forked_child_) PYRT_TSAN_CALL(__tsan_mutex_destroy(this, __tsan_mutex_not_static));
  }

  void TsanLocked() { Locked(PYRT_TSAN_FLAG(__tsan_mutex_not_static)); }
  void TsanTryLocked() { Locked(PYRT_TSAN_FLAG(__tsan_mutex_not_static | __tsan_mutex_try_lock)); }
  void TsanReadLocked() { Locked(PYRT_TSAN_FLAG(__tsan_mutex_not_static | __tsan_mutex_read_lock)); }
  void TsanTryReadLocked() {
    Locked(PYRT_TSAN_FLAG(__tsan_mutex_not_static | __tsan_mutex_read_lock | __tsan_mutex_try_lock));
  }
  void TsanUnlocking() { Unlocking(0); }
  void TsanReadUnlocking() { Unlocking(PYRT_TSAN_FLAG(__tsan_mutex_read_lock)); }

 private:
  void Locked([[maybe_unused]] unsigned flags) {
    if (in_forked_child_) return;
    PYRT_TSAN_CALL(__tsan_mutex_pre_lock(this, flags));
    PYRT_TSAN_CALL(__tsan_mutex_post_lock(this, flags, 0));
  }
  void Unlocking([[maybe_unused]] unsigned flags) {
    if (in_forked_child_) return;
    PYRT_TSAN_CALL(__tsan_mutex_pre_unlock(this, flags));
    PYRT_TSAN_CALL(__tsan_mutex_post_unlock(this, flags));
  }

  static inline bool in_forked_child_ = false;
};

using TsanMutex = TsanMutexBase<kTsan && !kDetsched>;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_INTERNAL_TSAN_MUTEX_H_
