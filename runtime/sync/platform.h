// What pyrt asks of the machine: atomics, futexes, a clock, fences, threads, thread-local storage, fork.
//
// Everything concurrent in pyrt is written against this header and nothing below it, so that the code which
// ships is the code which testing/detsched explores: there the same names are scheduling points of
// cooperative fibers, time is virtual and loads may return any value that the C++ memory model allows.
//
// The platform's half (PYRT_PLATFORM_HEADER) provides, in namespace pyrt:
//
//   Atomic<T>            std::atomic<T> with the order spelled out at every access
//   Plain<T>             data guarded by a protocol; detsched checks it for races, native builds see a bare T
//   FutexWait, FutexWake on Atomic<uint32_t>, with an absolute monotonic deadline
//   MonotonicNow         nanoseconds since an arbitrary epoch, never stepped
//   AsymmetricFence      Light() on the fast side, Heavy() (membarrier) on the slow side of a store/load pair
//   CpuRelax, YieldCpu   polite spinning; UsableCpus() says whether spinning makes sense
//   CurrentThreadIdent, CurrentNativeThreadId
//   OsThread             start and join; HangForever() for a thread that must never run again
//   ForkProcess          fork(2)
//   PYRT_THREAD_LOCAL    a thread_local that is one load to read, per fiber in detsched
//   PYRT_MUTANT(name)    false; in detsched builds true while the test has asked for that mistake
//
// Rules: no stand-alone atomic_thread_fence outside AsymmetricFence (ThreadSanitizer cannot see one); no
// std::atomic, std::thread, std::mutex or clock_gettime in a library above this one.

#ifndef PYRT_RUNTIME_SYNC_PLATFORM_H_
#define PYRT_RUNTIME_SYNC_PLATFORM_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform_types.h"  // IWYU pragma: export

#include PYRT_PLATFORM_HEADER  // IWYU pragma: export

namespace pyrt::inline PYRT_VARIANT {

// The deadline of a timeout that starts now; saturates. Reads the clock only for a positive timeout.
inline Deadline DeadlineAfter(Timeout timeout) {
  if (timeout < 0) return kNoDeadline;
  if (timeout == 0) return 0;  // long past
  const int64_t now = MonotonicNow();
  return timeout > kNoDeadline - now ? kNoDeadline : now + timeout;
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_PLATFORM_H_
