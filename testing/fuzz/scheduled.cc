#include "pyrt/testing/fuzz/scheduled.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"

namespace {

constexpr size_t kCounters = 32768;

}  // namespace

// libFuzzer (and fuzz_main.cc) finds these by their section; they belong to no variant.
extern "C" {
__attribute__((section("__libfuzzer_extra_counters"))) uint8_t pyrt_interleaving_counters[kCounters];
}

namespace pyrt::inline PYRT_VARIANT::internal {
namespace {

constexpr size_t kMostChoices = 20'000;
constexpr uint32_t kMostSteps = 20'000;

}  // namespace

ScheduledShape::ScheduledShape(FuzzInput& input) : options(detsched::Options::Bytes(nullptr, 0)) {
  const uint8_t shape = input.Byte();
  threads = 2 + (shape & 1);
  options.usable_cpus = (shape & 2) != 0 ? 1 : 2;
  options.membarrier = (shape & 4) == 0;
  options.weak_memory = (shape & 8) == 0;
  switch (shape >> 4 & 3) {
    case 1:
      options.spurious_wakeups = 2;
      break;
    case 2:
      options.early_timeouts = 2;
      break;
    case 3:
      options.weak_cas_failures = 2;
      break;
    default:
      break;
  }
  options.max_steps = kMostSteps;
  options.coverage = pyrt_interleaving_counters;
  options.coverage_size = kCounters;
  setup = input.Byte();
}

std::vector<uint8_t> ExpandSchedule(FuzzInput input) {
  const int mask = input.Byte() & 31;
  std::vector<uint8_t> choices;
  while (!input.empty() && choices.size() < kMostChoices) {
    const uint8_t byte = input.Byte();
    choices.insert(choices.end(), static_cast<size_t>(byte >> 3 & mask), 0);
    choices.push_back(byte & 7);
  }
  return choices;
}

void StartScheduled(const std::string& program) {
  static const bool print = std::getenv("PYRT_FUZZ_PRINT") != nullptr;
  if (print) std::fprintf(stderr, "%s", program.c_str());
}

void FinishScheduled(const std::string& program, const detsched::Result& result) {
  if (result.ok()) return;
  std::fprintf(stderr, "Operations of this run, by thread:\n%s%s", program.c_str(), result.report.c_str());
  std::fflush(nullptr);
  std::abort();
}

}  // namespace pyrt::inline PYRT_VARIANT::internal
