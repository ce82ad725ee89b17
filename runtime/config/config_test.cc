#include "pyrt/runtime/config/config.h"

#include <string>
#include <string_view>
#include <type_traits>

#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct Marker {};

// What the compiler calls this variant's types, read from the signature of an instantiation.
template <typename T>
std::string_view NameOf() {
  return __PRETTY_FUNCTION__;
}

TEST(ConfigTest, ConstantsFollowTheDefines) {
  EXPECT_EQ(kGilEnabled, PYRT_GIL_DISABLED == 0);
  EXPECT_EQ(kDetsched, PYRT_DETSCHED == 1);
}

TEST(ConfigTest, VariantNameSaysWhatTheConstantsSay) {
  std::string expected = kGilEnabled ? "gil_enabled" : "gil_disabled";
  if (kDetsched) expected += "_detsched";
  EXPECT_EQ(kVariantName, expected);
}

TEST(ConfigTest, InlineNamespaceCarriesTheVariant) {
  // A type of this variant is found as pyrt::X and mangled with the variant's name.
  static_assert(std::is_same_v<::pyrt::Marker, PYRT_VARIANT::Marker>);
  const std::string scope = std::string("pyrt::") + kVariantName + "::";
  EXPECT_NE(NameOf<Marker>().find(scope), std::string_view::npos) << NameOf<Marker>();
}

TEST(ConfigTest, DebugChecksFollowNdebug) {
#ifdef NDEBUG
  EXPECT_FALSE(kDebug);
#else
  EXPECT_TRUE(kDebug);
#endif
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
