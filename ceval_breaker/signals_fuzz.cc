// Trips, runs, handlers that come and go and fail, against a model: a set of tripped numbers and a table of
// handlers. An input is a list of (operation, value) pairs of bytes; a failure prints the operations so far.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>

#include "pyrt/ceval_breaker/signals.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State {
  State() { signals.SetMainThread(&breaker); }
  ~State() { signals.SetMainThread(nullptr); }

  void Require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s// %s does not hold: word %s, tripped in the model %zu\n", program.c_str(), what,
                 breaker.ToString().c_str(), tripped.size());
    std::abort();
  }

  // The model follows while the scan goes on: a handler may trip signals before and behind it.
  void OnEvent(int number, bool has_handler) {
    Require(number > last, "ascending order, each once");
    Require(tripped.erase(number) == 1, "only tripped signals");
    Require(has_handler == handled[number], "handler or notice of none");
    Require(!failed, "a failure ends the scan");
    last = number;
  }

  static absl::Status Call(void* context, int number) {
    State& self = *static_cast<State*>(context);
    self.OnEvent(number, true);
    if (self.trips_again != 0) {
      self.signals.Trip(self.trips_again);
      self.tripped.insert(self.trips_again);
      self.trips_again = 0;
    }
    self.failed = number == self.fails;
    return self.failed ? absl::InternalError("") : absl::OkStatus();
  }
  static void Ignored(void* context, int number) { static_cast<State*>(context)->OnEvent(number, false); }

  void Trip(int number) {
    signals.Trip(number);
    if (number < 1 || number >= Signals::kCount) return;
    tripped.insert(number);
    Require(breaker.IsSet(BreakerEvent::kSignalsPending), "Trip sets the bit");
    Require(signals.IsTripped(), "Trip sets the flag");
  }

  void Run() {
    breaker.Clear(BreakerEvent::kSignalsPending);
    last = 0;
    failed = false;
    const absl::Status status = signals.Run(breaker);
    Require(status.ok() == !failed, "Run's status");
    // Behind the scan nothing is left but by a failure; before it, what a handler has tripped.
    for (const int number : tripped) Require(failed || number <= last, "nothing is left behind the scan");
    Require(tripped.empty() || (signals.IsTripped() && breaker.IsSet(BreakerEvent::kSignalsPending)),
            "what is left has flag and bit");
    if (failed) Require(breaker.IsSet(BreakerEvent::kSignalsPending), "a failure sets the bit again");
  }

  void SetHandler(int number, bool on) {
    if (number < 1 || number >= Signals::kCount) return;
    const SignalHandler* old = signals.SetHandler(number, on ? &handler : Signals::kIgnore);
    Require((old == &handler) == handled[number], "the old handler is returned");
    handled[number] = on;
  }

  void SetInterrupt(int number) {
    const bool valid = number >= 1 && number < Signals::kCount;
    Require(signals.SetInterrupt(number) == (valid ? 0 : -1), "SetInterrupt's result");
    if (valid && handled[number]) tripped.insert(number);
  }

  void Fork() {
    signals.AfterForkInChild(&breaker);
    tripped.clear();
    Require(!signals.IsTripped() && !breaker.IsSet(BreakerEvent::kSignalsPending), "a fork clears");
  }

  EvalBreaker breaker;
  Signals signals{{.ignored = &Ignored, .context = this}};
  SignalHandler handler{&Call, this};
  std::string program;
  std::set<int> tripped;
  bool handled[Signals::kCount] = {};
  int last = 0;  // of this Run
  bool failed = false;
  int fails = 0;
  int trips_again = 0;
};

void Perform(State& state, uint8_t operation, uint8_t value) {
  // Few numbers, the range's ends, and ones beyond it.
  static constexpr int kNumbers[] = {0, 1, 2, 3, 10, Signals::kCount - 1, Signals::kCount, 255};
  const int number = kNumbers[value % std::size(kNumbers)];
  const std::string text = "(" + std::to_string(number) + ");\n";
  switch (operation % 8) {
    case 0:
    case 1:
      state.program += "Trip" + text;
      return state.Trip(number);
    case 2:
      state.program += "Run();\n";
      return state.Run();
    case 3:
    case 4:
      state.program += (operation % 8 == 3 ? "SetHandler" : "Ignore") + text;
      return state.SetHandler(number, operation % 8 == 3);
    case 5:
      state.program += "SetInterrupt" + text;
      return state.SetInterrupt(number);
    case 6:
      state.program += "FailsAndTrips" + text;
      state.fails = number;
      state.trips_again = number >= 1 && number < Signals::kCount ? number : 0;
      return;
    default:
      state.program += "Fork();\n";
      return state.Fork();
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::State state;
  for (size_t i = 0; i + 1 < size; i += 2) pyrt::Perform(state, data[i], data[i + 1]);
  return 0;
}
