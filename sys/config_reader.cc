// The environment and the -X options: ReadConfig of runtime_config.h.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/text_codec.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int kMaxStrDigitsThreshold = 640;

// strtol's and strtoul's view of a decimal number: leading blanks and a sign are fine, also for an unsigned one, which
// it negates; anything behind it is not.
template <typename Integer>
std::optional<Integer> ParseNumber(std::string_view text) {
  while (!text.empty() && (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r'))) text.remove_prefix(1);
  const bool negate = std::is_unsigned_v<Integer> && text.size() > 1 && text[0] == '-';
  if (negate || (text.size() > 1 && text[0] == '+' && text[1] != '-')) text.remove_prefix(1);
  Integer value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negate ? Integer{0} - value : value;
}

// No text at all is 0, as strtol has it too.
std::optional<int> ParseInt(std::string_view text) { return text.empty() ? 0 : ParseNumber<int>(text); }

std::vector<std::string> SplitNonEmpty(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const size_t end = text.find(separator);
    if (end != 0) parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return parts;
}

// Reads what ParseCommandLine left: the environment and the -X options.
class ConfigReader {
 public:
  // `host_warn_options`: what the config held before the command line was parsed.
  ConfigReader(const EnvironmentView& environment, std::vector<std::string> host_warn_options,
               RuntimeConfig* config)
      : all_(environment), host_warn_options_(std::move(host_warn_options)), config_(config) {}

  ConfigStatus Read() {
    for (ConfigStatus (ConfigReader::*step)() :
         {&ConfigReader::ReadPreConfig, &ConfigReader::ReadFlags, &ConfigReader::ReadHashSeed,
          &ConfigReader::ReadGil, &ConfigReader::ReadFrozenModules, &ConfigReader::ReadImportTime,
          &ConfigReader::ReadLazyImports, &ConfigReader::ReadTracemalloc, &ConfigReader::ReadProfiling,
          &ConfigReader::ReadIntMaxStrDigits, &ConfigReader::ReadCpuCount, &ConfigReader::ReadSwitches,
          &ConfigReader::ReadStdio}) {
      ConfigStatus status = (this->*step)();
      if (!status.ok()) return status;
    }
    ReadPaths();
    ReadWarnOptions();
    return ConfigStatus::Ok();
  }

 private:
  using Status = ConfigStatus;

  std::optional<std::string> Env(std::string_view name) const {
    return config_->use_environment ? all_.Get(name) : std::nullopt;
  }

  // A number, or anything else for 1; what the command line said wins if it is larger.
  void EnvFlag(std::string_view name, int* flag) const {
    const std::optional<std::string> text = Env(name);
    if (!text.has_value()) return;
    const std::optional<int> value = ParseInt(*text);
    *flag = std::max(*flag, value.has_value() && *value >= 0 ? *value : 1);
  }
  bool EnvSwitch(std::string_view name) const {
    int value = 0;
    EnvFlag(name, &value);
    return value != 0;
  }

  Status ReadPreConfig() {
    if (Env("PYTHONDEVMODE") || config_->XOption("dev")) config_->dev_mode = true;
    utf8_explicit_ = false;
    if (const XOptionValue option = FindXOption("utf8"); option.present) {
      if (option.value.has_value() && *option.value != "1" && *option.value != "0") {
        return Status::Error("preconfig_init_utf8_mode", "invalid -X utf8 option value");
      }
      config_->utf8_mode = option.value != "0";
      utf8_explicit_ = true;
    } else if (const auto value = Env("PYTHONUTF8")) {
      if (*value != "0" && *value != "1") {
        return Status::Error("preconfig_init_utf8_mode", "invalid PYTHONUTF8 environment variable value");
      }
      config_->utf8_mode = *value == "1";
      utf8_explicit_ = true;
    }
    if (const auto value = Env("PYTHONMALLOC")) {
      bool known = false;
      for (const std::string_view name : {"default", "debug", "pymalloc", "pymalloc_debug", "malloc",
                                          "malloc_debug", "mimalloc", "mimalloc_debug"}) {
        known = known || *value == name;
      }
      if (!known) return Status::Error("preconfig_init_allocator", "PYTHONMALLOC: unknown allocator");
      config_->allocator = *value;
    } else if (config_->dev_mode) {
      config_->allocator = "debug";
    }
    return Status::Ok();
  }

  Status ReadFlags() {
    EnvFlag("PYTHONDEBUG", &config_->parser_debug);
    EnvFlag("PYTHONVERBOSE", &config_->verbose);
    EnvFlag("PYTHONOPTIMIZE", &config_->optimization_level);
    EnvFlag("PYTHONINSPECT", &config_->inspect);
    if (EnvSwitch("PYTHONDONTWRITEBYTECODE")) config_->write_bytecode = false;
    if (EnvSwitch("PYTHONNOUSERSITE")) config_->user_site_directory = false;
    if (EnvSwitch("PYTHONUNBUFFERED")) config_->buffered_stdio = false;
    if (Env("PYTHONSAFEPATH")) config_->safe_path = true;
    return Status::Ok();
  }

  Status ReadHashSeed() {
    // -R, or the host: then the variable is not even looked at.
    if (config_->use_hash_seed.has_value()) return Status::Ok();
    config_->use_hash_seed = false;
    const auto value = Env("PYTHONHASHSEED");
    if (!value.has_value() || *value == "random") return Status::Ok();
    const std::optional<uint64_t> seed = ParseNumber<uint64_t>(*value);
    if (!seed.has_value() || *seed > std::numeric_limits<uint32_t>::max()) {
      return Status::Error("config_init_hash_seed",
                           "PYTHONHASHSEED must be \"random\" or an integer in range [0; 4294967295]");
    }
    config_->use_hash_seed = true;
    config_->hash_seed = static_cast<uint32_t>(*seed);
    return Status::Ok();
  }

  Status SetGil(std::string_view value) {
    if (value == "0") {
      if constexpr (kGilEnabled) {
        return Status::Error("config_read_gil", "Disabling the GIL is not supported by this build");
      } else {
        config_->gil = GilMode::kDisable;
      }
    } else if (value == "1") {
      if constexpr (!kGilEnabled) config_->gil = GilMode::kEnable;
    } else {
      return Status::Error("config_read_gil", "PYTHON_GIL / -X gil must be \"0\" or \"1\"");
    }
    return Status::Ok();
  }

  Status ReadGil() {
    // The environment first and the option over it: a bad variable is an error even beside a good option.
    if (const auto value = Env("PYTHON_GIL")) {
      Status status = SetGil(*value);
      if (!status.ok()) return status;
    }
    if (const auto option = config_->XOption("gil")) return SetGil(*option);
    return Status::Ok();
  }

  Status ReadFrozenModules() {
    if (const auto value = Env("PYTHON_FROZEN_MODULES")) {
      if (*value != "on" && *value != "off") {
        return Status::Error("", "bad value for PYTHON_FROZEN_MODULES (expected \"on\" or \"off\")");
      }
      config_->use_frozen_modules = *value == "on";
    }
    if (const auto option = config_->XOption("frozen_modules")) {
      if (*option != "" && *option != "on" && *option != "off") {
        return Status::Error("", "bad value for option -X frozen_modules (expected \"on\" or \"off\")");
      }
      config_->use_frozen_modules = *option != "off";
    }
    return Status::Ok();
  }

  Status ReadImportTime() {
    if (const auto value = Env("PYTHONPROFILEIMPORTTIME")) {
      config_->import_time = ParseInt(*value).value_or(1);
      if (config_->import_time < 0 || config_->import_time > 2) {
        return Status::Error(
            "config_init_import_time",
            "PYTHONPROFILEIMPORTTIME: numeric values other than 1 and 2 are reserved for future "
            "use.");
      }
    }
    if (const auto option = config_->XOption("importtime")) {
      config_->import_time = option->empty() ? 1 : ParseInt(*option).value_or(1);
      if (config_->import_time < 0 || config_->import_time > 2) {
        return Status::Error("config_init_import_time",
                             "-X importtime: values other than 1 and 2 are reserved for future use.");
      }
    }
    return Status::Ok();
  }

  Status ReadLazyImports() {
    const auto set = [this](std::string_view source, std::string_view value) {
      if (value != "all" && value != "normal") {
        return Status::Error("config_init_lazy_imports",
                             std::string(source) + ": invalid value; expected 'all' or 'normal'");
      }
      config_->lazy_imports = value == "all" ? 1 : -1;
      return Status::Ok();
    };
    if (const auto value = Env("PYTHON_LAZY_IMPORTS")) {
      Status status = set("PYTHON_LAZY_IMPORTS", *value);
      if (!status.ok()) return status;
    }
    if (const auto option = config_->XOption("lazy_imports")) return set("-X lazy_imports", *option);
    return Status::Ok();
  }

  Status ReadTracemalloc() {
    if (const auto value = Env("PYTHONTRACEMALLOC")) {
      config_->tracemalloc = ParseInt(*value).value_or(-1);
      if (config_->tracemalloc < 0) {
        return Status::Error("config_init_tracemalloc", "PYTHONTRACEMALLOC: invalid number of frames");
      }
    }
    if (const XOptionValue option = FindXOption("tracemalloc"); option.present) {
      config_->tracemalloc = option.value.has_value() ? ParseInt(*option.value).value_or(-1) : 1;
      if (config_->tracemalloc < 0) {
        return Status::Error("config_init_tracemalloc", "-X tracemalloc=NFRAME: invalid number of frames");
      }
    }
    return Status::Ok();
  }

  Status ReadProfiling() {
    const auto active = [this](std::string_view name) {
      return ParseInt(Env(name).value_or("0")).value_or(0) != 0;
    };
    if (active("PYTHONPERFSUPPORT") || config_->XOption("perf")) config_->perf_profiling = 1;
    if (active("PYTHON_PERF_JIT_SUPPORT") || config_->XOption("perf_jit")) config_->perf_profiling = 2;
    if (Env("PYTHON_DISABLE_REMOTE_DEBUG") || config_->XOption("disable-remote-debug"))
      config_->remote_debug = false;
    return Status::Ok();
  }

  Status ReadIntMaxStrDigits() {
    const auto valid = [](std::optional<int> digits) {
      return digits.has_value() && (*digits == 0 || *digits >= kMaxStrDigitsThreshold);
    };
    if (const auto value = Env("PYTHONINTMAXSTRDIGITS")) {
      const std::optional<int> digits = ParseInt(*value);
      if (!valid(digits)) {
        return Status::Error("config_init_int_max_str_digits",
                             "PYTHONINTMAXSTRDIGITS: invalid limit; must be >= 640 or 0 for unlimited.");
      }
      config_->int_max_str_digits = *digits;
    }
    if (const XOptionValue option = FindXOption("int_max_str_digits"); option.present) {
      const std::optional<int> digits = option.value.has_value() ? ParseInt(*option.value) : std::nullopt;
      if (!valid(digits)) {
        return Status::Error("config_init_int_max_str_digits",
                             "-X int_max_str_digits: invalid limit; must be >= 640 or 0 for unlimited.");
      }
      config_->int_max_str_digits = *digits;
    }
    return Status::Ok();
  }

  Status ReadCpuCount() {
    for (const auto& text : {Env("PYTHON_CPU_COUNT"), OptionalString(config_->XOption("cpu_count"))}) {
      if (!text.has_value()) continue;
      const std::optional<int> count = *text == "default" ? std::optional<int>(-1) : ParseInt(*text);
      if (!count.has_value() || (*count < 1 && *text != "default")) {
        return Status::Error(
            "config_init_cpu_count",
            "-X cpu_count=n option: n is missing or an invalid number, n must be greater than 0");
      }
      config_->cpu_count = *count;
    }
    return Status::Ok();
  }

  // A variable and an option that are "0" or "1" and nothing else.
  Status ReadZeroOrOne(std::string_view function, std::string_view variable, std::string_view option,
                       bool* target) {
    if (const auto value = Env(variable)) {
      const std::optional<int> number = ParseInt(*value);
      if (!number.has_value() || *number < 0 || *number > 1) {
        return Status::Error(function, std::string(variable) + "=N: N is missing or invalid");
      }
      *target = *number == 1;
    }
    if (const XOptionValue given = FindXOption(option); given.present) {
      const std::optional<int> number = given.value.has_value() ? ParseInt(*given.value) : std::nullopt;
      if (!number.has_value() || *number < 0 || *number > 1) {
        return Status::Error(function, "-X " + std::string(option) + "=n: n is missing or invalid");
      }
      *target = *number == 1;
    }
    return Status::Ok();
  }

  Status ReadSwitches() {
    if (Env("PYTHONFAULTHANDLER") || config_->XOption("faulthandler") || config_->dev_mode) {
      config_->faulthandler = true;
    }
    if (Env("PYTHONNODEBUGRANGES") || config_->XOption("no_debug_ranges")) config_->code_debug_ranges = false;
    if (Env("PYTHONWARNDEFAULTENCODING") || config_->XOption("warn_default_encoding")) {
      config_->warn_default_encoding = true;
    }
    if (config_->XOption("showrefcount")) config_->show_ref_count = true;
    Status status = ReadZeroOrOne("config_init_thread_inherit_context", "PYTHON_THREAD_INHERIT_CONTEXT",
                                  "thread_inherit_context", &config_->thread_inherit_context);
    if (!status.ok()) return status;
    return ReadZeroOrOne("config_init_context_aware_warnings", "PYTHON_CONTEXT_AWARE_WARNINGS",
                         "context_aware_warnings", &config_->context_aware_warnings);
  }

  // The locale that the environment names for LC_CTYPE, without touching the process. One that is not installed
  // counts as what it is called, where setlocale would stay with C.
  bool LocaleIsC() const {
    std::string locale;
    for (const std::string_view name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
      if (const auto value = all_.Get(name)) {
        locale = *value;
        break;
      }
    }
    // The last two are what a C locale is coerced to (PEP 538).
    return locale.empty() || locale == "C" || locale == "POSIX" || locale == "C.UTF-8" || locale == "C.utf8";
  }

  Status ReadStdio() {
    // Escaping undecodable bytes is for the locale that promises nothing, and for who asks for UTF-8 mode.
    std::string errors = LocaleIsC() || (utf8_explicit_ && config_->utf8_mode) ? "surrogateescape" : "strict";
    if (const auto value = Env("PYTHONIOENCODING")) {
      const size_t colon = value->find(':');
      const std::string encoding = value->substr(0, colon);
      if (!encoding.empty()) {
        if (!config_->stdio_encoding.has_value()) config_->stdio_encoding = encoding;
        errors = "strict";
      }
      if (colon != std::string::npos && colon + 1 < value->size()) errors = value->substr(colon + 1);
    }
    if (!config_->stdio_errors.has_value()) config_->stdio_errors = errors;
    const std::optional<TextEncoding> encoding = FindEncoding(config_->stdio_encoding.value_or("utf-8"));
    if (!encoding.has_value()) {
      return Status::Error("init_stdio_encoding",
                           "failed to get the Python codec name of the stdio encoding");
    }
    config_->stdio_encoding = EncodingName(*encoding);
    return Status::Ok();
  }

  void ReadPaths() {
    if (const auto value = Env("PYTHONPATH")) config_->python_path = *value;
    if (const auto value = Env("PYTHONHOME")) config_->home = *value;
    if (const auto value = Env("PYTHONPLATLIBDIR")) config_->platlibdir = *value;
    // The option, even with nothing in it, hides the variable.
    if (const auto option = config_->XOption("pycache_prefix")) {
      config_->pycache_prefix = option->empty() ? std::nullopt : std::optional<std::string>(*option);
    } else if (const auto value = Env("PYTHONPYCACHEPREFIX")) {
      config_->pycache_prefix = *value;
    }
  }

  // Lowest priority first: warnings.filters are prepended one by one. What comes a second time, or what the host says
  // itself, is left out, so that reading again changes nothing.
  void ReadWarnOptions() {
    std::vector<std::string> options;
    const auto append = [&](std::string option) {
      const auto has = [&](const std::vector<std::string>& list) {
        return std::find(list.begin(), list.end(), option) != list.end();
      };
      if (!has(host_warn_options_) && !has(options)) options.push_back(std::move(option));
    };
    if (config_->dev_mode) append("default");
    if (const auto value = Env("PYTHONWARNINGS")) {
      for (std::string& option : SplitNonEmpty(*value, ',')) append(std::move(option));
    }
    for (std::string& option : config_->warn_options) append(std::move(option));
    if (config_->bytes_warning > 0) {
      append(config_->bytes_warning > 1 ? "error::BytesWarning" : "default::BytesWarning");
    }
    for (std::string& option : host_warn_options_) options.push_back(std::move(option));
    config_->warn_options = std::move(options);
  }

  struct XOptionValue {
    bool present = false;
    std::optional<std::string> value;
  };
  XOptionValue FindXOption(std::string_view name) const {
    for (const auto& [key, value] : config_->x_options) {
      if (key == name) return {true, value};
    }
    return {};
  }
  static std::optional<std::string> OptionalString(std::optional<std::string_view> text) {
    return text.has_value() ? std::optional<std::string>(*text) : std::nullopt;
  }

  const EnvironmentView& all_;
  std::vector<std::string> host_warn_options_;
  RuntimeConfig* const config_;
  bool utf8_explicit_ = false;
};

}  // namespace

ConfigStatus ReadConfig(const EnvironmentView& environment, absl::Span<const std::string> argv,
                        RuntimeConfig* config) {
  if (config->isolated) {
    config->use_environment = false;
    config->user_site_directory = false;
    config->safe_path = true;
    config->parse_argv = false;
  }
  if (!argv.empty()) config->program_name = argv[0];
  config->orig_argv.assign(argv.begin(), argv.end());
  std::vector<std::string> host_warn_options = std::exchange(config->warn_options, {});
  if (config->parse_argv) {
    ConfigStatus status = ParseCommandLine(argv, config);
    if (!status.ok()) return status;
  } else if (!argv.empty()) {
    config->argv.assign(argv.begin(), argv.end());
  }
  return ConfigReader(environment, std::move(host_warn_options), config).Read();
}

}  // namespace pyrt::inline PYRT_VARIANT
