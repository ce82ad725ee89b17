// Assertions in three tiers, and the end of the process when one fails.
//
//   PYRT_CHECK(condition, function, ...)   always on: misuse that would corrupt state (wrong thread, double
//   take) PYRT_DCHECK(condition)                 debug builds only: an invariant that tests are meant to meet
//   PYRT_UNREACHABLE(...)                  always on: control flow that the state table excludes
//
// A failure prints, in CPython's format,
//
//   Fatal Python error: FUNCTION: MESSAGE
//
// and then what the fatal hook adds (the runtime's phase, a state dump), and aborts. The message carries the
// decoded state, so that a report is worth reading: format it with the state words' own ToString functions.
//
// CPython counterpart: Py_FatalError, _Py_FatalErrorFunc, _Py_FatalErrorFormat.

#ifndef PYRT_RUNTIME_CONFIG_CHECK_H_
#define PYRT_RUNTIME_CONFIG_CHECK_H_

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// Prints "Fatal Python error: <function>: <message>" to file descriptor 2 and aborts. `function` may be null:
// the line then has no function part. `format` is printf's. Never returns, never allocates; a call made while
// another one is in progress on the same thread (from the hook) only aborts.
//
// Attached or detached; does not block; async-signal-safe apart from vsnprintf's floating point formats.
[[noreturn]] void Fatal(const char* function, const char* format, ...)
    __attribute__((format(printf, 2, 3), cold));

// Called once by Fatal() between its first line and abort(), to print more to file descriptor `fd`.
// The runtime installs one that prints "Python runtime state: ...". Returns the previous hook; null means
// none.
using FatalHook = void (*)(int fd);
FatalHook SetFatalHook(FatalHook hook);

// Called by Fatal() with the finished line before it prints anything, and may leave by switching to another
// stack for good: testing/detsched turns a fatal error into a failed schedule. Returns the previous one.
using FatalInterceptor = void (*)(const char* line);
FatalInterceptor SetFatalInterceptor(FatalInterceptor interceptor);

// `condition` is evaluated once. `function` is the name that the message carries: the public function which
// was misused, in pyrt's vocabulary or CPython's where the specification gives the text.
#define PYRT_CHECK(condition, function, ...) \
  (static_cast<bool>(condition) ? static_cast<void>(0) : ::pyrt::Fatal(function, __VA_ARGS__))

#define PYRT_UNREACHABLE(...) ::pyrt::Fatal(__func__, __VA_ARGS__)

#define PYRT_DCHECK(condition)                     \
  (!::pyrt::kDebug || static_cast<bool>(condition) \
       ? static_cast<void>(0)                      \
       : ::pyrt::Fatal(__func__, "%s:%d: invariant does not hold: %s", __FILE__, __LINE__, #condition))

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_CONFIG_CHECK_H_
