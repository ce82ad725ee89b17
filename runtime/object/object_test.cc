#include "pyrt/runtime/object/object.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class Tracked final : public Object {
 public:
  explicit Tracked(int* destroyed) : destroyed_(destroyed) {}
  ~Tracked() override { ++*destroyed_; }
  const char* TypeName() const override { return "Tracked"; }

 private:
  int* const destroyed_;
};

std::string ReprOf(const Ref<Object>& object) { return object->Repr().value(); }

TEST(RefTest, LastReferenceDestroysOnce) {
  int destroyed = 0;
  {
    Ref<Tracked> a = MakeRef<Tracked>(&destroyed);
    EXPECT_EQ(a->RefCount(), 1);
    Ref<Object> b = a;
    EXPECT_EQ(a->RefCount(), 2);
    Ref<Object> c = std::move(b);
    EXPECT_EQ(a->RefCount(), 2);
    EXPECT_FALSE(b);
    a = nullptr;
    EXPECT_EQ(destroyed, 0);
  }
  EXPECT_EQ(destroyed, 1);
}

TEST(RefTest, SelfAssignmentKeepsTheObject) {
  int destroyed = 0;
  Ref<Tracked> a = MakeRef<Tracked>(&destroyed);
  Ref<Tracked>& alias = a;
  a = alias;
  a = std::move(alias);
  EXPECT_EQ(a->RefCount(), 1);
  EXPECT_EQ(destroyed, 0);
}

TEST(RefTest, AdoptAndReleaseTransferOwnership) {
  int destroyed = 0;
  Ref<Tracked> a = MakeRef<Tracked>(&destroyed);
  Tracked* raw = a.release();
  EXPECT_EQ(raw->RefCount(), 1);
  Ref<Tracked> shared = Ref<Tracked>::Share(raw);
  EXPECT_EQ(raw->RefCount(), 2);
  Ref<Tracked>::Adopt(raw).reset();
  EXPECT_EQ(shared->RefCount(), 1);
  EXPECT_EQ(destroyed, 0);
}

// The old value is released after the new one is in place: its destructor may read the variable.
TEST(RefTest, AssignmentReleasesTheOldObjectLast) {
  struct Looker final : Object {
    Looker(Ref<Object>* variable, bool* saw_new) : variable(variable), saw_new(saw_new) {}
    ~Looker() override { *saw_new = IsNone(*variable); }
    const char* TypeName() const override { return "Looker"; }
    Ref<Object>* variable;
    bool* saw_new;
  };
  bool saw_new = false;
  Ref<Object> variable;
  variable = MakeRef<Looker>(&variable, &saw_new);
  variable = None();
  EXPECT_TRUE(saw_new);
}

TEST(ObjectTest, ImmortalObjectsIgnoreCounting) {
  Ref<Object> none = None();
  const int64_t before = none->RefCount();
  EXPECT_LT(before, 0);
  for (int i = 0; i < 1000; ++i) none->DecRef();
  for (int i = 0; i < 10; ++i) none->IncRef();
  EXPECT_EQ(none->RefCount(), before);
  EXPECT_TRUE(True()->IsImmortal());
  EXPECT_TRUE(Int::Of(-5)->IsImmortal());
  EXPECT_TRUE(Int::Of(256)->IsImmortal());
  EXPECT_FALSE(Int::Of(257)->IsImmortal());
  EXPECT_TRUE(Tuple::Empty()->IsImmortal());
}

// Only the free-threaded build promises this; under the GIL the count is plain memory.
TEST(ObjectTest, ConcurrentCountingConservesReferencesWithoutGil) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "objects belong to one interpreter's attached threads";
  int destroyed = 0;
  Ref<Tracked> shared = MakeRef<Tracked>(&destroyed);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&shared] {
      std::vector<Ref<Object>> held;
      for (int i = 0; i < 20000; ++i) {
        held.push_back(Ref<Object>::Share(shared.get()));
        if (held.size() == 64) held.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(shared->RefCount(), 1);
  shared = nullptr;
  EXPECT_EQ(destroyed, 1);
}

TEST(ObjectTest, DefaultHooksFailAsPythonDoes) {
  int destroyed = 0;
  Ref<Object> object = MakeRef<Tracked>(&destroyed);
  EXPECT_EQ(ReprOf(object).rfind("<Tracked object at 0x", 0), 0u) << ReprOf(object);
  EXPECT_TRUE(object->IsTrue().value());
  const absl::Status get = object->GetAttr("colour").status();
  EXPECT_TRUE(IsError(get, ErrorType::AttributeError()));
  EXPECT_EQ(get.message(), "'Tracked' object has no attribute 'colour'");
  EXPECT_TRUE(IsError(object->SetAttr("colour", None()), ErrorType::AttributeError()));
  const absl::Status call = object->Call({}).status();
  EXPECT_TRUE(IsError(call, ErrorType::TypeError()));
  EXPECT_EQ(call.message(), "'Tracked' object is not callable");
}

TEST(ValuesTest, SingletonsAndDowncasts) {
  EXPECT_EQ(None(), None());
  EXPECT_EQ(BoolOf(true), True());
  EXPECT_NE(True(), False());
  EXPECT_EQ(Int::Of(7), Int::Of(7));
  EXPECT_EQ(String::Of(""), String::Of(""));
  Ref<Object> object = Int::Of(1000);
  ASSERT_NE(As<Int>(object), nullptr);
  EXPECT_EQ(As<Int>(object)->value(), 1000);
  EXPECT_EQ(As<String>(object), nullptr);
  EXPECT_EQ(As<String>(Ref<Object>()), nullptr);
  // CPython's bool is an int; here they are told apart and users of numbers ask for both.
  EXPECT_EQ(As<Int>(True()), nullptr);
}

TEST(ValuesTest, IntegersBeyond64BitsKeepTheirDigits) {
  EXPECT_EQ(ReprOf(Int::Of(INT64_MIN)), "-9223372036854775808");
  EXPECT_EQ(ReprOf(Int::OfUnsigned(UINT64_MAX)), "18446744073709551615");
  EXPECT_FALSE(Int::OfUnsigned(UINT64_MAX)->fits_int64());
  EXPECT_EQ(ReprOf(Int::FromDecimal("-0036893488147419103232").value()), "-36893488147419103232");
  EXPECT_TRUE(Int::FromDecimal("-36893488147419103232").value()->is_negative());
  EXPECT_EQ(Int::FromDecimal("007").value(), Int::Of(7));
  EXPECT_EQ(Int::FromDecimal("-0").value(), Int::Of(0));
  for (const char* bad : {"", "-", "1x", "+1", " 1"}) {
    EXPECT_TRUE(IsError(Int::FromDecimal(bad).status(), ErrorType::ValueError())) << bad;
  }
}

TEST(ValuesTest, FloatsPrintTheShortestDigitsThatReadBack) {
  const std::vector<std::pair<double, const char*>> cases = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {0.1, "0.1"},
      {0.005, "0.005"},
      {1e-4, "0.0001"},
      {1e-5, "1e-05"},
      {123456.789, "123456.789"},
      {1e15, "1000000000000000.0"},
      {1e16, "1e+16"},
      {1.5e300, "1.5e+300"},
      {-2.5e-310, "-2.5e-310"},
      {std::numeric_limits<double>::max(), "1.7976931348623157e+308"},
      {std::numeric_limits<double>::min(), "2.2250738585072014e-308"},
      {std::numeric_limits<double>::epsilon(), "2.220446049250313e-16"},
      {1.0 / 3.0, "0.3333333333333333"},
      {HUGE_VAL, "inf"},
      {-HUGE_VAL, "-inf"},
      {std::nan(""), "nan"},
  };
  for (const auto& [value, text] : cases) EXPECT_EQ(ReprOfFloat(value), text);
}

TEST(ValuesTest, StringsPrintWithCPythonsQuotesAndEscapes) {
  EXPECT_EQ(ReprOfString("plain"), "'plain'");
  EXPECT_EQ(ReprOfString("it's"), "\"it's\"");
  EXPECT_EQ(ReprOfString("'\""), "'\\'\"'");
  EXPECT_EQ(ReprOfString("a\tb\nc\rd\\"), "'a\\tb\\nc\\rd\\\\'");
  EXPECT_EQ(ReprOfString(std::string_view("\0\x1f\x7f", 3)), "'\\x00\\x1f\\x7f'");
  EXPECT_EQ(ReprOfString("h\xc3\xa9"), "'h\xc3\xa9'");
  EXPECT_EQ(ReprOfString("\xc2\xa0"), "'\\xa0'");
  EXPECT_EQ(ReprOfString("\xed\xb2\x80"), "'\\udc80'");  // what surrogateescape makes of byte 0x80
  EXPECT_EQ(ReprOfString("\xe2\x80\xa8"), "'\\u2028'");
  EXPECT_EQ(ReprOfString("\xf0\x9f\x90\x8d"), "'\xf0\x9f\x90\x8d'");
  EXPECT_EQ(ReprOfString("\xf3\xa0\x80\x81"), "'\\U000e0001'");
  EXPECT_EQ(ReprOfString("\xff\xc3"), "'\\xff\\xc3'") << "bytes that are no UTF-8 stay visible";
  EXPECT_EQ(ReprOfBytes("a'\xff\n"), "b\"a'\\xff\\n\"");
}

TEST(ValuesTest, TuplesPrintTheirItems) {
  EXPECT_EQ(ReprOf(Tuple::Empty()), "()");
  EXPECT_EQ(ReprOf(Tuple::Of({Int::Of(1)})), "(1,)");
  EXPECT_EQ(ReprOf(Tuple::Of({Int::Of(3), String::Of("final"), None(), True(), Float::Of(2)})),
            "(3, 'final', None, True, 2.0)");
  EXPECT_FALSE(Tuple::Empty()->IsTrue().value());
}

TEST(ValuesTest, TuplesShareTakeOrGatherTheirItems) {
  const Ref<Object> item = String::Of("item");
  std::vector<Ref<Object>> items{item, Int::Of(1)};
  {
    const Ref<Tuple> shared = Tuple::Of(items);
    EXPECT_EQ(ReprOf(shared), "('item', 1)");
    EXPECT_EQ(item->RefCount(), 3);
  }
  EXPECT_EQ(item->RefCount(), 2);
  {
    const Ref<Tuple> taken = Tuple::Take(absl::MakeSpan(items));
    EXPECT_EQ((*taken)[0], item);
    EXPECT_EQ(items[0], nullptr);
    EXPECT_EQ(item->RefCount(), 2);
  }
  EXPECT_EQ(item->RefCount(), 1);
  {
    TupleBuilder builder(3);
    builder.Append(item);
    builder.Append(None());
    const Ref<Tuple> gathered = builder.Finish();
    EXPECT_EQ(ReprOf(gathered), "('item', None)");
    EXPECT_EQ(item->RefCount(), 2);
  }
  { TupleBuilder(1).Append(item); }
  EXPECT_EQ(item->RefCount(), 1) << "a builder that is given up lets its items go";
  EXPECT_EQ(TupleBuilder(2).Finish(), Tuple::Empty());
  EXPECT_EQ(Tuple::Of({}), Tuple::Empty());
}

TEST(ValuesTest, FailingReprOfAnItemPropagates) {
  struct Bad final : Object {
    const char* TypeName() const override { return "Bad"; }
    absl::StatusOr<std::string> Repr() const override { return Raise(ErrorType::KeyError(), "inside"); }
  };
  EXPECT_TRUE(IsError(Tuple::Of({None(), MakeRef<Bad>()})->Repr().status(), ErrorType::KeyError()));
}

TEST(NativeFunctionTest, CallsItsBody) {
  Ref<Object> function = NativeFunction::New("answer", [](Args args) -> absl::StatusOr<Ref<Object>> {
    return Ref<Object>(Int::Of(static_cast<int64_t>(args.size()) + 40));
  });
  EXPECT_TRUE(function->IsCallable());
  EXPECT_EQ(ReprOf(function), "<built-in function answer>");
  const std::vector<Ref<Object>> args{None(), None()};
  EXPECT_EQ(function->Call(args).value(), Int::Of(42));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
