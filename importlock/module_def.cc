#include "pyrt/importlock/module_def.h"

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {

absl::StatusOr<ModuleDefSlots> ModuleDefSlots::Parse(const ModuleDef& def) {
  ModuleDefSlots parsed;
  bool seen_interpreters = false;
  bool seen_gil = false;
  for (const ModuleSlot& slot : def.slots) {
    switch (slot.kind) {
      case ModuleSlot::Kind::kCreate:
        if (parsed.create != nullptr) {
          return Raise(ErrorType::SystemError(), "module %s has multiple create slots", def.name);
        }
        parsed.create = slot.create;
        break;
      case ModuleSlot::Kind::kExec:
        break;
      case ModuleSlot::Kind::kMultipleInterpreters:
        if (seen_interpreters) {
          return Raise(ErrorType::SystemError(), "module %s has more than one 'multiple interpreters' slots",
                       def.name);
        }
        seen_interpreters = true;
        parsed.multiple_interpreters = static_cast<MultipleInterpreters>(slot.value);
        break;
      case ModuleSlot::Kind::kGil:
        if (seen_gil) {
          return Raise(ErrorType::SystemError(), "module %s has more than one 'gil' slot", def.name);
        }
        seen_gil = true;
        parsed.gil = static_cast<GilUse>(slot.value);
        break;
      default:
        return Raise(ErrorType::SystemError(), "module %s uses unknown slot ID %d", def.name,
                     static_cast<int>(slot.kind));
    }
  }
  return parsed;
}

absl::Status ModuleInit::Check() const {
  const char* const name = this->name().c_str();
  const bool answered = def_ != nullptr || module_;
  if (!error_.ok()) {
    if (!answered) return error_;
    return Raise(ErrorType::SystemError(), "initialization of %s raised unreported exception", name);
  }
  if (!answered) {
    return Raise(ErrorType::SystemError(), "initialization of %s failed without raising an exception", name);
  }
  if (def_ != nullptr && (def_->name == nullptr || module_)) {
    return Raise(ErrorType::SystemError(), "init function of %s returned uninitialized object", name);
  }
  return absl::OkStatus();
}

}  // namespace pyrt::inline PYRT_VARIANT
