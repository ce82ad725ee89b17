// Operations on an interpreter's two queues of pending calls against a model of two lists. An input is a list
// of (operation, value) pairs of bytes; when an invariant fails, the operations so far are printed.
//
// A call carries out operations as well (its value says which), so that adding, polling and failing happen
// inside a running pass.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "pyrt/ceval_breaker/pending_calls.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct State;

// What a call does when it runs, from its value: bits 0-1 nothing, add to the same queue, poll, fork; bit 2
// fail.
struct CallRecord {
  State* state;
  bool main;
  uint8_t value;
  bool ran = false;
};

struct State {
  State() {
    const PendingCalls::Options options{.limits = {6, 4}, .raise = &Raise, .context = this};
    calls = std::make_unique<PendingCalls>(options);
    main_calls = std::make_unique<PendingCalls>(
        PendingCalls::Options{.limits = {3, 3}, .raise = &Raise, .context = this});
    handler = std::make_unique<PendingCallHandler>(calls.get(), main_calls.get());
  }

  static void Raise(void* context) { static_cast<State*>(context)->breaker.Set(BreakerEvent::kCallsToDo); }

  void Require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "%s// %s does not hold: word %s, sizes %u %u, model %zu %zu\n", program.c_str(),
                 what, breaker.ToString().c_str(), calls->size(), main_calls->size(), model[0].size(),
                 model[1].size());
    std::abort();
  }

  PendingCalls& queue(bool main) { return main ? *main_calls : *calls; }

  void Add(bool main, uint8_t value) {
    static constexpr auto kRun = [](void* argument) -> absl::Status {
      CallRecord& record = *static_cast<CallRecord*>(argument);
      return record.state->OnRun(record);
    };
    records.push_back(std::make_unique<CallRecord>(CallRecord{this, main, value}));
    breaker.Clear(BreakerEvent::kCallsToDo);
    const auto result = queue(main).Add(kRun, records.back().get());
    const bool full = model[main].size() == queue(main).limits().max;
    if (closed[main]) {
      Require(result == PendingCalls::AddResult::kClosed, "Add to a closed queue is refused");
      if (bit_due) breaker.Set(BreakerEvent::kCallsToDo);
    } else {
      Require(result == (full ? PendingCalls::AddResult::kFull : PendingCalls::AddResult::kAdded),
              "Add's result");
      Require(breaker.IsSet(BreakerEvent::kCallsToDo), "Add raises the bit");
      if (!full) model[main].push_back(records.back().get());
      bit_due = true;
    }
  }

  absl::Status OnRun(CallRecord& record) {
    Require(!record.ran, "a call runs once");
    record.ran = true;
    Require(running, "calls run inside Run only");
    Require(!model[record.main].empty() && model[record.main].front() == &record, "first in, first out");
    Require(!record.main || on_main, "main-only calls run on the main thread only");
    Require(!record.main || model[0].empty() || in_pass[0] == calls->limits().max_per_pass,
            "the interpreter's queue goes first");
    model[record.main].pop_front();
    Require(++in_pass[record.main] <= queue(record.main).limits().max_per_pass, "a pass is bounded");
    switch (record.value & 3) {
      case 1:
        Add(record.main, static_cast<uint8_t>(record.value >> 1));
        break;
      case 2: {
        const size_t before = model[0].size() + model[1].size();
        const bool bit = breaker.IsSet(BreakerEvent::kCallsToDo);
        Require(handler->Run(breaker, on_main).ok(), "a nested Run succeeds");
        Require(model[0].size() + model[1].size() == before, "a nested Run runs nothing");
        Require(breaker.IsSet(BreakerEvent::kCallsToDo) == bit, "a nested Run leaves the bit");
        break;
      }
      case 3:
        calls->AfterForkInChild();
        main_calls->AfterForkInChild();
        handler->AfterForkInChild(&breaker);
        Require(handler->IsHandling(breaker), "the guard of the survivor stays");
        break;
      default:
        break;
    }
    if ((record.value & 4) == 0) return absl::OkStatus();
    failed = true;
    return absl::InternalError("this call fails");
  }

  void Run(bool main_thread) {
    running = true;
    failed = false;
    on_main = main_thread;
    in_pass[0] = in_pass[1] = 0;
    const absl::Status status = handler->Run(breaker, main_thread);
    running = false;
    Require(status.ok() == !failed, "Run's status");
    Require(!handler->HasHandler(), "nobody handles after Run");
    bit_due = breaker.IsSet(BreakerEvent::kCallsToDo);
    const bool left = !model[0].empty() || (main_thread && !model[1].empty());
    Require(!left || bit_due, "what is left has its bit");
    Require(!failed || bit_due, "a failure sets the bit again");
  }

  void Close(bool main) {
    const bool was_closed = closed[main];
    const bool closes = queue(main).CloseIfEmpty();
    Require(was_closed || closes == model[main].empty(), "a queue closes if it is empty");
    closed[main] = was_closed || closes;
  }

  void Reopen(bool main) {
    queue(main).Reopen();
    closed[main] = false;
  }

  void CheckInvariants() {
    for (const bool main : {false, true}) {
      Require(queue(main).size() == model[main].size(), "size()");
      Require(queue(main).IsEmpty() == model[main].empty(), "IsEmpty()");
    }
    Require(handler->HasWork(true) == (!model[0].empty() || !model[1].empty()), "HasWork(true)");
    Require(handler->HasWork(false) == !model[0].empty(), "HasWork(false)");
  }

  EvalBreaker breaker;
  std::unique_ptr<PendingCalls> calls;
  std::unique_ptr<PendingCalls> main_calls;
  std::unique_ptr<PendingCallHandler> handler;
  std::vector<std::unique_ptr<CallRecord>> records;
  std::string program;
  // The model; index 1 is the main queue.
  std::deque<CallRecord*> model[2];
  bool closed[2] = {false, false};
  uint32_t in_pass[2] = {0, 0};
  bool running = false;
  bool failed = false;
  bool on_main = false;
  bool bit_due = false;
};

void Perform(State& state, uint8_t operation, uint8_t value) {
  const bool main = (operation & 0x80) != 0;
  const std::string suffix =
      std::string(main ? "(main" : "(interpreter") + ", " + std::to_string(value) + ");\n";
  switch (operation & 7) {
    default:
      state.program += "Add" + suffix;
      return state.Add(main, value);
    case 4:
    case 5:
      state.program += "Run" + suffix;
      return state.Run(main);
    case 6:
      state.program += "Close" + suffix;
      return state.Close(main);
    case 7:
      state.program += "Reopen" + suffix;
      return state.Reopen(main);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::State state;
  for (size_t i = 0; i + 1 < size; i += 2) {
    pyrt::Perform(state, data[i], data[i + 1]);
    state.CheckInvariants();
  }
  return 0;
}
