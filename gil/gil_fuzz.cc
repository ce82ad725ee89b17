// Sequences of operations on one Gil by holders that all live on the fuzzer's thread, against a model.
// Operations that would block in that state are left out by the model; blocking is gil_schedule_test's
// subject.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/fuzz/operations.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int kHolders = 3;

struct Thread {
  Atomic<uintptr_t> word{0};
  std::optional<GilHolder> holder;
};

// The Gil, and what the model says about it.
struct State {
  explicit State(bool enabled) : gil(enabled), requests(enabled || kGilEnabled ? kForGood : 0) {
    for (Thread& thread : threads) thread.holder.emplace(&thread.word, 1);
  }

  static constexpr int kForGood = 1 << 20;

  bool on() const { return kGilEnabled || requests != 0; }

  Gil gil;
  Thread threads[kHolders];
  int owner = -1;         // model: who holds it
  int last = -1;          // model: who held it last and has not been forgotten
  uint64_t switches = 0;  // model
  int requests;           // model: outstanding enable requests
  bool exiting[kHolders] = {};
};

void Expect(bool condition, const char* what, const State& state) {
  PYRT_CHECK(condition, "gil_fuzz", "the model disagrees: %s (%s)", what, state.gil.ToString().c_str());
}

struct Take {
  int thread;
  int times;  // more than a few thousand uncontended ones make a bias
  std::string ToString() const {
    return "Take{" + std::to_string(thread) + ", " + std::to_string(times) + "}";
  }
  void Perform(State& state) const {
    GilHolder& holder = *state.threads[thread].holder;
    if (state.on() && state.owner != -1) return;  // would block, or is fatal
    for (int i = 0; i < times; ++i) {
      const Gil::TakeResult result = state.gil.Take(holder);
      if (!state.on()) {
        Expect(result == (state.exiting[thread] ? Gil::TakeResult::kMustExit : Gil::TakeResult::kDisabled),
               "a Gil that is off is not taken", state);
        return;
      }
      if (state.exiting[thread]) {
        Expect(result == Gil::TakeResult::kMustExit, "a thread that must exit does not take it", state);
        if (state.last == thread) state.last = -1;  // it had it for a moment, and dropped it for good
        return;
      }
      Expect(result == Gil::TakeResult::kTaken, "a free Gil is taken", state);
      if (state.last != thread) ++state.switches;
      state.owner = state.last = thread;
      if (i + 1 < times) {
        state.gil.Drop(holder);
        state.owner = -1;
      }
    }
  }
};

struct Drop {
  bool final;
  std::string ToString() const { return final ? "Drop{final}" : "Drop{}"; }
  void Perform(State& state) const {
    if (state.owner == -1) return;
    GilHolder& holder = *state.threads[state.owner].holder;
    final ? state.gil.DropFinal(holder) : state.gil.Drop(holder);
    if (final) state.last = -1;
    state.owner = -1;
  }
};

struct Yield {
  bool asked;
  std::string ToString() const { return asked ? "Yield{asked}" : "Yield{}"; }
  void Perform(State& state) const {
    if (state.owner == -1) return;
    Thread& thread = state.threads[state.owner];
    if (asked) thread.word.fetch_or(1, kSeqCst);
    const Gil::TakeResult result = state.gil.Yield(*thread.holder);
    Expect((thread.word.load(kRelaxed) & 1) == 0, "a yield answers the request", state);
    if (state.exiting[state.owner]) {
      Expect(result == Gil::TakeResult::kMustExit, "a thread that must exit does not come back", state);
      state.owner = -1;
    } else {
      Expect(result == Gil::TakeResult::kTaken, "with nobody waiting a yield keeps the Gil", state);
    }
  }
};

struct StaleRequest {
  int thread;
  std::string ToString() const { return "StaleRequest{" + std::to_string(thread) + "}"; }
  void Perform(State& state) const {
    if (state.owner != thread) state.threads[thread].word.fetch_or(1, kSeqCst);
  }
};

struct RequestExit {
  int thread;
  std::string ToString() const { return "RequestExit{" + std::to_string(thread) + "}"; }
  void Perform(State& state) const {
    state.gil.RequestExit(*state.threads[thread].holder);
    state.exiting[thread] = true;
  }
};

// The thread is gone and another one takes its place in memory.
struct Replace {
  int thread;
  std::string ToString() const { return "Replace{" + std::to_string(thread) + "}"; }
  void Perform(State& state) const {
    if (state.owner == thread) return;
    state.gil.Forget(*state.threads[thread].holder);
    state.threads[thread].word.store(0, kRelaxed);
    state.threads[thread].holder.emplace(&state.threads[thread].word, 1);
    state.exiting[thread] = false;
    if (state.last == thread) state.last = -1;
  }
};

struct Fork {
  int survivor;
  std::string ToString() const { return "Fork{" + std::to_string(survivor) + "}"; }
  void Perform(State& state) const {
    for (int i = 0; i < kHolders; ++i) {  // the others do not exist any more
      if (i == survivor) continue;
      state.threads[i].word.store(0, kRelaxed);
      state.threads[i].holder.emplace(&state.threads[i].word, 1);
      state.exiting[i] = false;
    }
    state.gil.ReinitAfterFork(&*state.threads[survivor].holder);
    state.owner = state.last = -1;
  }
};

struct Enable {
  bool for_good;
  std::string ToString() const { return for_good ? "Enable{for good}" : "Enable{}"; }
  void Perform(State& state) const {
    if (state.owner == -1 && state.on()) return;  // only the holder may, or anybody while it is off
    const bool changed = for_good ? state.gil.EnableForGood() : state.gil.AddEnableRequest();
    if (for_good) {
      Expect(changed == (state.requests != State::kForGood), "EnableForGood says whether it changed", state);
      state.requests = State::kForGood;
    } else if (state.requests != State::kForGood) {
      Expect(changed == (state.requests == 0), "AddEnableRequest says whether it changed", state);
      ++state.requests;
    }
  }
};

struct Disable {
  std::string ToString() const { return "Disable{}"; }
  void Perform(State& state) const {
    if (state.owner == -1) return;
    const bool changed = state.gil.RemoveEnableRequest(*state.threads[state.owner].holder);
    if (state.requests == State::kForGood) {
      Expect(!changed, "for good is for good", state);
      return;
    }
    Expect(changed == (--state.requests == 0), "RemoveEnableRequest says whether it changed", state);
    if (state.requests == 0) state.owner = -1;
  }
};

void CheckInvariants(const State& state) {
  Expect(state.gil.locked() == (state.owner != -1), "locked()", state);
  Expect(state.gil.switch_number() == state.switches, "switch_number()", state);
  const GilHolder* const last = state.last == -1 ? nullptr : &*state.threads[state.last].holder;
  Expect(state.gil.last_holder() == last, "last_holder()", state);
  for (int i = 0; i < kHolders; ++i) {
    Expect(state.threads[i].holder->holds() == (i == state.owner), "holds()", state);
    Expect(!state.threads[i].holder->requesting(), "requesting() outside a take", state);
  }
}

using Operation = std::variant<Take, Drop, Yield, StaleRequest, RequestExit, Replace, Fork, Enable, Disable>;

Operation NextOperation(FuzzInput& input) {
  switch (input.Below(14)) {
    case 0:
    case 1:
    case 2:
      return Take{input.Below(kHolders), 1};
    case 3:
      return Take{input.Below(kHolders), 1 << input.Below(14)};
    case 4:
    case 5:
      return Drop{false};
    case 6:
      return Drop{true};
    case 7:
    case 8:
      return Yield{input.Bool()};
    case 9:
      return StaleRequest{input.Below(kHolders)};
    case 10:
      return input.Below(8) == 0 ? Operation(RequestExit{input.Below(kHolders)}) : Operation(Drop{false});
    case 11:
      return Replace{input.Below(kHolders)};
    case 12:
      return input.Below(4) == 0 ? Operation(Fork{input.Below(kHolders)}) : Operation(Disable{});
    default:
      return Enable{input.Below(16) == 0};
  }
}

void RunOne(FuzzInput input) {
  OperationLog::Start();
  State state(/*enabled=*/input.Bool());
  for (int operations = 0; !input.empty() && operations < 200; ++operations) {
    PerformLogged(Operation(NextOperation(input)), state);
    CheckInvariants(state);
  }
  if (state.owner != -1) state.gil.Drop(*state.threads[state.owner].holder);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(pyrt::FuzzInput(data, size));
  return 0;
}
