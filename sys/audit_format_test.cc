#include "pyrt/sys/audit_format.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

std::string Built(std::string_view format, std::vector<AuditArgument> arguments) {
  absl::StatusOr<Ref<Tuple>> tuple = BuildAuditArguments(format, arguments);
  if (!tuple.ok()) return ErrorFromStatus(tuple.status())->Repr().value();
  return (*tuple)->Repr().value();
}

TEST(AuditFormatTest, B121_UnitsBuildWhatPyBuildValueBuilds) {
  EXPECT_EQ(Built("", {}), "()");
  EXPECT_EQ(Built("s", {"x"}), "('x',)");
  EXPECT_EQ(Built("sii", {"path", 1, -2}), "('path', 1, -2)");
  EXPECT_EQ(Built("zU", {nullptr, std::string("u")}), "(None, 'u')");
  EXPECT_EQ(Built("y#", {std::string_view("\xff\0z", 3)}), "(b'\\xff\\x00z',)");
  EXPECT_EQ(Built("s", {static_cast<const char*>(nullptr)}), "(None,)");
  EXPECT_EQ(Built("bBhHlkLKnI", {1, 2u, 3, 4u, -5l, 6ul, -7ll, ~0ull, -9l, 10u}),
            "(1, 2, 3, 4, -5, 6, -7, 18446744073709551615, -9, 10)");
  EXPECT_EQ(Built("df", {0.5, 1e100}), "(0.5, 1e+100)");
  EXPECT_EQ(Built("cC", {'a', 0xE9}), "(b'a', '\xc3\xa9')");
  EXPECT_EQ(Built("ccc", {static_cast<signed char>(-23), '\xe9', -128}), "(b'\\xe9', b'\\xe9', b'\\x80')")
      << "a char may be signed";
  EXPECT_EQ(Built("pp", {1, 0}), "(True, False)");
  EXPECT_EQ(Built("O", {None()}), "(None,)");
}

TEST(AuditFormatTest, B121_BracketsAndSeparators) {
  EXPECT_EQ(Built("(i)", {1}), "(1,)");
  EXPECT_EQ(Built("(ii)", {1, 2}), "(1, 2)");
  EXPECT_EQ(Built("((i)i)", {1, 2}), "((1,), 2)");
  EXPECT_EQ(Built("[i, s]", {1, "a"}), "([1, 'a'],)");
  EXPECT_EQ(Built("{s:i, s:i}", {"b", 1, "a", 2}), "({'b': 1, 'a': 2},)");
  EXPECT_EQ(Built(" i\ti:i ", {1, 2, 3}), "(1, 2, 3)");
  EXPECT_EQ(Built("()", {}), "()");
  EXPECT_EQ(Built("()()", {}), "((), ())");
}

TEST(AuditFormatTest, B121_ALoneTupleIsTheArguments) {
  Ref<Tuple> tuple = Tuple::Of({Int::Of(1), Int::Of(2)});
  const std::vector<AuditArgument> argument{tuple};
  EXPECT_EQ(BuildAuditArguments("O", argument).value(), tuple) << "used, not copied";
  EXPECT_EQ(Built("(O)", {tuple}), "((1, 2),)");
  EXPECT_EQ(Built("OO", {tuple, None()}), "((1, 2), None)");
}

TEST(AuditFormatTest, BadFormatsAreSystemErrors) {
  EXPECT_EQ(Built("(i", {1}), "SystemError('unmatched paren in format')");
  EXPECT_EQ(Built("[(i]", {1}), "SystemError('bad format char passed to Py_BuildValue')");
  EXPECT_EQ(Built(")", {}), "SystemError('bad format char passed to Py_BuildValue')");
  EXPECT_EQ(Built("!", {}), "SystemError('bad format char passed to Py_BuildValue')");
  EXPECT_EQ(Built("{s}", {"a"}), "SystemError('Bad dict format')");
  EXPECT_EQ(Built("N", {None()}), "SystemError('N format code not permitted in an audit format')");
  EXPECT_EQ(Built("O&", {None()}), "SystemError('O& format code not permitted in an audit format')");
  EXPECT_EQ(Built("O", {nullptr}), "SystemError('NULL object passed to Py_BuildValue')");
  EXPECT_EQ(Built(std::string(5000, '('), {}), "SystemError('audit format is nested too deeply')");
}

TEST(AuditFormatTest, MisfitArgumentsAreErrorsAndNotUndefined) {
  EXPECT_EQ(Built("i", {"text"}),
            "SystemError('argument 1 of audit format \"i\" is text, which \\'i\\' does not take')");
  EXPECT_EQ(Built("si", {"x"}), "SystemError('audit format \"si\" needs more than 1 arguments')");
  EXPECT_EQ(Built("s", {"x", 2}), "SystemError('audit format \"s\" uses 1 of 2 arguments')");
  EXPECT_EQ(Built("I", {-1}).substr(0, 11), "SystemError");
  EXPECT_EQ(Built("c", {256}).substr(0, 11), "SystemError");
  EXPECT_EQ(Built("c", {-129}).substr(0, 11), "SystemError");
  EXPECT_EQ(Built("c", {~0ull}).substr(0, 11), "SystemError");
  EXPECT_EQ(Built("C", {0x110000}).substr(0, 11), "SystemError");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
