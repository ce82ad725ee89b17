// Is x_test_ft really free-threaded? The target's own name, which Bazel puts into the environment and no flag
// can change, says what the code must have been compiled as.

#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct Expected {
  bool gil_enabled;
  bool detsched;
  std::string_view name;
};

const std::map<std::string, Expected, std::less<>>& ExpectedBySuffix() {
  static const std::map<std::string, Expected, std::less<>> table = {
      {"gil", {true, false, "gil_enabled"}},
      {"ft", {false, false, "gil_disabled"}},
      {"detsched_gil", {true, true, "gil_enabled_detsched"}},
      {"detsched_ft", {false, true, "gil_disabled_detsched"}},
  };
  return table;
}

TEST(VariantsTest, CodeIsCompiledAsTheNameOfTheTargetSays) {
  const char* target = std::getenv("TEST_TARGET");
  ASSERT_NE(target, nullptr) << "run this with `bazel test`";
  constexpr std::string_view kStem = ":variants_test_";
  const std::string_view name = target;
  const size_t at = name.find(kStem);
  ASSERT_NE(at, std::string_view::npos) << name;
  const auto row = ExpectedBySuffix().find(name.substr(at + kStem.size()));
  ASSERT_NE(row, ExpectedBySuffix().end()) << "no row for " << name << "; VARIANTS has a new one";

  EXPECT_EQ(kGilEnabled, row->second.gil_enabled);
  EXPECT_EQ(kDetsched, row->second.detsched);
  EXPECT_EQ(std::string_view(kVariantName), row->second.name);
}

TEST(VariantsTest, TestsRunWithDebugChecks) { EXPECT_TRUE(kDebug); }

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
