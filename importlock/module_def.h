// How a native module describes itself: a name, the size of its state, and slots.
//
//   constexpr ModuleSlot kSlots[] = {ModuleSlot::Exec(&FillSpam), ModuleSlot::Gil(GilUse::kNotUsed)};
//   constexpr ModuleDef kSpam = {.name = "spam", .state_size = sizeof(SpamState), .slots = kSlots};
//   extern "C" void PyrtModuleInit(pyrt::ModuleInit& init) { init.Return(kSpam); }
//
// An init function that returns a definition makes a multi-phase module: the importer creates it, anew in every
// interpreter. One that returns a module makes a single-phase module: it runs once in the process, in the main
// interpreter (gh-117953).
//
// CPython counterpart: PyModuleDef, PyModuleDef_Slot, PyInit_*.

#ifndef PYRT_IMPORTLOCK_MODULE_DEF_H_
#define PYRT_IMPORTLOCK_MODULE_DEF_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "pyrt/importlock/module.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"

namespace pyrt::inline PYRT_VARIANT {

// CPython: Py_MOD_MULTIPLE_INTERPRETERS_*, with their values.
enum class MultipleInterpreters : uint8_t {
  kNotSupported = 0,
  kSupported = 1,
  kPerInterpreterGilSupported = 2
};
// CPython: Py_MOD_GIL_USED, Py_MOD_GIL_NOT_USED.
enum class GilUse : uint8_t { kUsed = 0, kNotUsed = 1 };

struct ModuleSlot {
  enum class Kind : uint8_t { kCreate, kExec, kMultipleInterpreters, kGil };
  using CreateFunction = absl::StatusOr<Ref<Object>> (*)(const Ref<ModuleSpec>& spec);
  using ExecFunction = absl::Status (*)(const Ref<Object>& module);

  static constexpr ModuleSlot Create(CreateFunction create) { return {Kind::kCreate, create, nullptr, 0}; }
  static constexpr ModuleSlot Exec(ExecFunction exec) { return {Kind::kExec, nullptr, exec, 0}; }
  static constexpr ModuleSlot Interpreters(MultipleInterpreters support) {
    return {Kind::kMultipleInterpreters, nullptr, nullptr, static_cast<uint8_t>(support)};
  }
  static constexpr ModuleSlot Gil(GilUse use) {
    return {Kind::kGil, nullptr, nullptr, static_cast<uint8_t>(use)};
  }

  Kind kind;
  CreateFunction create;
  ExecFunction exec;
  uint8_t value;
};

// Of static storage duration. Slots: at most one of each kind but kExec, which run in order.
struct ModuleDef {
  const char* name = nullptr;
  size_t state_size = 0;                 // per interpreter, zeroed before the first kExec
  void (*clear)(void* state) = nullptr;  // when the module dies or its interpreter ends
  absl::Span<const ModuleSlot> slots = {};
};

// The slots of a definition, checked. SystemError with CPython's text for a bad combination.
struct ModuleDefSlots {
  static absl::StatusOr<ModuleDefSlots> Parse(const ModuleDef& def);

  ModuleSlot::CreateFunction create = nullptr;
  MultipleInterpreters multiple_interpreters = MultipleInterpreters::kSupported;
  GilUse gil = GilUse::kUsed;
};

// What an init function gets, and how it answers. An answer that contradicts itself is a SystemError of the
// import (IL-60).
class ModuleInit {
 public:
  explicit ModuleInit(const Ref<ModuleSpec>& spec) : spec_(spec) {}

  const Ref<ModuleSpec>& spec() const { return spec_; }
  // The full dotted name: what a single-phase module should be called. CPython: the package context.
  const std::string& name() const { return spec_->name(); }

  // Multi-phase.
  void Return(const ModuleDef& def) { def_ = &def; }
  // Single-phase. `gil`: PyUnstable_Module_SetGIL.
  void Return(Ref<Object> module, GilUse gil = GilUse::kUsed) {
    module_ = std::move(module);
    gil_ = gil;
  }
  void Fail(absl::Status error) { error_ = std::move(error); }

  const ModuleDef* def() const { return def_; }
  const Ref<Object>& module() const { return module_; }
  GilUse gil() const { return gil_; }
  // OK, or what the init function failed with, or what is wrong with its answer.
  absl::Status Check() const;

 private:
  const Ref<ModuleSpec> spec_;
  const ModuleDef* def_ = nullptr;
  Ref<Object> module_;
  GilUse gil_ = GilUse::kUsed;
  absl::Status error_;
};

using ModuleInitFunction = void (*)(ModuleInit& init);

// The symbol that a native module's shared object exports.
inline constexpr char kModuleInitSymbol[] = "PyrtModuleInit";

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_MODULE_DEF_H_
