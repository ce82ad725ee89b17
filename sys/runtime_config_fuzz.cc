// ReadConfig over any command line, any environment and what a host has set before, against a model: a table of what
// each variable and option means, as CPython's documentation and --help have it, with strtol for numbers. Of several
// bad values any may be told, but those of the pre-configuration first.
//
// Besides, whatever is read: the outcome is ok, a status error (1) or an exit (0 or 2), always with a text, and an
// isolated config does not depend on the environment.

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/sys_values.h"
#include "pyrt/sys/text_codec.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using Config = RuntimeConfig;
using Words = std::vector<std::string>;
using Variables = std::vector<std::pair<std::string, std::string>>;

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "runtime_config_fuzz", "the model disagrees: %s", what);
}

// --- The model

// What reading must come to.
struct Outcome {
  Config config;
  int exit_code = -1;          // not -1: the command line ends the program
  std::string exit_text = {};  // which begins so
  Words early_errors = {};     // any one of them, of the pre-configuration
  Words errors = {};           // any one of them, if there is none of those
};

// An option of one letter without an argument: it counts, or it sets.
struct Letter {
  char letter;
  int Config::*count = nullptr;
  bool Config::*field = nullptr;
  bool value = false;
};
constexpr Letter kLetters[] = {
    {'b', &Config::bytes_warning},
    {'d', &Config::parser_debug},
    {'i', &Config::inspect},
    {'i', &Config::interactive},
    {'O', &Config::optimization_level},
    {'q', &Config::quiet},
    {'v', &Config::verbose},
    {'B', nullptr, &Config::write_bytecode, false},
    {'E', nullptr, &Config::use_environment, false},
    {'I', nullptr, &Config::isolated, true},
    {'I', nullptr, &Config::use_environment, false},
    {'I', nullptr, &Config::user_site_directory, false},
    {'I', nullptr, &Config::safe_path, true},
    {'P', nullptr, &Config::safe_path, true},
    {'s', nullptr, &Config::user_site_directory, false},
    {'S', nullptr, &Config::site_import, false},
    {'u', nullptr, &Config::buffered_stdio, false},
    {'x', nullptr, &Config::skip_source_first_line, true},
    {'R'},
    {'t'},
};

class CommandLineModel {
 public:
  CommandLineModel(const Words& words, Outcome& outcome)
      : words_(words), outcome_(outcome), config_(outcome.config) {}

  void Read() {
    if (words_.empty()) return;
    bool options = true;
    while (options && outcome_.exit_code == -1 && at_ < words_.size() && words_[at_].substr(0, 1) == "-" &&
           words_[at_] != "-") {
      const std::string& word = words_[at_++];
      if (word == "--") break;
      options = word[1] == '-' ? Long(word) : Letters(word.substr(1));
    }
    if (outcome_.exit_code != -1) return;
    if (versions_ > 0) return Exit(0, versions_ > 1 ? "Python 3.15.2 (pyrt, " : "Python 3.15.2\n");
    config_.argv = Words(words_.begin() + static_cast<ptrdiff_t>(at_), words_.end());
    if (config_.run_command || config_.run_module) {
      config_.argv.insert(config_.argv.begin(), config_.run_command ? "-c" : "-m");
    } else if (config_.argv.empty()) {
      config_.argv = {""};
    } else if (config_.argv[0] != "-") {
      config_.run_filename = config_.argv[0];
    }
  }

 private:
  void Exit(int code, const std::string& text) {
    outcome_.exit_code = code;
    outcome_.exit_text = text;
  }
  bool BadUsage(const std::string& text) {
    Exit(2,
         text + "\nusage: " + words_[0] +
             " [option] ... [-c cmd | -m mod | file | -] [arg] ...\nTry 'python -h' for more information.\n");
    return false;
  }
  bool Help(const std::string& text) {
    Exit(0, text);
    return false;
  }

  // Whether more options may follow.
  bool Long(const std::string& word) {
    if (word == "--help" || word == "--help-all") return Help("usage: " + words_[0] + " [option]");
    if (word == "--help-env") return Help("Environment variables that are read:\n");
    if (word == "--help-xoptions") return Help("Options of the implementation:\n");
    if (word == "--version") return ++versions_ > 0;
    if (word != "--check-hash-based-pycs") return BadUsage("unknown option " + word);
    if (at_ == words_.size()) return BadUsage("Argument expected for the " + word + " option");
    const std::string& mode = words_[at_++];
    if (mode != "default" && mode != "always" && mode != "never") {
      return BadUsage("--check-hash-based-pycs must be one of 'default', 'always', or 'never'");
    }
    config_.check_hash_pycs_mode = mode;
    return true;
  }

  bool Letters(std::string letters) {
    while (!letters.empty()) {
      const char letter = letters[0];
      letters.erase(0, 1);
      if (letter == 'h' || letter == '?') return Help("usage: " + words_[0] + " [option]");
      if (letter == 'V') {
        ++versions_;
      } else if (std::strchr("cmWX", letter) != nullptr && letter != '\0') {
        if (letters.empty() && at_ == words_.size()) {
          return BadUsage(std::string("Argument expected for the -") + letter + " option");
        }
        return Argument(letter, letters.empty() ? words_[at_++] : letters);
      } else if (letter == 'J') {
        return BadUsage("-J is reserved for Jython");
      } else if (!Flag(letter)) {
        return BadUsage(std::string("Unknown option: -") + letter);
      }
    }
    return true;
  }
  bool Argument(char letter, const std::string& argument) {
    const size_t equals = argument.find('=');
    if (letter == 'c') config_.run_command = argument + "\n";
    if (letter == 'm') config_.run_module = argument;
    if (letter == 'W') config_.warn_options.push_back(argument);
    if (letter == 'X') {
      config_.x_options.emplace_back(argument.substr(0, equals), std::nullopt);
      if (equals != std::string::npos) config_.x_options.back().second = argument.substr(equals + 1);
    }
    return letter == 'W' || letter == 'X';
  }
  bool Flag(char letter) {
    bool known = false;
    for (const Letter& one : kLetters) {
      if (one.letter != letter) continue;
      known = true;
      if (one.count != nullptr) ++(config_.*one.count);
      if (one.field != nullptr) config_.*one.field = one.value;
    }
    if (letter == 'R') config_.use_hash_seed = false;
    return known;
  }

  const Words& words_;
  Outcome& outcome_;
  Config& config_;
  size_t at_ = 1;
  int versions_ = 0;
};

// All of the text, as strtol has it, and in the range of an int.
std::optional<int> Number(const char* text) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || errno == ERANGE || value < INT_MIN || value > INT_MAX) return std::nullopt;
  return static_cast<int>(value);
}

// A variable, an option that goes before it, and what both may say. A bad variable is an error beside a good option.
struct Setting {
  const char* variable;
  const char* option;
  // Null: the option without a value. Nullopt: that is an error.
  std::optional<int> (*read)(const char* text);
  void (*set)(Config& config, int value);
  const char* variable_error;
  const char* option_error;
};

std::optional<int> NotNegative(const char* text) {
  const std::optional<int> number = text == nullptr ? 1 : Number(text);
  return number.value_or(-1) < 0 ? std::nullopt : number;
}
std::optional<int> DigitLimit(const char* text) {
  const std::optional<int> number = text == nullptr ? std::nullopt : Number(text);
  return number == 0 || number.value_or(0) >= 640 ? number : std::nullopt;
}
std::optional<int> ImportTime(const char* text) {
  const int number = text == nullptr || *text == '\0' ? 1 : Number(text).value_or(1);
  return number == 0 || number == 1 || number == 2 ? std::optional<int>(number) : std::nullopt;
}
std::optional<int> CpuCount(const char* text) {
  if (text == nullptr) return std::nullopt;
  if (std::strcmp(text, "default") == 0) return -1;
  return Number(text).value_or(0) > 0 ? Number(text) : std::nullopt;
}
std::optional<int> ZeroOrOne(const char* text) {
  const std::optional<int> number = text == nullptr ? std::nullopt : Number(text);
  return number == 0 || number == 1 ? number : std::nullopt;
}
std::optional<int> OneOf(const char* text, const char* zero, const char* one) {
  if (text == nullptr) return std::nullopt;
  if (std::strcmp(text, zero) == 0) return 0;
  return std::strcmp(text, one) == 0 ? std::optional<int>(1) : std::nullopt;
}
std::optional<int> OnOrOff(const char* text) {
  return text == nullptr || *text == '\0' ? 1 : OneOf(text, "off", "on");
}

constexpr Setting kSettings[] = {
    {"PYTHONTRACEMALLOC", "tracemalloc", &NotNegative, [](Config& c, int value) { c.tracemalloc = value; },
     "config_init_tracemalloc: PYTHONTRACEMALLOC: invalid number of frames",
     "config_init_tracemalloc: -X tracemalloc=NFRAME: invalid number of frames"},
    {"PYTHONINTMAXSTRDIGITS", "int_max_str_digits", &DigitLimit,
     [](Config& c, int value) { c.int_max_str_digits = value; },
     "config_init_int_max_str_digits: PYTHONINTMAXSTRDIGITS: invalid limit; must be >= 640 or 0 for "
     "unlimited.",
     "config_init_int_max_str_digits: -X int_max_str_digits: invalid limit; must be >= 640 or 0 for "
     "unlimited."},
    {"PYTHONPROFILEIMPORTTIME", "importtime", &ImportTime,
     [](Config& c, int value) { c.import_time = value; },
     "config_init_import_time: PYTHONPROFILEIMPORTTIME: numeric values other than 1 and 2 are reserved for "
     "future "
     "use.",
     "config_init_import_time: -X importtime: values other than 1 and 2 are reserved for future use."},
    {"PYTHON_CPU_COUNT", "cpu_count", &CpuCount, [](Config& c, int value) { c.cpu_count = value; },
     "config_init_cpu_count: -X cpu_count=n option: n is missing or an invalid number, n must be greater "
     "than 0",
     "config_init_cpu_count: -X cpu_count=n option: n is missing or an invalid number, n must be greater "
     "than 0"},
    {"PYTHON_THREAD_INHERIT_CONTEXT", "thread_inherit_context", &ZeroOrOne,
     [](Config& c, int value) { c.thread_inherit_context = value != 0; },
     "config_init_thread_inherit_context: PYTHON_THREAD_INHERIT_CONTEXT=N: N is missing or invalid",
     "config_init_thread_inherit_context: -X thread_inherit_context=n: n is missing or invalid"},
    {"PYTHON_CONTEXT_AWARE_WARNINGS", "context_aware_warnings", &ZeroOrOne,
     [](Config& c, int value) { c.context_aware_warnings = value != 0; },
     "config_init_context_aware_warnings: PYTHON_CONTEXT_AWARE_WARNINGS=N: N is missing or invalid",
     "config_init_context_aware_warnings: -X context_aware_warnings=n: n is missing or invalid"},
    {"PYTHON_GIL", "gil", [](const char* text) { return OneOf(text, "0", "1"); },
     [](Config& c, int value) {
       if (!kGilEnabled) c.gil = value != 0 ? GilMode::kEnable : GilMode::kDisable;
     },
     "config_read_gil: PYTHON_GIL / -X gil must be \"0\" or \"1\"",
     "config_read_gil: PYTHON_GIL / -X gil must be \"0\" or \"1\""},
    {"PYTHON_LAZY_IMPORTS", "lazy_imports", [](const char* text) { return OneOf(text, "normal", "all"); },
     [](Config& c, int value) { c.lazy_imports = value != 0 ? 1 : -1; },
     "config_init_lazy_imports: PYTHON_LAZY_IMPORTS: invalid value; expected 'all' or 'normal'",
     "config_init_lazy_imports: -X lazy_imports: invalid value; expected 'all' or 'normal'"},
    {"PYTHON_FROZEN_MODULES", "frozen_modules", &OnOrOff,
     [](Config& c, int value) { c.use_frozen_modules = value != 0; },
     "bad value for PYTHON_FROZEN_MODULES (expected \"on\" or \"off\")",
     "bad value for option -X frozen_modules (expected \"on\" or \"off\")"},
};

// Said by being there, whatever the value.
struct Presence {
  const char* variable;  // null: an option only
  const char* option;    // null: a variable only
  bool Config::*field;
  bool value;
};
constexpr Presence kPresences[] = {
    {"PYTHONDEVMODE", "dev", &Config::dev_mode, true},
    {"PYTHONSAFEPATH", nullptr, &Config::safe_path, true},
    {"PYTHONFAULTHANDLER", "faulthandler", &Config::faulthandler, true},
    {"PYTHONNODEBUGRANGES", "no_debug_ranges", &Config::code_debug_ranges, false},
    {"PYTHONWARNDEFAULTENCODING", "warn_default_encoding", &Config::warn_default_encoding, true},
    {"PYTHON_DISABLE_REMOTE_DEBUG", "disable-remote-debug", &Config::remote_debug, false},
    {nullptr, "showrefcount", &Config::show_ref_count, true},
};

class ValuesModel {
 public:
  ValuesModel(const Variables& variables, Words host_warnings, Outcome& outcome)
      : variables_(variables),
        host_warnings_(std::move(host_warnings)),
        outcome_(outcome),
        config_(outcome.config) {}

  void Read() {
    for (const Presence& one : kPresences) {
      if (Variable(one.variable) != nullptr || Option(one.option) != nullptr) config_.*one.field = one.value;
    }
    if (config_.dev_mode) config_.faulthandler = true;
    for (const Setting& setting : kSettings) {
      const char* const variable = Variable(setting.variable);
      if (variable != nullptr) Apply(setting, variable, setting.variable_error);
      const auto* const option = Option(setting.option);
      if (option != nullptr) {
        Apply(setting, option->has_value() ? option->value().c_str() : nullptr, setting.option_error);
      }
    }
    ReadEarly();
    ReadFlags();
    ReadSeed();
    ReadProfiling();
    ReadStreams();
    ReadTexts();
    ReadWarnings();
  }

 private:
  // Null: absent, or empty.
  const char* Get(std::string_view name) const {
    for (const auto& [key, value] : variables_) {
      if (key == name) return value.empty() ? nullptr : value.c_str();
    }
    return nullptr;
  }
  const char* Variable(const char* name) const {
    return name == nullptr || !config_.use_environment ? nullptr : Get(name);
  }
  const std::optional<std::string>* Option(const char* name) const {
    for (const auto& [key, value] : config_.x_options) {
      if (name != nullptr && key == name) return &value;
    }
    return nullptr;
  }
  void Apply(const Setting& setting, const char* text, const char* error) {
    const std::optional<int> value = setting.read(text);
    if (value.has_value()) setting.set(config_, *value);
    if (!value.has_value()) outcome_.errors.emplace_back(error);
    if (kGilEnabled && value == 0 && std::strcmp(setting.option, "gil") == 0) {
      outcome_.errors.emplace_back("config_read_gil: Disabling the GIL is not supported by this build");
    }
  }

  void ReadEarly() {
    const auto* const option = Option("utf8");
    const char* const variable = Variable("PYTHONUTF8");
    if (option != nullptr) {
      utf8_ = option->has_value() ? OneOf(option->value().c_str(), "0", "1") : 1;
      if (!utf8_)
        outcome_.early_errors.emplace_back("preconfig_init_utf8_mode: invalid -X utf8 option value");
    } else if (variable != nullptr) {
      utf8_ = OneOf(variable, "0", "1");
      if (!utf8_) {
        outcome_.early_errors.emplace_back(
            "preconfig_init_utf8_mode: invalid PYTHONUTF8 environment variable value");
      }
    }
    if (utf8_) config_.utf8_mode = *utf8_ == 1;
    if (config_.dev_mode) config_.allocator = "debug";
    const char* const allocator = Variable("PYTHONMALLOC");
    if (allocator == nullptr) return;
    config_.allocator = allocator;
    const std::string base = config_.allocator.substr(0, config_.allocator.rfind("_debug"));
    const bool whole = config_.allocator == "default" || config_.allocator == "debug" ||
                       base == config_.allocator || config_.allocator == base + "_debug";
    const Words known = {"default", "debug", "malloc", "pymalloc", "mimalloc"};
    if (!whole || std::find(known.begin(), known.end(), base) == known.end() ||
        (base != config_.allocator && base.find("malloc") == std::string::npos)) {
      outcome_.early_errors.emplace_back("preconfig_init_allocator: PYTHONMALLOC: unknown allocator");
    }
  }

  void ReadFlags() {
    constexpr std::pair<const char*, int Config::*> kLevels[] = {
        {"PYTHONDEBUG", &Config::parser_debug},
        {"PYTHONVERBOSE", &Config::verbose},
        {"PYTHONOPTIMIZE", &Config::optimization_level},
        {"PYTHONINSPECT", &Config::inspect},
    };
    for (const auto& [name, level] : kLevels) {
      const char* const text = Variable(name);
      if (text != nullptr && config_.*level < LevelOf(text)) config_.*level = LevelOf(text);
    }
    constexpr std::pair<const char*, bool Config::*> kOffs[] = {
        {"PYTHONDONTWRITEBYTECODE", &Config::write_bytecode},
        {"PYTHONNOUSERSITE", &Config::user_site_directory},
        {"PYTHONUNBUFFERED", &Config::buffered_stdio},
    };
    for (const auto& [name, field] : kOffs) {
      const char* const text = Variable(name);
      if (text != nullptr && LevelOf(text) != 0) config_.*field = false;
    }
  }
  // What is no number, or a negative one, counts as 1.
  static int LevelOf(const char* text) {
    const int number = Number(text).value_or(1);
    return number < 0 ? 1 : number;
  }

  void ReadSeed() {
    if (config_.use_hash_seed.has_value()) return;
    const char* const text = Variable("PYTHONHASHSEED");
    config_.use_hash_seed = text != nullptr && std::strcmp(text, "random") != 0;
    if (!*config_.use_hash_seed) return;
    char* end = nullptr;
    const unsigned long seed = std::strtoul(text, &end, 10);  // ULONG_MAX where there are too many digits
    config_.hash_seed = static_cast<uint32_t>(seed);
    if (*end == '\0' && seed <= UINT32_MAX) return;
    outcome_.errors.emplace_back(
        "config_init_hash_seed: PYTHONHASHSEED must be \"random\" or an integer in range [0; 4294967295]");
  }

  void ReadProfiling() {
    const auto said = [this](const char* variable, const char* option) {
      const char* const text = Variable(variable);
      return Option(option) != nullptr || (text != nullptr && Number(text).value_or(0) != 0);
    };
    if (said("PYTHONPERFSUPPORT", "perf")) config_.perf_profiling = 1;
    if (said("PYTHON_PERF_JIT_SUPPORT", "perf_jit")) config_.perf_profiling = 2;
  }

  // "encoding:errors", where either may be missing. The host's go before.
  void ReadStreams() {
    const char* locale = nullptr;
    for (const char* name : {"LANG", "LC_CTYPE", "LC_ALL"}) {
      if (Get(name) != nullptr) locale = Get(name);
    }
    const Words c_locales = {"C", "POSIX", "C.UTF-8", "C.utf8"};
    const bool escapes = locale == nullptr || utf8_ == 1 ||
                         std::find(c_locales.begin(), c_locales.end(), locale) != c_locales.end();
    std::string encoding;
    std::string errors;
    if (const char* const text = Variable("PYTHONIOENCODING"); text != nullptr) {
      encoding = std::string(text, std::strcspn(text, ":"));
      if (text[encoding.size()] == ':') errors = text + encoding.size() + 1;
    }
    if (errors.empty()) errors = !encoding.empty() ? "strict" : escapes ? "surrogateescape" : "strict";
    if (encoding.empty()) encoding = "utf-8";
    if (!config_.stdio_errors.has_value()) config_.stdio_errors = errors;
    if (!config_.stdio_encoding.has_value()) config_.stdio_encoding = encoding;
    // Which names there are is text_codec_test's.
    const std::optional<TextEncoding> found = FindEncoding(*config_.stdio_encoding);
    if (found.has_value()) {
      config_.stdio_encoding = EncodingName(*found);
    } else {
      outcome_.errors.emplace_back(
          "init_stdio_encoding: failed to get the Python codec name of the stdio encoding");
    }
  }

  void ReadTexts() {
    if (const char* const text = Variable("PYTHONPATH")) config_.python_path = text;
    if (const char* const text = Variable("PYTHONHOME")) config_.home = text;
    if (const char* const text = Variable("PYTHONPLATLIBDIR")) config_.platlibdir = text;
    if (const char* const text = Variable("PYTHONPYCACHEPREFIX")) config_.pycache_prefix = text;
    if (const auto* const option = Option("pycache_prefix")) config_.pycache_prefix = *option;
    if (config_.pycache_prefix == "") config_.pycache_prefix.reset();
  }

  // Each once, and what the host has said last of all.
  void ReadWarnings() {
    Words all;
    if (config_.dev_mode) all.emplace_back("default");
    if (const char* const text = Variable("PYTHONWARNINGS")) {
      std::string rest(text);
      for (char* state = nullptr;
           const char* one = strtok_r(state == nullptr ? rest.data() : nullptr, ",", &state);) {
        all.emplace_back(one);
      }
    }
    all.insert(all.end(), config_.warn_options.begin(), config_.warn_options.end());
    if (config_.bytes_warning == 1) all.emplace_back("default::BytesWarning");
    if (config_.bytes_warning > 1) all.emplace_back("error::BytesWarning");
    config_.warn_options.clear();
    for (const std::string& one : all) {
      Words& chosen = config_.warn_options;
      if (std::count(host_warnings_.begin(), host_warnings_.end(), one) == 0 &&
          std::count(chosen.begin(), chosen.end(), one) == 0) {
        chosen.push_back(one);
      }
    }
    config_.warn_options.insert(config_.warn_options.end(), host_warnings_.begin(), host_warnings_.end());
  }

  const Variables& variables_;
  const Words host_warnings_;
  Outcome& outcome_;
  Config& config_;
  std::optional<int> utf8_;  // asked for: 1, refused: 0
};

Outcome MustRead(const Variables& variables, const Words& words, const Config& before) {
  Outcome outcome{.config = before};
  Config& config = outcome.config;
  if (config.isolated) {
    config.use_environment = config.user_site_directory = config.parse_argv = false;
    config.safe_path = true;
  }
  config.program_name = words.empty() ? config.program_name : words[0];
  config.orig_argv = words;
  config.warn_options.clear();
  if (!config.parse_argv && !words.empty()) config.argv = words;
  if (config.parse_argv) CommandLineModel(words, outcome).Read();
  if (outcome.exit_code == -1) ValuesModel(variables, before.warn_options, outcome).Read();
  return outcome;
}

// --- Comparing

struct Field {
  const char* name;
  bool (*same)(const Config& a, const Config& b);
};
template <auto kMember>
constexpr Field FieldOf(const char* name) {
  return {name, [](const Config& a, const Config& b) { return a.*kMember == b.*kMember; }};
}
constexpr Field kFields[] = {
    FieldOf<&Config::parser_debug>("parser_debug"),
    FieldOf<&Config::inspect>("inspect"),
    FieldOf<&Config::interactive>("interactive"),
    FieldOf<&Config::optimization_level>("optimization_level"),
    FieldOf<&Config::write_bytecode>("write_bytecode"),
    FieldOf<&Config::user_site_directory>("user_site_directory"),
    FieldOf<&Config::site_import>("site_import"),
    FieldOf<&Config::use_environment>("use_environment"),
    FieldOf<&Config::verbose>("verbose"),
    FieldOf<&Config::bytes_warning>("bytes_warning"),
    FieldOf<&Config::quiet>("quiet"),
    FieldOf<&Config::isolated>("isolated"),
    FieldOf<&Config::dev_mode>("dev_mode"),
    FieldOf<&Config::utf8_mode>("utf8_mode"),
    FieldOf<&Config::warn_default_encoding>("warn_default_encoding"),
    FieldOf<&Config::safe_path>("safe_path"),
    FieldOf<&Config::int_max_str_digits>("int_max_str_digits"),
    FieldOf<&Config::gil>("gil"),
    FieldOf<&Config::thread_inherit_context>("thread_inherit_context"),
    FieldOf<&Config::context_aware_warnings>("context_aware_warnings"),
    FieldOf<&Config::lazy_imports>("lazy_imports"),
    FieldOf<&Config::use_hash_seed>("use_hash_seed"),
    FieldOf<&Config::hash_seed>("hash_seed"),
    FieldOf<&Config::buffered_stdio>("buffered_stdio"),
    FieldOf<&Config::stdio_encoding>("stdio_encoding"),
    FieldOf<&Config::stdio_errors>("stdio_errors"),
    FieldOf<&Config::faulthandler>("faulthandler"),
    FieldOf<&Config::import_time>("import_time"),
    FieldOf<&Config::tracemalloc>("tracemalloc"),
    FieldOf<&Config::code_debug_ranges>("code_debug_ranges"),
    FieldOf<&Config::use_frozen_modules>("use_frozen_modules"),
    FieldOf<&Config::install_signal_handlers>("install_signal_handlers"),
    FieldOf<&Config::parse_argv>("parse_argv"),
    FieldOf<&Config::perf_profiling>("perf_profiling"),
    FieldOf<&Config::remote_debug>("remote_debug"),
    FieldOf<&Config::cpu_count>("cpu_count"),
    FieldOf<&Config::show_ref_count>("show_ref_count"),
    FieldOf<&Config::skip_source_first_line>("skip_source_first_line"),
    FieldOf<&Config::check_hash_pycs_mode>("check_hash_pycs_mode"),
    FieldOf<&Config::allocator>("allocator"),
    FieldOf<&Config::pycache_prefix>("pycache_prefix"),
    FieldOf<&Config::python_path>("python_path"),
    FieldOf<&Config::home>("home"),
    FieldOf<&Config::platlibdir>("platlibdir"),
    FieldOf<&Config::run_command>("run_command"),
    FieldOf<&Config::run_module>("run_module"),
    FieldOf<&Config::run_filename>("run_filename"),
    FieldOf<&Config::program_name>("program_name"),
    FieldOf<&Config::argv>("argv"),
    FieldOf<&Config::orig_argv>("orig_argv"),
    FieldOf<&Config::warn_options>("warn_options"),
    FieldOf<&Config::x_options>("x_options"),
};

void ExpectSame(const Config& config, const Config& model) {
  for (const Field& field : kFields) Expect(field.same(config, model), field.name);
  Expect(config == model, "a field that nothing changes");
}

void ExpectStatus(const ConfigStatus& status, const Outcome& model) {
  if (model.exit_code != -1) {
    Expect(status.is_exit() && status.exit_code() == model.exit_code, "the program ends");
    Expect(status.Text().rfind(model.exit_text, 0) == 0, model.exit_text.c_str());
    return;
  }
  const bool early = !model.early_errors.empty();
  const Words& errors = early ? model.early_errors : model.errors;
  Expect(status.ok() == errors.empty(), errors.empty() ? "ok" : errors[0].c_str());
  if (status.ok()) return;
  Expect(status.is_error() && status.exit_code() == 1, "an error");
  Expect(std::any_of(errors.begin(), errors.end(),
                     [&](const std::string& error) {
                       return status.Text() == "Fatal Python error: " + error + "\nPython runtime state: " +
                                                   (early ? "preinitializing\n" : "preinitialized\n");
                     }),
         errors[0].c_str());
}

// What hosts see of it, which is a text in any case.
std::string TextOf(const Variables& variables, const Words& words) {
  Config config;
  const ConfigStatus status = ReadConfig(EnvironmentView(variables), words, &config);
  if (!status.ok()) {
    Expect(!status.Text().empty(), "an outcome has a text");
    Expect(status.is_error() ? status.exit_code() == 1 : status.exit_code() == 0 || status.exit_code() == 2,
           "its exit code");
    return status.Text();
  }
  Expect(!config.argv.empty(), "argv has an element");
  return MakeFlags(config)->Repr().value();
}

// Whatever there is besides: with -I no PYTHON* variable matters.
void ExpectIsolation(const Variables& variables, Words words) {
  static_cast<void>(TextOf(variables, words));
  words.insert(words.begin() + 1, "-I");
  Variables locale;
  for (const auto& variable : variables) {
    if (variable.first.rfind("PYTHON", 0) != 0) locale.push_back(variable);
  }
  Expect(TextOf(variables, words) == TextOf(locale, words), "the environment reached an isolated config");
}

// --- Operations

struct State {
  Config config;
  Config model;
  Config saved;
  Config saved_model;
  Variables variables;
  Words words = {"python3"};
};

// setenv and unsetenv.
struct SetVariable {
  std::string name;
  std::string text;
  std::string ToString() const { return "SetVariable{" + CppText(name) + ", " + CppText(text) + "}"; }
  void Perform(State& state) const {
    for (auto& [key, value] : state.variables) {
      if (key != name) continue;
      value = text;
      return;
    }
    state.variables.emplace_back(name, text);
  }
};
struct UnsetVariable {
  std::string name;
  std::string ToString() const { return "UnsetVariable{" + CppText(name) + "}"; }
  void Perform(State& state) const {
    std::erase_if(state.variables, [this](const auto& variable) { return variable.first == name; });
  }
};

// To the command line.
struct Append {
  std::string word;
  std::string ToString() const { return "Append{" + CppText(word) + "}"; }
  void Perform(State& state) const { state.words.push_back(word); }
};
struct NewCommandLine {
  std::string ToString() const { return "NewCommandLine{}"; }
  void Perform(State& state) const { state.words = {"python3"}; }
};

// A field, as a host sets it.
struct Set {
  int field;
  int value;
  std::string ToString() const { return "Set{" + std::to_string(field) + ", " + std::to_string(value) + "}"; }
  static constexpr int kFields = 12;
  void Perform(State& state) const {
    for (Config* const config : {&state.config, &state.model}) {
      const bool on = value % 2 != 0;
      const std::string text = value % 4 == 0   ? "ASCII"
                               : value % 4 == 1 ? "replace"
                               : value % 4 == 2 ? "b"
                                                : "bogus";
      switch (field) {
        case 0:
          config->isolated = on;
          break;
        case 1:
          config->use_environment = on;
          break;
        case 2:
          config->parse_argv = on;
          break;
        case 3:
          config->dev_mode = on;
          break;
        case 4:
          config->safe_path = on;
          break;
        case 5:
          config->verbose = value;
          break;
        case 6:
          config->use_hash_seed = on;
          config->hash_seed = static_cast<uint32_t>(value);
          break;
        case 7:
          config->stdio_errors = text;
          break;
        case 8:
          config->stdio_encoding = text;
          break;
        case 9:
          config->warn_options.push_back(text);
          break;
        case 10:
          config->x_options.emplace_back("utf8", std::to_string(value));
          break;
        default:
          config->bytes_warning = value;
          break;
      }
    }
  }
};

// 0: as for python, 1: for an embedding.
struct StartAnew {
  int how;
  std::string ToString() const { return "StartAnew{" + std::to_string(how) + "}"; }
  void Perform(State& state) const {
    state.config = how == 0 ? Config() : Config::Isolated();
    state.model = Config();
    if (how == 0) return;
    state.model.isolated = state.model.safe_path = true;
    state.model.use_environment = state.model.user_site_directory = state.model.parse_argv = false;
    state.model.install_signal_handlers = false;
  }
};

// A copy stays what it was.
struct Save {
  std::string ToString() const { return "Save{}"; }
  void Perform(State& state) const {
    state.saved = state.config;
    state.saved_model = state.model;
  }
};
struct Restore {
  std::string ToString() const { return "Restore{}"; }
  void Perform(State& state) const {
    state.config = state.saved;
    state.model = state.saved_model;
  }
};

struct Read {
  bool keep;  // what was read, so that the next one begins with it
  std::string ToString() const { return keep ? "Read{true}" : "Read{false}"; }
  void Perform(State& state) const {
    const Outcome model = MustRead(state.variables, state.words, state.model);
    Config config = state.config;
    const ConfigStatus status = ReadConfig(EnvironmentView(state.variables), state.words, &config);
    ExpectStatus(status, model);
    if (status.ok()) {
      ExpectSame(config, model.config);
      if (keep) {
        state.config = config;
        state.model = model.config;
      }
    }
    ExpectIsolation(state.variables, state.words);
  }
};

// The command line alone.
struct Parse {
  std::string ToString() const { return "Parse{}"; }
  void Perform(State& state) const {
    Outcome model{.config = state.model};
    CommandLineModel(state.words, model).Read();
    Config config = state.config;
    ExpectStatus(ParseCommandLine(state.words, &config), model);
    if (model.exit_code == -1) ExpectSame(config, model.config);
  }
};

// The first of a name counts.
struct Look {
  std::string option;
  std::string ToString() const { return "Look{" + CppText(option) + "}"; }
  void Perform(State& state) const {
    const auto at = std::find_if(state.model.x_options.begin(), state.model.x_options.end(),
                                 [this](const auto& one) { return one.first == option; });
    const std::optional<std::string_view> found = state.config.XOption(option);
    Expect(found.has_value() == (at != state.model.x_options.end()), "XOption");
    if (found.has_value()) Expect(*found == at->second.value_or(""), "its value");
  }
};

// Any words, with a 0 between them; those that begin with PYTHON and have a "=" are variables.
struct ReadWords {
  std::string text;
  std::string ToString() const { return "ReadWords{" + CppText(text) + "}"; }
  void Perform(State& state) const {
    state.variables.clear();
    state.words = {"python3"};
    std::string_view rest = text;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\0'), rest.size());
      const std::string word(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
      const size_t equals = word.find('=');
      if (word.rfind("PYTHON", 0) == 0 && equals != std::string::npos) {
        state.variables.emplace_back(word.substr(0, equals), word.substr(equals + 1));
      } else {
        state.words.push_back(word);
      }
    }
    Read{.keep = false}.Perform(state);
  }
};

using Operation = std::variant<SetVariable, UnsetVariable, Append, NewCommandLine, Set, StartAnew, Save,
                               Restore, Read, Parse, Look, ReadWords>;

// Names, and a text that each accepts.
constexpr std::pair<const char*, const char*> kVariables[] = {
    {"PYTHONDEBUG", "2"},
    {"PYTHONVERBOSE", "1"},
    {"PYTHONOPTIMIZE", "2"},
    {"PYTHONINSPECT", "1"},
    {"PYTHONDONTWRITEBYTECODE", "1"},
    {"PYTHONNOUSERSITE", "1"},
    {"PYTHONUNBUFFERED", "1"},
    {"PYTHONSAFEPATH", "0"},
    {"PYTHONDEVMODE", "1"},
    {"PYTHONUTF8", "1"},
    {"PYTHONMALLOC", "malloc_debug"},
    {"PYTHONHASHSEED", "7"},
    {"PYTHON_GIL", "1"},
    {"PYTHON_FROZEN_MODULES", "off"},
    {"PYTHONPROFILEIMPORTTIME", "2"},
    {"PYTHON_LAZY_IMPORTS", "all"},
    {"PYTHONTRACEMALLOC", "3"},
    {"PYTHONPERFSUPPORT", "1"},
    {"PYTHON_PERF_JIT_SUPPORT", "1"},
    {"PYTHON_DISABLE_REMOTE_DEBUG", "1"},
    {"PYTHONINTMAXSTRDIGITS", "640"},
    {"PYTHON_CPU_COUNT", "default"},
    {"PYTHONFAULTHANDLER", "1"},
    {"PYTHONNODEBUGRANGES", "1"},
    {"PYTHONWARNDEFAULTENCODING", "1"},
    {"PYTHON_THREAD_INHERIT_CONTEXT", "1"},
    {"PYTHON_CONTEXT_AWARE_WARNINGS", "0"},
    {"PYTHONIOENCODING", "latin-1:replace"},
    {"PYTHONPATH", "/p"},
    {"PYTHONHOME", "/h"},
    {"PYTHONPLATLIBDIR", "lib64"},
    {"PYTHONPYCACHEPREFIX", "/c"},
    {"PYTHONWARNINGS", "a,b,,a"},
    {"LC_ALL", "de_DE.UTF-8"},
    {"LC_CTYPE", "POSIX"},
    {"LANG", "en_US.UTF-8"},
};
constexpr std::pair<const char*, const char*> kXOptions[] = {
    {"dev", "1"},
    {"utf8", "1"},
    {"gil", "1"},
    {"frozen_modules", "on"},
    {"importtime", "2"},
    {"lazy_imports", "normal"},
    {"tracemalloc", "2"},
    {"perf", "1"},
    {"perf_jit", "1"},
    {"disable-remote-debug", "1"},
    {"int_max_str_digits", "0"},
    {"cpu_count", "3"},
    {"faulthandler", "1"},
    {"no_debug_ranges", "1"},
    {"warn_default_encoding", "1"},
    {"showrefcount", "1"},
    {"thread_inherit_context", "0"},
    {"context_aware_warnings", "1"},
    {"pycache_prefix", "/x"},
    {"of the host", "a=b"},
};
constexpr const char* kTexts[] = {
    "",
    "0",
    "1",
    "2",
    "-1",
    "+1",
    "3",
    "7",
    " 1",
    "1 ",
    "-0",
    "x",
    "on",
    "off",
    "all",
    "normal",
    "default",
    "random",
    "debug",
    "malloc",
    "639",
    "640",
    "ascii",
    ":ignore",
    "bogus",
    "4294967295",
    "4294967296",
    "error,x,x",
    "C",
    "utf-8:",
    "b",
    "mimalloc_debug",
    "debug_debug",
    "2147483648",
    "99999999999999999999",
    "-18446744073709551615",
};
constexpr const char* kWords[] = {
    "-b",
    "-B",
    "-d",
    "-E",
    "-i",
    "-I",
    "-O",
    "-P",
    "-q",
    "-R",
    "-s",
    "-S",
    "-u",
    "-v",
    "-x",
    "-t",
    "-OO",
    "-bb",
    "-vvu",
    "-Wdefault",
    "-Werror",
    "-W",
    "b",
    "-X",
    "--check-hash-based-pycs",
    "always",
    "bad",
    "--",
    "-",
    "script.py",
    "-cpass",
    "-c",
    "-m",
    "-Bm",
    "",
    "--version",
    "-V",
    "-h",
    "--help",
    "--help-env",
    "--help-xoptions",
    "--help-all",
    "--foo",
    "-Z",
    "-J",
};

// A text that fits, or any.
std::string NextText(FuzzInput& input, const char* fitting) {
  const uint8_t which = input.Byte();
  return which < 128 ? fitting : kTexts[(which - 128) % std::size(kTexts)];
}

Operation NextOperation(FuzzInput& input) {
  const uint8_t kind = input.Byte();
  switch (kind & 15) {
    case 0:
    case 1:
    case 2:
    case 3: {
      const auto& [name, fitting] = kVariables[input.Byte() % std::size(kVariables)];
      return SetVariable{name, NextText(input, fitting)};
    }
    case 4:
      return UnsetVariable{kVariables[input.Byte() % std::size(kVariables)].first};
    case 5:
    case 6:
      return Append{kWords[input.Byte() % std::size(kWords)]};
    case 7:
    case 8:
    case 9: {
      const auto& [name, fitting] = kXOptions[input.Byte() % std::size(kXOptions)];
      if ((kind & 16) != 0) return Append{std::string("-X") + name};
      return Append{std::string("-X") + name + "=" + NextText(input, fitting)};
    }
    case 10: {
      const int field = input.Below(Set::kFields);
      return Set{field, input.Below(4)};
    }
    case 11:
      if ((kind & 16) != 0) return StartAnew{kind >> 5 & 1};
      return NewCommandLine{};
    case 12:
      if ((kind & 16) != 0) return Save{};
      return Restore{};
    case 13:
      if ((kind & 16) != 0) return Parse{};
      return Look{kXOptions[input.Byte() % std::size(kXOptions)].first};
    case 14:
      return Read{(kind & 16) != 0};
    default: {
      std::string text;
      const int length = (kind & 16) != 0 ? INT_MAX : input.Below(64);
      while (!input.empty() && text.size() < static_cast<size_t>(length)) {
        text += static_cast<char>(input.Byte());
      }
      return ReadWords{text};
    }
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 200; ++operations) {
    PerformLogged(NextOperation(input), state);
    ExpectSame(state.config, state.model);
  }
  PerformLogged(Operation(Read{.keep = false}), state);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
