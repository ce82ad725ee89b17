#include "sys/options.h"

#include <charconv>
#include <cstdio>
#include <string_view>
#include <system_error>

namespace {

template <typename Number>
bool ParsePositive(const char* text, Number& number) {
  const std::string_view digits = text;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error == std::errc() && end == digits.data() + digits.size() && number > 0) return true;
  std::fprintf(stderr, "counter: \"%s\" is not a positive number; usage: counter [THREADS [INCREMENTS]]\n",
               text);
  return false;
}

}  // namespace

bool ParseOptions(int argc, char** argv, Options& options) {
  if (argc > 3) {
    std::fprintf(stderr, "counter: too many arguments; usage: counter [THREADS [INCREMENTS]]\n");
    return false;
  }
  return (argc < 2 || ParsePositive(argv[1], options.threads)) &&
         (argc < 3 || ParsePositive(argv[2], options.increments));
}
