// A fuzz target as a list of operations: bytes become operations, each is performed on a State and checked
// against a model, and when something dies the operations so far are printed as C++ to paste into a
// Regression test.
//
//   struct Push { int value; std::string ToString() const; void Perform(State& state) const; };
//   using Operation = std::variant<Push, Pop>;
//   Operation NextOperation(FuzzInput& input);
//
//   extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
//     FuzzInput input(data, size);
//     State state;
//     while (!input.empty()) PerformLogged(NextOperation(input), state);
//     ...
//   }

#ifndef PYRT_TESTING_FUZZ_OPERATIONS_H_
#define PYRT_TESTING_FUZZ_OPERATIONS_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// The bytes of one run, consumed from the front. Past the end everything reads as zero.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }

  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  // In [0, limit), limit at most 256.
  int Below(int limit) { return Byte() % limit; }
  bool Bool() { return (Byte() & 1) != 0; }
  uint32_t Word() {
    uint32_t word = 0;
    for (int i = 0; i < 4; ++i) word = word << 8 | Byte();
    return word;
  }
  // What is left, for a component that takes bytes itself (a schedule).
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_;
  size_t size_;
};

// A text as C++ spells it, with a 0 in it too.
inline std::string CppText(std::string_view text) {
  std::string literal;
  for (const char c : text) {
    if (c >= ' ' && c <= '~' && c != '"' && c != '\\') {
      literal += c;
      continue;
    }
    constexpr char kHex[] = "0123456789abcdef";
    // Closed and opened again, so that a digit that follows is no part of the escape.
    literal += std::string("\\x") + kHex[c >> 4 & 15] + kHex[c & 15] + "\" \"";
  }
  return "std::string(\"" + literal + "\", " + std::to_string(text.size()) + ")";
}

// The operations of the present run, printed by the fatal hook.
class OperationLog {
 public:
  // Forgets the last run's operations. Call at the beginning of each run.
  static void Start() {
    Text().clear();
    SetFatalHook([](int fd) {
      const std::string& text = Text();
      static constexpr char kTitle[] = "Operations of this run, in order:\n";
      [[maybe_unused]] ssize_t ignored = ::write(fd, kTitle, sizeof(kTitle) - 1);
      ignored = ::write(fd, text.data(), text.size());
    });
  }
  static void Add(const std::string& operation) { Text() += "  " + operation + ".Perform(state);\n"; }

 private:
  static std::string& Text() {
    static std::string* const text = new std::string;
    return *text;
  }
};

template <typename Operation, typename State>
void PerformLogged(const Operation& operation, State& state) {
  std::visit(
      [&](const auto& one) {
        OperationLog::Add(one.ToString());
        one.Perform(state);
      },
      operation);
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TESTING_FUZZ_OPERATIONS_H_
