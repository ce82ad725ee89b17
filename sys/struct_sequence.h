// A tuple whose items have names, and which prints them: sys.flags, sys.version_info and their kin.
//
// A type may have fields beyond the visible ones: found by name only, not counted, not printed
// (sys.flags.gil). Types are immortal statics. Instances are immutable: a changed flag is a new object
// (gh-151218).
//
// CPython counterpart: PyStructSequence_Desc, PyStructSequence_New.

#ifndef PYRT_SYS_STRUCT_SEQUENCE_H_
#define PYRT_SYS_STRUCT_SEQUENCE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

class StructSequence;

class StructSequenceType final : public Object {
 public:
  // The first `visible` of `fields` are the tuple. `name` as in "sys.flags".
  static Ref<StructSequenceType> New(std::string_view name, std::vector<std::string> fields, size_t visible);

  const std::string& name() const { return name_; }
  const std::vector<std::string>& fields() const { return fields_; }
  size_t visible() const { return visible_; }

  // One value per field, visible and not.
  Ref<StructSequence> Make(std::vector<Ref<Object>> values);

  const char* TypeName() const override { return "type"; }
  absl::StatusOr<std::string> Repr() const override { return "<class '" + name_ + "'>"; }
  // TypeError "cannot create 'sys.flags' instances".
  absl::StatusOr<Ref<Object>> Call(Args args) override;
  bool IsCallable() const override { return true; }

 private:
  StructSequenceType(std::string_view name, std::vector<std::string> fields, size_t visible);

  const std::string name_;
  const std::vector<std::string> fields_;
  const size_t visible_;
};

class StructSequence final : public Object {
 public:
  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kStructSequence; }

  const StructSequenceType& type() const { return *type_; }
  // The tuple's length: visible fields only.
  size_t size() const { return type_->visible(); }
  const Ref<Object>& operator[](size_t index) const { return values_[index]; }
  // Null for a name that is no field.
  Ref<Object> Field(std::string_view name) const;
  // A new object that differs in one field.
  Ref<StructSequence> With(std::string_view field, const Ref<Object>& value) const;

  const char* TypeName() const override { return type_->name().c_str(); }
  absl::StatusOr<std::string> Repr() const override;  // sys.flags(debug=0, inspect=0, ...)
  absl::StatusOr<bool> IsTrue() const override { return size() != 0; }
  // The fields; n_fields, n_sequence_fields, n_unnamed_fields; __class__.
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;
  // AttributeError "readonly attribute".
  absl::Status SetAttr(std::string_view name, Ref<Object> value) override;

 private:
  friend class StructSequenceType;
  StructSequence(Ref<StructSequenceType> type, std::vector<Ref<Object>> values);

  const Ref<StructSequenceType> type_;
  const std::vector<Ref<Object>> values_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_STRUCT_SEQUENCE_H_
