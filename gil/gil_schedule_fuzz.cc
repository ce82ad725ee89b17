// Two or three threads that take, drop, yield, leave, fork and switch the GIL off and on, in a schedule that the
// bytes choose. After each step at most one of them has the GIL, and what it guards is Plain.

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "pyrt/gil/gil.h"
#include "pyrt/gil/gil_test_util.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using TakeResult = Gil::TakeResult;

constexpr uint64_t kHourMicros = 3'600'000'000;

struct Member : TestThread {
  Atomic<bool> told{false};  // to exit
  // The model, of the thread itself:
  bool has = false;
  bool over = false;     // may not take it any more
  bool ordered = false;  // to exit: somebody is doing so, or has done
};

struct World {
  // Setup: bit 0: the interval is over at once, or never; 1: the interactive policy; 2: two have asked for the GIL.
  World(uint8_t setup, const detsched::Options& options)
      : timed((setup & 1) != 0 || options.early_timeouts != 0), start(MonotonicNow()) {
    for (; !kGilEnabled && requests < ((setup & 4) != 0 ? 2 : 1); ++requests) gil.AddEnableRequest();
    gil.set_interval(timed ? 1 : kHourMicros);
    if ((setup & 2) != 0) gil.set_policy(SwitchPolicy::kInteractive);
    detsched::Name(&gil, "gil");
    detsched::Name(&inside, "inside");
    for (int i = 0; i < kMostThreads; ++i) detsched::Name(&members[i], "member", i);
  }
  static void Reset() {}

  void Enter(int /*self*/) {}
  void Leave(int self) {
    Member& me = members[self];
    if (me.has) Drop(me);
    me.over = true;
  }

  void Take(Member& me) {
    if (me.has || me.over) return;
    const bool told = me.told.load(kAcquire);
    const int on_before = switched_on;
    const bool off = !kGilEnabled && is_off.load(kAcquire) == switched_off && requests == 0;
    const TakeResult result = gil.Take(me.holder);
    DETSCHED_CHECK(!told || result != TakeResult::kTaken);
    // Off before it began, and not on since.
    if (off && on_before == switched_on) DETSCHED_CHECK(result != TakeResult::kTaken);
    Took(me, result);
  }
  void Took(Member& me, TakeResult result) {
    me.has = result == TakeResult::kTaken;
    if (result == TakeResult::kMustExit) {
      DETSCHED_CHECK(me.ordered);
      me.over = true;
    }
    DETSCHED_CHECK(result != TakeResult::kDisabled || switched_off != 0);
  }
  void Drop(Member& me) {
    me.has = false;
    gil.Drop(me.holder);
  }

  int Holders() const {
    int holders = 0;
    for (const Member& member : members) holders += member.has;
    return holders;
  }
  bool Holds() const {
    if (Holders() > 1) return false;
    for (const Member& member : members) {
      if (member.has && !member.holder.holds()) return false;
    }
    return true;
  }
  void CheckEnd(detsched::Schedule& schedule) {
    // Without timers nobody may have had to wait for the interval: that is a lost wake-up.
    if (!timed) DETSCHED_CHECK(MonotonicNow() - start < static_cast<int64_t>(kHourMicros) * kNanosPerMicro);
    DETSCHED_CHECK(!gil.locked());
    DETSCHED_CHECK(gil.Stats().waiting == 0);
    DETSCHED_CHECK(schedule.forked() || inside.Get() == done);
    if (schedule.forked()) return;  // the others' holders are nobody's
    for (Member& member : members) gil.Forget(member.holder);
  }

  const bool timed;
  Gil gil;
  Member members[kMostThreads];
  Plain<int> inside{0};
  // The model:
  int done = 0;            // what `inside` is to be
  bool switching = false;  // somebody switches it on or off; nobody else does meanwhile, or forks
  int requests = 0;        // to enable it, that stand or are being given
  int switched_on = 0;     // how often, counted as it begins
  int switched_off = 0;    // the same
  Atomic<int> is_off{0};   // how often it has been switched off, for a thread that sees it
  int64_t start;
};

struct Take {
  std::string ToString() const { return "Take{}"; }
  void Perform(World& world, int self) const { world.Take(world.members[self]); }
};

// What a thread does with the GIL.
struct Work {
  std::string ToString() const { return "Work{}"; }
  void Perform(World& world, int self) const {
    if (!world.members[self].has) return;
    world.inside.Set(world.inside.Get() + 1);
    ++world.done;
  }
};

struct Drop {
  std::string ToString() const { return "Drop{}"; }
  void Perform(World& world, int self) const {
    if (world.members[self].has) world.Drop(world.members[self]);
  }
};

// Several times in a row without anything between, which makes a bias.
struct TakeAndDrop {
  int times;
  std::string ToString() const { return "TakeAndDrop{" + std::to_string(times) + "}"; }
  void Perform(World& world, int self) const {
    for (int i = 0; i < times; ++i) {
      world.Take(world.members[self]);
      Work{}.Perform(world, self);
      if (world.members[self].has) world.Drop(world.members[self]);
    }
  }
};

struct Yield {
  bool if_asked;
  std::string ToString() const { return if_asked ? "Yield{true}" : "Yield{false}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.has || (if_asked && !me.asked())) return;
    me.has = false;
    world.Took(me, world.gil.Yield(me.holder));
  }
};

// The thread's last: whoever comes next may free its holder.
struct DropFinal {
  std::string ToString() const { return "DropFinal{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.has) return;
    me.has = false;
    me.over = true;
    world.gil.DropFinal(me.holder);
  }
};

struct RequestExit {
  int whom;
  std::string ToString() const { return "RequestExit{" + std::to_string(whom) + "}"; }
  void Perform(World& world, int self) const {
    if (whom == self || world.members[whom].over) return;
    world.members[whom].ordered = true;
    world.gil.RequestExit(world.members[whom].holder);
    world.members[whom].told.store(true, kRelease);
  }
};

struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.has || world.switching || ForkProcess() != 0) return;
    PlatformAfterForkInChild();
    // The others do not exist, and nobody may use their holders any more.
    for (Member& member : world.members) {
      if (&member == &me) continue;
      member.has = false;
      member.over = true;
    }
    me.has = false;
    world.gil.ReinitAfterFork(&me.holder);
    world.Take(me);
  }
};

struct SwitchOff {
  std::string ToString() const { return "SwitchOff{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    // Who came between the counter and the release has a GIL that is off.
    if (kGilEnabled || !me.has || world.switching || world.requests == 0) return;
    world.switching = true;
    const bool last = --world.requests == 0;
    world.switched_off += last;
    me.has = !last;
    DETSCHED_CHECK(world.gil.RemoveEnableRequest(me.holder) == last);
    world.switching = false;
    if (last) world.is_off.store(world.switched_off, kRelease);
  }
};

// By the holder, or in a stopped world: those that take it are not attached yet, and nobody else has it.
struct SwitchOn {
  std::string ToString() const { return "SwitchOn{}"; }
  void Perform(World& world, int self) const {
    if (kGilEnabled || world.switching || world.Holders() != (world.members[self].has ? 1 : 0)) return;
    world.switching = true;
    const bool first = ++world.requests == 1;
    world.switched_on += first;
    DETSCHED_CHECK(world.gil.AddEnableRequest() == first);
    world.switching = false;
  }
};

using Operation =
    std::variant<Take, Work, Drop, TakeAndDrop, Yield, DropFinal, RequestExit, Fork, SwitchOff, SwitchOn>;

Operation NextOperation(FuzzInput& input) {
  switch (input.Below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return Take{};
    case 4:
    case 5:
    case 6:
      return Work{};
    case 7:
    case 8:
      return Drop{};
    case 9:
    case 10:
      return TakeAndDrop{1 + input.Below(4)};
    case 11:
      return Yield{true};
    case 12:
      return Yield{false};
    case 13:
      return RequestExit{input.Below(kMostThreads)};
    case 14:
      return DropFinal{};
    default:
      switch (input.Below(4)) {
        case 0:
          return SwitchOff{};
        case 2:
          return SwitchOn{};
        default:
          return Fork{};
      }
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
