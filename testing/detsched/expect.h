// What schedule tests expect of an exploration.

#ifndef PYRT_TESTING_DETSCHED_EXPECT_H_
#define PYRT_TESTING_DETSCHED_EXPECT_H_

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

}  // namespace pyrt::inline PYRT_VARIANT::detsched

#endif  // PYRT_TESTING_DETSCHED_EXPECT_H_
