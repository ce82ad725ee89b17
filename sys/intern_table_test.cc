#include "pyrt/sys/intern_table.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TEST(InternTableTest, SY71_EqualTextsBecomeOneObject) {
  InternTable table;
  Ref<String> first = String::Of("name");
  Ref<String> second = String::Of("name");
  ASSERT_NE(first, second);
  EXPECT_EQ(table.Intern(first), first);
  EXPECT_EQ(table.Intern(second), first);
  EXPECT_EQ(table.Intern("name"), first);
  EXPECT_TRUE(table.IsInterned(*first));
  EXPECT_FALSE(table.IsInterned(*second));
  EXPECT_EQ(table.size(), 1u);
}

TEST(InternTableTest, SY71_OnlyStrings) {
  InternTable table;
  const absl::Status status = table.InternObject(Bytes::Of("x")).status();
  EXPECT_TRUE(IsError(status, ErrorType::TypeError()));
  EXPECT_EQ(status.message(), "intern() argument must be str, not bytes");
}

TEST(InternTableTest, ThreadsAgreeOnOneObjectWithoutGil) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "objects belong to one interpreter's attached threads";
  InternTable table;
  constexpr int kThreads = 4;
  constexpr int kNames = 500;
  std::vector<std::vector<Ref<String>>> seen(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kNames; ++i)
        seen[static_cast<size_t>(t)].push_back(table.Intern("n" + std::to_string(i)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table.size(), static_cast<size_t>(kNames));
  for (int t = 1; t < kThreads; ++t) EXPECT_EQ(seen[static_cast<size_t>(t)], seen[0]);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
