// ExitFunctions: C functions that run when everything of the runtime is gone.
//
// At most 32, last in, first out, each once. A function may register another, which then runs next. None of
// them can be removed. No thread state exists while they run; IsInitialized is false and IsFinalizing true.
//
// CPython counterpart: Py_AtExit, call_ll_exitfuncs, _PyRuntimeState.atexit.

#ifndef PYRT_RUNTIME_EXIT_FUNCTIONS_H_
#define PYRT_RUNTIME_EXIT_FUNCTIONS_H_

#include <array>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class ExitFunctions {
 public:
  using Function = void (*)();
  static constexpr int kCapacity = 32;

  constexpr ExitFunctions() = default;
  ExitFunctions(const ExitFunctions&) = delete;
  ExitFunctions& operator=(const ExitFunctions&) = delete;

  // 0, or -1 if 32 are registered. Any thread, with or without a thread state; does not detach.
  int Register(Function function) PYRT_EXCLUDES(mutex_) {
    BasicMutexLock lock(mutex_);
    if (count_ == kCapacity) return -1;
    functions_[static_cast<size_t>(count_++)] = function;
    return 0;
  }

  // Runs and forgets all, then flushes C's standard output and error. No lock is held during a call (RT-19).
  void Run() PYRT_EXCLUDES(mutex_);

  // Forgets all without a call (RT-3: an initialization that follows a finalization).
  void Clear() PYRT_EXCLUDES(mutex_) {
    BasicMutexLock lock(mutex_);
    count_ = 0;
  }

  // Brackets a fork: any thread may be in here, also one that nothing stops.
  void BeforeFork() PYRT_ACQUIRE(mutex_) { mutex_.Lock(); }
  void AfterForkInParent() PYRT_RELEASE(mutex_) { mutex_.Unlock(); }
  void AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS { mutex_.ReinitAfterFork(); }

 private:
  RankedMutex<LockRank::kAtExit> mutex_;
  std::array<Function, kCapacity> functions_ PYRT_GUARDED_BY(mutex_) = {};
  int count_ PYRT_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_EXIT_FUNCTIONS_H_
