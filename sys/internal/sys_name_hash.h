// The hash of a sys attribute's name: the same at compile time and at run time, a handful of instructions for
// names of up to eight letters.

#ifndef PYRT_SYS_INTERNAL_SYS_NAME_HASH_H_
#define PYRT_SYS_INTERNAL_SYS_NAME_HASH_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::internal {

// Little-endian loads that a compiler folds into one instruction and that a constant expression may use.
// Written out: GCC recognises the pattern, not the loop.
constexpr uint64_t Load32(const char* p) {
  return uint64_t{static_cast<unsigned char>(p[0])} | uint64_t{static_cast<unsigned char>(p[1])} << 8 |
         uint64_t{static_cast<unsigned char>(p[2])} << 16 | uint64_t{static_cast<unsigned char>(p[3])} << 24;
}
constexpr uint64_t Load64(const char* p) { return Load32(p) | Load32(p + 4) << 32; }

constexpr uint64_t MixSysName(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 32;
}

constexpr uint64_t HashSysName(std::string_view text) {
  const char* p = text.data();
  const size_t n = text.size();
  uint64_t hash = n;
  if (n >= 8) {
    for (size_t i = 0; i + 8 <= n; i += 8) hash = MixSysName(hash, Load64(p + i));
    return MixSysName(hash, Load64(p + n - 8));
  }
  // Overlapping loads: no loop, no branch per letter.
  if (n >= 4) return MixSysName(hash, Load32(p) | Load32(p + n - 4) << 32);
  if (n == 0) return MixSysName(hash, 0);
  const auto byte = [p](size_t i) { return uint64_t{static_cast<unsigned char>(p[i])}; };
  return MixSysName(hash, byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16);
}

// Whether two names with equal hashes are the same. Up to seven letters the hash and the length are the name: each step of
// HashSysName can be undone there (an odd factor, a shift that is xor-ed), and its word holds every letter. So the short
// names, which are most, are never compared.
inline bool SameSysName(std::string_view a, std::string_view b) {
  return a.size() == b.size() && (a.size() < 8 || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_SYS_INTERNAL_SYS_NAME_HASH_H_
