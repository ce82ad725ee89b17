// Operations on one EvalBreaker against a model of two plain fields. An input is a list of (operation, value)
// pairs of bytes; when an invariant fails, the program so far is printed as C++.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "pyrt/ceval_breaker/eval_breaker.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State {
  EvalBreaker breaker;
  // The model.
  uintptr_t events = 0;
  uintptr_t version = 0;
  std::string program;

  void Require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr,
                 "EvalBreaker breaker;\n%s// %s does not hold: word %s, model events %#zx version %#zx\n",
                 program.c_str(), what, breaker.ToString().c_str(), static_cast<size_t>(events),
                 static_cast<size_t>(version));
    std::abort();
  }
};

BreakerEvent EventOf(uint8_t value) { return static_cast<BreakerEvent>(value % EvalBreaker::kEventBits); }
uintptr_t VersionOf(uint8_t value) {
  // Small ones, and the highest.
  return value == 255 ? EvalBreaker::kVersionMask : value * EvalBreaker::kVersionIncrement;
}
std::string EventText(uint8_t value) {
  return "static_cast<BreakerEvent>(" + std::to_string(value % EvalBreaker::kEventBits) + ")";
}

struct Set {
  static constexpr char kName[] = "breaker.Set(";
  static std::string Text(uint8_t value) { return EventText(value); }
  static void Perform(State& state, uint8_t value) {
    state.breaker.Set(EventOf(value));
    state.events |= BreakerBit(EventOf(value));
  }
};

struct Clear {
  static constexpr char kName[] = "breaker.Clear(";
  static std::string Text(uint8_t value) { return EventText(value); }
  static void Perform(State& state, uint8_t value) {
    state.breaker.Clear(EventOf(value));
    state.events &= ~BreakerBit(EventOf(value));
  }
};

struct SetVersion {
  static constexpr char kName[] = "breaker.SetVersion(";
  static std::string Text(uint8_t value) { return std::to_string(VersionOf(value)) + "u"; }
  static void Perform(State& state, uint8_t value) {
    state.breaker.SetVersion(VersionOf(value));
    state.version = VersionOf(value);
  }
};

// The argument's low byte may hold events, as an interpreter's word does: they are not the thread's.
struct RefreshOnAttach {
  static constexpr char kName[] = "breaker.RefreshOnAttach(";
  static std::string Text(uint8_t value) {
    return std::string((value & 1) != 0 ? "true, " : "false, ") + std::to_string(VersionOf(value) | value) +
           "u";
  }
  static void Perform(State& state, uint8_t value) {
    const bool calls = (value & 1) != 0;
    state.breaker.RefreshOnAttach(calls, VersionOf(value) | value);
    state.version = VersionOf(value);
    if (calls) state.events |= BreakerBit(BreakerEvent::kCallsToDo);
  }
};

// Another component's bit, set through the bare word as Gil does it.
struct SetThroughWord {
  static constexpr char kName[] = "breaker.word()->fetch_or(";
  static std::string Text(uint8_t value) { return std::to_string(BreakerBit(EventOf(value))) + ", kSeqCst"; }
  static void Perform(State& state, uint8_t value) {
    state.breaker.word()->fetch_or(BreakerBit(EventOf(value)), kSeqCst);
    state.events |= BreakerBit(EventOf(value));
  }
};

template <typename Operation>
void Step(State& state, uint8_t value) {
  state.program += Operation::kName + Operation::Text(value) + ");\n";
  Operation::Perform(state, value);
}

void CheckInvariants(State& state) {
  state.Require(state.breaker.Load() == (state.version | state.events), "Load()");
  state.Require(state.breaker.version() == state.version, "version()");
  state.Require(state.breaker.AnyPending() == (state.events != 0), "AnyPending()");
  for (uint8_t i = 0; i < EvalBreaker::kEventBits; ++i) {
    state.Require(state.breaker.IsSet(EventOf(i)) == ((state.events >> i & 1) != 0), "IsSet()");
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pyrt;
  State state;
  constexpr void (*kSteps[])(State&, uint8_t) = {&Step<Set>, &Step<Clear>, &Step<SetVersion>,
                                                 &Step<RefreshOnAttach>, &Step<SetThroughWord>};
  for (size_t i = 0; i + 1 < size; i += 2) {
    kSteps[data[i] % std::size(kSteps)](state, data[i + 1]);
    CheckInvariants(state);
  }
  return 0;
}
