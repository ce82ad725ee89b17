#include "pyrt/sys/runtime_config.h"

#include <unistd.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

int64_t LanguageVersion::Hex() const {
  const int64_t level = release_level == "alpha"       ? 0xA
                        : release_level == "beta"      ? 0xB
                        : release_level == "candidate" ? 0xC
                                                       : 0xF;
  return int64_t{major} << 24 | int64_t{minor} << 16 | int64_t{micro} << 8 | level << 4 | serial;
}

std::string LanguageVersion::Short() const {
  std::string text = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(micro);
  if (release_level == "final") return text;
  return text + (release_level == "candidate" ? "rc" : release_level.substr(0, 1)) + std::to_string(serial);
}

std::string VersionText(const RuntimeConfig& config) {
  std::string compiler;
#if defined(__clang__)
  compiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
  compiler = "GCC " __VERSION__;
#endif
  return config.language.Short() + " (" + config.implementation_name + ", " + kVariantName + ") [" +
         compiler + "]";
}

RuntimeConfig RuntimeConfig::Isolated() {
  RuntimeConfig config;
  config.isolated = true;
  config.use_environment = false;
  config.user_site_directory = false;
  config.safe_path = true;
  config.parse_argv = false;
  config.install_signal_handlers = false;
  return config;
}

std::optional<std::string_view> RuntimeConfig::XOption(std::string_view name) const {
  for (const auto& [key, value] : x_options) {
    if (key == name) return value.has_value() ? std::string_view(*value) : std::string_view("");
  }
  return std::nullopt;
}

EnvironmentView EnvironmentView::Process() {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    variables.emplace_back(std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)));
  }
  return EnvironmentView(std::move(variables));
}

std::optional<std::string> EnvironmentView::Get(std::string_view name) const {
  for (const auto& [key, value] : variables_) {
    if (key == name) return value.empty() ? std::nullopt : std::optional<std::string>(value);
  }
  return std::nullopt;
}

ConfigStatus ConfigStatus::Error(std::string_view function, std::string_view message) {
  ConfigStatus status;
  status.kind_ = Kind::kError;
  status.exit_code_ = 1;
  status.function_ = std::string(function);
  status.message_ = std::string(message);
  return status;
}

ConfigStatus ConfigStatus::Exit(int code, std::string text) {
  ConfigStatus status;
  status.kind_ = Kind::kExit;
  status.exit_code_ = code;
  status.message_ = std::move(text);
  return status;
}

std::string ConfigStatus::Text() const {
  if (!is_error()) return message_;
  const bool before_config = function_.rfind("preconfig_", 0) == 0;
  return "Fatal Python error: " + (function_.empty() ? "" : function_ + ": ") + message_ +
         "\nPython runtime state: " + (before_config ? "preinitializing" : "preinitialized") + "\n";
}

}  // namespace pyrt::inline PYRT_VARIANT
