#include "pyrt/runtime/object/error.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr char kPayloadUrl[] = "pyrt/exception";

// A payload is readable text ("ValueError: ..."), so that absl::Status::ToString shows the exception, and
// behind it hangs the object: the Cord refers to this memory without copying it, and the bytes in front of
// the text lead back.
struct Payload {
  static constexpr size_t kPrefix = sizeof(void*);

  explicit Payload(Ref<Error> exception) : error(std::move(exception)) {
    const Payload* self = this;
    storage.assign(reinterpret_cast<const char*>(&self), kPrefix);
    storage += error->type().QualifiedName() + ": " + error->Message();
  }
  absl::string_view text() const { return {storage.data() + kPrefix, storage.size() - kPrefix}; }
  static const Payload& FromText(absl::string_view text) {
    const Payload* self;
    std::memcpy(&self, text.data() - kPrefix, kPrefix);
    return *self;
  }

  const Ref<Error> error;
  std::string storage;
};

absl::StatusCode CodeFor(const Error& error) {
  if (error.IsA(ErrorType::MemoryError()) || error.IsA(ErrorType::RecursionError())) {
    return absl::StatusCode::kResourceExhausted;
  }
  if (error.IsA(ErrorType::ModuleNotFoundError()) || error.IsA(ErrorType::FileNotFoundError()) ||
      error.IsA(ErrorType::LookupError()) || error.IsA(ErrorType::AttributeError())) {
    return absl::StatusCode::kNotFound;
  }
  if (error.IsA(ErrorType::OverflowError())) return absl::StatusCode::kOutOfRange;
  if (error.IsA(ErrorType::ValueError()) || error.IsA(ErrorType::TypeError())) {
    return absl::StatusCode::kInvalidArgument;
  }
  if (error.IsA(ErrorType::NotImplementedError())) return absl::StatusCode::kUnimplemented;
  if (error.IsA(ErrorType::PermissionError())) return absl::StatusCode::kPermissionDenied;
  if (error.IsA(ErrorType::FileExistsError())) return absl::StatusCode::kAlreadyExists;
  if (error.IsA(ErrorType::TimeoutError())) return absl::StatusCode::kDeadlineExceeded;
  if (error.IsA(ErrorType::KeyboardInterrupt())) return absl::StatusCode::kCancelled;
  if (error.IsA(ErrorType::RuntimeError())) return absl::StatusCode::kFailedPrecondition;
  if (error.IsA(ErrorType::SystemError())) return absl::StatusCode::kInternal;
  return absl::StatusCode::kUnknown;
}

const ErrorType& TypeFor(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return ErrorType::ValueError();
    case absl::StatusCode::kOutOfRange:
      return ErrorType::OverflowError();
    case absl::StatusCode::kNotFound:
      return ErrorType::LookupError();
    case absl::StatusCode::kResourceExhausted:
      return ErrorType::MemoryError();
    case absl::StatusCode::kUnimplemented:
      return ErrorType::NotImplementedError();
    case absl::StatusCode::kPermissionDenied:
      return ErrorType::PermissionError();
    case absl::StatusCode::kDeadlineExceeded:
      return ErrorType::TimeoutError();
    case absl::StatusCode::kCancelled:
      return ErrorType::KeyboardInterrupt();
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss:
      return ErrorType::SystemError();
    default:
      return ErrorType::RuntimeError();
  }
}

// The subtype that OSError(error_number, ...) is made as.
const ErrorType& OsErrorType(int64_t error_number) {
  switch (error_number) {
    case EAGAIN:
    case EALREADY:
    case EINPROGRESS:
      return ErrorType::BlockingIOError();
    case ECHILD:
      return ErrorType::ChildProcessError();
    case EPIPE:
    case ESHUTDOWN:
      return ErrorType::BrokenPipeError();
    case EEXIST:
      return ErrorType::FileExistsError();
    case ENOENT:
      return ErrorType::FileNotFoundError();
    case EINTR:
      return ErrorType::InterruptedError();
    case EISDIR:
      return ErrorType::IsADirectoryError();
    case ENOTDIR:
      return ErrorType::NotADirectoryError();
    case EACCES:
    case EPERM:
      return ErrorType::PermissionError();
    case ESRCH:
      return ErrorType::ProcessLookupError();
    case ETIMEDOUT:
      return ErrorType::TimeoutError();
    default:
      return ErrorType::OSError();
  }
}

std::string FormatV(const char* format, va_list args) {
  va_list again;
  va_copy(again, args);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  PYRT_CHECK(size >= 0, "Raise", "format \"%s\" cannot be formatted", format);
  std::string text(static_cast<size_t>(size), '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, args);
  return text;
}

}  // namespace

Error::Error(Ref<const ErrorType> type, Ref<Tuple> args)
    : Object(ObjectKind::kError), type_(std::move(type)), args_(std::move(args)) {}

Ref<Error> Error::New(const ErrorType& type, std::string_view message) {
  return New(type, std::vector<Ref<Object>>{String::Of(message)});
}

Ref<Error> Error::New(const ErrorType& type, std::vector<Ref<Object>> args) {
  const ErrorType* made = &type;
  // OSError(2, "...") is a FileNotFoundError; a subtype that was asked for stays.
  if (made == &ErrorType::OSError() && args.size() >= 2) {
    const Int* const number = As<Int>(args[0]);
    if (number != nullptr && number->fits_int64()) made = &OsErrorType(number->value());
  }
  return Ref<Error>::Adopt(new Error(Ref<const ErrorType>::Share(made), Tuple::Take(absl::MakeSpan(args))));
}

std::string Error::Message() const {
  absl::StatusOr<std::string> text = Str();
  return text.ok() ? *std::move(text) : "<exception str() failed>";
}

absl::StatusOr<std::string> Error::Str() const {
  if (args_->size() == 0) return std::string();
  if (args_->size() == 1) {
    // A key is shown by its repr, so that '' and a key with blanks can be told apart.
    return IsA(ErrorType::KeyError()) ? (*args_)[0]->Repr() : (*args_)[0]->Str();
  }
  if (IsA(ErrorType::OSError()) && args_->size() >= 2 && args_->size() <= 3) {
    absl::StatusOr<std::string> number = (*args_)[0]->Str();
    absl::StatusOr<std::string> text = (*args_)[1]->Str();
    if (!number.ok()) return number.status();
    if (!text.ok()) return text.status();
    std::string result = "[Errno " + *number + "] " + *text;
    // The third argument is a file's name, but BlockingIOError's is how much was written.
    if (args_->size() == 3 && As<Int>((*args_)[2]) == nullptr) {
      absl::StatusOr<std::string> name = (*args_)[2]->Repr();
      if (!name.ok()) return name.status();
      result += ": " + *name;
    }
    return result;
  }
  return args_->Repr();
}

absl::StatusOr<std::string> Error::Repr() const {
  // OSError's file name is an attribute there, and not shown.
  const bool has_name = IsA(ErrorType::OSError()) && args_->size() == 3;
  absl::StatusOr<std::string> items = ReprOfItems(args_->items().first(has_name ? 2 : args_->size()));
  if (!items.ok()) return items.status();
  return type_->name() + "(" + *items + ")";
}

Ref<Error> Error::WithAttribute(std::string_view name, Ref<Object> value) {
  attributes_.emplace_back(std::string(name), std::move(value));
  return Ref<Error>::Share(this);
}

void Error::set_context(Ref<Error> context) {
  if (context.get() == this) return;
  for (Error* link = context.get(); link != nullptr; link = link->context_.get()) {
    if (link->context_.get() == this) {
      link->context_ = nullptr;
      break;
    }
  }
  context_ = std::move(context);
}

absl::StatusOr<Ref<Object>> Error::GetAttr(std::string_view name) {
  const auto or_none = [](Ref<Object> object) { return object ? std::move(object) : None(); };
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  if (name == "args") return Ref<Object>(args_);
  if (name == "__traceback__") return or_none(traceback_);
  if (name == "__context__") return or_none(context_);
  if (name == "__cause__") return or_none(cause_);
  if (name == "__suppress_context__") return BoolOf(suppress_context_);
  if (name == "code" && IsA(ErrorType::SystemExit())) {
    if (args_->size() == 0) return None();
    return args_->size() == 1 ? (*args_)[0] : Ref<Object>(args_);
  }
  if (IsA(ErrorType::OSError()) && args_->size() >= 2) {
    if (name == "errno") return (*args_)[0];
    if (name == "strerror") return (*args_)[1];
    if (name == "filename" && args_->size() == 3) return (*args_)[2];
  }
  return Object::GetAttr(name);
}

absl::Status Error::SetAttr(std::string_view name, Ref<Object> value) {
  if (name == "__traceback__") {
    set_traceback(IsNone(value) ? nullptr : std::move(value));
    return absl::OkStatus();
  }
  for (auto it = attributes_.begin(); it != attributes_.end(); ++it) {
    if (it->first != name) continue;
    Ref<Object> old = std::exchange(it->second, std::move(value));
    if (!it->second) attributes_.erase(it);
    return absl::OkStatus();
  }
  if (!value) return Object::SetAttr(name, nullptr);
  attributes_.emplace_back(std::string(name), std::move(value));
  return absl::OkStatus();
}

absl::Status ToStatus(Ref<Error> error) {
  PYRT_CHECK(error, "ToStatus", "the error is null; a status without an error is absl::OkStatus()");
  const std::string message = error->Message();
  absl::Status status(CodeFor(*error), absl::string_view(message.data(), message.size()));
  // The text begins with the type's name and so is never empty: an empty Cord would drop the payload.
  auto* payload = new Payload(std::move(error));
  status.SetPayload(kPayloadUrl, absl::MakeCordFromExternal(payload->text(), [payload] { delete payload; }));
  return status;
}

absl::Status Raise(const ErrorType& type, const char* format, ...) {
  va_list args;
  va_start(args, format);
  const std::string message = FormatV(format, args);
  va_end(args);
  return ToStatus(Error::New(type, message));
}

bool HasError(const absl::Status& status) {
  return !status.ok() && status.GetPayload(kPayloadUrl).has_value();
}

Ref<Error> ErrorFromStatus(const absl::Status& status) {
  if (status.ok()) return nullptr;
  if (const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl)) {
    const absl::optional<absl::string_view> text = payload->TryFlat();
    PYRT_CHECK(text.has_value(), "ErrorFromStatus", "the payload \"%s\" was not made by ToStatus",
               kPayloadUrl);
    return Payload::FromText(*text).error;
  }
  const absl::string_view message = status.message();
  return Error::New(TypeFor(status.code()), std::string_view(message.data(), message.size()));
}

bool IsError(const absl::Status& status, const ErrorType& type) {
  return HasError(status) && ErrorFromStatus(status)->IsA(type);
}

Ref<Error> NewOsError(int error_number, std::string_view what) {
  char buffer[128];
  std::vector<Ref<Object>> args{Int::Of(error_number),
                                String::Of(strerror_r(error_number, buffer, sizeof(buffer)))};
  if (!what.empty()) args.push_back(String::Of(what));
  return Error::New(ErrorType::OSError(), std::move(args));
}

}  // namespace pyrt::inline PYRT_VARIANT
