// Threads that add calls, poll, attach, change the instrumentation version, close the queue and fork, in a
// schedule that the bytes choose. What was accepted runs exactly once, on a thread that may run it, in its
// producer's order, and because of a bit: nobody looks at a queue whose bit is not set. Neither a version that
// is written nor a thread that attaches takes a bit away.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using AddResult = PendingCalls::AddResult;

enum class What : uint8_t { kNothing, kFail, kAdd, kPoll };
constexpr const char* kWhats[] = {"kNothing", "kFail", "kAdd", "kPoll"};

struct World;

struct Call {
  Call(World* in, bool of_main, What does, int by, int nth)
      : world(in), main(of_main), what(does), producer(by), number(nth) {}
  World* const world;
  const bool main;
  const What what;
  const int producer;
  const int number;  // of its producer and queue
  Plain<int> ran{0};
};

// Thread 0 is the main thread, in a child the one that forked; without a GIL all of them may poll at the same
// time.
struct World {
  // Setup: the queues' capacities and the lengths of a pass.
  World(uint8_t setup, const detsched::Options& /*options*/)
      : calls({.limits = {1u + (setup & 3), 1u + (setup >> 2 & 1)}, .raise = &Raise, .context = this}),
        main_calls({.limits = {1u + (setup >> 3 & 1), 1}, .raise = &RaiseMain, .context = this}),
        handler(&calls, &main_calls) {
    detsched::Name(&calls, "calls");
    detsched::Name(&main_calls, "main_calls");
    detsched::Name(&handler, "handler");
    for (int i = 0; i < kMostThreads; ++i) detsched::Name(&words[i], "word", i);
  }
  static void Reset() {}

  static void Raise(void* self) {
    for (EvalBreaker& word : static_cast<World*>(self)->words) word.Set(BreakerEvent::kCallsToDo);
  }
  static void RaiseMain(void* self) {
    World& world = *static_cast<World*>(self);
    world.words[world.main_thread].Set(BreakerEvent::kCallsToDo);
  }

  void Enter(int /*self*/) {}
  void Leave(int self) {
    ++inside;
    handler.Forget(words[self]);
    --inside;
  }

  void Add(int self, bool main, What what) {
    // Reserved before: a call may run before Add has returned.
    const int number = next[self][main];
    records.push_back(std::make_unique<Call>(this, main, what, self, number));
    Call& call = *records.back();
    ++next[self][main];
    ++inside;
    ++adding;
    const AddResult result = (main ? main_calls : calls).Add(&Run, &call);
    --adding;
    --inside;
    if (result == AddResult::kAdded) {
      ++accepted;
    } else {
      DETSCHED_CHECK(result == AddResult::kFull || (!main && (closed || closing != 0)));
    }
  }
  void Poll(int self) {
    if (!words[self].AnyPending()) return;
    ++inside;
    static_cast<void>(handler.Run(words[self], self == main_thread));
    --inside;
  }

  // Replaces a word's version, by `write`. Who changes it knows what comes out, so that one at a time does.
  template <typename Write>
  void ChangeVersion(int word, Write write) {
    if (changing[word]) return;
    changing[word] = true;
    const uintptr_t version = ++last_version * EvalBreaker::kVersionIncrement;
    write(words[word], version);
    DETSCHED_CHECK(words[word].version() == version);
    versions[word] = version;
    changing[word] = false;
  }
  // EB-10. Not among `inside`: whatever has its bit keeps it all the while.
  void Attach(int self) {
    ChangeVersion(self, [&](EvalBreaker& word, uintptr_t version) {
      word.RefreshOnAttach(handler.HasWork(self == main_thread), version);
    });
  }

  // Goes on in the child: the parent is as if nobody had forked. Calls that others were adding are there or
  // not.
  void Fork(int self) {
    if (ForkProcess() != 0) return;
    PlatformAfterForkInChild();
    lost_adds += adding;
    adding = 0;
    inside = 1;
    survivor = main_thread = self;
    for (int i = 0; i < kMostThreads; ++i) {  // the old version or the new one
      versions[i] = words[i].version();
      changing[i] = false;
    }
    calls.AfterForkInChild();
    main_calls.AfterForkInChild();
    handler.AfterForkInChild(&words[self]);
    --inside;
  }

  // B091: what is still to do stays known.
  void PollInCall(int self) {
    const bool before = words[self].IsSet(BreakerEvent::kCallsToDo);
    static_cast<void>(handler.Run(words[self], self == main_thread));
    DETSCHED_CHECK(!before || words[self].IsSet(BreakerEvent::kCallsToDo));
  }

  static absl::Status Run(void* argument) {
    Call& call = *static_cast<Call*>(argument);
    World& world = *call.world;
    const int self = detsched::CurrentFiber() < 0 ? world.draining : detsched::CurrentFiber();
    DETSCHED_CHECK(call.ran.Get() == 0);
    call.ran.Set(1);
    ++world.ran;
    DETSCHED_CHECK(!call.main || self == world.main_thread);
    DETSCHED_CHECK(call.number >= world.least[call.producer][call.main]);
    world.least[call.producer][call.main] = call.number + 1;
    switch (call.what) {
      case What::kNothing:
        break;
      case What::kFail:
        return absl::InternalError("");
      case What::kAdd:
        world.Add(self, call.main, What::kNothing);
        break;
      case What::kPoll:
        world.PollInCall(self);
        break;
    }
    return absl::OkStatus();
  }

  // Nothing runs twice or without having been added; and while nobody adds or polls, whoever may run a call
  // that waits has its bit.
  bool Holds() const {
    if (ran > accepted + adding + lost_adds) return false;
    for (int i = 0; i < kMostThreads; ++i) {
      if (!changing[i] && words[i].version() != versions[i]) return false;
    }
    if (inside != 0) return true;
    if (!main_calls.IsEmpty() && !words[main_thread].IsSet(BreakerEvent::kCallsToDo)) return false;
    if (calls.IsEmpty()) return true;
    if (survivor >= 0) return words[survivor].IsSet(BreakerEvent::kCallsToDo);
    return std::all_of(std::begin(words), std::end(words),
                       [](const EvalBreaker& word) { return word.IsSet(BreakerEvent::kCallsToDo); });
  }
  void CheckEnd(detsched::Schedule& /*schedule*/) {
    DETSCHED_CHECK(!handler.HasHandler());
    // Each round runs a call, or is the last but one.
    bool any = true;
    for (size_t rounds = 0; any; ++rounds) {
      DETSCHED_CHECK(rounds <= records.size() + 2);
      any = false;
      for (draining = 0; draining < kMostThreads; ++draining) {
        if (survivor >= 0 && draining != survivor) continue;
        any |= words[draining].AnyPending();
        Poll(draining);
      }
    }
    DETSCHED_CHECK(calls.IsEmpty() && main_calls.IsEmpty());
    DETSCHED_CHECK(accepted <= ran && ran <= accepted + lost_adds);
  }

  EvalBreaker words[kMostThreads];
  PendingCalls calls;
  PendingCalls main_calls;
  PendingCallHandler handler;
  std::vector<std::unique_ptr<Call>> records;
  // Model:
  int accepted = 0;
  int ran = 0;        // from the moment in which the ring has given the call away
  int adding = 0;     // calls
  int inside = 0;     // threads that add, poll, leave, or put a child in order
  int lost_adds = 0;  // calls that a thread of the parent was adding: complete or not
  int main_thread = 0;
  int survivor = -1;  // in a child: its only thread
  int closing = 0;    // attempts
  bool closed = false;
  int next[kMostThreads][2] = {};
  int least[kMostThreads][2] = {};
  int draining = 0;
  uintptr_t versions[kMostThreads] = {};
  bool changing[kMostThreads] = {};
  uintptr_t last_version = 0;
};

struct Add {
  bool main;
  What what;
  std::string ToString() const {
    return std::string("Add{") + (main ? "true" : "false") + ", What::" + kWhats[static_cast<int>(what)] +
           "}";
  }
  void Perform(World& world, int self) const { world.Add(self, main, what); }
};

struct Poll {
  std::string ToString() const { return "Poll{}"; }
  void Perform(World& world, int self) const { world.Poll(self); }
};

struct Attach {
  std::string ToString() const { return "Attach{}"; }
  void Perform(World& world, int self) const { world.Attach(self); }
};

// EB-3: any thread, of any word.
struct SetVersion {
  int word;
  std::string ToString() const { return "SetVersion{" + std::to_string(word) + "}"; }
  void Perform(World& world, int /*self*/) const {
    world.ChangeVersion(word, [](EvalBreaker& one, uintptr_t version) { one.SetVersion(version); });
  }
};

// As the end of an interpreter.
struct Close {
  std::string ToString() const { return "Close{}"; }
  void Perform(World& world, int /*self*/) const {
    ++world.closing;
    if (world.calls.CloseIfEmpty()) world.closed = true;
    --world.closing;
  }
};

struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const { world.Fork(self); }
};

using Operation = std::variant<Add, Poll, Attach, SetVersion, Close, Fork>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  switch (byte & 7) {
    case 0:
    case 1:
    case 2:
      return Poll{};
    case 3:
      if ((byte & 0xf0) == 0xf0) return Close{};
      if ((byte & 0xe0) == 0xc0) return Fork{};
      if ((byte & 0xe0) == 0x80) return SetVersion{(byte >> 3 & 3) % kMostThreads};
      if ((byte & 0xe0) != 0 && byte < 0xc0) return Attach{};
      return Poll{};
    default:
      return Add{(byte & 8) != 0, static_cast<What>(byte >> 4 & 3)};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
