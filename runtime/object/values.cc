#include "pyrt/runtime/object/values.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class NoneObject final : public Object {
 public:
  NoneObject() : Object(ObjectKind::kNone) {}
  const char* TypeName() const override { return "NoneType"; }
  absl::StatusOr<std::string> Repr() const override { return std::string("None"); }
  absl::StatusOr<bool> IsTrue() const override { return false; }
};

// CPython's range of preallocated integers.
constexpr int64_t kSmallIntMin = -5;
constexpr int64_t kSmallIntMax = 256;

template <typename T>
Ref<T> Immortal(T* object) {
  object->MakeImmortal();
  return Ref<T>::Adopt(object);
}

}  // namespace

// The immortal values, made on first use and never destroyed: code that runs at exit may still use them.
struct ValueSingletons {
  ValueSingletons()
      : none(Immortal(new NoneObject)),
        true_value(Immortal(new Bool(true))),
        false_value(Immortal(new Bool(false))),
        empty_string(Immortal(new String(std::string_view()))),
        empty_tuple(Immortal(Tuple::Allocate(0).release())) {
    for (int64_t i = kSmallIntMin; i <= kSmallIntMax; ++i) {
      small_ints[static_cast<size_t>(i - kSmallIntMin)] = Immortal(new Int(i));
    }
  }
  static const ValueSingletons& Get() {
    static const ValueSingletons* const singletons = new ValueSingletons;
    return *singletons;
  }

  Ref<Object> none;
  Ref<Bool> true_value;
  Ref<Bool> false_value;
  Ref<String> empty_string;
  Ref<Tuple> empty_tuple;
  std::array<Ref<Int>, kSmallIntMax - kSmallIntMin + 1> small_ints;
};

Ref<Object> None() { return ValueSingletons::Get().none; }
Ref<Object> True() { return ValueSingletons::Get().true_value; }
Ref<Object> False() { return ValueSingletons::Get().false_value; }

Ref<Int> Int::Of(int64_t value) {
  if (value >= kSmallIntMin && value <= kSmallIntMax) {
    return ValueSingletons::Get().small_ints[static_cast<size_t>(value - kSmallIntMin)];
  }
  return Ref<Int>::Adopt(new Int(value));
}

Ref<Int> Int::OfUnsigned(uint64_t value) {
  if (value <= static_cast<uint64_t>(INT64_MAX)) return Of(static_cast<int64_t>(value));
  return Ref<Int>::Adopt(new Int(std::to_string(value)));
}

absl::StatusOr<Ref<Int>> Int::FromDecimal(std::string_view digits) {
  std::string_view rest = digits;
  const bool negative = !rest.empty() && rest[0] == '-';
  if (negative) rest.remove_prefix(1);
  const bool numeric = !rest.empty() && rest.find_first_not_of("0123456789") == std::string_view::npos;
  if (!numeric) {
    return Raise(ErrorType::ValueError(), "invalid literal for int() with base 10: %s",
                 ReprOfString(digits).c_str());
  }
  while (rest.size() > 1 && rest[0] == '0') rest.remove_prefix(1);
  std::string text(negative ? "-" : "");
  text += rest;
  int64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc()) return Of(value);
  return Ref<Int>::Adopt(new Int(text));
}

absl::StatusOr<std::string> Int::Repr() const { return fits_int64() ? std::to_string(value_) : big_; }

absl::StatusOr<std::string> Float::Repr() const { return ReprOfFloat(value_); }

Ref<String> String::Of(std::string_view value) {
  if (value.empty()) return ValueSingletons::Get().empty_string;
  return Ref<String>::Adopt(new String(value));
}

absl::StatusOr<std::string> String::Repr() const { return ReprOfString(value_); }

absl::StatusOr<std::string> Bytes::Repr() const { return ReprOfBytes(value_); }

template <typename Iterator>
Ref<Tuple> Tuple::Make(Iterator first, Iterator last) {
  if (first == last) return Empty();
  const auto size = static_cast<size_t>(last - first);
  Ref<Tuple> tuple = Allocate(size);
  std::uninitialized_copy(first, last, tuple->end());
  tuple->size_ = size;
  return tuple;
}

Tuple::~Tuple() { std::destroy_n(reinterpret_cast<Ref<Object>*>(this + 1), size_); }

Ref<Tuple> Tuple::Of(Args items) { return Make(items.begin(), items.end()); }

Ref<Tuple> Tuple::Take(absl::Span<Ref<Object>> items) {
  return Make(std::move_iterator(items.begin()), std::move_iterator(items.end()));
}

Ref<Tuple> Tuple::Empty() { return ValueSingletons::Get().empty_tuple; }

absl::StatusOr<std::string> Tuple::Repr() const {
  absl::StatusOr<std::string> text = ReprOfItems(items());
  if (!text.ok()) return text.status();
  return "(" + *text + (size_ == 1 ? ",)" : ")");
}

absl::StatusOr<std::string> ReprOfItems(Args items) {
  std::string result;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) result += ", ";
    absl::StatusOr<std::string> item = items[i]->Repr();
    if (!item.ok()) return item.status();
    result += *item;
  }
  return result;
}

std::string ReprOrPlaceholder(const Object& object) {
  absl::StatusOr<std::string> repr = object.Repr();
  return repr.ok() ? *std::move(repr) : "<object repr() failed>";
}

}  // namespace pyrt::inline PYRT_VARIANT
