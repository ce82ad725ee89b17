#include "pyrt/runtime/object/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(ErrorTypeTest, HierarchyIsCPythons) {
  EXPECT_TRUE(ErrorType::ModuleNotFoundError().IsSubtypeOf(ErrorType::ImportError()));
  EXPECT_TRUE(ErrorType::PythonFinalizationError().IsSubtypeOf(ErrorType::RuntimeError()));
  EXPECT_TRUE(ErrorType::BrokenPipeError().IsSubtypeOf(ErrorType::OSError()));
  EXPECT_TRUE(ErrorType::UnicodeEncodeError().IsSubtypeOf(ErrorType::ValueError()));
  EXPECT_FALSE(ErrorType::SystemExit().IsSubtypeOf(ErrorType::Exception()));
  EXPECT_FALSE(ErrorType::KeyboardInterrupt().IsSubtypeOf(ErrorType::Exception()));
  EXPECT_FALSE(ErrorType::RuntimeError().IsSubtypeOf(ErrorType::PythonFinalizationError()));
#define PYRT_EXPECT_ROOT(type, base)                                               \
  EXPECT_TRUE(ErrorType::type().IsSubtypeOf(ErrorType::BaseException())) << #type; \
  EXPECT_EQ(ErrorType::Find(#type), &ErrorType::type());                           \
  EXPECT_TRUE(ErrorType::type().IsImmortal());
  PYRT_ERROR_TYPES(PYRT_EXPECT_ROOT)
#undef PYRT_EXPECT_ROOT
  EXPECT_EQ(ErrorType::Find("NoSuchError"), nullptr);
}

TEST(ErrorTypeTest, HostTypesDeriveAndPrintTheirModule) {
  Ref<const ErrorType> type = ErrorType::New("app", "Failure", ErrorType::OSError());
  EXPECT_TRUE(type->IsSubtypeOf(ErrorType::OSError()));
  EXPECT_EQ(type->QualifiedName(), "app.Failure");
  EXPECT_EQ(type->Repr().value(), "<class 'app.Failure'>");
  EXPECT_EQ(ErrorType::ValueError().Repr().value(), "<class 'ValueError'>");
  EXPECT_EQ(ErrorType::New("__main__", "Mine", ErrorType::Exception())->QualifiedName(), "Mine");
  // An instance keeps its type alive.
  Ref<Error> error = Error::New(*type, "x");
  type = nullptr;
  EXPECT_EQ(error->type().name(), "Failure");
}

TEST(ErrorTest, MessagesFollowStrOfTheArguments) {
  EXPECT_EQ(Error::New(ErrorType::ValueError(), "bad value")->Message(), "bad value");
  EXPECT_EQ(Error::New(ErrorType::ValueError(), std::vector<Ref<Object>>{})->Message(), "");
  EXPECT_EQ(Error::New(ErrorType::ValueError(), {Int::Of(1), String::Of("b")})->Message(), "(1, 'b')");
  EXPECT_EQ(Error::New(ErrorType::KeyError(), "name")->Message(), "'name'");
  EXPECT_EQ(Error::New(ErrorType::ValueError(), "bad")->Repr().value(), "ValueError('bad')");
  EXPECT_EQ(NewOsError(ENOENT, "/nowhere")->Message(), "[Errno 2] No such file or directory: '/nowhere'");
}

TEST(ErrorTest, AttributesOfTheExceptionObject) {
  Ref<Error> error = Error::New(ErrorType::ImportError(), "no")->WithAttribute("name", String::Of("spam"));
  EXPECT_EQ(As<String>(error->GetAttr("name").value())->value(), "spam");
  EXPECT_TRUE(IsNone(error->GetAttr("__traceback__").value()));
  ASSERT_TRUE(error->SetAttr("path", String::Of("/p")).ok());
  EXPECT_EQ(As<String>(error->GetAttr("path").value())->value(), "/p");
  ASSERT_TRUE(error->SetAttr("path", nullptr).ok());
  EXPECT_TRUE(IsError(error->GetAttr("path").status(), ErrorType::AttributeError()));
  EXPECT_TRUE(
      IsNone(Error::New(ErrorType::SystemExit(), std::vector<Ref<Object>>{})->GetAttr("code").value()));
  EXPECT_EQ(Error::New(ErrorType::SystemExit(), {Int::Of(3)})->GetAttr("code").value(), Int::Of(3));
}

TEST(ErrorTest, ContextChainNeverBecomesACycle) {
  Ref<Error> a = Error::New(ErrorType::ValueError(), "a");
  Ref<Error> b = Error::New(ErrorType::ValueError(), "b");
  Ref<Error> c = Error::New(ErrorType::ValueError(), "c");
  b->set_context(a);
  c->set_context(b);
  a->set_context(c);  // a was raised again while c was handled
  EXPECT_EQ(a->context(), c);
  EXPECT_EQ(c->context(), b);
  EXPECT_EQ(b->context(), nullptr);
  a->set_context(a);
  EXPECT_EQ(a->context(), c);
}

TEST(ErrorStatusTest, TheSameObjectComesOutOfTheStatus) {
  Ref<Error> error = Error::New(ErrorType::ImportError(), "cannot import");
  absl::Status status = ToStatus(error);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message(), "cannot import");
  EXPECT_TRUE(HasError(status));
  absl::Status copy = status;
  absl::Status moved = std::move(status);
  EXPECT_EQ(ErrorFromStatus(copy), error);
  EXPECT_EQ(ErrorFromStatus(moved), error);
  EXPECT_TRUE(IsError(copy, ErrorType::Exception()));
  EXPECT_FALSE(IsError(copy, ErrorType::ValueError()));
  EXPECT_NE(copy.ToString().find("ImportError: cannot import"), std::string::npos) << copy.ToString();
}

TEST(ErrorStatusTest, StatusReleasesItsReference) {
  Ref<Error> error = Error::New(ErrorType::ValueError(), "x");
  {
    absl::Status status = ToStatus(error);
    absl::Status copy = status;
    EXPECT_EQ(error->RefCount(), 2) << "one for the variable, one for the payload that both statuses share";
  }
  EXPECT_EQ(error->RefCount(), 1);
}

TEST(ErrorStatusTest, EmptyMessagesSurvive) {
  Ref<Error> error = Error::New(ErrorType::KeyboardInterrupt(), std::vector<Ref<Object>>{});
  EXPECT_EQ(ErrorFromStatus(ToStatus(error)), error);
}

TEST(ErrorStatusTest, ForeignStatusBecomesTheNearestType) {
  const auto type_of = [](const absl::Status& status) { return ErrorFromStatus(status)->type().name(); };
  EXPECT_EQ(type_of(absl::InvalidArgumentError("x")), "ValueError");
  EXPECT_EQ(type_of(absl::ResourceExhaustedError("x")), "MemoryError");
  EXPECT_EQ(type_of(absl::InternalError("x")), "SystemError");
  EXPECT_EQ(type_of(absl::FailedPreconditionError("x")), "RuntimeError");
  EXPECT_EQ(ErrorFromStatus(absl::InternalError("the text"))->Message(), "the text");
  EXPECT_FALSE(IsError(absl::InvalidArgumentError("x"), ErrorType::ValueError()))
      << "no exception was raised";
  EXPECT_EQ(ErrorFromStatus(absl::OkStatus()), nullptr);
}

TEST(ErrorStatusTest, RaiseFormatsLongTexts) {
  const std::string long_text(5000, 'x');
  absl::Status status = Raise(ErrorType::RuntimeError(), "lost sys.%s %d", long_text.c_str(), 7);
  EXPECT_EQ(ErrorFromStatus(status)->Message(), "lost sys." + long_text + " 7");
}

TEST(ErrorStatusDeathTest, NullErrorIsMisuse) {
  EXPECT_DEATH((void)ToStatus(nullptr), "ToStatus: the error is null");
}

TEST(ErrorTest, OsErrorsHaveTheSubtypeOfTheirNumber) {
  EXPECT_EQ(NewOsError(EPIPE)->type().name(), "BrokenPipeError");
  EXPECT_EQ(NewOsError(EACCES)->type().name(), "PermissionError");
  EXPECT_EQ(NewOsError(EBADF)->type().name(), "OSError");
  EXPECT_EQ(NewOsError(EBADF)->GetAttr("errno").value(), Int::Of(EBADF));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
