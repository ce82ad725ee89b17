// The command line half of runtime_config.h.

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/sys/internal/usage_text.h"
#include "pyrt/sys/runtime_config.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr std::string_view kOptions = "bBcdEhiIJmOPqRsStuvVWxX?";
constexpr std::string_view kOptionsWithArgument = "cmWX";

std::string UsageLine(std::string_view program) {
  return "usage: " + std::string(program) + " [option] ... [-c cmd | -m mod | file | -] [arg] ...\n";
}

ConfigStatus BadUsage(std::string_view program, const std::string& message) {
  return ConfigStatus::Exit(2,
                            message + "\n" + UsageLine(program) + "Try 'python -h' for more information.\n");
}

void AddXOption(std::string_view option, RuntimeConfig* config) {
  const size_t equals = option.find('=');
  if (equals == std::string_view::npos) {
    config->x_options.emplace_back(std::string(option), std::nullopt);
  } else {
    config->x_options.emplace_back(std::string(option.substr(0, equals)),
                                   std::string(option.substr(equals + 1)));
  }
}

// What a one-letter option without an argument does. False for those that end the program.
void ApplyFlag(char option, RuntimeConfig* config) {
  switch (option) {
    case 'b':
      ++config->bytes_warning;
      break;
    case 'B':
      config->write_bytecode = false;
      break;
    case 'd':
      ++config->parser_debug;
      break;
    case 'E':
      config->use_environment = false;
      break;
    case 'i':
      ++config->inspect;
      ++config->interactive;
      break;
    case 'I':
      config->isolated = true;
      config->use_environment = false;
      config->user_site_directory = false;
      config->safe_path = true;
      break;
    case 'O':
      ++config->optimization_level;
      break;
    case 'P':
      config->safe_path = true;
      break;
    case 'q':
      ++config->quiet;
      break;
    case 'R':
      config->use_hash_seed = false;
      break;
    case 's':
      config->user_site_directory = false;
      break;
    case 'S':
      config->site_import = false;
      break;
    case 'u':
      config->buffered_stdio = false;
      break;
    case 'v':
      ++config->verbose;
      break;
    case 'x':
      config->skip_source_first_line = true;
      break;
    default:  // 't' is accepted for old scripts
      break;
  }
}

class CommandLineParser {
 public:
  CommandLineParser(absl::Span<const std::string> argv, RuntimeConfig* config)
      : argv_(argv), program_(argv.empty() ? config->program_name : argv[0]), config_(config) {}

  ConfigStatus Parse() {
    while (next_ < argv_.size() && !done_) {
      const std::string& word = argv_[next_];
      // A lone "-" is the script "standard input"; so is everything that is no option.
      if (word.size() < 2 || word[0] != '-') break;
      ++next_;
      if (word == "--") break;
      ConfigStatus status = word[1] == '-' ? ParseLong(word) : ParseShort(word);
      if (!status.ok()) return status;
    }
    // Only after everything was understood, like CPython: `-V -Z` is bad usage.
    if (versions_ > 0) return Version();
    SetArguments();
    return ConfigStatus::Ok();
  }

 private:
  ConfigStatus ParseLong(const std::string& word) {
    const std::string name = word.substr(2);
    if (name == "help-env") return ConfigStatus::Exit(0, internal::kUsageEnvironment);
    if (name == "help-xoptions") return ConfigStatus::Exit(0, internal::kUsageXOptions);
    if (name == "help-all") {
      return ConfigStatus::Exit(0, UsageLine(program_) + internal::kUsageOptions + "\n" +
                                       internal::kUsageEnvironment + "\n" + internal::kUsageXOptions);
    }
    if (name == "help") return Help();
    if (name == "version") {
      ++versions_;
      return ConfigStatus::Ok();
    }
    if (name != "check-hash-based-pycs") return BadUsage(program_, "unknown option " + word);
    if (next_ == argv_.size()) return BadUsage(program_, "Argument expected for the " + word + " option");
    const std::string& mode = argv_[next_++];
    if (mode != "always" && mode != "never" && mode != "default") {
      return BadUsage(program_, "--check-hash-based-pycs must be one of 'default', 'always', or 'never'");
    }
    config_->check_hash_pycs_mode = mode;
    return ConfigStatus::Ok();
  }

  ConfigStatus ParseShort(const std::string& word) {
    for (size_t i = 1; i < word.size(); ++i) {
      const char option = word[i];
      if (option == 'J') return BadUsage(program_, "-J is reserved for Jython");
      if (kOptions.find(option) == std::string_view::npos) {
        return BadUsage(program_, std::string("Unknown option: -") + option);
      }
      if (option == 'h' || option == '?') return Help();
      if (option == 'V') {
        ++versions_;
        continue;
      }
      if (kOptionsWithArgument.find(option) == std::string_view::npos) {
        ApplyFlag(option, config_);
        continue;
      }
      // The argument is the rest of this word, or the next word.
      if (i + 1 == word.size() && next_ == argv_.size()) {
        return BadUsage(program_, std::string("Argument expected for the -") + option + " option");
      }
      const std::string argument = i + 1 < word.size() ? word.substr(i + 1) : argv_[next_++];
      ApplyArgument(option, argument);
      return ConfigStatus::Ok();
    }
    return ConfigStatus::Ok();
  }

  void ApplyArgument(char option, const std::string& argument) {
    switch (option) {
      case 'c':
        config_->run_command = argument + "\n";
        done_ = true;
        break;
      case 'm':
        config_->run_module = argument;
        done_ = true;
        break;
      case 'W':
        config_->warn_options.push_back(argument);
        break;
      default:
        AddXOption(argument, config_);
        break;
    }
  }

  // sys.argv: "-c", "-m" or the script, then the rest; [""] without any.
  void SetArguments() {
    std::vector<std::string> rest(argv_.begin() + static_cast<ptrdiff_t>(next_), argv_.end());
    if (config_->run_command.has_value()) {
      rest.insert(rest.begin(), "-c");
    } else if (config_->run_module.has_value()) {
      rest.insert(rest.begin(), "-m");
    } else if (rest.empty()) {
      rest.push_back("");
    } else if (rest[0] != "-") {
      config_->run_filename = rest[0];
    }
    config_->argv = std::move(rest);
  }

  ConfigStatus Help() const { return ConfigStatus::Exit(0, UsageLine(program_) + internal::kUsageOptions); }
  ConfigStatus Version() const {
    return ConfigStatus::Exit(
        0, "Python " + (versions_ > 1 ? VersionText(*config_) : config_->language.Short()) + "\n");
  }

  const absl::Span<const std::string> argv_;
  const std::string program_;
  RuntimeConfig* const config_;
  size_t next_ = 1;
  bool done_ = false;
  int versions_ = 0;
};

}  // namespace

ConfigStatus ParseCommandLine(absl::Span<const std::string> argv, RuntimeConfig* config) {
  if (argv.empty()) return ConfigStatus::Ok();
  return CommandLineParser(argv, config).Parse();
}

}  // namespace pyrt::inline PYRT_VARIANT
