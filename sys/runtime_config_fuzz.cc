// ReadConfig over any command line and environment: never crashes; the outcome is ok, a status error (1) or an exit (0 or
// 2), always with a text; and an isolated config does not depend on the environment.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/sys_values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

std::string Outcome(const std::vector<std::pair<std::string, std::string>>& variables,
                    const std::vector<std::string>& words) {
  RuntimeConfig config;
  const ConfigStatus status = ReadConfig(EnvironmentView(variables), words, &config);
  if (!status.ok()) {
    PYRT_CHECK(!status.Text().empty(), "runtime_config_fuzz", "an outcome without a text");
    PYRT_CHECK(
        status.is_error() ? status.exit_code() == 1 : status.exit_code() == 0 || status.exit_code() == 2,
        "runtime_config_fuzz", "exit code %d", status.exit_code());
    return status.Text();
  }
  PYRT_CHECK(!config.argv.empty(), "runtime_config_fuzz", "argv is empty");
  return MakeFlags(config)->Repr().value();
}

void RunOne(std::string_view input) {
  std::vector<std::pair<std::string, std::string>> variables;
  std::vector<std::string> words = {"python3"};
  while (!input.empty()) {
    const size_t end = std::min(input.find('\0'), input.size());
    const std::string word(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
    const size_t equals = word.find('=');
    if (word.rfind("PYTHON", 0) == 0 && equals != std::string::npos) {
      variables.emplace_back(word.substr(0, equals), word.substr(equals + 1));
    } else {
      words.push_back(word);
    }
  }
  Outcome(variables, words);
  words.insert(words.begin() + 1, "-I");
  PYRT_CHECK(Outcome(variables, words) == Outcome({}, words), "runtime_config_fuzz",
             "the environment reached an isolated config");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
