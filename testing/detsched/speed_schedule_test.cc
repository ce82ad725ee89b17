// How fast schedules go by. Prints the figures; fails when a short schedule costs more than it may.

#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

#if defined(__OPTIMIZE__) && !PYRT_ASAN && !PYRT_TSAN
constexpr bool kMeasures = true;
#else
constexpr bool kMeasures = false;
#endif

// Two fibers of ten steps each, with a Plain besides.
void ShortSchedule(Schedule& s) {
  Atomic<uint32_t> word{0};
  Atomic<uint32_t> other{0};
  Plain<uint32_t> last{0};
  for (const char* name : {"a", "b"}) {
    s.Spawn(name, [&] {
      for (int i = 0; i < 3; ++i) {
        while (word.exchange(1, kAcquire) != 0) CpuRelax();
        last.Set(other.load(kRelaxed));
        word.store(0, kRelease);
      }
    });
  }
  s.Run();
}

// By processor time, which other processes do not use up.
double SchedulesPerSecond(const Options& options) {
  const std::clock_t start = std::clock();
  const Result result = Explore(options, ShortSchedule);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_TRUE(result.ok()) << result.report;
  const double rate = static_cast<double>(result.schedules) / seconds;
  std::printf("%8.0f schedules/s, %5.1f ns per step, %4.1f steps per schedule\n", rate,
              seconds * 1e9 / static_cast<double>(result.steps),
              static_cast<double>(result.steps) / static_cast<double>(result.schedules));
  return rate;
}

TEST(SpeedScheduleTest, AHundredThousandShortSchedulesPerSecond) {
  const uint64_t schedules = kMeasures ? 100'000 : 2'000;
  std::printf("random      ");
  const double random = SchedulesPerSecond(Options::Random(schedules));
  std::printf("pct         ");
  const double pct = SchedulesPerSecond(Options::Pct(3, schedules));
  std::printf("exhaustive  ");
  Options options = Options::Exhaustive(3);
  options.max_schedules = schedules;
  const double exhaustive = SchedulesPerSecond(options);
  if (kMeasures) {
    EXPECT_GE(random, 100'000);
    EXPECT_GE(pct, 100'000);
    EXPECT_GE(exhaustive, 100'000);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT::detsched
