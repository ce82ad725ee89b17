// Error: an exception object, and how one travels inside an absl::Status.
//
// Everything in pyrt that can fail returns absl::Status or absl::StatusOr. When the failure is one that
// Python code could catch, the status carries the exception object as a payload, so that its type, arguments
// and traceback survive every layer in between:
//
//   if (microseconds < 1) return Raise(ErrorType::ValueError(), "switch interval must be strictly positive");
//   ...
//   if (!status.ok()) thread.SetException(ErrorFromStatus(status));
//
// A status without a payload (from a library below) becomes an exception of the nearest type.
//
// An Error is immutable but for the slots that raising fills in (traceback, context, cause). These belong to
// the thread that raises it: set them before another thread can see the object.
//
// CPython counterpart: PyBaseExceptionObject, PyErr_Format, PyErr_ExceptionMatches.

#ifndef PYRT_RUNTIME_OBJECT_ERROR_H_
#define PYRT_RUNTIME_OBJECT_ERROR_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {

class Error final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kError; }

  // type(message) and type(*args).
  static Ref<Error> New(const ErrorType& type, std::string_view message);
  static Ref<Error> New(const ErrorType& type, std::vector<Ref<Object>> args);

  const ErrorType& type() const { return *type_; }
  bool IsA(const ErrorType& type) const { return type_->IsSubtypeOf(type); }
  const Tuple& args() const { return *args_; }

  // str(exception) of the arguments; the repr of the argument for KeyError; "" without arguments. An argument
  // whose Str fails shows as "<exception str() failed>".
  std::string Message() const;

  // Attributes beyond the arguments: ImportError's name and path, OSError's errno. Set before the error is
  // shared; returns this error.
  Ref<Error> WithAttribute(std::string_view name, Ref<Object> value);

  // Host's traceback object, the exception that was being handled (__context__), and the one named by "raise
  // ... from" (__cause__, which also suppresses the context when printed). Null when absent.
  const Ref<Object>& traceback() const { return traceback_; }
  const Ref<Error>& context() const { return context_; }
  const Ref<Error>& cause() const { return cause_; }
  bool suppress_context() const { return suppress_context_; }
  void set_traceback(Ref<Object> traceback) { traceback_ = std::move(traceback); }
  // Breaks the chain where `context` already leads to this error, as CPython does: a cycle would print for
  // ever.
  void set_context(Ref<Error> context);
  void set_cause(Ref<Error> cause) {
    cause_ = std::move(cause);
    suppress_context_ = true;
  }

  const char* TypeName() const override { return type_->name().c_str(); }
  absl::StatusOr<std::string> Repr() const override;  // ValueError('text')
  absl::StatusOr<std::string> Str() const override;
  // args, the attributes, __traceback__, __context__, __cause__; SystemExit's code.
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;
  absl::Status SetAttr(std::string_view name, Ref<Object> value) override;

 private:
  Error(Ref<const ErrorType> type, Ref<Tuple> args);

  const Ref<const ErrorType> type_;
  const Ref<Tuple> args_;
  std::vector<std::pair<std::string, Ref<Object>>> attributes_;
  Ref<Object> traceback_;
  Ref<Error> context_;
  Ref<Error> cause_;
  bool suppress_context_ = false;
};

// A status that carries a new exception type(message). Formats like printf.
absl::Status Raise(const ErrorType& type, const char* format, ...)
    __attribute__((format(printf, 2, 3), cold));

// A status that carries `error`; its message is the error's. The code is the nearest one (ValueError and
// TypeError: kInvalidArgument; KeyError, ModuleNotFoundError: kNotFound; MemoryError: kResourceExhausted;
// others kUnknown), for callers that know only absl.
absl::Status ToStatus(Ref<Error> error);

// True when the status carries an exception.
bool HasError(const absl::Status& status);

// The exception that `status` carries, the same object each time. If it carries none, a new one of the
// nearest type with the status' message. Null for an OK status.
Ref<Error> ErrorFromStatus(const absl::Status& status);

// True when the status carries an exception of `type` or a subtype (PyErr_ExceptionMatches).
bool IsError(const absl::Status& status, const ErrorType& type);

// OSError of the right subtype for `error_number`: args (errno, strerror), FileNotFoundError for ENOENT and
// so on.
Ref<Error> NewOsError(int error_number, std::string_view what = {});

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_ERROR_H_
