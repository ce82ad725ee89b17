// How strings, bytes and floating point numbers print.

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/utf8.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Single quotes unless the text contains some and no double ones.
char QuoteFor(std::string_view text) {
  return text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
}

void AppendHex(std::string& out, const char* format, uint32_t value) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), format, value);
  out += buffer;
}

// What str.isprintable() says for the ranges that occur in practice: controls, separators other than the
// space, format characters, surrogates, private use and noncharacters are escaped. Unassigned code points
// elsewhere print as they are, where CPython, which carries the Unicode database, would escape them.
bool IsPrintable(uint32_t c) {
  if (c < 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0xAD) return false;
  if (c >= 0x600 && c <= 0x605) return false;
  if (c == 0x61C || c == 0x6DD || c == 0x70F || c == 0x1680 || c == 0x180E) return false;
  if ((c >= 0x2000 && c <= 0x200F) || (c >= 0x2028 && c <= 0x202F) || (c >= 0x205F && c <= 0x206F))
    return false;
  if (c == 0x3000 || c == 0xFEFF || (c >= 0xFFF0 && c <= 0xFFFB)) return false;
  if (c >= 0xD800 && c <= 0xF8FF) return false;
  if (c >= 0xFDD0 && c <= 0xFDEF) return false;
  if ((c & 0xFFFE) == 0xFFFE) return false;
  return c < 0xE0000;
}

}  // namespace

std::string ReprOfString(std::string_view utf8) {
  const char quote = QuoteFor(utf8);
  std::string out(1, quote);
  for (size_t i = 0; i < utf8.size();) {
    const size_t start = i;
    bool valid = false;
    const uint32_t c = NextCodePoint(utf8, i, &valid);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (!valid || (!IsPrintable(c) && c < 0x100)) {
      AppendHex(out, "\\x%02x", c);
    } else if (IsPrintable(c)) {
      out += utf8.substr(start, i - start);
    } else {
      AppendHex(out, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
  }
  out += quote;
  return out;
}

std::string ReprOfBytes(std::string_view bytes) {
  const char quote = QuoteFor(bytes);
  std::string out = "b";
  out += quote;
  for (const char signed_byte : bytes) {
    const unsigned char c = static_cast<unsigned char>(signed_byte);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out += '\\';
      out += signed_byte;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c >= 0x7F) {
      AppendHex(out, "\\x%02x", c);
    } else {
      out += signed_byte;
    }
  }
  out += quote;
  return out;
}

std::string ReprOfFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";

  // The shortest digits, as D.DDDe+XX, laid out by CPython's rule: an exponent from 1e16 on and below 1e-4.
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), std::fabs(value), std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = text.find('e');
  std::string digits(text.substr(0, 1));
  if (e > 2) digits += text.substr(2, e - 2);
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  const int count = static_cast<int>(digits.size());

  std::string out = std::signbit(value) ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out.append(1, '.').append(digits, 1);
    char tail[16];
    std::snprintf(tail, sizeof(tail), "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return out + tail;
  }
  if (exponent < 0) return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t integral = static_cast<size_t>(exponent) + 1;  // digits before the point
  if (count <= exponent + 1)
    return out + digits + std::string(integral - static_cast<size_t>(count), '0') + ".0";
  return out + digits.substr(0, integral) + "." + digits.substr(integral);
}

}  // namespace pyrt::inline PYRT_VARIANT
