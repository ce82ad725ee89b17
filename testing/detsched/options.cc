#include "pyrt/testing/detsched/options.h"

#include <utility>

namespace pyrt::inline PYRT_VARIANT::detsched {

Options Options::Random(uint64_t schedules, uint64_t seed) {
  Options options;
  options.max_schedules = schedules;
  options.seed = seed;
  return options;
}

Options Options::Pct(int depth, uint64_t schedules, uint64_t seed) {
  Options options = Random(schedules, seed);
  options.strategy = Strategy::kPct;
  options.pct_depth = depth;
  return options;
}

Options Options::Exhaustive(int preemption_bound) {
  Options options;
  options.strategy = Strategy::kExhaustive;
  options.max_schedules = 20'000'000;
  options.preemption_bound = preemption_bound;
  return options;
}

Options Options::Replay(std::string trace) {
  Options options;
  options.strategy = Strategy::kReplay;
  options.max_schedules = 1;
  options.trace = std::move(trace);
  options.shrink = false;
  return options;
}

Options Options::Bytes(const uint8_t* bytes, size_t size) {
  Options options;
  options.strategy = Strategy::kBytes;
  options.max_schedules = 1;
  options.bytes = bytes;
  options.bytes_size = size;
  options.shrink = false;
  return options;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched
