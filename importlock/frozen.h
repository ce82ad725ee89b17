// FrozenTables: modules whose code is part of the program, and the finder for them.
//
// Four tables are asked in order, the first hit wins: bootstrap, the embedder's, standard library, test. The last
// two count only while frozen modules are in use. An alias table gives a frozen module another original name (or
// none, for a name that has no source of its own), by which whoever runs the code finds its source.
//
// The code is opaque to pyrt: the host runs it (FrozenCode::size bytes at FrozenCode::data).
//
// CPython counterpart: _PyImport_FrozenBootstrap, PyImport_FrozenModules, _PyImport_FrozenStdlib,
// _PyImport_FrozenTest, _PyImport_FrozenAliases, find_frozen, set_frozen_error.

#ifndef PYRT_IMPORTLOCK_FROZEN_H_
#define PYRT_IMPORTLOCK_FROZEN_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/module.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

struct FrozenModule {
  std::string name;
  const uint8_t* code = nullptr;  // null: excluded
  size_t size = 0;                // 0: invalid
  bool is_package = false;
};

struct FrozenAlias {
  std::string name;
  std::string original;  // "" for none
};

enum class FrozenStatus : uint8_t { kFound, kBadName, kNotFound, kDisabled, kExcluded, kInvalid };

struct FrozenTables {
  std::vector<FrozenModule> bootstrap;
  std::vector<FrozenModule> embedder;
  std::vector<FrozenModule> stdlib;
  std::vector<FrozenModule> test;
  std::vector<FrozenAlias> aliases;

  struct Result {
    FrozenStatus status = FrozenStatus::kNotFound;
    const FrozenModule* module = nullptr;  // kFound, kExcluded, kInvalid
    std::string_view original;             // the aliased name; "" for none
  };

  // `use_frozen`: what the configuration says, after the override (FrozenOverride). Names with a NUL are bad
  // (gh-150633). CPython: find_frozen.
  Result Find(std::string_view name, bool use_frozen) const;
};

// ImportError with CPython's text and the attribute `name`. Fatal for kFound. CPython: set_frozen_error.
absl::Status FrozenError(FrozenStatus status, std::string_view name);

// -1 off, 0 as configured, 1 on. CPython: _imp._override_frozen_modules_for_tests.
inline bool UseFrozen(int override, bool configured) { return override == 0 ? configured : override > 0; }

// Executes a module's code. `original`: its name before aliases, "" for none (IL-66).
using RunFrozen = std::function<absl::Status(const FrozenModule& code, const Ref<Object>& module,
                                             std::string_view original)>;

// Runs a frozen module without a finder: true, or false if there is none of that name; the errors of FrozenError and
// of the module. Its __origname__ is the original name, or None. Attached. CPython:
// PyImport_ImportFrozenModuleObject.
absl::StatusOr<bool> ImportFrozenModule(Importer& importer, const FrozenTables& tables, std::string_view name,
                                        bool use_frozen, const RunFrozen& run);

class FrozenFinder final : public Finder {
 public:
  using Run = RunFrozen;

  // `tables` outlives the finder.
  FrozenFinder(const FrozenTables& tables, bool use_frozen, Run run)
      : tables_(tables), use_frozen_(use_frozen), run_(std::move(run)) {}

  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                           const Object* target) override;
  const char* TypeName() const override { return "FrozenImporter"; }

 private:
  const FrozenTables& tables_;
  const bool use_frozen_;
  const Run run_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_FROZEN_H_
