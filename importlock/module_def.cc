#include "pyrt/importlock/module_def.h"

#include <string>
#include <utility>

#include "pyrt/importlock/internal/import_errors.h"
#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {

namespace {

// What belongs into a definition and not among its slots.
bool DescribesModule(ModuleSlot::Kind kind) {
  return kind == ModuleSlot::Kind::kName || kind == ModuleSlot::Kind::kStateSize ||
         kind == ModuleSlot::Kind::kClear;
}

absl::Status AbiError(std::string_view name, const std::string& message) {
  return internal::ImportErrorFor(name, std::string(name) + ": " + message);
}

}  // namespace

absl::Status CheckModuleAbi(const ModuleAbi& abi, std::string_view name) {
  if (abi.version != kModuleAbi.version) {
    return AbiError(name, "incompatible ABI version (" + std::to_string(abi.version) + ")");
  }
  if (abi.gil_enabled == kModuleAbi.gil_enabled) return absl::OkStatus();
  return AbiError(name, kGilEnabled ? "only compatible with free-threaded CPython"
                                    : "incompatible with free-threaded CPython");
}

absl::StatusOr<ModuleDef> DefFromSlots(const ModuleSlot* slots, const char* name) {
  ModuleDef def = {.name = name};
  size_t count = 0;
  bool seen_name = false, seen_size = false, seen_clear = false;
  const auto once = [&](bool& seen, const char* what) {
    if (!std::exchange(seen, true)) return absl::OkStatus();
    return Raise(ErrorType::SystemError(), "module %s has more than one %s slot", def.name, what);
  };
  for (; slots[count].kind != ModuleSlot::Kind::kEnd; ++count) {
    const ModuleSlot& slot = slots[count];
    absl::Status status;
    if (slot.kind == ModuleSlot::Kind::kName) {
      status = once(seen_name, "name");
      if (slot.name != nullptr) def.name = slot.name;
    } else if (slot.kind == ModuleSlot::Kind::kStateSize) {
      status = once(seen_size, "state size");
      def.state_size = slot.value;
    } else if (slot.kind == ModuleSlot::Kind::kClear) {
      status = once(seen_clear, "clear");
      def.clear = slot.clear;
    }
    if (!status.ok()) return status;
  }
  def.slots = absl::Span<const ModuleSlot>(slots, count);
  def.from_slots = true;
  return def;
}

absl::StatusOr<ModuleDefSlots> ModuleDefSlots::Parse(const ModuleDef& def) {
  ModuleDefSlots parsed;
  bool seen_interpreters = false;
  bool seen_gil = false;
  for (const ModuleSlot& slot : def.slots) {
    if (def.from_slots && DescribesModule(slot.kind)) continue;
    switch (slot.kind) {
      case ModuleSlot::Kind::kCreate:
        if (parsed.create != nullptr) {
          return Raise(ErrorType::SystemError(), "module %s has multiple create slots", def.name);
        }
        parsed.create = slot.create;
        break;
      case ModuleSlot::Kind::kExec:
        parsed.executes = true;
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
