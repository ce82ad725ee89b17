// What importlock's schedule tests explore, and what they require of it.

#ifndef PYRT_IMPORTLOCK_SCHEDULE_TEST_UTIL_H_
#define PYRT_IMPORTLOCK_SCHEDULE_TEST_UTIL_H_

#include <cstdint>
#include <functional>
#include <string>

#include "gtest/gtest.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {

inline detsched::Options Isolated(detsched::Options options) {
  options.isolate = true;  // a failure leaves the parking lot in disorder
  return options;
}

// Short enough to be exhausted: nobody spins.
inline detsched::Options Exhaustive(int bound, int stale_reads = 1) {
  detsched::Options options = detsched::Options::Exhaustive(bound);
  options.usable_cpus = 1;
  options.stale_reads = stale_reads;
  return options;
}

inline detsched::Options OnEitherSide(detsched::Options options) {
  options.fork = detsched::ForkSide::kEither;
  return options;
}

using ScheduleBody = std::function<void(detsched::Schedule&)>;

inline void ExpectOk(const detsched::Options& options, const ScheduleBody& body) {
  const auto result = detsched::Explore(Isolated(options), body);
  EXPECT_TRUE(result.ok()) << result.report;
}

// Walks for bugs of depth two and, as many as `schedules`, of depth three.
inline void ExpectOkByPct(
    uint64_t schedules, const ScheduleBody& body,
    const std::function<void(detsched::Options&)>& mishaps = [](detsched::Options&) {}) {
  const auto explore = [&](detsched::Options options) {
    mishaps(options);
    return detsched::Explore(Isolated(options), body);
  };
  detsched::ExpectPct(explore, schedules);
}

// Requires every schedule within the bounds. Returns how many there were.
inline uint64_t ExpectComplete(detsched::Options options, const ScheduleBody& body) {
  // More than any of these needs; a search whose steps do not repeat may not end.
  options.max_schedules = 1'000'000;
  const detsched::Result result = detsched::Explore(Isolated(options), body);
  detsched::ExpectComplete(result);
  const std::string bound = std::to_string(options.preemption_bound);
  ::testing::Test::RecordProperty("schedules_at_bound_" + bound, std::to_string(result.schedules));
  return result.schedules;
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_SCHEDULE_TEST_UTIL_H_
