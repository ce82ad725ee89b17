// The standard streams as a config asks for them.
//
//   fd not open at start            None, and no error (SY-8)
//   stdin                           buffered; a directory is a fatal exit (SY-13)
//   stdout                          line-buffered on a terminal or with -i, else block-buffered
//   stderr                          always line-buffered, errors "backslashreplace", whatever the config says
//   -u, PYTHONUNBUFFERED            stdout and stderr write through
//
// Attached or not; no locks. The descriptors stay the process': closing a stream flushes and keeps them open.
//
// CPython counterpart: init_sys_streams, create_stdio in Python/pylifecycle.c.

#ifndef PYRT_SYS_STDIO_H_
#define PYRT_SYS_STDIO_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/text_stream.h"

namespace pyrt::inline PYRT_VARIANT {

// Each a TextStream or None.
struct StandardStreams {
  Ref<Object> standard_input = None();
  Ref<Object> standard_output = None();
  Ref<Object> standard_error = None();
};

// The descriptors that stand for 0, 1 and 2; tests bring their own.
struct StandardDescriptors {
  int input = 0;
  int output = 1;
  int error = 2;
};

// Fails with CPython's texts: a stdin that is a directory, an unknown error handler (`config` was not read by
// ReadConfig). `hooks` may be null and otherwise outlives the streams.
ConfigStatus OpenStandardStreams(const RuntimeConfig& config, const StreamHooks* hooks,
                                 StandardStreams* streams, StandardDescriptors descriptors = {});

// The stream that exists before the config is read: unbuffered, to stderr; None if that is closed. `hooks` as
// above.
Ref<Object> OpenPreliminaryStderr(const StreamHooks* hooks, int fd = 2);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_STDIO_H_
