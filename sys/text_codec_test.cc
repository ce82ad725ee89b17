#include "pyrt/sys/text_codec.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using E = TextEncoding;
using H = TextErrors;

std::string Shown(const absl::StatusOr<std::string>& result) {
  return result.ok() ? ReprOfBytes(*result) : ErrorFromStatus(result.status())->Message();
}
std::string Enc(std::string_view text, E encoding, H errors) {
  return Shown(EncodeText(text, encoding, errors));
}
std::string Dec(std::string_view bytes, E encoding, H errors) {
  return Shown(DecodeText(bytes, encoding, errors));
}

constexpr char kLone80[] = "\xed\xb2\x80";  // U+DC80: the byte 0x80 escaped

TEST(TextCodecTest, NamesAndAliases) {
  EXPECT_EQ(FindEncoding("UTF8"), E::kUtf8);
  EXPECT_EQ(FindEncoding("utf_8"), E::kUtf8);
  EXPECT_EQ(FindEncoding("US-ASCII"), E::kAscii);
  EXPECT_EQ(FindEncoding("Latin-1"), E::kLatin1);
  EXPECT_STREQ(EncodingName(*FindEncoding("ISO_8859_1")), "iso8859-1");
  EXPECT_EQ(FindEncoding("bogus"), std::nullopt);
  EXPECT_EQ(FindErrors("surrogateescape"), H::kSurrogateEscape);
  EXPECT_EQ(FindErrors("bogus"), std::nullopt);
}

TEST(TextCodecTest, EncodesWithEveryHandler) {
  EXPECT_EQ(Enc("h\xc3\xa9", E::kUtf8, H::kStrict), "b'h\\xc3\\xa9'");
  EXPECT_EQ(Enc("h\xc3\xa9", E::kLatin1, H::kStrict), "b'h\\xe9'");
  EXPECT_EQ(Enc("h\xc3\xa9", E::kAscii, H::kReplace), "b'h?'");
  EXPECT_EQ(Enc("h\xc3\xa9", E::kAscii, H::kIgnore), "b'h'");
  EXPECT_EQ(Enc("h\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x8d", E::kAscii, H::kBackslashReplace),
            "b'h\\\\xe9\\\\u20ac\\\\U0001f40d'");
  EXPECT_EQ(Enc(kLone80, E::kUtf8, H::kSurrogateEscape), "b'\\x80'");
  EXPECT_EQ(Enc(kLone80, E::kUtf8, H::kBackslashReplace), "b'\\\\udc80'");
}

TEST(TextCodecTest, EncodeErrorsHaveCPythonsTexts) {
  EXPECT_EQ(Enc(kLone80, E::kUtf8, H::kStrict),
            "'utf-8' codec can't encode character '\\udc80' in position 0: surrogates not allowed");
  EXPECT_EQ(Enc("ab\xc3\xa9", E::kAscii, H::kStrict),
            "'ascii' codec can't encode character '\\xe9' in position 2: ordinal not in range(128)");
  EXPECT_EQ(Enc("\xc3\xa9\xc3\xa9x", E::kAscii, H::kStrict),
            "'ascii' codec can't encode characters in position 0-1: ordinal not in range(128)");
  EXPECT_EQ(Enc("\xe2\x82\xac", E::kLatin1, H::kStrict),
            "'latin-1' codec can't encode character '\\u20ac' in position 0: ordinal not in range(256)");
  EXPECT_EQ(Enc("\xed\xa0\x80", E::kUtf8, H::kSurrogateEscape),
            "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed");
}

TEST(TextCodecTest, DecodesMaximalSubparts) {
  EXPECT_EQ(Dec("a\xff"
                "b",
                E::kUtf8, H::kReplace),
            "b'a\\xef\\xbf\\xbdb'");
  EXPECT_EQ(Dec("\xe2\x82"
                "a",
                E::kUtf8, H::kReplace),
            "b'\\xef\\xbf\\xbda'")
      << "two bytes, one replacement";
  EXPECT_EQ(Dec("\xed\xa0\x80", E::kUtf8, H::kReplace), "b'\\xef\\xbf\\xbd\\xef\\xbf\\xbd\\xef\\xbf\\xbd'");
  EXPECT_EQ(Dec("\xff", E::kUtf8, H::kBackslashReplace), "b'\\\\xff'");
  EXPECT_EQ(Dec("\xff", E::kUtf8, H::kIgnore), "b''");
  EXPECT_EQ(Dec("\x80", E::kUtf8, H::kSurrogateEscape), ReprOfBytes(kLone80));
  EXPECT_EQ(Dec("\xe9", E::kLatin1, H::kStrict), "b'\\xc3\\xa9'");
}

TEST(TextCodecTest, DecodeErrorsHaveCPythonsTexts) {
  EXPECT_EQ(Dec("a\xff", E::kUtf8, H::kStrict),
            "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte");
  EXPECT_EQ(Dec("\xe2\x82"
                "a",
                E::kUtf8, H::kStrict),
            "'utf-8' codec can't decode bytes in position 0-1: invalid continuation byte");
  EXPECT_EQ(Dec("\xe2\x82", E::kUtf8, H::kStrict),
            "'utf-8' codec can't decode bytes in position 0-1: unexpected end of data");
  EXPECT_EQ(Dec("\xc3", E::kAscii, H::kStrict),
            "'ascii' codec can't decode byte 0xc3 in position 0: ordinal not in range(128)");
}

TEST(TextCodecTest, EveryByteStringSurvivesSurrogateEscape) {
  std::string bytes;
  uint32_t state = 12345;
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525 + 1013904223;
    bytes += static_cast<char>(state >> 24);
  }
  for (const E encoding : {E::kUtf8, E::kAscii}) {
    const std::string text = DecodeText(bytes, encoding, H::kSurrogateEscape).value();
    EXPECT_EQ(EncodeText(text, encoding, H::kSurrogateEscape).value(), bytes);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
