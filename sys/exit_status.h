// What process status a SystemExit asks for.
//
// CPython counterpart: _Py_HandleSystemExitAndKeyboardInterrupt, Py_Exit.

#ifndef PYRT_SYS_EXIT_STATUS_H_
#define PYRT_SYS_EXIT_STATUS_H_

#include <string>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

// The status when standard output or error could not be flushed at finalization, whatever the program's own
// (SY-27).
inline constexpr int kFlushFailureStatus = 120;

struct ExitRequest {
  // What exit(3) gets; the system keeps its low 8 bits, which os_status() is.
  int status = 0;
  // To be printed to sys.stderr with a newline before exiting: the code was an object that is no number. Null
  // if none.
  Ref<Object> message;

  int os_status() const { return status & 0xFF; }
};

// The request of `exit`, which is a SystemExit.
//
//   no code, None          0            bool                0 or 1
//   int                    itself       int beyond a long   -1, i.e. 255
//   anything else          1, and the object is printed: another exception, too
ExitRequest ExitRequestOf(Error& exit);

// The same for a bare code.
ExitRequest ExitRequestOfCode(const Ref<Object>& code);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_EXIT_STATUS_H_
