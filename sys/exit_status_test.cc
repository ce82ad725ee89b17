#include "pyrt/sys/exit_status.h"

#include <gtest/gtest.h>

#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

int StatusOf(const Ref<Object>& code) { return ExitRequestOfCode(code).os_status(); }

TEST(ExitStatusTest, B125_CodesBecomeStatuses) {
  EXPECT_EQ(StatusOf(nullptr), 0);
  EXPECT_EQ(StatusOf(None()), 0);
  EXPECT_EQ(StatusOf(Int::Of(0)), 0);
  EXPECT_EQ(StatusOf(Int::Of(3)), 3);
  EXPECT_EQ(StatusOf(Int::Of(256)), 0);
  EXPECT_EQ(StatusOf(Int::Of(-1)), 255);
  EXPECT_EQ(StatusOf(True()), 1);
  EXPECT_EQ(StatusOf(False()), 0);
  EXPECT_EQ(StatusOf(Int::FromDecimal("18446744073709551616").value()), 255) << "gh-125842";
  EXPECT_EQ(StatusOf(Int::FromDecimal("-18446744073709551616").value()), 255);
}

TEST(ExitStatusTest, B125_OtherObjectsArePrinted) {
  for (const Ref<Object>& code : std::vector<Ref<Object>>{String::Of("text"), String::Of(""), Float::Of(0.0),
                                                          Tuple::Of({Int::Of(3)}), Bytes::Of("x")}) {
    const ExitRequest request = ExitRequestOfCode(code);
    EXPECT_EQ(request.status, 1);
    EXPECT_EQ(request.message, code);
  }
  EXPECT_EQ(ExitRequestOfCode(Int::Of(2)).message, nullptr);
}

TEST(ExitStatusTest, B125_ExceptionCodeIsFollowedOneLevel) {
  Ref<Error> inner = Error::New(ErrorType::SystemExit(), {Int::Of(7)});
  EXPECT_EQ(ExitRequestOf(*inner).status, 7);
  Ref<Error> outer = Error::New(ErrorType::SystemExit(), {Ref<Object>(inner)});
  EXPECT_EQ(ExitRequestOf(*outer).status, 1) << "the second level is an object like any other";
  EXPECT_EQ(ExitRequestOf(*outer).message, inner);
  EXPECT_EQ(ExitRequestOf(*Error::New(ErrorType::SystemExit(), std::vector<Ref<Object>>{})).status, 0);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
