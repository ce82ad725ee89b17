// The types of exceptions: CPython's built-in hierarchy, open to a host's own types.
//
// Built-in types are immortal statics of the process, reached by name: ErrorType::ValueError(). A host makes
// further ones with ErrorType::New, each with a base.
//
// CPython counterpart: PyExc_ValueError and its kind, PyErr_NewException, PyErr_GivenExceptionMatches.

#ifndef PYRT_RUNTIME_OBJECT_ERROR_TYPE_H_
#define PYRT_RUNTIME_OBJECT_ERROR_TYPE_H_

#include <string>
#include <string_view>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

// X(name, base), every base before its derived types. BaseException is the root.
#define PYRT_ERROR_TYPES(X)                     \
  X(SystemExit, BaseException)                  \
  X(KeyboardInterrupt, BaseException)           \
  X(GeneratorExit, BaseException)               \
  X(Exception, BaseException)                   \
  X(StopIteration, Exception)                   \
  X(StopAsyncIteration, Exception)              \
  X(ArithmeticError, Exception)                 \
  X(FloatingPointError, ArithmeticError)        \
  X(OverflowError, ArithmeticError)             \
  X(ZeroDivisionError, ArithmeticError)         \
  X(AssertionError, Exception)                  \
  X(AttributeError, Exception)                  \
  X(BufferError, Exception)                     \
  X(EOFError, Exception)                        \
  X(ImportError, Exception)                     \
  X(ModuleNotFoundError, ImportError)           \
  X(LookupError, Exception)                     \
  X(IndexError, LookupError)                    \
  X(KeyError, LookupError)                      \
  X(MemoryError, Exception)                     \
  X(NameError, Exception)                       \
  X(UnboundLocalError, NameError)               \
  X(OSError, Exception)                         \
  X(BlockingIOError, OSError)                   \
  X(ChildProcessError, OSError)                 \
  X(ConnectionError, OSError)                   \
  X(BrokenPipeError, ConnectionError)           \
  X(FileExistsError, OSError)                   \
  X(FileNotFoundError, OSError)                 \
  X(InterruptedError, OSError)                  \
  X(IsADirectoryError, OSError)                 \
  X(NotADirectoryError, OSError)                \
  X(PermissionError, OSError)                   \
  X(ProcessLookupError, OSError)                \
  X(TimeoutError, OSError)                      \
  X(ReferenceError, Exception)                  \
  X(RuntimeError, Exception)                    \
  X(NotImplementedError, RuntimeError)          \
  X(RecursionError, RuntimeError)               \
  X(PythonFinalizationError, RuntimeError)      \
  X(DeadlockError, RuntimeError)                \
  X(SyntaxError, Exception)                     \
  X(SystemError, Exception)                     \
  X(TypeError, Exception)                       \
  X(ValueError, Exception)                      \
  X(UnicodeError, ValueError)                   \
  X(UnicodeDecodeError, UnicodeError)           \
  X(UnicodeEncodeError, UnicodeError)           \
  X(InterpreterError, Exception)                \
  X(InterpreterNotFoundError, InterpreterError) \
  X(Warning, Exception)                         \
  X(DeprecationWarning, Warning)                \
  X(RuntimeWarning, Warning)                    \
  X(ImportWarning, Warning)                     \
  X(ResourceWarning, Warning)                   \
  X(UserWarning, Warning)

class ErrorType final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kErrorType; }

  static const ErrorType& BaseException();
#define PYRT_ERROR_TYPE_ACCESSOR(name, base) static const ErrorType& name();
  PYRT_ERROR_TYPES(PYRT_ERROR_TYPE_ACCESSOR)
#undef PYRT_ERROR_TYPE_ACCESSOR
  // Makes them all, which otherwise happens on first use. A fork that found another thread in the middle of that would
  // have a child that cannot.
  static void MakeAll();

  // The built-in type of that name, or null.
  static const ErrorType* Find(std::string_view name);

  // A host's type. `module` is what is printed before the name ("app" prints "app.Failure").
  static Ref<const ErrorType> New(std::string_view module, std::string_view name, const ErrorType& base);

  const std::string& name() const { return name_; }
  const std::string& module() const { return module_; }  // "builtins" for most of the list above
  const ErrorType* base() const { return base_.get(); }  // null for BaseException

  // The name as a traceback's last line shows it: without the module for builtins and __main__.
  std::string QualifiedName() const;

  // issubclass(this, other).
  bool IsSubtypeOf(const ErrorType& other) const;

  const char* TypeName() const override { return "type"; }
  absl::StatusOr<std::string> Repr() const override;  // <class 'ValueError'>
  // ErrorType(*args) makes an exception.
  absl::StatusOr<Ref<Object>> Call(Args args) override;
  bool IsCallable() const override { return true; }

 private:
  ErrorType(std::string_view module, std::string_view name, const ErrorType* base);

  const std::string name_;
  const std::string module_;
  const Ref<const ErrorType> base_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_ERROR_TYPE_H_
