// The immutable values that the runtime itself makes: None, bool, int, float, str, bytes, tuple.
//
// They print as CPython prints them and do nothing else: no arithmetic, no methods. All are immutable after
// construction and may be shared between threads; None, True, False, small numbers, the empty string and the
// empty tuple are immortal and may be shared between interpreters.
//
// CPython counterpart: Py_None, PyBool_Type, PyLong_Type, PyFloat_Type, PyUnicode_Type, PyBytes_Type,
// PyTuple_Type.

#ifndef PYRT_RUNTIME_OBJECT_VALUES_H_
#define PYRT_RUNTIME_OBJECT_VALUES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

// None, True and False: one immortal object each per process.
Ref<Object> None();
Ref<Object> True();
Ref<Object> False();
inline Ref<Object> BoolOf(bool value) { return value ? True() : False(); }
inline bool IsNone(const Object* object) { return object != nullptr && object->kind() == ObjectKind::kNone; }
inline bool IsNone(const Ref<Object>& object) { return IsNone(object.get()); }

class Bool final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kBool; }
  bool value() const { return value_; }

  const char* TypeName() const override { return "bool"; }
  absl::StatusOr<std::string> Repr() const override { return std::string(value_ ? "True" : "False"); }
  absl::StatusOr<bool> IsTrue() const override { return value_; }

 private:
  explicit Bool(bool value) : Object(ObjectKind::kBool), value_(value) {}
  friend struct ValueSingletons;
  const bool value_;
};

// An integer. The runtime needs no more than 64 bits of its own; what a host hands over may be larger and is
// then kept as its decimal digits.
class Int final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kInt; }

  static Ref<Int> Of(int64_t value);
  static Ref<Int> OfUnsigned(uint64_t value);
  // `digits` is a decimal integer with an optional '-', otherwise ValueError. Canonicalised ("007" is 7).
  static absl::StatusOr<Ref<Int>> FromDecimal(std::string_view digits);

  // Meaningful only while fits_int64().
  int64_t value() const { return value_; }
  bool fits_int64() const { return big_.empty(); }
  bool is_negative() const { return fits_int64() ? value_ < 0 : big_[0] == '-'; }

  const char* TypeName() const override { return "int"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<bool> IsTrue() const override { return !fits_int64() || value_ != 0; }

 private:
  explicit Int(int64_t value) : Object(ObjectKind::kInt), value_(value) {}
  explicit Int(std::string big) : Object(ObjectKind::kInt), value_(0), big_(std::move(big)) {}
  friend struct ValueSingletons;
  const int64_t value_;
  const std::string big_;
};

class Float final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kFloat; }
  static Ref<Float> Of(double value) { return Ref<Float>::Adopt(new Float(value)); }
  double value() const { return value_; }

  const char* TypeName() const override { return "float"; }
  // The shortest digits that read back as the same value, CPython's float_repr_style "short".
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<bool> IsTrue() const override { return value_ != 0.0; }

 private:
  explicit Float(double value) : Object(ObjectKind::kFloat), value_(value) {}
  const double value_;
};

// A string as UTF-8. Lone surrogates, which stand for bytes that did not decode (surrogateescape), are
// encoded in three bytes each like any other code point of their range.
class String final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kString; }
  static Ref<String> Of(std::string_view value);
  const std::string& value() const { return value_; }

  const char* TypeName() const override { return "str"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<std::string> Str() const override { return value_; }
  absl::StatusOr<bool> IsTrue() const override { return !value_.empty(); }

 private:
  explicit String(std::string value) : Object(ObjectKind::kString), value_(std::move(value)) {}
  friend struct ValueSingletons;
  const std::string value_;
};

class Bytes final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kBytes; }
  static Ref<Bytes> Of(std::string_view value) { return Ref<Bytes>::Adopt(new Bytes(std::string(value))); }
  const std::string& value() const { return value_; }

  const char* TypeName() const override { return "bytes"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<bool> IsTrue() const override { return !value_.empty(); }

 private:
  explicit Bytes(std::string value) : Object(ObjectKind::kBytes), value_(std::move(value)) {}
  const std::string value_;
};

class Tuple final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kTuple; }
  static Ref<Tuple> Of(std::vector<Ref<Object>> items);
  static Ref<Tuple> Empty();

  size_t size() const { return items_.size(); }
  const Ref<Object>& operator[](size_t index) const { return items_[index]; }
  Args items() const { return items_; }

  const char* TypeName() const override { return "tuple"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<bool> IsTrue() const override { return !items_.empty(); }

 private:
  explicit Tuple(std::vector<Ref<Object>> items) : Object(ObjectKind::kTuple), items_(std::move(items)) {}
  friend struct ValueSingletons;
  const std::vector<Ref<Object>> items_;
};

// The texts alone, for code that has no object: repr('...'), repr(b'...'), repr(1.5).
std::string ReprOfString(std::string_view utf8);
std::string ReprOfBytes(std::string_view bytes);
std::string ReprOfFloat(double value);

// "a, b, c": the reprs of `items`, as between the brackets of a tuple or list.
absl::StatusOr<std::string> ReprOfItems(Args items);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_VALUES_H_
