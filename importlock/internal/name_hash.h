// The hash of a module's name: a few multiplications, good in all its bits. Not against adversaries.

#ifndef PYRT_IMPORTLOCK_INTERNAL_NAME_HASH_H_
#define PYRT_IMPORTLOCK_INTERNAL_NAME_HASH_H_

#include <cstdint>
#include <cstring>
#include <string_view>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::internal {

inline uint64_t MixHash(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t HashName(std::string_view name) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  constexpr uint64_t kOther = 0xd6e8feb86659fd93;
  const char* data = name.data();
  size_t size = name.size();
  uint64_t hash = kOther ^ size;
  uint64_t first = 0;
  uint64_t last = 0;
  for (; size > 16; data += 16, size -= 16) {
    std::memcpy(&first, data, 8);
    std::memcpy(&last, data + 8, 8);
    hash = MixHash(first ^ hash, last ^ kOdd);
  }
  // The rest in two words that may overlap.
  if (size >= 8) {
    std::memcpy(&first, data, 8);
    std::memcpy(&last, data + size - 8, 8);
  } else if (size >= 4) {
    uint32_t half;
    std::memcpy(&half, data, 4);
    first = half;
    std::memcpy(&half, data + size - 4, 4);
    last = half;
  } else if (size > 0) {
    first = static_cast<uint64_t>(static_cast<unsigned char>(data[0])) << 16 |
            static_cast<uint64_t>(static_cast<unsigned char>(data[size / 2])) << 8 |
            static_cast<unsigned char>(data[size - 1]);
  }
  return MixHash(first ^ hash, last ^ kOdd) ^ kOdd;
}

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_NAME_HASH_H_
