// How a native module describes itself: a name, the size of its state, and slots.
//
//   constexpr ModuleSlot kSlots[] = {ModuleSlot::Exec(&FillSpam), ModuleSlot::Gil(GilUse::kNotUsed)};
//   constexpr ModuleDef kSpam = {.name = "spam", .state_size = sizeof(SpamState), .slots = kSlots};
//   PYRT_MODULE_INIT([](pyrt::ModuleInit& init) { init.Return(kSpam); })       // in a shared object
//
// An init function that returns a definition makes a multi-phase module: the importer creates it, anew in every
// interpreter. One that returns a module makes a single-phase module: it runs once in the process, in the main
// interpreter (gh-117953).
//
// Or slots alone, without a function or a definition (PEP 793); nothing of the module runs before it is known what
// it needs:
//
//   constexpr ModuleSlot kSlots[] = {ModuleSlot::StateSize(sizeof(SpamState)), ModuleSlot::Exec(&FillSpam),
//                                    ModuleSlot::Gil(GilUse::kNotUsed), ModuleSlot::End()};
//   PYRT_MODULE_EXPORT(kSlots)
//
// CPython counterpart: PyModuleDef, PyModuleDef_Slot, PyInit_*, PyModExport_*, PyABIInfo.

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

// What a shared object was compiled against: objects of the two builds have different layouts. The version counts
// the changes of what native modules see.
struct ModuleAbi {
  uint32_t version;
  uint32_t gil_enabled;
};
inline constexpr ModuleAbi kModuleAbi = {2, kGilEnabled};

// ImportError, with CPython's texts, if a module that was compiled against `abi` cannot run here. CPython:
// PyABIInfo_Check.
absl::Status CheckModuleAbi(const ModuleAbi& abi, std::string_view name);

struct ModuleSlot {
  enum class Kind : uint8_t {
    kEnd,
    kCreate,
    kExec,
    kMultipleInterpreters,
    kGil,
    // Of PYRT_MODULE_EXPORT only: what otherwise stands in the definition.
    kName,
    kStateSize,
    kClear,
  };
  using CreateFunction = absl::StatusOr<Ref<Object>> (*)(const Ref<ModuleSpec>& spec);
  using ExecFunction = absl::Status (*)(const Ref<Object>& module);
  using ClearFunction = void (*)(void* state);

  static constexpr ModuleSlot End() { return {}; }
  static constexpr ModuleSlot Create(CreateFunction create) {
    return {.kind = Kind::kCreate, .create = create};
  }
  static constexpr ModuleSlot Exec(ExecFunction exec) { return {.kind = Kind::kExec, .exec = exec}; }
  static constexpr ModuleSlot Interpreters(MultipleInterpreters support) {
    return {.kind = Kind::kMultipleInterpreters, .value = static_cast<size_t>(support)};
  }
  static constexpr ModuleSlot Gil(GilUse use) {
    return {.kind = Kind::kGil, .value = static_cast<size_t>(use)};
  }
  // For messages; the module is called what it is imported as.
  static constexpr ModuleSlot Name(const char* name) { return {.kind = Kind::kName, .name = name}; }
  static constexpr ModuleSlot StateSize(size_t bytes) { return {.kind = Kind::kStateSize, .value = bytes}; }
  static constexpr ModuleSlot Clear(ClearFunction clear) { return {.kind = Kind::kClear, .clear = clear}; }

  Kind kind = Kind::kEnd;
  CreateFunction create = nullptr;
  ExecFunction exec = nullptr;
  ClearFunction clear = nullptr;
  const char* name = nullptr;
  size_t value = 0;
};

// Of static storage duration. Slots: at most one of each kind but kExec, which run in order.
struct ModuleDef {
  const char* name = nullptr;
  size_t state_size = 0;                 // per interpreter, zeroed before the first kExec
  void (*clear)(void* state) = nullptr;  // when the module dies or its interpreter ends
  absl::Span<const ModuleSlot> slots = {};
  bool from_slots = false;  // made by DefFromSlots
};

// The definition that an array of slots, ended by kEnd, amounts to: `name` unless a slot has one. Its slots stay
// where they are. SystemError for two slots of a kind that may be there once.
absl::StatusOr<ModuleDef> DefFromSlots(const ModuleSlot* slots, const char* name);

// The slots of a definition, checked. SystemError with CPython's text for a bad combination.
struct ModuleDefSlots {
  static absl::StatusOr<ModuleDefSlots> Parse(const ModuleDef& def);

  ModuleSlot::CreateFunction create = nullptr;
  bool executes = false;
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
using ModuleExportFunction = const ModuleSlot* (*)();

// The symbols that a native module's shared object exports: the last, and one of the others.
inline constexpr char kModuleInitSymbol[] = "PyrtModuleInit";
inline constexpr char kModuleExportSymbol[] = "PyrtModuleExport";
inline constexpr char kModuleAbiSymbol[] = "PyrtModuleAbi";

}  // namespace pyrt::inline PYRT_VARIANT

#define PYRT_EXPORT_MODULE_ABI                                                         \
  extern "C" {                                                                         \
  extern __attribute__((visibility("default"))) const ::pyrt::ModuleAbi PyrtModuleAbi; \
  const ::pyrt::ModuleAbi PyrtModuleAbi = ::pyrt::kModuleAbi;                          \
  }

// Exactly one of these, once, outside any namespace, in a shared object that is a native module.
#define PYRT_MODULE_INIT(...)                                                                       \
  PYRT_EXPORT_MODULE_ABI                                                                            \
  extern "C" __attribute__((visibility("default"))) void PyrtModuleInit(::pyrt::ModuleInit& init) { \
    (__VA_ARGS__)(init);                                                                            \
  }
#define PYRT_MODULE_EXPORT(slots)                                                                  \
  PYRT_EXPORT_MODULE_ABI                                                                           \
  extern "C" __attribute__((visibility("default"))) const ::pyrt::ModuleSlot* PyrtModuleExport() { \
    return slots;                                                                                  \
  }

#endif  // PYRT_IMPORTLOCK_MODULE_DEF_H_
