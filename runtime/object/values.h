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
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "pyrt/runtime/config/check.h"
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
  explicit String(std::string_view value) : Object(ObjectKind::kString), value_(value) {}
  friend struct ValueSingletons;
  const std::string value_;
};

class Bytes final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kBytes; }
  static Ref<Bytes> Of(std::string_view value) { return Ref<Bytes>::Adopt(new Bytes(value)); }
  const std::string& value() const { return value_; }

  const char* TypeName() const override { return "bytes"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<bool> IsTrue() const override { return !value_.empty(); }

 private:
  explicit Bytes(std::string_view value) : Object(ObjectKind::kBytes), value_(value) {}
  const std::string value_;
};

// The items stand behind the object, in the same allocation.
class Tuple final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kTuple; }
  static Ref<Tuple> Of(Args items);
  // Takes the references over; those in `items` are null afterwards.
  static Ref<Tuple> Take(absl::Span<Ref<Object>> items);
  static Ref<Tuple> Empty();

  size_t size() const { return size_; }
  const Ref<Object>& operator[](size_t index) const { return items()[index]; }
  Args items() const { return Args(reinterpret_cast<const Ref<Object>*>(this + 1), size_); }

  const char* TypeName() const override { return "tuple"; }
  absl::StatusOr<std::string> Repr() const override;
  absl::StatusOr<bool> IsTrue() const override { return size_ != 0; }

 private:
  Tuple() : Object(ObjectKind::kTuple) {}
  ~Tuple() override;
  friend struct ValueSingletons;
  friend class TupleBuilder;

  // `first` to `last` are copied or moved, as their iterators say.
  template <typename Iterator>
  static Ref<Tuple> Make(Iterator first, Iterator last);
  // Of no items yet, with room for `capacity`.
  static Ref<Tuple> Allocate(size_t capacity) {
    return Ref<Tuple>::Adopt(::new (::operator new(sizeof(Tuple) + capacity * sizeof(Ref<Object>))) Tuple);
  }
  // Without a size: sizeof(Tuple) is not what was allocated.
  static void operator delete(void* memory) { ::operator delete(memory); }
  // Where the next item goes.
  Ref<Object>* end() { return reinterpret_cast<Ref<Object>*>(this + 1) + size_; }

  // Changes only before anybody else has the object.
  size_t size_ = 0;
};
static_assert(sizeof(Tuple) % alignof(Ref<Object>) == 0);

// Makes a tuple in place, where a bound on its size is known beforehand and the items are not yet together.
class TupleBuilder {
 public:
  // At most `capacity` items will be appended. The memory for as many is kept as long as the tuple lives.
  explicit TupleBuilder(size_t capacity)
      : tuple_(capacity == 0 ? Tuple::Empty() : Tuple::Allocate(capacity)), capacity_(capacity) {}

  void Append(Ref<Object> item) {
    PYRT_DCHECK(tuple_->size_ < capacity_);
    new (tuple_->end()) Ref<Object>(std::move(item));
    ++tuple_->size_;
  }

  // Once, at the end.
  Ref<Tuple> Finish() { return tuple_->size_ == 0 ? Tuple::Empty() : std::move(tuple_); }

 private:
  Ref<Tuple> tuple_;
  const size_t capacity_;
};

// The texts alone, for code that has no object: repr('...'), repr(b'...'), repr(1.5).
std::string ReprOfString(std::string_view utf8);
std::string ReprOfBytes(std::string_view bytes);
std::string ReprOfFloat(double value);

// "a, b, c": the reprs of `items`, as between the brackets of a tuple or list.
absl::StatusOr<std::string> ReprOfItems(Args items);

// repr(object), attached, or "<object repr() failed>" if it raises: for reports of what already is an error.
std::string ReprOrPlaceholder(const Object& object);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_VALUES_H_
