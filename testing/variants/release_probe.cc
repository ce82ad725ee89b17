// What pyrt_cc_benchmark promises, whatever the command line says: optimised, without debug checks, in the
// variant that its target is named after. Prints what it is, and fails where that is not so.

#include <cstdio>
#include <cstring>

#include "pyrt/runtime/config/config.h"

namespace {

#ifdef __OPTIMIZE__
constexpr bool kOptimized = true;
#else
constexpr bool kOptimized = false;
#endif

#ifdef __PIE__
constexpr bool kPositionIndependent = true;
#else
constexpr bool kPositionIndependent = false;
#endif

// Whether `text` ends in `suffix`.
bool EndsIn(const char* text, const char* suffix) {
  const size_t size = std::strlen(suffix);
  const size_t length = std::strlen(text);
  return length >= size && std::strcmp(text + length - size, suffix) == 0;
}

}  // namespace

int main(int, char** argv) {
  std::printf("%s: %s, optimized %d, debug checks %d, position independent %d\n", argv[0], pyrt::kVariantName,
              kOptimized, pyrt::kDebug, kPositionIndependent);
  const bool named_right = EndsIn(argv[0], pyrt::kGilEnabled ? "_gil" : "_ft");
  return named_right && kOptimized && !pyrt::kDebug && !kPositionIndependent ? 0 : 1;
}
