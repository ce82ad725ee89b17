// Sequences of uses of module locks by one thread, against a model: names and how often each is owned.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "pyrt/importlock/module_lock.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

const std::string& NameOf(int number) {
  static const auto* const names = [] {
    auto* const made = new std::vector<std::string>;
    for (int i = 0; i < 32; ++i)
      made->push_back(std::string(static_cast<size_t>(i * i / 4), 'x') + std::to_string(i));
    return made;
  }();
  return (*names)[static_cast<size_t>(number)];
}

struct State {
  ModuleLockRegistry locks;
  std::vector<std::unique_ptr<ModuleLock>> uses;
  std::map<std::string, int> owned;  // model
};

void Expect(bool condition, const char* what) {
  PYRT_CHECK(condition, "module_lock_fuzz", "the model disagrees: %s", what);
}

void Forget(State& state, const ModuleLock& use) {
  const auto found = state.owned.find(std::string(use.name()));
  if (use.acquired() && --found->second == 0) state.owned.erase(found);
}

struct Acquire {
  int name;
  std::string ToString() const { return "Acquire{" + std::to_string(name) + "}"; }
  void Perform(State& state) const {
    state.uses.push_back(std::make_unique<ModuleLock>(state.locks, NameOf(name)));
    Expect(state.uses.back()->Acquire() == ModuleLockStatus::kAcquired, "free or own");
    ++state.owned[NameOf(name)];
  }
};

struct Release {
  int which;
  std::string ToString() const { return "Release{" + std::to_string(which) + "}"; }
  void Perform(State& state) const {
    if (state.uses.empty()) return;
    ModuleLock& use = *state.uses[static_cast<size_t>(which) % state.uses.size()];
    const bool acquired = use.acquired();
    Forget(state, use);
    Expect(use.Release().ok() == acquired, "only what is acquired is released");
  }
};

struct Drop {
  int which;
  std::string ToString() const { return "Drop{" + std::to_string(which) + "}"; }
  void Perform(State& state) const {
    if (state.uses.empty()) return;
    const auto at = state.uses.begin() + which % static_cast<int>(state.uses.size());
    Forget(state, **at);
    state.uses.erase(at);
  }
};

// Of one thread, in one process. What a child forgets to unlock stays locked for ThreadSanitizer, which knows of no child.
struct Fork {
  bool child;
  std::string ToString() const { return child ? "Fork{child}" : "Fork{parent}"; }
  void Perform(State& state) const {
    state.locks.BeforeFork();
    if (child && !kTsan) {
      Expect(state.locks.AfterForkInChild().empty(), "nobody else owned anything");
    } else {
      state.locks.AfterForkInParent();
    }
  }
};

using Operation = std::variant<Acquire, Release, Drop, Fork>;

Operation NextOperation(FuzzInput& input) {
  switch (input.Below(8)) {
    case 0:
    case 1:
    case 2:
      return Acquire{input.Below(32)};
    case 3:
    case 4:
      return Release{input.Below(256)};
    case 5:
      return Fork{input.Bool()};
    default:
      return Drop{input.Below(256)};
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state;
  for (int operations = 0; !input.empty() && operations < 300; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
    Expect(state.locks.size() == state.owned.size(), "an entry lives as long as its users");
    const std::string& name = NameOf(operations % 32);
    Expect(state.locks.Locked(name) == (state.owned.count(name) != 0), "Locked()");
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
