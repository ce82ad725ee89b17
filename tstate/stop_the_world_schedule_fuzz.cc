// Threads that stop the world, shake hands, attach, detach, poll, fork, make states and delete their own, in
// a schedule that the bytes choose. While one of them has stopped the world no other is attached, and what it
// does then is ordered with what they do: it touches what is theirs.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"
#include "pyrt/tstate/handshake.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int64_t kSoon = 1000;

struct Member {
  ThreadState* state = nullptr;
  Atomic<uint64_t> ident{0};
  bool alive = true;  // model: not deleted, nor about to be
  bool attached = false;
};

struct World : ScheduleWorld {
  // Setup: bit 0: without a GIL in the build one is switched on by the first stop.
  World(uint8_t setup, const detsched::Options& /*options*/) : switches_on(!kGilEnabled && (setup & 1) != 0) {
    for (int i = 0; i < kMostThreads; ++i) {
      members[i].state = threads.New(Whence::kThreading);
      Watch(members[i].state);
      detsched::Name(members[i].state, "thread", i);
      detsched::Name(&owned[i], "owned", i);
    }
  }

  void Enter(int self) {
    members[self].state->Bind();
    members[self].ident.store(CurrentThreadIdent(), kRelease);
  }
  void Leave(int self) {
    if (members[self].attached) members[self].state->Detach();
  }

  // What is done to a thread that cannot run.
  void Touch(int whom) {
    owned[whom].Set(owned[whom].Get() + 100);
    expected[whom] += 100;
  }

  bool Holds() const { return Excludes(); }
  void CheckEnd(detsched::Schedule& schedule) {
    DETSCHED_CHECK(schedule.hung() == 0);
    for (int i = 0; i < kMostThreads; ++i) DETSCHED_CHECK(owned[i].Get() == expected[i]);
    DETSCHED_CHECK(owned[3].Get() == expected[3]);
    DeleteAll();
  }

  const bool switches_on;
  Member members[kMostThreads];
  bool switched_on = false;
  int expected[4] = {};
};

struct Attach {
  std::string ToString() const { return "Attach{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (me.attached || !me.alive) return;
    const bool on = world.switched_on;
    me.state->Attach();
    me.attached = true;
    DETSCHED_CHECK(!on || me.state->gil_holder().holds());  // B080
  }
};

struct Detach {
  std::string ToString() const { return "Detach{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.attached) return;
    me.state->Detach();
    me.attached = false;
  }
};

struct Poll {
  std::string ToString() const { return "Poll{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (me.attached) static_cast<void>(me.state->Poll());
  }
};

// What a thread does while it is attached; and with the GIL, if there is one.
struct Work {
  std::string ToString() const { return "Work{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.attached) return;
    world.owned[self].Set(world.owned[self].Get() + 1);
    ++world.expected[self];
    if (!me.state->gil_holder().holds()) return;
    world.owned[3].Set(world.owned[3].Get() + 1);
    ++world.expected[3];
  }
};

struct Stop {
  bool global;
  bool timed;
  bool twice;
  std::string ToString() const {
    const auto text = [](bool value) { return std::string(value ? "true" : "false"); };
    return "Stop{" + text(global) + ", " + text(timed) + ", " + text(twice) + "}";
  }
  void Perform(World& world, int self) const {
    if (kGilEnabled && !world.members[self].attached) return;
    StopTheWorld stop = global ? StopTheWorld(world.registry) : StopTheWorld(world.threads);
    if (!stop.Stop(timed ? MonotonicNow() + kSoon : kNoDeadline)) {
      DETSCHED_CHECK(timed);
      return;
    }
    if (twice) stop.Stop();
    world.Stopped(ThreadState::Current());
    for (int i = 0; i < kMostThreads; ++i) world.Touch(i);
    if (world.switches_on && !std::exchange(world.switched_on, true)) world.gil.AddEnableRequest();
    detsched::Point("stopped");
    world.Starting();
    if (twice) stop.Start();
    stop.Start();
  }
};

struct Shake {
  int whom;
  bool timed;
  std::string ToString() const { return "Shake{" + std::to_string(whom) + (timed ? ", true}" : ", false}"); }
  void Perform(World& world, int self) const {
    const uint64_t ident = world.members[whom].ident.load(kAcquire);
    if ((kGilEnabled && !world.members[self].attached) || ident == 0) return;
    ThreadState* const target = world.threads.Find(ident);
    if (target == nullptr) {
      DETSCHED_CHECK(!world.members[whom].alive);
      return;
    }
    struct Call {
      World* world;
      int whom;
      int times = 0;
    } call{&world, whom};
    const HandshakeResult result = Handshake::Run(
        *target,
        [](ThreadState&, void* argument) {
          auto& called = *static_cast<Call*>(argument);
          called.world->Touch(called.whom);
          ++called.times;
        },
        &call, timed ? MonotonicNow() + kSoon : kNoDeadline);
    DETSCHED_CHECK(call.times == (result == HandshakeResult::kDone ? 1 : 0));
    DETSCHED_CHECK(result != HandshakeResult::kTimedOut || timed);
    DETSCHED_CHECK(result != HandshakeResult::kGone || !world.members[whom].alive);
    target->DecRef();
  }
};

// A state for another thread, which never starts.
struct MakeAndDelete {
  std::string ToString() const { return "MakeAndDelete{}"; }
  void Perform(World& world, int self) const {
    if (!world.members[self].attached) return;
    ThreadState* const state = world.threads.New(Whence::kThreading);
    DETSCHED_CHECK(!state->attached());
    InterpreterThreads::Clear(*state);
    InterpreterThreads::Delete(state);
  }
};

struct Delete {
  std::string ToString() const { return "Delete{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.attached) return;
    me.alive = me.attached = false;
    world.ScheduleWorld::Leave(*me.state);
  }
};

// Goes on in the child, where the others do not exist.
struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.attached || !world.Fork(*me.state)) return;
    for (Member& member : world.members) {
      if (&member != &me) member.alive = member.attached = false;
    }
  }
};

using Operation = std::variant<Attach, Detach, Poll, Work, Stop, Shake, MakeAndDelete, Delete, Fork>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t kind = input.Byte();
  if (kind / 16 == 7) return Fork{};  // none of the corpus's
  switch (kind % 16) {
    case 0:
    case 1:
    case 2:
      return Attach{};
    case 3:
    case 4:
      return Detach{};
    case 5:
    case 6:
      return Poll{};
    case 7:
    case 8:
      return Work{};
    case 9:
    case 10:
    case 11: {
      const uint8_t how = input.Byte();
      return Stop{(how & 1) != 0, (how & 2) != 0, (how & 4) != 0};
    }
    case 12:
    case 13: {
      const int how = input.Below(6);
      return Shake{how % kMostThreads, how >= kMostThreads};
    }
    case 14:
      return MakeAndDelete{};
    default:
      return Delete{};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
