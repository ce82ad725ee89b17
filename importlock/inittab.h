// Inittab: the native modules that are linked into the program, and the finder for them.
//
// The table belongs to the process and is filled before the runtime is initialized; Initialize takes a snapshot,
// which every interpreter of that run shares, and the table itself survives Finalize: the next run sees the
// same modules (IL-56).
//
// Not thread-safe, by definition of when it may be changed. The first of two entries of one name counts
// (IL-57).
//
// CPython counterpart: PyImport_Inittab, PyImport_AppendInittab, PyImport_ExtendInittab, BuiltinImporter.

#ifndef PYRT_IMPORTLOCK_INITTAB_H_
#define PYRT_IMPORTLOCK_INITTAB_H_

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "pyrt/importlock/module.h"
#include "pyrt/importlock/module_def.h"
#include "pyrt/importlock/native_loader.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

struct InittabEntry {
  std::string name;
  ModuleInitFunction init;  // null: a name that is known, and made by somebody else (sys, builtins)
};

// What interpreters look modules up in. Immutable; any thread.
class InittabSnapshot {
 public:
  explicit InittabSnapshot(const std::vector<InittabEntry>& entries);

  const InittabEntry* Find(std::string_view name) const;
  // 1: yes; 0: unknown; -1: known, without an init function. CPython: _imp.is_builtin.
  int IsBuiltin(std::string_view name) const;
  // sys.builtin_module_names: sorted, each once.
  std::vector<std::string> Names() const;

 private:
  std::unordered_map<std::string, InittabEntry> entries_;
};

class Inittab {
 public:
  Inittab() = default;
  explicit Inittab(std::vector<InittabEntry> entries) : entries_(std::move(entries)) {}
  Inittab(const Inittab&) = delete;
  Inittab& operator=(const Inittab&) = delete;

  // Adds an entry. InvalidArgument for an empty name or one with a NUL. Fatal while frozen, with CPython's text.
  absl::Status Append(std::string_view name, ModuleInitFunction init);
  // Adds all or none.
  absl::Status Extend(absl::Span<const InittabEntry> entries);

  // Initialize and Finalize. Between them the table may not change.
  std::shared_ptr<const InittabSnapshot> Freeze();
  void Thaw() { frozen_ = false; }
  bool frozen() const { return frozen_; }
  size_t size() const { return entries_.size(); }
  // sys.builtin_module_names of a snapshot taken now.
  std::vector<std::string> Names() const { return InittabSnapshot(entries_).Names(); }

 private:
  static absl::Status CheckName(std::string_view name);

  std::vector<InittabEntry> entries_;
  bool frozen_ = false;
};

// Finds top-level modules in a snapshot; of a name without an init function the module that the interpreter's
// core has made (IL-59). CPython: BuiltinImporter.
class BuiltinFinder final : public Finder {
 public:
  BuiltinFinder(std::shared_ptr<const InittabSnapshot> inittab, NativeModules& native)
      : inittab_(std::move(inittab)), native_(native) {}

  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                           const Object* target) override;
  const char* TypeName() const override { return "BuiltinImporter"; }

 private:
  const std::shared_ptr<const InittabSnapshot> inittab_;
  NativeModules& native_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_INITTAB_H_
