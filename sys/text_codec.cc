#include "pyrt/sys/text_codec.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/utf8.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// How surrogateescape writes a byte that did not decode.
constexpr uint32_t kEscapeBase = 0xDC00;

// The name that error messages use, which for Latin-1 is not the codec's.
const char* NameInErrors(TextEncoding encoding) {
  return encoding == TextEncoding::kLatin1 ? "latin-1" : EncodingName(encoding);
}

std::string Escaped(uint32_t c) {
  char buffer[16];
  std::snprintf(buffer, sizeof(buffer), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
  return buffer;
}

bool CanEncode(uint32_t c, TextEncoding encoding) {
  switch (encoding) {
    case TextEncoding::kUtf8:
      return !IsSurrogate(c);
    case TextEncoding::kAscii:
      return c < 0x80;
    case TextEncoding::kLatin1:
      return c < 0x100;
  }
  return false;
}

// The next code point of a String. A byte that is no UTF-8 (a host's mistake) counts as an escaped byte.
uint32_t NextOfString(std::string_view text, size_t& i) {
  bool valid = false;
  const uint32_t c = NextCodePoint(text, i, &valid);
  return valid ? c : kEscapeBase + c;
}

// `position` counts code points; the run of characters which cannot be encoded starts at text[begin].
absl::Status EncodeError(std::string_view text, size_t begin, size_t position, TextEncoding encoding) {
  const char* const reason = encoding == TextEncoding::kUtf8    ? "surrogates not allowed"
                             : encoding == TextEncoding::kAscii ? "ordinal not in range(128)"
                                                                : "ordinal not in range(256)";
  size_t i = begin;
  const uint32_t first = NextOfString(text, i);
  size_t last = position;
  while (i < text.size()) {
    if (CanEncode(NextOfString(text, i), encoding)) break;
    ++last;
  }
  if (last == position) {
    return Raise(ErrorType::UnicodeEncodeError(),
                 "'%s' codec can't encode character '%s' in position %zu: %s", NameInErrors(encoding),
                 Escaped(first).c_str(), position, reason);
  }
  return Raise(ErrorType::UnicodeEncodeError(), "'%s' codec can't encode characters in position %zu-%zu: %s",
               NameInErrors(encoding), position, last, reason);
}

absl::Status DecodeError(std::string_view bytes, size_t begin, size_t length, TextEncoding encoding,
                         const char* reason) {
  if (length == 1) {
    return Raise(ErrorType::UnicodeDecodeError(), "'%s' codec can't decode byte 0x%02x in position %zu: %s",
                 NameInErrors(encoding), static_cast<unsigned char>(bytes[begin]), begin, reason);
  }
  return Raise(ErrorType::UnicodeDecodeError(), "'%s' codec can't decode bytes in position %zu-%zu: %s",
               NameInErrors(encoding), begin, begin + length - 1, reason);
}

// How many bytes from bytes[i] on form no character, and why: the longest beginning of a well-formed
// sequence, at least one byte (Unicode's "maximal subpart"). 0 if a character begins there.
size_t BadUtf8At(std::string_view bytes, size_t i, const char** reason) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(bytes[at]); };
  const unsigned char first = byte(i);
  if (first < 0x80) return 0;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) {
    *reason = "invalid start byte";
    return 1;
  }
  // The second byte's range excludes overlong forms, surrogates and code points above U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (size_t k = 1; k < length; ++k) {
    if (i + k == bytes.size()) {
      *reason = "unexpected end of data";
      return k;
    }
    const unsigned char next = byte(i + k);
    if (next < (k == 1 ? low : 0x80) || next > (k == 1 ? high : 0xBF)) {
      *reason = "invalid continuation byte";
      return k;
    }
  }
  return 0;
}

}  // namespace

std::optional<TextEncoding> FindEncoding(std::string_view name) {
  std::string normal;
  for (const char c : name) {
    normal += c == '_' || c == ' ' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  for (const std::string_view alias : {"utf-8", "utf8", "u8", "utf", "cp65001"}) {
    if (normal == alias) return TextEncoding::kUtf8;
  }
  for (const std::string_view alias : {"ascii", "us-ascii", "646", "ansi-x3.4-1968", "iso646-us"}) {
    if (normal == alias) return TextEncoding::kAscii;
  }
  for (const std::string_view alias :
       {"latin-1", "latin1", "iso-8859-1", "iso8859-1", "8859", "l1", "latin", "cp819"}) {
    if (normal == alias) return TextEncoding::kLatin1;
  }
  return std::nullopt;
}

const char* EncodingName(TextEncoding encoding) {
  switch (encoding) {
    case TextEncoding::kUtf8:
      return "utf-8";
    case TextEncoding::kAscii:
      return "ascii";
    case TextEncoding::kLatin1:
      return "iso8859-1";
  }
  return "?";
}

std::optional<TextErrors> FindErrors(std::string_view name) {
  for (const TextErrors errors : {TextErrors::kStrict, TextErrors::kIgnore, TextErrors::kReplace,
                                  TextErrors::kSurrogateEscape, TextErrors::kBackslashReplace}) {
    if (name == ErrorsName(errors)) return errors;
  }
  return std::nullopt;
}

const char* ErrorsName(TextErrors errors) {
  switch (errors) {
    case TextErrors::kStrict:
      return "strict";
    case TextErrors::kIgnore:
      return "ignore";
    case TextErrors::kReplace:
      return "replace";
    case TextErrors::kSurrogateEscape:
      return "surrogateescape";
    case TextErrors::kBackslashReplace:
      return "backslashreplace";
  }
  return "?";
}

absl::StatusOr<std::string> EncodeText(std::string_view text, TextEncoding encoding, TextErrors errors) {
  std::string out;
  out.reserve(text.size());
  size_t position = 0;
  for (size_t i = 0; i < text.size(); ++position) {
    const size_t begin = i;
    const uint32_t c = NextOfString(text, i);
    if (CanEncode(c, encoding)) {
      if (encoding == TextEncoding::kUtf8) {
        out += text.substr(begin, i - begin);
      } else {
        out += static_cast<char>(c);
      }
      continue;
    }
    switch (errors) {
      case TextErrors::kIgnore:
        continue;
      case TextErrors::kReplace:
        out += '?';
        continue;
      case TextErrors::kBackslashReplace:
        out += Escaped(c);
        continue;
      case TextErrors::kSurrogateEscape:
        if (c >= kEscapeBase + 0x80 && c <= kEscapeBase + 0xFF) {
          out += static_cast<char>(c - kEscapeBase);
          continue;
        }
        break;
      case TextErrors::kStrict:
        break;
    }
    return EncodeError(text, begin, position, encoding);
  }
  return out;
}

absl::StatusOr<std::string> DecodeText(std::string_view bytes, TextEncoding encoding, TextErrors errors) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const char* reason = "ordinal not in range(128)";
    size_t bad = 0;
    if (encoding == TextEncoding::kLatin1) {
      AppendCodePoint(out, byte);
      ++i;
      continue;
    } else if (encoding == TextEncoding::kAscii) {
      bad = byte >= 0x80 ? 1 : 0;
    } else {
      bad = BadUtf8At(bytes, i, &reason);
    }
    if (bad == 0) {
      const size_t length = byte < 0x80 ? 1 : byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
      out += bytes.substr(i, length);
      i += length;
      continue;
    }
    switch (errors) {
      case TextErrors::kStrict:
        return DecodeError(bytes, i, bad, encoding, reason);
      case TextErrors::kIgnore:
        break;
      case TextErrors::kReplace:
        AppendCodePoint(out, 0xFFFD);
        break;
      case TextErrors::kSurrogateEscape:
        for (size_t k = i; k < i + bad; ++k) {
          AppendCodePoint(out, kEscapeBase + static_cast<unsigned char>(bytes[k]));
        }
        break;
      case TextErrors::kBackslashReplace:
        for (size_t k = i; k < i + bad; ++k) out += Escaped(static_cast<unsigned char>(bytes[k]));
        break;
    }
    i += bad;
  }
  return out;
}

}  // namespace pyrt::inline PYRT_VARIANT
