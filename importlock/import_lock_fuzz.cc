// Sequences of operations on one ImportLock by one thread, against a count.

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "pyrt/importlock/import_lock.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State {
  ImportLock lock;
  size_t held = 0;  // model
};

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "import_lock_fuzz", "the model disagrees: %s", what);
}

struct Acquire {
  int how;
  std::string ToString() const { return "Acquire{" + std::to_string(how) + "}"; }
  void Perform(State& state) const {
    if (how == 0) state.lock.Acquire();
    if (how == 1) Expect(state.lock.TryAcquire(), "a free or own lock is acquired");
    if (how == 2) Expect(state.lock.AcquireTimed(0) == LockStatus::kAcquired, "without waiting");
    ++state.held;
  }
};

struct Release {
  std::string ToString() const { return "Release{}"; }
  void Perform(State& state) const {
    Expect(state.lock.Release().ok() == (state.held != 0), "only an owner releases");
    if (state.held != 0) --state.held;
  }
};

// Both sides of a fork run the same calls; the parking lot is empty here.
struct Fork {
  bool child;
  std::string ToString() const { return child ? "Fork{child}" : "Fork{parent}"; }
  void Perform(State& state) const {
    state.lock.BeforeFork();
    child ? state.lock.AfterForkInChild() : state.lock.AfterForkInParent();
  }
};

using Operation = std::variant<Acquire, Release, Fork>;

Operation NextOperation(FuzzInput& input) {
  switch (input.Below(5)) {
    case 0:
    case 1:
      return Acquire{input.Below(3)};
    case 2:
      return Fork{input.Bool()};
    default:
      return Release{};
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 500; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
    Expect(state.lock.Held() == (state.held != 0), "Held()");
    Expect(state.lock.HeldByCurrentThread() == (state.held != 0), "HeldByCurrentThread()");
    Expect(state.lock.level() == (state.held == 0 ? 0 : state.held - 1), "level()");
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
