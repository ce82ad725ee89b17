// What schedule tests expect of an exploration.

#ifndef PYRT_TESTING_DETSCHED_EXPECT_H_
#define PYRT_TESTING_DETSCHED_EXPECT_H_

#include <cstdint>
#include <functional>
#include <string>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {

inline void ExpectOk(const Result& result) { EXPECT_TRUE(result.ok()) << result.report; }

// Every schedule within the bounds was tried.
inline void ExpectComplete(const Result& result) {
  ExpectOk(result);
  EXPECT_TRUE(result.complete) << "cut short after " << result.schedules << " schedules";
  ::testing::Test::RecordProperty("schedules", std::to_string(result.schedules));
}

// Walks for bugs of depth two and three.
inline void ExpectPct(const std::function<Result(const Options&)>& explore, uint64_t schedules) {
  ExpectOk(explore(Options::Pct(2, 2000)));
  ExpectOk(explore(Options::Pct(3, schedules)));
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
