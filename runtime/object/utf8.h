// One code point of a String at a time.
//
// Strings are UTF-8 in which lone surrogates are allowed (they stand for bytes that did not decode), encoded
// in three bytes like any other code point of their range.

#ifndef PYRT_RUNTIME_OBJECT_UTF8_H_
#define PYRT_RUNTIME_OBJECT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// Decodes the code point that begins at text[i] and advances `i` behind it. A byte that begins none is
// returned as itself, with `*valid` false, and only that byte is skipped. Requires i < text.size().
inline uint32_t NextCodePoint(std::string_view text, size_t& i, bool* valid) {
  const auto byte = [&](size_t at) -> uint32_t {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0;
  };
  const uint32_t first = byte(i);
  if (first < 0x80) {
    ++i;
    *valid = true;
    return first;
  }
  size_t length = 0;
  uint32_t code_point = 0;
  uint32_t smallest = 0;
  if (first >= 0xC2 && first < 0xE0) {
    length = 2, code_point = first & 0x1F, smallest = 0x80;
  } else if (first >= 0xE0 && first < 0xF0) {
    length = 3, code_point = first & 0x0F, smallest = 0x800;
  } else if (first >= 0xF0 && first < 0xF5) {
    length = 4, code_point = first & 0x07, smallest = 0x10000;
  }
  *valid = length > 0;
  for (size_t k = 1; k < length && *valid; ++k) {
    const uint32_t next = byte(i + k);
    *valid = (next & 0xC0) == 0x80;
    code_point = code_point << 6 | (next & 0x3F);
  }
  *valid = *valid && code_point >= smallest && code_point <= 0x10FFFF;
  i += *valid ? length : 1;
  return *valid ? code_point : first;
}

inline void AppendCodePoint(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      out += static_cast<char>(0xE0 | c >> 12);
    } else {
      out += static_cast<char>(0xF0 | c >> 18);
      out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    }
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
  }
  out += static_cast<char>(0x80 | (c & 0x3F));
}

inline constexpr bool IsSurrogate(uint32_t c) { return c >= 0xD800 && c <= 0xDFFF; }

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_UTF8_H_
