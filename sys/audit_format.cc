#include "pyrt/sys/audit_format.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

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

// What builds something returns null after it has set error_: a status in each result would be constructed,
// moved and tested once per argument.
class Builder {
 public:
  Builder(std::string_view format, AuditArguments arguments) : format_(format), arguments_(arguments) {}

  absl::StatusOr<Ref<Tuple>> Build() {
    Ref<Tuple> values = BuildUntil('\0', 0);
    if (values == nullptr) return error_;
    if (next_ != arguments_.size()) {
      return Raise(ErrorType::SystemError(), "audit format \"%s\" uses %zu of %zu arguments",
                   Format().c_str(), next_, arguments_.size());
    }
    // A format of one unit whose value is a tuple is the argument tuple.
    if (values->size() == 1 && As<Tuple>((*values)[0]) != nullptr) return StaticRefCast<Tuple>((*values)[0]);
    return values;
  }

 private:
  std::string Format() const { return std::string(format_); }

  [[gnu::cold, gnu::noinline]] std::nullptr_t Fail(const char* message) {
    error_ = Raise(ErrorType::SystemError(), "%s", message);
    return nullptr;
  }
  [[gnu::cold, gnu::noinline]] std::nullptr_t Mismatch(char unit) {
    error_ =
        Raise(ErrorType::SystemError(), "argument %zu of audit format \"%s\" is %s, which '%c' does not take",
              next_, Format().c_str(), arguments_[next_ - 1].KindName(), unit);
    return nullptr;
  }

  // Values up to `closing`, which is consumed; '\0' is the end of the format.
  Ref<Tuple> BuildUntil(char closing, int depth) {
    if (depth > kMaxDepth) return Fail("audit format is nested too deeply");
    // A value takes one character of the format or more.
    TupleBuilder values(format_.size() - position_);
    while (position_ < format_.size()) {
      const char unit = format_[position_++];
      if (unit == ' ' || unit == '\t' || unit == ',' || unit == ':') continue;
      if (unit == closing && closing != '\0') return values.Finish();
      Ref<Object> value = BuildUnit(unit, depth);
      if (value == nullptr) return nullptr;
      values.Append(std::move(value));
    }
    if (closing != '\0') return Fail("unmatched paren in format");
    return values.Finish();
  }

  Ref<Object> BuildUnit(char unit, int depth) {
    if (TakesArgument(unit) && next_ < arguments_.size()) [[likely]]
      return BuildValue(unit, arguments_[next_++]);
    return BuildComposite(unit, depth);
  }

  // What is no unit with an argument of its own. Apart: the others need not pay for its frame.
  [[gnu::noinline]] Ref<Object> BuildComposite(char unit, int depth) {
    switch (unit) {
      case '(':
        return BuildUntil(')', depth + 1);
      case '[': {
        const Ref<Tuple> items = BuildUntil(']', depth + 1);
        if (items == nullptr) return nullptr;
        return List::Of({items->items().begin(), items->items().end()});
      }
      case '{':
        return BuildDict(depth);
      case 'N':
        return Fail("N format code not permitted in an audit format");
      default:
        break;
    }
    if (!TakesArgument(unit)) return Fail("bad format char passed to Py_BuildValue");
    error_ = Raise(ErrorType::SystemError(), "audit format \"%s\" needs more than %zu arguments",
                   Format().c_str(), arguments_.size());
    return nullptr;
  }

  Ref<Object> BuildDict(int depth) {
    const Ref<Tuple> items = BuildUntil('}', depth + 1);
    if (items == nullptr) return nullptr;
    if (items->size() % 2 != 0) return Fail("Bad dict format");
    Ref<Dict> dict = Dict::New();
    for (size_t i = 0; i < items->size(); i += 2) {
      const String* const key = As<String>((*items)[i]);
      if (key == nullptr) {
        error_ =
            Raise(ErrorType::SystemError(), "keys of a dictionary in an audit format must be str, not %s",
                  (*items)[i]->TypeName());
        return nullptr;
      }
      dict->Set(key->value(), (*items)[i + 1]);
    }
    return dict;
  }

  Ref<Object> BuildValue(char unit, const AuditArgument& argument) {
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
        return Int::OfUnsigned(argument.unsigned_value());
      case 'd':
      case 'f':
        if (kind != Kind::kDouble) return Mismatch(unit);
        return Float::Of(argument.double_value());
      case 'O':
      case 'S':
        if (position_ < format_.size() && format_[position_] == '&') {
          return Fail("O& format code not permitted in an audit format");
        }
        if (kind == Kind::kNull) return Fail("NULL object passed to Py_BuildValue");
        if (kind != Kind::kObject) return Mismatch(unit);
        return Ref<Object>::Share(argument.object());
      case 'c':
        if (!integer || !IsByte(argument)) return Mismatch(unit);
        return OfByte(static_cast<char>(argument.unsigned_value()));
      case 'C':
        if (!integer || argument.unsigned_value() > 0x10FFFF) return Mismatch(unit);
        return OfCodePoint(static_cast<uint32_t>(argument.unsigned_value()));
      case 'p':
        if (!integer) return Mismatch(unit);
        return BoolOf(argument.unsigned_value() != 0);
      default:
        if (!integer) return Mismatch(unit);
        return kind == Kind::kSigned ? Ref<Object>(Int::Of(argument.signed_value()))
                                     : Ref<Object>(Int::OfUnsigned(argument.unsigned_value()));
    }
  }

  // A plain char may be signed.
  static bool IsByte(const AuditArgument& argument) {
    return argument.unsigned_value() <= 0xFF ||
           (argument.kind() == Kind::kSigned && argument.signed_value() >= -0x80 &&
            argument.signed_value() < 0);
  }
  [[gnu::noinline]] static Ref<Object> OfByte(char byte) { return Bytes::Of(std::string(1, byte)); }
  [[gnu::noinline]] static Ref<Object> OfCodePoint(uint32_t code_point) {
    std::string text;
    AppendCodePoint(text, code_point);
    return String::Of(text);
  }

  const std::string_view format_;
  const AuditArguments arguments_;
  size_t position_ = 0;
  size_t next_ = 0;
  absl::Status error_;
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
