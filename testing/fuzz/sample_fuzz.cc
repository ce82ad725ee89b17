// While PYRT_SAMPLE_FUZZ_BUG is set, dies on inputs that begin with "pyrt", which random bytes never find,
// and on those that begin with a byte above 0xf0, which they find soon.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool has_bug = std::getenv("PYRT_SAMPLE_FUZZ_BUG") != nullptr;
  if (has_bug && size >= 4 && std::memcmp(data, "pyrt", 4) == 0) std::abort();
  if (has_bug && size >= 1 && data[0] > 0xf0) std::abort();
  return 0;
}
