#include "pyrt/sys/sys_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/struct_sequence.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(SysValuesTest, B128_FlagsPrintEighteenFieldsAndKeepGilByName) {
  Ref<StructSequence> flags = MakeFlags(RuntimeConfig());
  EXPECT_EQ(flags->size(), 18u);
  EXPECT_EQ(
      flags->Repr().value(),
      "sys.flags(debug=0, inspect=0, interactive=0, optimize=0, dont_write_bytecode=0, no_user_site=0, "
      "no_site=0, ignore_environment=0, verbose=0, bytes_warning=0, quiet=0, hash_randomization=1, "
      "isolated=0, "
      "dev_mode=False, utf8_mode=1, warn_default_encoding=0, safe_path=False, int_max_str_digits=4300)");
  Ref<Object> gil = flags->GetAttr("gil").value();
  if constexpr (kGilEnabled) {
    EXPECT_EQ(gil, Int::Of(1));
  } else {
    EXPECT_TRUE(IsNone(gil));
    RuntimeConfig config;
    config.gil = GilMode::kDisable;
    EXPECT_EQ(MakeFlags(config)->Field("gil"), Int::Of(0));
  }
  EXPECT_EQ(flags->GetAttr("n_sequence_fields").value(), Int::Of(18));
}

TEST(SysValuesTest, SY72_FlagsHaveLazyImportsByName) {
  EXPECT_EQ(As<Int>(MakeFlags(RuntimeConfig())->Field("lazy_imports"))->value(), -1);
  RuntimeConfig config;
  config.lazy_imports = 1;
  EXPECT_EQ(MakeFlags(config)->Field("lazy_imports"), Int::Of(1));
}

TEST(SysValuesTest, B128_FlagsAreReplacedAndNotMutated) {
  Ref<StructSequence> before = MakeFlags(RuntimeConfig());
  Ref<StructSequence> after = before->With("int_max_str_digits", Int::Of(640));
  EXPECT_NE(before.get(), after.get());
  EXPECT_EQ(As<Int>(before->Field("int_max_str_digits"))->value(), 4300);
  EXPECT_EQ(As<Int>(after->Field("int_max_str_digits"))->value(), 640);
  EXPECT_EQ(before->SetAttr("debug", Int::Of(1)).message(), "readonly attribute");
}

TEST(SysValuesTest, B128_TypesAreNotInstantiable) {
  for (const Ref<StructSequence>& value : {MakeFlags(RuntimeConfig()), MakeVersionInfo(LanguageVersion())}) {
    const absl::Status status = value->GetAttr("__class__").value()->Call({}).status();
    EXPECT_TRUE(IsError(status, ErrorType::TypeError()));
    EXPECT_EQ(status.message(), "cannot create '" + value->type().name() + "' instances");
  }
}

TEST(SysValuesTest, ConstantsPrintAsCPythons) {
  EXPECT_EQ(MakeVersionInfo(LanguageVersion())->Repr().value(),
            "sys.version_info(major=3, minor=15, micro=2, releaselevel='final', serial=0)");
  EXPECT_EQ(MakeFloatInfo()->Repr().value(),
            "sys.float_info(max=1.7976931348623157e+308, max_exp=1024, max_10_exp=308, "
            "min=2.2250738585072014e-308, "
            "min_exp=-1021, min_10_exp=-307, dig=15, mant_dig=53, epsilon=2.220446049250313e-16, radix=2, "
            "rounds=1)");
  EXPECT_EQ(MakeIntInfo()->Repr().value(),
            "sys.int_info(bits_per_digit=30, sizeof_digit=4, default_max_str_digits=4300, "
            "str_digits_check_threshold=640)");
  EXPECT_THAT(
      MakeThreadInfo()->Repr().value(),
      testing::MatchesRegex("sys.thread_info\\(name='pthread', lock='pymutex', version=('.*'|None)\\)"));
  EXPECT_EQ(MakeHashInfo()->Field("modulus")->Repr().value(), "2305843009213693951");
}

TEST(SysValuesTest, ConstantsAreOneImmortalObjectWithAllThatTheyHold) {
  for (const Ref<StructSequence>& value :
       {MakeIntInfo(), MakeFloatInfo(), MakeHashInfo(), MakeThreadInfo()}) {
    EXPECT_TRUE(value->IsImmortal()) << value->type().name();
    for (const std::string& field : value->type().fields()) {
      EXPECT_TRUE(value->Field(field)->IsImmortal()) << value->type().name() << "." << field;
    }
  }
  EXPECT_EQ(MakeFloatInfo(), MakeFloatInfo());
  EXPECT_TRUE(MakeAbiInfo()->GetAttr("byteorder").value()->IsImmortal());
  EXPECT_TRUE(MakeMaxSize()->IsImmortal());
  EXPECT_EQ(ImmortalText("linux"), ImmortalText(std::string("linux")));
  EXPECT_TRUE(ImmortalText("linux")->IsImmortal());
}

TEST(SysValuesTest, ImplementationAndAbiNameTheVariant) {
  const std::string implementation = MakeImplementation(RuntimeConfig())->Repr().value();
  EXPECT_EQ(implementation.rfind("namespace(name='pyrt', cache_tag='pyrt-315", 0), 0u) << implementation;
  EXPECT_EQ(MakeAbiInfo()->GetAttr("free_threaded").value(), BoolOf(!kGilEnabled));
  EXPECT_EQ(AbiFlags().find('t') != std::string::npos, !kGilEnabled);
  EXPECT_NE(VersionText(RuntimeConfig()).find(kVariantName), std::string::npos);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
