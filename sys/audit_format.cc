#include "pyrt/sys/audit_format.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/utf8.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using Kind = AuditArgument::Kind;

// The units that take an argument each, as bits from '@' on.
constexpr uint64_t kArgumentUnits = [] {
  uint64_t units = 0;
  for (const char unit : std::string_view("szUyibhlqnLIBHkKdfOScCp")) units |= uint64_t{1} << (unit - '@');
  return units;
}();
constexpr bool TakesArgument(char unit) {
  const unsigned bit = static_cast<unsigned>(unit - '@');
  return bit < 64 && (kArgumentUnits >> bit & 1) != 0;
}

// Deeper nesting is a mistake; it must not become a stack overflow.
constexpr int kMaxDepth = 100;

class Builder {
 public:
  Builder(std::string_view format, AuditArguments arguments) : format_(format), arguments_(arguments) {}

  absl::StatusOr<Ref<Tuple>> Build() {
    std::vector<Ref<Object>> values;
    values.reserve(arguments_.size());
    absl::Status status = BuildUntil('\0', 0, &values);
    if (!status.ok()) return status;
    if (next_ != arguments_.size()) {
      return Raise(ErrorType::SystemError(), "audit format \"%s\" uses %zu of %zu arguments",
                   Format().c_str(), next_, arguments_.size());
    }
    // A format of one unit whose value is a tuple is the argument tuple.
    if (values.size() == 1 && As<Tuple>(values[0]) != nullptr)
      return StaticRefCast<Tuple>(std::move(values[0]));
    return Tuple::Of(std::move(values));
  }

 private:
  std::string Format() const { return std::string(format_); }

  absl::Status Mismatch(char unit) const {
    return Raise(ErrorType::SystemError(),
                 "argument %zu of audit format \"%s\" is %s, which '%c' does not take", next_,
                 Format().c_str(), arguments_[next_ - 1].KindName(), unit);
  }

  // Values up to `closing`, which is consumed; '\0' is the end of the format.
  absl::Status BuildUntil(char closing, int depth, std::vector<Ref<Object>>* values) {
    if (depth > kMaxDepth) return Raise(ErrorType::SystemError(), "audit format is nested too deeply");
    while (position_ < format_.size()) {
      const char unit = format_[position_++];
      if (unit == ' ' || unit == '\t' || unit == ',' || unit == ':') continue;
      if (unit == closing && closing != '\0') return absl::OkStatus();
      absl::StatusOr<Ref<Object>> value = BuildUnit(unit, depth);
      if (!value.ok()) return value.status();
      values->push_back(*std::move(value));
    }
    if (closing != '\0') return Raise(ErrorType::SystemError(), "unmatched paren in format");
    return absl::OkStatus();
  }

  absl::StatusOr<Ref<Object>> BuildUnit(char unit, int depth) {
    switch (unit) {
      case '(': {
        std::vector<Ref<Object>> values;
        absl::Status status = BuildUntil(')', depth + 1, &values);
        if (!status.ok()) return status;
        return Ref<Object>(Tuple::Of(std::move(values)));
      }
      case '[': {
        std::vector<Ref<Object>> values;
        absl::Status status = BuildUntil(']', depth + 1, &values);
        if (!status.ok()) return status;
        return Ref<Object>(List::Of(std::move(values)));
      }
      case '{':
        return BuildDict(depth);
      case 'N':
        return Raise(ErrorType::SystemError(), "N format code not permitted in an audit format");
      default:
        break;
    }
    if (!TakesArgument(unit)) {
      return Raise(ErrorType::SystemError(), "bad format char passed to Py_BuildValue");
    }
    if (next_ == arguments_.size()) {
      return Raise(ErrorType::SystemError(), "audit format \"%s\" needs more than %zu arguments",
                   Format().c_str(), arguments_.size());
    }
    return BuildValue(unit, arguments_[next_++]);
  }

  absl::StatusOr<Ref<Object>> BuildDict(int depth) {
    std::vector<Ref<Object>> values;
    absl::Status status = BuildUntil('}', depth + 1, &values);
    if (!status.ok()) return status;
    if (values.size() % 2 != 0) return Raise(ErrorType::SystemError(), "Bad dict format");
    Ref<Dict> dict = Dict::New();
    for (size_t i = 0; i < values.size(); i += 2) {
      const String* key = As<String>(values[i]);
      if (key == nullptr) {
        return Raise(ErrorType::SystemError(), "keys of a dictionary in an audit format must be str, not %s",
                     values[i]->TypeName());
      }
      dict->Set(key->value(), values[i + 1]);
    }
    return Ref<Object>(std::move(dict));
  }

  absl::StatusOr<Ref<Object>> BuildValue(char unit, const AuditArgument& argument) {
    const Kind kind = argument.kind();
    const bool integer = kind == Kind::kSigned || kind == Kind::kUnsigned;
    switch (unit) {
      case 's':
      case 'z':
      case 'U':
      case 'y':
        if (position_ < format_.size() && format_[position_] == '#') ++position_;
        if (kind == Kind::kNull) return None();
        if (kind != Kind::kText) return Mismatch(unit);
        return unit == 'y' ? Ref<Object>(Bytes::Of(argument.text()))
                           : Ref<Object>(String::Of(argument.text()));
      case 'I':
      case 'B':
      case 'H':
      case 'k':
      case 'K':
        if (!integer || (kind == Kind::kSigned && argument.signed_value() < 0)) return Mismatch(unit);
        return Ref<Object>(Int::OfUnsigned(argument.unsigned_value()));
      case 'd':
      case 'f':
        if (kind != Kind::kDouble) return Mismatch(unit);
        return Ref<Object>(Float::Of(argument.double_value()));
      case 'O':
      case 'S':
        if (position_ < format_.size() && format_[position_] == '&') {
          return Raise(ErrorType::SystemError(), "O& format code not permitted in an audit format");
        }
        if (kind == Kind::kNull)
          return Raise(ErrorType::SystemError(), "NULL object passed to Py_BuildValue");
        if (kind != Kind::kObject) return Mismatch(unit);
        return Ref<Object>::Share(argument.object());
      case 'c':
        if (!integer || argument.unsigned_value() > 0xFF) return Mismatch(unit);
        return Ref<Object>(Bytes::Of(std::string(1, static_cast<char>(argument.unsigned_value()))));
      case 'C': {
        if (!integer || argument.unsigned_value() > 0x10FFFF) return Mismatch(unit);
        std::string text;
        AppendCodePoint(text, static_cast<uint32_t>(argument.unsigned_value()));
        return Ref<Object>(String::Of(text));
      }
      case 'p':
        if (!integer) return Mismatch(unit);
        return BoolOf(argument.unsigned_value() != 0);
      default:
        if (!integer) return Mismatch(unit);
        return kind == Kind::kSigned ? Ref<Object>(Int::Of(argument.signed_value()))
                                     : Ref<Object>(Int::OfUnsigned(argument.unsigned_value()));
    }
  }

  const std::string_view format_;
  const AuditArguments arguments_;
  size_t position_ = 0;
  size_t next_ = 0;
};

}  // namespace

const char* AuditArgument::KindName() const {
  switch (kind_) {
    case Kind::kNull:
      return "null";
    case Kind::kSigned:
    case Kind::kUnsigned:
      return "an integer";
    case Kind::kDouble:
      return "a double";
    case Kind::kText:
      return "text";
    case Kind::kObject:
      return "an object";
  }
  return "?";
}

absl::StatusOr<Ref<Tuple>> BuildAuditArguments(std::string_view format, AuditArguments arguments) {
  return Builder(format, arguments).Build();
}

}  // namespace pyrt::inline PYRT_VARIANT
