// The knobs and snapshots of sys: switch interval, recursion limit, tracing, what other threads do.
//
// Attached; any thread. Snapshots and changes of other threads stop the world in the GIL-disabled build, hold the GIL in
// the other, and release and call nothing meanwhile, but for SysHost::FrameObject.
//
// CPython counterpart: the functions of the same names in Python/sysmodule.c, Python/legacy_tracing.c.

#ifndef PYRT_SYS_SYS_CONTROL_H_
#define PYRT_SYS_SYS_CONTROL_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// Seconds, in whole microseconds (rounded down, at least one). ValueError unless the value is finite and positive:
// CPython stores the result of an undefined conversion for NaN and infinity (SY-52). Values beyond 292 000 years are
// clamped. For everybody who shares the GIL.
absl::Status SetSwitchInterval(SysModule& sys, double seconds);
double GetSwitchInterval(SysModule& sys);

// For all threads of the interpreter, whose depths stay. ValueError below 1, RecursionError at or below the caller's
// depth.
absl::Status SetRecursionLimit(SysModule& sys, int64_t limit);
int32_t GetRecursionLimit(SysModule& sys);

// sys.exc_info() and sys.exception() of the calling thread: the innermost exception that it handles, or None(s).
Ref<Tuple> ExcInfoTuple(ThreadState& thread);
Ref<Object> CurrentException(ThreadState& thread);

// Installs or (null function) removes the calling thread's trace or profile function. The old object is released last:
// its destructor may call this again (gh-94510, gh-98257). Audit event sys.settrace or sys.setprofile first.
enum class HookKind : uint8_t { kTrace, kProfile };
absl::Status SetThreadHook(SysModule& sys, HookKind kind, TraceFunction function, Ref<Object> object);
// The same for every thread of the interpreter.
absl::Status SetAllThreadsHook(SysModule& sys, HookKind kind, TraceFunction function, Ref<Object> object);
// The installed object, None if there is none.
Ref<Object> GetThreadHook(ThreadState& thread, HookKind kind);

// sys._current_frames(): thread ident and frame object of each thread that has one (SysHost::FrameObject,
// which is called with the world stopped: a frame is its thread's, and gone when that goes on). Audit event
// sys._current_frames.
absl::StatusOr<std::vector<std::pair<uint64_t, Ref<Object>>>> CurrentFrames(SysModule& sys);
// sys._current_exceptions(): ident and handled exception (null when idle) of each thread.
absl::StatusOr<std::vector<std::pair<uint64_t, Ref<Error>>>> CurrentExceptions(SysModule& sys);

// sys.set_asyncgen_hooks: null leaves unchanged, None removes. Both are checked before either is stored, the finalizer
// first; one audit event per stored hook; a veto of the second takes the first back (SY-82).
absl::Status SetAsyncGenHooks(SysModule& sys, ThreadState& thread, const Ref<Object>& firstiter,
                              const Ref<Object>& finalizer);
absl::Status SetCoroutineOriginTrackingDepth(ThreadState& thread, int64_t depth);

// True from the point of no return of the runtime on (SY-70).
bool IsFinalizing(SysModule& sys);
// Whether the interpreter's threads take turns now.
bool IsGilEnabled(SysModule& sys);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_SYS_CONTROL_H_
