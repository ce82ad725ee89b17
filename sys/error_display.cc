#include "pyrt/sys/error_display.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/exit_status.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/sys/text_codec.h"
#include "pyrt/sys/text_stream.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr size_t kWriteLimit = 1000;
constexpr SysName kStdout("stdout");
constexpr SysName kStderr("stderr");
constexpr SysName kExcepthook("excepthook");
constexpr SysName kUnraisablehook("unraisablehook");

void WriteToDescriptor(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

Ref<Object> TypeObject(const Error& error) {
  // ErrorTypes are shared by reference; handing one out as an object does not change it.
  return Ref<Object>::Share(const_cast<ErrorType*>(&error.type()));
}

Ref<Object> OrNone(Ref<Object> object) { return object ? std::move(object) : None(); }

Ref<Error> TakeError(const absl::Status& status) { return ErrorFromStatus(status); }

// Without what came before it.
void AppendError(const Error& error, std::string* out) {
  if (error.traceback()) {
    absl::StatusOr<std::string> text = error.traceback()->Str();
    *out += "Traceback (most recent call last):\n" + (text.ok() ? *text : "  <traceback str() failed>");
    if (out->back() != '\n') *out += '\n';
  }
  *out += ErrorLine(error);
}

void WriteLimited(SysModule& sys, SysName name, int fd, std::string_view text, bool limited) {
  std::string cut;
  if (limited && text.size() > kWriteLimit) {
    cut = text.substr(0, kWriteLimit);
    cut += "... truncated";
    text = cut;
  }
  ThreadState* const thread = ThreadState::Current();
  Ref<Error> pending = thread == nullptr ? nullptr : std::exchange(thread->data().current_exception, nullptr);
  const Ref<Object> stream = sys.dict().Find(name);
  if (!stream || IsNone(stream) || !WriteToStream(stream, text).ok()) WriteToDescriptor(fd, text);
  if (thread != nullptr) thread->data().current_exception = std::move(pending);
}

// Whether stream.closed is true. One that cannot be asked is flushed.
bool IsClosed(const Ref<Object>& stream) {
  absl::StatusOr<Ref<Object>> closed = stream->GetAttr("closed");
  if (!closed.ok()) return false;
  absl::StatusOr<bool> truth = (*closed)->IsTrue();
  return truth.ok() && *truth;
}

}  // namespace

void WriteUnraisableByDefault(SysModule& sys, const Ref<Error>& error, const std::string& message,
                              const Ref<Object>& object) {
  std::string text;
  if (object && !IsNone(object)) {
    text = (message.empty() ? "Exception ignored in" : message) + ": " + ReprOrPlaceholder(*object) + "\n";
  } else if (!message.empty()) {
    text = message + ":\n";
  }
  if (error->traceback()) {
    absl::StatusOr<std::string> traceback = error->traceback()->Str();
    text +=
        "Traceback (most recent call last):\n" + (traceback.ok() ? *traceback : "  <traceback str() failed>");
    if (text.back() != '\n') text += '\n';
  }
  text += ErrorLine(*error);
  const Ref<Object> stream = sys.dict().Find(kStderr);
  if (!stream || IsNone(stream)) return;
  (void)WriteToStream(stream, text);
  (void)FlushStream(stream);
}

std::string ErrorLine(const Error& error) {
  const std::string message = error.Message();
  return error.type().QualifiedName() + (message.empty() ? "" : ": " + message) + "\n";
}

std::string FormatError(const Error& error) {
  // What came before, newest first, and the words between it and what followed. Owned: str(traceback) runs anything, which
  // may change the chain. As a list, because a chain may be as long as it likes.
  std::vector<std::pair<Ref<Error>, const char*>> chain;
  // Each is shown once: a chain of causes may be a circle.
  std::unordered_set<const Error*> seen{&error};
  for (const Error* last = &error; last != nullptr;) {
    const Ref<Error>& cause = last->cause();
    const Ref<Error>& context = last->context();
    if (cause && seen.insert(cause.get()).second) {
      chain.emplace_back(cause, "\nThe above exception was the direct cause of the following exception:\n\n");
      last = cause.get();
    } else if (context && !last->suppress_context() && seen.insert(context.get()).second) {
      chain.emplace_back(context,
                         "\nDuring handling of the above exception, another exception occurred:\n\n");
      last = context.get();
    } else {
      last = nullptr;
    }
  }
  std::string text;
  for (auto link = chain.rbegin(); link != chain.rend(); ++link) {
    AppendError(*link->first, &text);
    text += link->second;
  }
  AppendError(error, &text);
  return text;
}

absl::Status WriteToStream(const Ref<Object>& stream, std::string_view text) {
  if (!stream || IsNone(stream)) return absl::OkStatus();
  if (auto* file = As<TextStream>(stream)) return file->Write(text);
  absl::StatusOr<Ref<Object>> write = stream->GetAttr("write");
  if (!write.ok()) return write.status();
  const std::vector<Ref<Object>> arguments{String::Of(text)};
  return (*write)->Call(arguments).status();
}

absl::Status FlushStream(const Ref<Object>& stream) {
  if (!stream || IsNone(stream)) return absl::OkStatus();
  if (auto* file = As<TextStream>(stream)) return file->Flush();
  absl::StatusOr<Ref<Object>> flush = stream->GetAttr("flush");
  if (!flush.ok()) return flush.status();
  return (*flush)->Call({}).status();
}

void DisplayError(SysModule& sys, const Ref<Error>& error) {
  const Ref<Object> stream = sys.dict().Find(kStderr);
  if (!stream) {
    WriteToDescriptor(STDERR_FILENO,
                      "object repr     : " + ReprOrPlaceholder(*error) + "\nlost sys.stderr\n");
    return;
  }
  if (IsNone(stream)) return;
  (void)WriteToStream(stream, FormatError(*error));
  (void)FlushStream(stream);
}

namespace {

// The status of a SystemExit whose message, if any, is printed now.
int HandleSystemExit(SysModule& sys, Error& exit) {
  const ExitRequest request = ExitRequestOf(exit);
  if (request.message) {
    absl::StatusOr<std::string> text = request.message->Str();
    const std::string line = (text.ok() ? *text : "") + "\n";
    const Ref<Object> stream = sys.dict().Find(kStderr);
    if (!stream || IsNone(stream)) {
      WriteToDescriptor(STDERR_FILENO, line);
    } else {
      (void)WriteToStream(stream, line);
      (void)FlushStream(stream);
    }
  }
  return request.status;
}

}  // namespace

std::optional<int> PrintUncaught(SysModule& sys, const Ref<Error>& error) {
  const bool inspecting = sys.inspect() > 0;
  if (error->IsA(ErrorType::SystemExit()) && !inspecting) return HandleSystemExit(sys, *error);

  const std::vector<Ref<Object>> arguments{TypeObject(*error), error, OrNone(error->traceback())};
  sys.dict().Set("last_exc", error);
  sys.dict().Set("last_type", arguments[0]);
  sys.dict().Set("last_value", arguments[1]);
  sys.dict().Set("last_traceback", arguments[2]);

  const Ref<Object> hook = sys.dict().Find(kExcepthook);
  absl::Status audit = sys.auditor().Audit("sys.excepthook", "OOOO", hook ? hook : None(), arguments[0],
                                           arguments[1], arguments[2]);
  if (!audit.ok()) {
    if (IsError(audit, ErrorType::RuntimeError())) return std::nullopt;  // a veto
    WriteUnraisable(sys, TakeError(audit), "Exception ignored in audit hook", nullptr);
  }
  if (!hook) {
    WriteStderr(sys, "sys.excepthook is missing\n");
    DisplayError(sys, error);
    return std::nullopt;
  }
  absl::StatusOr<Ref<Object>> result = hook->Call(arguments);
  if (result.ok()) return std::nullopt;
  Ref<Error> failure = TakeError(result.status());
  if (failure->IsA(ErrorType::SystemExit()) && !inspecting) return HandleSystemExit(sys, *failure);
  WriteStderr(sys, "Error in sys.excepthook:\n");
  DisplayError(sys, failure);
  WriteStderr(sys, "\nOriginal exception was:\n");
  DisplayError(sys, error);
  return std::nullopt;
}

const Ref<StructSequenceType>& UnraisableHookArgs() {
  static const Ref<StructSequenceType> type = StructSequenceType::New(
      "UnraisableHookArgs", {"exc_type", "exc_value", "exc_traceback", "err_msg", "object"}, 5);
  return type;
}

void WriteUnraisable(SysModule& sys, const Ref<Error>& error, const char* message,
                     const Ref<Object>& object) {
  ThreadState::Get("PyErr_WriteUnraisable");  // SY-36
  const std::string text = message == nullptr ? "" : message;
  const Ref<Object> hook = sys.dict().Find(kUnraisablehook);
  if (!hook) {
    WriteUnraisableByDefault(sys, error, text, object);
    return;
  }
  Ref<StructSequence> arguments =
      UnraisableHookArgs()->Make({TypeObject(*error), error, OrNone(error->traceback()),
                                  text.empty() ? None() : Ref<Object>(String::Of(text)), OrNone(object)});
  absl::Status audit = sys.auditor().Audit("sys.unraisablehook", "OO", hook, arguments);
  if (!audit.ok()) {
    WriteUnraisableByDefault(sys, TakeError(audit), "Exception ignored in audit hook", nullptr);
    return;
  }
  // Only now: a hook that is None is audited like any other (SY-33).
  if (IsNone(hook)) {
    WriteUnraisableByDefault(sys, error, text, object);
    return;
  }
  const std::vector<Ref<Object>> call{arguments};
  absl::StatusOr<Ref<Object>> result = hook->Call(call);
  // The hook's own failure is shown, the original is lost, as in CPython.
  if (!result.ok())
    WriteUnraisableByDefault(sys, TakeError(result.status()), "Exception ignored in sys.unraisablehook",
                             hook);
}

namespace {

// What the stream cannot encode goes out as \xNN, \uNNNN: as bytes if the stream has a `buffer`, else as text (SY-21).
absl::Status WriteEscaped(const Ref<Object>& stream, std::string_view text) {
  absl::StatusOr<Ref<Object>> name = stream->GetAttr("encoding");
  if (!name.ok()) return name.status();
  const String* const encoding_name = As<String>(*name);
  const std::optional<TextEncoding> encoding =
      encoding_name == nullptr ? std::nullopt : FindEncoding(encoding_name->value());
  if (!encoding.has_value()) return Raise(ErrorType::LookupError(), "unknown encoding");
  absl::StatusOr<std::string> bytes = EncodeText(text, *encoding, TextErrors::kBackslashReplace);
  if (!bytes.ok()) return bytes.status();
  absl::StatusOr<Ref<Object>> buffer = stream->GetAttr("buffer");
  if (buffer.ok()) {
    absl::StatusOr<Ref<Object>> write = (*buffer)->GetAttr("write");
    if (!write.ok()) return write.status();
    const std::vector<Ref<Object>> arguments{Bytes::Of(*bytes)};
    return (*write)->Call(arguments).status();
  }
  if (!IsError(buffer.status(), ErrorType::AttributeError())) return buffer.status();
  absl::StatusOr<std::string> escaped = DecodeText(*bytes, *encoding, TextErrors::kStrict);
  return escaped.ok() ? WriteToStream(stream, *escaped) : escaped.status();
}

}  // namespace

absl::Status DisplayHook(SysModule& sys, const Ref<Object>& value) {
  const Ref<Object> builtins = sys.interp().table(Interpreter::Table::kBuiltins);
  auto* const names = As<Dict>(builtins);
  if (names == nullptr) return Raise(ErrorType::RuntimeError(), "lost builtins module");
  if (IsNone(value)) return absl::OkStatus();
  // A repr that fails must not leave the value before it behind.
  names->Set("_", None());
  const Ref<Object> stream = sys.dict().Find(kStdout);
  if (!stream || IsNone(stream)) return Raise(ErrorType::RuntimeError(), "lost sys.stdout");
  absl::StatusOr<std::string> repr = value->Repr();
  if (!repr.ok()) return repr.status();
  absl::Status status = WriteToStream(stream, *repr);
  if (IsError(status, ErrorType::UnicodeEncodeError())) {
    status = WriteEscaped(stream, *repr);
  }
  if (!status.ok()) return status;
  status = WriteToStream(stream, "\n");
  if (!status.ok()) return status;
  names->Set("_", value);
  return absl::OkStatus();
}

absl::Status CallDisplayHook(SysModule& sys, const Ref<Object>& value) {
  const Ref<Object> hook = sys.dict().Find("displayhook");
  if (!hook) return Raise(ErrorType::RuntimeError(), "lost sys.displayhook");
  const std::vector<Ref<Object>> call{value};
  return hook->Call(call).status();
}

absl::StatusOr<Ref<Object>> CallBreakpointHook(SysModule& sys, Args args) {
  const Ref<Object> hook = sys.dict().Find("breakpointhook");
  if (!hook) return Raise(ErrorType::RuntimeError(), "lost sys.breakpointhook");
  absl::Status audit = sys.auditor().Audit("builtins.breakpoint", "(O)", hook);
  if (!audit.ok()) return audit;
  return hook->Call(args);
}

void WriteStdout(SysModule& sys, std::string_view text) {
  WriteLimited(sys, kStdout, STDOUT_FILENO, text, true);
}
void WriteStderr(SysModule& sys, std::string_view text) {
  WriteLimited(sys, kStderr, STDERR_FILENO, text, true);
}
void FormatStdout(SysModule& sys, std::string_view text) {
  WriteLimited(sys, kStdout, STDOUT_FILENO, text, false);
}
void FormatStderr(SysModule& sys, std::string_view text) {
  WriteLimited(sys, kStderr, STDERR_FILENO, text, false);
}

int FlushStandardStreams(SysModule& sys) {
  int result = 0;
  const Ref<Object> output = sys.dict().Find(kStdout);
  if (output && !IsNone(output) && !IsClosed(output)) {
    absl::Status status = FlushStream(output);
    if (!status.ok()) {
      result = -1;
      // Finalization flushes twice, and what could not be written is still there the second time.
      if (sys.ClaimFlushReport(output.get())) {
        WriteUnraisable(sys, TakeError(status), "Exception ignored while flushing sys.stdout", nullptr);
      }
    }
  }
  const Ref<Object> errors = sys.dict().Find(kStderr);
  // A failure of stderr has nowhere to be shown.
  if (errors && !IsNone(errors) && !IsClosed(errors) && !FlushStream(errors).ok()) result = -1;
  return result;
}

}  // namespace pyrt::inline PYRT_VARIANT
