#include "pyrt/bench/harness.h"

#include <cstdint>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyrt_bench {
namespace {

TEST(LatencyHistogramTest, BucketsAreContiguousAndAtMostOneSixteenthWide) {
  for (size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    const uint64_t low = LatencyHistogram::LowerBound(i);
    const uint64_t high = LatencyHistogram::LowerBound(i + 1);
    ASSERT_LT(low, high);
    ASSERT_EQ(LatencyHistogram::Bucket(low), i);
    ASSERT_EQ(LatencyHistogram::Bucket(high - 1), i);
    ASSERT_LE((high - low) * 16, std::max<uint64_t>(low, 16));
  }
}

TEST(LatencyHistogramTest, QuantilesOfAnEvenSpread) {
  LatencyHistogram histogram;
  for (int64_t nanos = 1; nanos <= 100'000; ++nanos) histogram.Add(nanos);
  EXPECT_NEAR(histogram.Quantile(0.5), 50'000, 2'000);
  EXPECT_NEAR(histogram.Quantile(0.99), 99'000, 3'000);
  EXPECT_LE(histogram.Quantile(1.0), 100'000);
  EXPECT_EQ(histogram.max(), 100'000u);
  EXPECT_EQ(histogram.count(), 100'000u);
}

TEST(LatencyHistogramTest, ExtremesStayInRange) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  histogram.Add(-5);
  histogram.Add(INT64_MAX);
  EXPECT_EQ(histogram.count(), 2u);
  EXPECT_EQ(histogram.max(), static_cast<uint64_t>(INT64_MAX));
}

TEST(LatencyHistogramTest, EncodesAndMerges) {
  LatencyHistogram a;
  LatencyHistogram b;
  a.Add(3);
  a.Add(3);
  b.Add(17);
  a.Merge(b);
  EXPECT_EQ(a.Encode(), "3*2,17*1");
  EXPECT_EQ(a.count(), 3u);
  EXPECT_EQ(a.max(), 17u);
}

TEST(JainIndexTest, OneWhenEqualOneNthWhenOneTakesAll) {
  EXPECT_DOUBLE_EQ(JainIndex({5, 5, 5, 5}), 1.0);
  EXPECT_DOUBLE_EQ(JainIndex({8, 0, 0, 0}), 0.25);
  EXPECT_EQ(JainIndex({}), 0);
}

TEST(StrideTest, VisitsEveryNumber) {
  Stride one(1);
  EXPECT_EQ(one(), 0u);
  for (const size_t size : {2, 10, 1000}) {
    Stride next(size);
    std::set<size_t> seen;
    for (size_t i = 0; i < 3 * size; ++i) seen.insert(next());
    EXPECT_LT(*seen.rbegin(), size);
    EXPECT_GE(seen.size(), size / 2) << size;
  }
}

TEST(ResidentBytesTest, SeesWhatIsWrittenAndWhatIsGivenBack) {
  constexpr size_t kSize = size_t{32} << 20;
  const int64_t before = ResidentBytes();
  std::vector<std::string> strings(1000);
  for (std::string& string : strings) string.assign(kSize / 1000, 'x');
  EXPECT_GE(ResidentBytes() - before, static_cast<int64_t>(kSize * 9 / 10));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
  // Sanitizers keep what was freed, for a while (clang has no macro for them).
  strings.clear();
  EXPECT_LE(ResidentBytes() - before, static_cast<int64_t>(kSize / 4));
#endif
}

}  // namespace
}  // namespace pyrt_bench
