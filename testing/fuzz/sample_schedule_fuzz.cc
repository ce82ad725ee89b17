// Loses an update when one thread adds between another one's load and store: to show that bytes drive the
// schedule, that a failure is reported, and that the same bytes fail again.

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct World {
  World(uint8_t /*setup*/, const detsched::Options& /*options*/) { detsched::Name(&sum, "sum"); }
  static void Reset() {}
  void Enter(int /*self*/) {}
  void Leave(int /*self*/) {}
  bool Holds() const { return sum.load(kRelaxed) <= expected; }
  void CheckEnd(detsched::Schedule& /*schedule*/) { DETSCHED_CHECK(sum.load(kRelaxed) == expected); }

  Atomic<int> sum{0};
  int expected = 0;  // model
};

struct Add {
  int number;
  std::string ToString() const { return "Add{" + std::to_string(number) + "}"; }
  void Perform(World& world, int /*self*/) const {
    world.expected += number;
    const int before = world.sum.load(kAcquire);
    world.sum.store(before + number, kRelease);
  }
};

struct Look {
  std::string ToString() const { return "Look{}"; }
  void Perform(World& world, int /*self*/) const { DETSCHED_CHECK(world.sum.load(kAcquire) >= 0); }
};

using Operation = std::variant<Add, Look>;

Operation NextOperation(FuzzInput& input) {
  if (input.Below(4) != 0) return Look{};
  return Add{1 + input.Below(9)};
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
