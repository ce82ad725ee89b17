// InterpreterConfig: what an interpreter may do, chosen when it is created.
//
//                                    Isolated()   Legacy()                  Main()
//   use_main_obmalloc                no           yes                       yes
//   allow_fork, allow_exec           no           yes                       yes
//   allow_threads                    yes          yes                       yes
//   allow_daemon_threads             no           yes                       yes
//   check_multi_interp_extensions    yes          GIL-disabled build only   no
//   gil                              own          shared                    own
//
// CPython counterpart: PyInterpreterConfig, _PyInterpreterConfig_INIT, _PyInterpreterConfig_LEGACY_INIT,
// init_interp_settings, Py_RTFLAGS_*, the names of interpreters.create(config).

#ifndef PYRT_INTERP_INTERPRETER_CONFIG_H_
#define PYRT_INTERP_INTERPRETER_CONFIG_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// A set of what an interpreter may do. The values are CPython's (Py_RTFLAGS_*).
class FeatureFlags {
 public:
  enum Flag : uint64_t {
    kUseMainObmalloc = 1u << 5,
    kMultiInterpExtensions = 1u << 8,
    kThreads = 1u << 10,
    kDaemonThreads = 1u << 11,
    kFork = 1u << 15,
    kExec = 1u << 16,
  };

  constexpr FeatureFlags() = default;
  constexpr explicit FeatureFlags(uint64_t bits) : bits_(bits) {}
  constexpr uint64_t bits() const { return bits_; }
  // Whether any bit of `mask` is set (IN-18). CPython: _PyInterpreterState_HasFeature.
  constexpr bool Has(uint64_t mask) const { return (bits_ & mask) != 0; }

  friend constexpr bool operator==(FeatureFlags, FeatureFlags) = default;

 private:
  uint64_t bits_ = 0;
};

struct InterpreterConfig {
  enum class GilMode : int {
    kDefault = 0,  // shared
    kShared = 1,
    kOwn = 2,
  };

  bool use_main_obmalloc = false;
  bool allow_fork = false;
  bool allow_exec = false;
  bool allow_threads = true;
  bool allow_daemon_threads = false;
  bool check_multi_interp_extensions = true;
  GilMode gil = GilMode::kOwn;

  static constexpr InterpreterConfig Isolated() { return {}; }
  static constexpr InterpreterConfig Legacy() {
    return {.use_main_obmalloc = true,
            .allow_fork = true,
            .allow_exec = true,
            .allow_threads = true,
            .allow_daemon_threads = true,
            .check_multi_interp_extensions = !kGilEnabled,
            .gil = GilMode::kShared};
  }
  // The main interpreter's, whatever is asked for (IN-6).
  static constexpr InterpreterConfig Main() {
    InterpreterConfig config = Legacy();
    config.check_multi_interp_extensions = false;
    config.gil = GilMode::kOwn;
    return config;
  }

  // InvalidArgument, with CPython's text, for a combination that no interpreter can have. `is_main`: the main
  // interpreter may do without the extension check.
  absl::Status Validate(bool is_main = false) const;

  // What remains of a valid configuration in a running interpreter.
  FeatureFlags Features() const;

  bool has_own_gil() const { return gil == GilMode::kOwn; }
};

// "default", "shared", "own".
std::string_view GilModeName(InterpreterConfig::GilMode mode);
// ValueError "unsupported interpreter config .gil value '...'" for another text.
absl::StatusOr<InterpreterConfig::GilMode> ParseGilMode(std::string_view text);

// What an interpreter may not do, said as CPython says it (RuntimeError). Ok when `features` allows it.
absl::Status CheckThreadsAllowed(FeatureFlags features);
absl::Status CheckDaemonThreadsAllowed(FeatureFlags features);
absl::Status CheckForkAllowed(FeatureFlags features);
absl::Status CheckExecAllowed(FeatureFlags features);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_INTERP_INTERPRETER_CONFIG_H_
