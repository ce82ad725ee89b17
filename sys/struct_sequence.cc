#include "pyrt/sys/struct_sequence.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {

StructSequenceType::StructSequenceType(std::string_view name, std::vector<std::string> fields, size_t visible)
    : name_(name), fields_(std::move(fields)), visible_(visible) {}

Ref<StructSequenceType> StructSequenceType::New(std::string_view name, std::vector<std::string> fields,
                                                size_t visible) {
  PYRT_CHECK(visible <= fields.size(), "StructSequenceType::New", "%zu visible of %zu fields", visible,
             fields.size());
  Ref<StructSequenceType> type =
      Ref<StructSequenceType>::Adopt(new StructSequenceType(name, std::move(fields), visible));
  type->MakeImmortal();
  return type;
}

Ref<StructSequence> StructSequenceType::Make(std::vector<Ref<Object>> values) {
  PYRT_CHECK(values.size() == fields_.size(), "StructSequenceType::Make", "%s has %zu fields, got %zu values",
             name_.c_str(), fields_.size(), values.size());
  return Ref<StructSequence>::Adopt(
      new StructSequence(Ref<StructSequenceType>::Share(this), std::move(values)));
}

absl::StatusOr<Ref<Object>> StructSequenceType::Call(Args /*args*/) {
  return Raise(ErrorType::TypeError(), "cannot create '%s' instances", name_.c_str());
}

StructSequence::StructSequence(Ref<StructSequenceType> type, std::vector<Ref<Object>> values)
    : Object(ObjectKind::kStructSequence), type_(std::move(type)), values_(std::move(values)) {}

Ref<Object> StructSequence::Field(std::string_view name) const {
  for (size_t i = 0; i < values_.size(); ++i) {
    if (type_->fields()[i] == name) return values_[i];
  }
  return nullptr;
}

Ref<StructSequence> StructSequence::With(std::string_view field, const Ref<Object>& value) const {
  std::vector<Ref<Object>> values = values_;
  bool found = false;
  for (size_t i = 0; i < values.size(); ++i) {
    if (type_->fields()[i] != field) continue;
    values[i] = value;
    found = true;
  }
  PYRT_CHECK(found, "StructSequence::With", "%s has no field \"%.*s\"", type_->name().c_str(),
             static_cast<int>(field.size()), field.data());
  return type_->Make(std::move(values));
}

absl::StatusOr<std::string> StructSequence::Repr() const {
  std::string text = type_->name() + "(";
  for (size_t i = 0; i < size(); ++i) {
    absl::StatusOr<std::string> value = values_[i]->Repr();
    if (!value.ok()) return value.status();
    if (i > 0) text += ", ";
    text += type_->fields()[i] + "=" + *value;
  }
  return text + ")";
}

absl::StatusOr<Ref<Object>> StructSequence::GetAttr(std::string_view name) {
  if (Ref<Object> value = Field(name)) return value;
  if (name == "n_fields") return Ref<Object>(Int::Of(static_cast<int64_t>(values_.size())));
  if (name == "n_sequence_fields") return Ref<Object>(Int::Of(static_cast<int64_t>(size())));
  if (name == "n_unnamed_fields") return Ref<Object>(Int::Of(0));
  if (name == "__class__") return Ref<Object>(type_);
  return Object::GetAttr(name);
}

absl::Status StructSequence::SetAttr(std::string_view name, Ref<Object> value) {
  if (Field(name)) return Raise(ErrorType::AttributeError(), "readonly attribute");
  return Object::SetAttr(name, std::move(value));
}

}  // namespace pyrt::inline PYRT_VARIANT
