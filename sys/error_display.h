// How exceptions reach the user: the hooks of sys and what they print.
//
//   uncaught by the program    PrintUncaught: SystemExit, last_exc, sys.excepthook, its failures
//   cannot be raised           WriteUnraisable: sys.unraisablehook, its failures
//   a value at the prompt      CallDisplayHook: sys.displayhook, which is DisplayHook unless replaced
//
// Attached, no lock held: hooks and streams run anything. None of these fails: what goes wrong is printed, and where even
// that is impossible (sys.stderr is None) it is dropped.
//
// CPython counterpart: PyErr_PrintEx, _PyErr_WriteUnraisableMsg, PyErr_Display, sys_displayhook.

#ifndef PYRT_SYS_ERROR_DISPLAY_H_
#define PYRT_SYS_ERROR_DISPLAY_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_module.h"

namespace pyrt::inline PYRT_VARIANT {

// "module.Type: text", or "Type" without text: the last line of a traceback, with its newline.
std::string ErrorLine(const Error& error);

// The whole display: causes and contexts first, each once and with str(traceback) if it has one.
std::string FormatError(const Error& error);

// Writes `text` to a stream object: a TextStream, or anything with write(). None is silently nothing.
absl::Status WriteToStream(const Ref<Object>& stream, std::string_view text);
// stream.flush().
absl::Status FlushStream(const Ref<Object>& stream);

// PyErr_Display: FormatError to sys.stderr. None: nothing. Missing: a raw dump and "lost sys.stderr" to file descriptor 2
// (SY-23).
void DisplayError(SysModule& sys, const Ref<Error>& error);

// PyErr_PrintEx: for SystemExit (unless SysModule::inspect) prints its message and returns the status to exit
// with; otherwise displays through sys.excepthook and returns nullopt, unless the hook itself raised
// SystemExit.
std::optional<int> PrintUncaught(SysModule& sys, const Ref<Error>& error);

// The type of what sys.unraisablehook is called with.
const Ref<StructSequenceType>& UnraisableHookArgs();
// sys.unraisablehook with (exc_type, exc_value, exc_traceback, err_msg, object). `message` may be null: then "Exception
// ignored in" and the object. `object` may be null. Fatal when detached (SY-36).
void WriteUnraisable(SysModule& sys, const Ref<Error>& error, const char* message, const Ref<Object>& object);

// What the built-in hook does with it. An empty `message` as above.
void WriteUnraisableByDefault(SysModule& sys, const Ref<Error>& error, const std::string& message,
                              const Ref<Object>& object);

// sys.displayhook(value): nothing for None; otherwise the repr and a newline to sys.stdout, and builtins._.
absl::Status DisplayHook(SysModule& sys, const Ref<Object>& value);

// What a prompt does with a value: sys.displayhook(value). RuntimeError "lost sys.displayhook" (SY-22).
absl::Status CallDisplayHook(SysModule& sys, const Ref<Object>& value);

// breakpoint(*args): sys.breakpointhook(*args), after the audit event builtins.breakpoint. RuntimeError "lost
// sys.breakpointhook".
absl::StatusOr<Ref<Object>> CallBreakpointHook(SysModule& sys, Args args);

// PySys_WriteStdout, PySys_WriteStderr: at most 1000 bytes, then "... truncated"; the C stream if sys has none or fails.
// Format functions have no limit.
void WriteStdout(SysModule& sys, std::string_view text);
void WriteStderr(SysModule& sys, std::string_view text);
void FormatStdout(SysModule& sys, std::string_view text);
void FormatStderr(SysModule& sys, std::string_view text);

// Finalization: stdout, then stderr; closed ones are skipped. -1 if one failed (exit status
// kFlushFailureStatus), else 0. A stdout that fails again is not reported again.
int FlushStandardStreams(SysModule& sys);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_ERROR_DISPLAY_H_
