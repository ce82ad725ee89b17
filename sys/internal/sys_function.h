// How the functions of sys are written down: one row each, with the arguments that it takes.

#ifndef PYRT_SYS_INTERNAL_SYS_FUNCTION_H_
#define PYRT_SYS_INTERNAL_SYS_FUNCTION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT::internal {

using Result = absl::StatusOr<Ref<Object>>;

// How the number of arguments is checked, which CPython words differently.
enum class Arity : uint8_t {
  kNone,   // METH_NOARGS
  kOne,    // METH_O
  kRange,  // PyArg_UnpackTuple
  kNamed,  // _PyArg_UnpackKeywords, of one parameter that has a name
  kUnchecked,
};

struct SysFunction {
  const char* name;
  Arity arity;
  size_t min;
  size_t max;
  Result (*body)(SysModule& sys, Args args);
  const char* parameter = nullptr;  // kNamed: what it is called
};

using SysFunctions = absl::Span<const SysFunction>;

inline constexpr size_t kAnyNumber = SIZE_MAX;

// The rows, by subject; each in a source of its own.
SysFunctions ControlFunctions();
SysFunctions ErrorFunctions();
SysFunctions IntrospectionFunctions();
SysFunctions MonitoringFunctions();

// ---- What bodies need

// An int or bool as int64_t, as a C int: TypeError and OverflowError with CPython's texts.
absl::StatusOr<int64_t> IntArgument(const Ref<Object>& object);
absl::StatusOr<int64_t> CIntArgument(const Ref<Object>& object);
// What the argument is called in messages: CPython writes None and not NoneType.
const char* NameOfType(const Object& object);

inline Result Done(absl::Status status) {
  if (!status.ok()) return status;
  return None();
}
inline Result Number(int64_t value) { return Ref<Object>(Int::Of(value)); }
inline ThreadState& CallingThread() { return ThreadState::Get("sys"); }

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_SYS_INTERNAL_SYS_FUNCTION_H_
