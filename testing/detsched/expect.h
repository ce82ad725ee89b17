// What schedule tests expect of an exploration.

#ifndef PYRT_TESTING_DETSCHED_EXPECT_H_
#define PYRT_TESTING_DETSCHED_EXPECT_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {

// Whether a scenario has its invariant, which is checked after each step: an exhaustive search then has no sleep sets, so that
// only the shortest scenarios can be exhausted with it.
enum class Watched : bool { kNo, kYes };

inline void ExpectOk(const Result& result) { EXPECT_TRUE(result.ok()) << result.report; }

// Every schedule within the test's bounds was tried; of wider ones that the environment asked for, what there was time for.
inline void ExpectComplete(const Result& result) {
  ExpectOk(result);
  EXPECT_TRUE(result.complete || result.deepened) << "cut short after " << result.schedules << " schedules";
  ::testing::Test::RecordProperty("schedules", std::to_string(result.schedules));
}

// With what probability a walk of PCT finds a bug of its depth goes into the test's properties.
inline Result ExpectWalk(const std::function<Result(const Options&)>& explore, const Options& options) {
  const Result result = explore(options);
  ExpectOk(result);
  char percent[32];
  std::snprintf(percent, sizeof(percent), "%.1f %%", 100 * result.guaranteed);
  ::testing::Test::RecordProperty("depth_" + std::to_string(options.pct_depth) + "_fibers_" +
                                      std::to_string(result.fibers) + "_turns_" +
                                      std::to_string(result.turns),
                                  percent);
  return result;
}

// As many walks as find a bug of depth two with 95 %, if they take no more than some 3 s; 2000 at least.
inline void ExpectDepthTwo(const std::function<Result(const Options&)>& explore) {
  constexpr uint64_t kLeast = 2000;
  constexpr double kMostSteps = 1e7;
  const Result pilot = explore(Options::Pct(1, 200));
  ExpectOk(pilot);
  // -ln(1 - 0.95) walks for each in which the bug shows, and room for a longer schedule than the pilot has met.
  const double wanted = 3.0 * 1.15 * pilot.fibers * static_cast<double>(pilot.turns);
  const double most = kMostSteps * static_cast<double>(pilot.schedules) / static_cast<double>(pilot.steps);
  ExpectWalk(explore, Options::Pct(2, std::max(kLeast, static_cast<uint64_t>(std::min(wanted, most)))));
}

// Walks for bugs of depth two, and `schedules` of them for bugs of depth three, which is for most scenarios too few to be
// sure: what is guaranteed is printed.
inline void ExpectPct(const std::function<Result(const Options&)>& explore, uint64_t schedules) {
  ExpectDepthTwo(explore);
  ExpectWalk(explore, Options::Pct(3, schedules));
}
inline void ExpectPct(
    const std::function<void(Schedule&)>& body, uint64_t schedules,
    Options (*base)(Options) = [](Options options) { return options; }) {
  ExpectPct([&](const Options& options) { return Explore(base(options), body); }, schedules);
}

// The same after random ones, which find what takes many switches.
inline void ExpectWalks(const std::function<Result(const Options&)>& explore, uint64_t schedules) {
  ExpectOk(explore(Options::Random(schedules / 5)));
  ExpectPct(explore, schedules);
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched

#endif  // PYRT_TESTING_DETSCHED_EXPECT_H_
