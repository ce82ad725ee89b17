// How the schedule tests look for what is too long to be explored exhaustively.

#ifndef PYRT_TSTATE_TSTATE_SCHEDULE_WALKS_TEST_UTIL_H_
#define PYRT_TSTATE_TSTATE_SCHEDULE_WALKS_TEST_UTIL_H_

#include <cstdint>
#include <functional>

#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {

// Walks for bugs of depth two and three, with which `explore` is called.
inline void ExpectWalks(const std::function<detsched::Result(const detsched::Options&)>& explore,
                        uint64_t schedules) {
  ExpectOk(explore(detsched::Options::Random(schedules / 5)));
  ExpectOk(explore(detsched::Options::Pct(2, 2000)));
  ExpectOk(explore(detsched::Options::Pct(3, schedules)));
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_TSTATE_SCHEDULE_WALKS_TEST_UTIL_H_
