// Any InterpreterConfig, flag word and gil text, against the rules as CPython's documentation and
// init_interp_settings have them: which combinations are valid, with which error, and what remains of them.

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/status.h"

#include "pyrt/interp/interpreter_config.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using GilMode = InterpreterConfig::GilMode;

struct State {};

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "interpreter_config_fuzz", "the model disagrees: %s", what);
}

// `bits`: Py_RTFLAGS_* in the order of their values.
struct Configure {
  int bits;
  int gil;
  bool is_main;
  std::string ToString() const {
    return "Configure{" + std::to_string(bits) + ", " + std::to_string(gil) +
           (is_main ? ", true}" : ", false}");
  }
  bool Bit(int number) const { return (bits >> number & 1) != 0; }

  // The error's text, "" for none: the first rule that is broken.
  std::string Expected() const {
    const bool own_obmalloc = !Bit(0);
    const bool single_phase = !Bit(1);
    if (own_obmalloc && single_phase) {
      return "per-interpreter obmalloc does not support single-phase init extension modules";
    }
    if (!kGilEnabled && single_phase && !is_main) {
      return "The free-threaded build does not support single-phase init extension modules in "
             "subinterpreters";
    }
    return gil < 0 || gil > 2 ? "invalid interpreter config 'gil' value" : "";
  }

  void Perform(State& /*state*/) const {
    const InterpreterConfig config{.use_main_obmalloc = Bit(0),
                                   .allow_fork = Bit(4),
                                   .allow_exec = Bit(5),
                                   .allow_threads = Bit(2),
                                   .allow_daemon_threads = Bit(3),
                                   .check_multi_interp_extensions = Bit(1),
                                   .gil = static_cast<GilMode>(gil)};
    const absl::Status status = config.Validate(is_main);
    const std::string expected = Expected();
    Expect(status.ok() == expected.empty(), "valid or not");
    Expect(status.message() == expected, expected.c_str());
    if (!status.ok()) Expect(absl::IsInvalidArgument(status), "InvalidArgument");
    uint64_t word = 0;
    int bit = 0;
    for (const int position : {5, 8, 10, 11, 15, 16}) word |= uint64_t{Bit(bit++)} << position;
    Expect(config.Features().bits() == word, "the flag word");
    Expect(config.has_own_gil() == (gil == 2), "has_own_gil()");
  }
};

// Any word, not only what a configuration makes.
struct Check {
  uint32_t bits;
  std::string ToString() const { return "Check{" + std::to_string(bits) + "u}"; }
  static void Require(const absl::Status& status, bool allowed, const char* text) {
    Expect(status.ok() == allowed, text);
    if (allowed) return;
    Expect(IsError(status, ErrorType::RuntimeError()) && ErrorFromStatus(status)->Message() == text, text);
  }
  void Perform(State& /*state*/) const {
    const FeatureFlags features(bits);
    Require(CheckThreadsAllowed(features), (bits & 1u << 10) != 0,
            "thread is not supported for isolated subinterpreters");
    Require(CheckDaemonThreadsAllowed(features), (bits & 1u << 11) != 0,
            "daemon threads are disabled in this (sub)interpreter");
    Require(CheckForkAllowed(features), (bits & 1u << 15) != 0,
            "fork not supported for isolated subinterpreters");
    Require(CheckExecAllowed(features), (bits & 1u << 16) != 0,
            "exec not supported for isolated subinterpreters");
    for (int i = 0; i < 32; ++i) {
      Expect(features.Has(uint64_t{1} << i) == ((bits >> i & 1) != 0), "Has one");
      Expect(features.Has(~(uint64_t{1} << i)) == ((bits & ~(1u << i)) != 0), "Has any");
    }
  }
};

struct Parse {
  std::string text;
  std::string ToString() const { return "Parse{" + CppText(text) + "}"; }
  void Perform(State& /*state*/) const {
    const absl::StatusOr<GilMode> mode = ParseGilMode(text);
    const char* const names[] = {"default", "shared", "own"};
    for (int i = 0; i < 3; ++i) {
      if (text != names[i]) continue;
      Expect(mode.ok() && static_cast<int>(*mode) == i && GilModeName(*mode) == text, "a mode has a name");
      return;
    }
    Expect(IsError(mode.status(), ErrorType::ValueError()), "another text is refused");
    // As C has it: a text ends at its first 0.
    Expect(ErrorFromStatus(mode.status())->Message() ==
               "unsupported interpreter config .gil value '" + std::string(text.c_str()) + "'",
           "with this text");
  }
};

using Operation = std::variant<Configure, Check, Parse>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t kind = input.Byte();
  switch (kind & 3) {
    case 0:
      return Check{input.Word()};
    case 1: {
      if ((kind & 4) != 0) return Parse{std::string(kind & 8 ? "shared" : "default")};
      std::string text = (kind & 8) != 0 ? "own" : "";
      for (int left = kind >> 4; left > 0; --left) text += static_cast<char>(input.Byte());
      return Parse{text};
    }
    default: {
      const int bits = input.Below(64);
      return Configure{bits, (kind & 0xc0) == 0 ? static_cast<int>(input.Word()) : (kind >> 3) % 4,
                       (kind & 4) != 0};
    }
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pyrt;  // NOLINT(google-build-using-namespace): the function is outside of it
  FuzzInput input(data, size);
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 200; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
  }
  return 0;
}
