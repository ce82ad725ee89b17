// The encodings that the standard streams know: UTF-8, ASCII and Latin-1, with CPython's error handlers and
// texts.
//
// Text is a String's UTF-8, in which lone surrogates may occur; bytes are what a file holds. All functions
// are pure, attached or not, from any thread.
//
// CPython counterpart: the codecs of the same names, PyUnicode_AsEncodedString, PyUnicode_Decode.

#ifndef PYRT_SYS_TEXT_CODEC_H_
#define PYRT_SYS_TEXT_CODEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

enum class TextEncoding : uint8_t { kUtf8, kAscii, kLatin1 };

enum class TextErrors : uint8_t { kStrict, kIgnore, kReplace, kSurrogateEscape, kBackslashReplace };

// By any of its usual names, in any case, with '-', '_' or ' ' between the words: "UTF8", "latin-1",
// "us_ascii".
std::optional<TextEncoding> FindEncoding(std::string_view name);
// CPython's name of the codec: "utf-8", "ascii", "iso8859-1".
const char* EncodingName(TextEncoding encoding);

std::optional<TextErrors> FindErrors(std::string_view name);
const char* ErrorsName(TextErrors errors);

// UnicodeEncodeError with CPython's text where the handler does not help.
absl::StatusOr<std::string> EncodeText(std::string_view text, TextEncoding encoding, TextErrors errors);

// UnicodeDecodeError likewise.
absl::StatusOr<std::string> DecodeText(std::string_view bytes, TextEncoding encoding, TextErrors errors);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_TEXT_CODEC_H_
