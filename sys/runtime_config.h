// RuntimeConfig: what the environment, the -X options and the command line say about the runtime.
//
//   RuntimeConfig config;                       // CPython's defaults for `python`
//   ConfigStatus status = ReadConfig(EnvironmentView::Process(), argv, &config);
//   if (status.is_exit()) ... status.exit_code()
//
// Only what a runtime without a compiler can honour has an effect here; other variables and options are
// parsed, kept (sys._xoptions, sys.flags) and left to the host. An isolated config reads neither PYTHON*
// variables nor the command line. LC_ALL, LC_CTYPE and LANG, which name the locale and with it stdio_errors, are
// read always: a host that sets stdio_errors depends on nothing.
//
// Reading has no side effect on the process: no setlocale, no environment change, no output.
//
// CPython counterpart: PyConfig, PyPreConfig, PyConfig_Read, Python/initconfig.c and preconfig.c.

#ifndef PYRT_SYS_RUNTIME_CONFIG_H_
#define PYRT_SYS_RUNTIME_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// How the GIL is to be set up in a GIL-disabled build; always kDefault in a GIL-enabled one.
enum class GilMode : int8_t { kDefault = -1, kDisable = 0, kEnable = 1 };

// The Python version that pyrt behaves like; a host that implements another one says so here.
struct LanguageVersion {
  int major = 3;
  int minor = 15;
  int micro = 2;
  std::string release_level = "final";  // alpha, beta, candidate, final
  int serial = 0;

  // sys.hexversion.
  int64_t Hex() const;
  // "3.15.2", "3.16.0a1".
  std::string Short() const;

  bool operator==(const LanguageVersion&) const = default;
};

struct RuntimeConfig {
  // sys.flags, in its order, with what the command line, the environment and -X say.
  int parser_debug = 0;
  int inspect = 0;
  int interactive = 0;
  int optimization_level = 0;
  bool write_bytecode = true;
  bool user_site_directory = true;
  bool site_import = true;
  bool use_environment = true;
  int verbose = 0;
  int bytes_warning = 0;
  int quiet = 0;
  bool isolated = false;
  bool dev_mode = false;
  bool utf8_mode = true;  // the default since 3.15 (PEP 686)
  bool warn_default_encoding = false;
  bool safe_path = false;
  int int_max_str_digits = 4300;
  GilMode gil = GilMode::kDefault;
  bool thread_inherit_context = !kGilEnabled;
  bool context_aware_warnings = !kGilEnabled;
  int lazy_imports = -1;  // 1: every import is lazy (-X lazy_imports=all); -1: those that say so

  // Hashing: random unless a seed is given. Nullopt: not decided, PYTHONHASHSEED is asked; afterwards it is.
  std::optional<bool> use_hash_seed;
  uint32_t hash_seed = 0;

  // Standard streams (SY-9, SY-10).
  bool buffered_stdio = true;
  std::optional<std::string> stdio_encoding;  // nullopt: ReadConfig decides; "utf-8" without it
  std::optional<std::string> stdio_errors;    // nullopt: ReadConfig decides; "strict" without it

  // -X and other switches that the runtime or its host may look at.
  bool faulthandler = false;
  int import_time = 0;
  int tracemalloc = 0;
  bool code_debug_ranges = true;
  bool use_frozen_modules = true;
  bool install_signal_handlers = true;
  bool parse_argv = true;
  int perf_profiling = 0;
  bool remote_debug = true;
  int cpu_count = -1;  // -1: ask the system
  bool show_ref_count = false;
  bool skip_source_first_line = false;
  std::string check_hash_pycs_mode = "default";
  std::string allocator;  // PYTHONMALLOC, empty: default
  std::optional<std::string> pycache_prefix;
  std::optional<std::string> python_path;  // PYTHONPATH, unsplit
  std::optional<std::string> home;
  std::string platlibdir = "lib";

  // What to run.
  std::optional<std::string> run_command;
  std::optional<std::string> run_module;
  std::optional<std::string> run_filename;

  std::string program_name = "python3";
  std::string executable;
  std::string prefix = "/usr";
  std::string base_prefix = "/usr";
  std::string exec_prefix = "/usr";
  std::string base_exec_prefix = "/usr";
  std::vector<std::string> argv = {""};
  std::vector<std::string> orig_argv;
  std::vector<std::string> module_search_paths;
  std::vector<std::string> warn_options;
  // In the order given; "name" without a value has none (True in sys._xoptions).
  std::vector<std::pair<std::string, std::optional<std::string>>> x_options;

  // What sys says about itself and its host.
  LanguageVersion language;
  std::string implementation_name = "pyrt";
  std::string platform = "linux";
  std::string copyright = "Copyright (c) the pyrt authors, Apache-2.0.";
  std::vector<std::string> builtin_module_names;
  std::vector<std::string> stdlib_module_names;

  // A config that ignores the environment, the user's directories and the command line
  // (PyConfig_InitIsolatedConfig): for embedding.
  static RuntimeConfig Isolated();

  // The value of the first -X option of that name: nullopt if absent, "" if it has no value.
  std::optional<std::string_view> XOption(std::string_view name) const;

  bool operator==(const RuntimeConfig&) const = default;
};

// sys.version: "3.15.2 (pyrt, gil_enabled) [GCC 12.2.0]".
std::string VersionText(const RuntimeConfig& config);

// The environment as a list, so that tests and fuzzers need not change the process' own.
class EnvironmentView {
 public:
  EnvironmentView() = default;
  explicit EnvironmentView(std::vector<std::pair<std::string, std::string>> variables)
      : variables_(std::move(variables)) {}
  // A copy of environ(7). Not safe against a concurrent setenv, like getenv.
  static EnvironmentView Process();

  // The value of a set, non-empty variable: CPython takes an empty one for an unset one.
  std::optional<std::string> Get(std::string_view name) const;

 private:
  std::vector<std::pair<std::string, std::string>> variables_;
};

// What reading a config came to: go on, or end the process with a status and a text.
//
// CPython counterpart: PyStatus.
class [[nodiscard]] ConfigStatus {
 public:
  static ConfigStatus Ok() { return ConfigStatus(); }
  // "Fatal Python error: FUNCTION: MESSAGE", exit status 1. No function: "Fatal Python error: MESSAGE".
  static ConfigStatus Error(std::string_view function, std::string_view message);
  // Bad usage (status 2, text for stderr), --version and --help... (status 0, text for stdout).
  static ConfigStatus Exit(int code, std::string text);

  bool ok() const { return kind_ == Kind::kOk; }
  bool is_error() const { return kind_ == Kind::kError; }
  bool is_exit() const { return kind_ == Kind::kExit; }
  int exit_code() const { return exit_code_; }
  const std::string& function() const { return function_; }
  const std::string& message() const { return message_; }

  // What the process prints before it ends with exit_code(): the text of an exit, or CPython's two lines of a
  // status error.
  std::string Text() const;

 private:
  enum class Kind : uint8_t { kOk, kError, kExit };
  Kind kind_ = Kind::kOk;
  int exit_code_ = 0;
  std::string function_;
  std::string message_;
};

// Fills `config` from `argv` (the whole command line, argv[0] being the program) and the environment, in
// CPython's order of precedence: command line, -X, environment, what `config` held; a use_hash_seed or
// stdio_errors that it held goes before the environment, its warn_options before all others. Honours
// config->isolated, which implies all of RuntimeConfig::Isolated but for the signal handlers, and
// config->parse_argv. On failure `config` is half filled and must not be used.
ConfigStatus ReadConfig(const EnvironmentView& environment, absl::Span<const std::string> argv,
                        RuntimeConfig* config);

// The command line alone, up to the first argument that is no option. Used by ReadConfig.
ConfigStatus ParseCommandLine(absl::Span<const std::string> argv, RuntimeConfig* config);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_RUNTIME_CONFIG_H_
