// The arguments of an audit event: CPython's format language over typed C++ arguments.
//
//   BuildAuditArguments("sii", {path, mode, flags})     ('p', 1, 2)
//   BuildAuditArguments("", {})                         ()
//   BuildAuditArguments("O", {tuple})                   the tuple itself, not wrapped (SY-39)
//   BuildAuditArguments("(O)", {object})                (object,)
//   BuildAuditArguments("s[ii]{s:i}", ...)              ('p', [1, 2], {'k': 3})
//
//   s z U   str, None for a null pointer        i b h l q n L   int        d f   float
//   y       bytes, None for a null pointer      I B H k K       int, not negative
//   O S     object                              c C             bytes / str of one character     p   bool
//   (...) [...] {key:value,...}                 ' ' ',' ':' '\t' between units mean nothing
//
// "#" after s z U y is accepted and means nothing: C++ strings know their length. "N" and "O&" are refused: a
// format that gives a reference away would leak it whenever no hook is installed, because then nothing is
// built.
//
// Unlike C's va_list, an argument that does not fit its unit is an error and not undefined behaviour.
//
// Called only when a hook will see the event. Attached; any thread; no locks.
//
// CPython counterpart: Py_VaBuildValue as PySys_Audit uses it.

#ifndef PYRT_SYS_AUDIT_FORMAT_H_
#define PYRT_SYS_AUDIT_FORMAT_H_

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {

// One argument, borrowed: cheap to make, because usually nobody looks at it.
class AuditArgument {
 public:
  enum class Kind : uint8_t { kNull, kSigned, kUnsigned, kDouble, kText, kObject };

  // NOLINTBEGIN(google-explicit-constructor): this class exists to be converted to.
  template <std::signed_integral T>
  AuditArgument(T value) : kind_(Kind::kSigned), integer_(static_cast<uint64_t>(int64_t{value})) {}
  template <std::unsigned_integral T>
  AuditArgument(T value) : kind_(Kind::kUnsigned), integer_(value) {}
  AuditArgument(double value) : kind_(Kind::kDouble), double_(value) {}
  AuditArgument(std::nullptr_t) : kind_(Kind::kNull), integer_(0) {}
  AuditArgument(const char* text)
      : AuditArgument(text == nullptr ? std::string_view() : std::string_view(text)) {
    if (text == nullptr) kind_ = Kind::kNull;
  }
  AuditArgument(std::string_view text) : kind_(Kind::kText), text_(text) {}
  AuditArgument(const std::string& text) : AuditArgument(std::string_view(text)) {}
  AuditArgument(Object* object) : kind_(object == nullptr ? Kind::kNull : Kind::kObject), object_(object) {}
  template <typename T>
  AuditArgument(const Ref<T>& object) : AuditArgument(static_cast<Object*>(object.get())) {}
  // NOLINTEND(google-explicit-constructor)

  Kind kind() const { return kind_; }
  int64_t signed_value() const { return static_cast<int64_t>(integer_); }
  uint64_t unsigned_value() const { return integer_; }
  double double_value() const { return double_; }
  std::string_view text() const { return text_; }
  Object* object() const { return object_; }
  const char* KindName() const;

 private:
  Kind kind_;
  union {
    uint64_t integer_;
    double double_;
    std::string_view text_;
    Object* object_;
  };
};

using AuditArguments = absl::Span<const AuditArgument>;

// The argument tuple. SystemError for a bad format or an argument that does not fit, with its position.
absl::StatusOr<Ref<Tuple>> BuildAuditArguments(std::string_view format, AuditArguments arguments);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_AUDIT_FORMAT_H_
