// Threads that import modules in each other's bodies, in a schedule that the bytes choose. After each step a
// module has at most one owner; a wait that can end ends (else it is a deadlock of the schedule), and what is
// refused as a deadlock is one.

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <variant>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/importlock/module_lock.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr int kModules = 4;
constexpr const char* kNames[kModules] = {"m0", "m1", "m2", "m3"};

struct Member {
  // The frames, the innermost last. Not destroyed in a forked child if the thread is not in it.
  alignas(ModuleLock) std::byte frames[kMostOperations][sizeof(ModuleLock)];
  int modules[kMostOperations];
  int depth = 0;
  int owns[kModules] = {};  // model: how many frames
  int wants = -1;           // model: what it waits for, or is about to
};

struct World {
  World(uint8_t /*setup*/, const detsched::Options& /*options*/) {
    detsched::Name(&gil, "gil");
    detsched::Name(&locks, "locks");
    for (int i = 0; i < kModules; ++i) detsched::Name(&bodies[i], "body", i);
  }
  static void Reset() { ParkingLot::AfterForkInChild(); }

  void Enter(int /*self*/) { gil.Attach(); }
  void Leave(int self) {
    while (members[self].depth != 0) Leave(members[self]);
    gil.Detach();
  }
  // The innermost frame ends.
  void Leave(Member& me) {
    --me.depth;
    --me.owns[me.modules[me.depth]];
    reinterpret_cast<ModuleLock*>(me.frames[me.depth])->~ModuleLock();
  }

  // Whether whoever waits for `module` waits for `self`, by way of what each of the owners wants.
  bool LeadsTo(int module, int self) const {
    for (int steps = 0; steps < kMostThreads; ++steps) {
      int owner = -1;
      for (int i = 0; i < kMostThreads; ++i) {
        if (members[i].owns[module] != 0) owner = i;
      }
      if (owner == self) return true;
      if (owner == -1 || members[owner].wants == -1) return false;
      module = members[owner].wants;
    }
    return false;
  }

  bool Holds() const {
    for (int module = 0; module < kModules; ++module) {
      int owners = 0;
      for (const Member& member : members) owners += member.owns[module] != 0;
      if (owners > 1) return false;
    }
    return true;
  }
  void CheckEnd(detsched::Schedule& /*schedule*/) {
    DETSCHED_CHECK(locks.size() == 0);
    for (int i = 0; i < kModules; ++i) DETSCHED_CHECK(in_child || bodies[i].Get() == runs[i]);
  }

  TestGil gil;
  ModuleLockRegistry locks;
  Member members[kMostThreads];
  Plain<int> bodies[kModules];
  int runs[kModules] = {};  // model: of the bodies
  bool in_child = false;    // where half-made modules of threads that are not there lie about
  bool timed = false;       // some wait may have ended since, so that its cycle is gone
};

struct Import {
  int module;
  bool timed;
  std::string ToString() const {
    return "Import{" + std::to_string(module) + (timed ? ", true}" : ", false}");
  }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    world.timed |= timed;
    auto* const frame = new (me.frames[me.depth]) ModuleLock(world.locks, kNames[module]);
    me.wants = module;
    const ModuleLockStatus status = frame->Acquire(world.gil.hooks(), timed ? kNanosPerMicro : kForever);
    const bool cycle = world.LeadsTo(module, self);
    me.wants = -1;
    if (status != ModuleLockStatus::kAcquired) {
      DETSCHED_CHECK(me.owns[module] == 0);
      if (status == ModuleLockStatus::kDeadlock) {
        DETSCHED_CHECK(cycle || world.timed);
      } else {
        DETSCHED_CHECK(timed && status == ModuleLockStatus::kFailure);
      }
      return frame->~ModuleLock();
    }
    if (me.owns[module]++ == 0 && !world.in_child) {
      // A second owner is a race.
      world.bodies[module].Set(world.bodies[module].Get() + 1);
      ++world.runs[module];
    }
    me.modules[me.depth++] = module;
  }
};

struct Return {
  std::string ToString() const { return "Return{}"; }
  void Perform(World& world, int self) const {
    if (world.members[self].depth != 0) world.Leave(world.members[self]);
  }
};

// Another thread may run in between; without a GIL it may anyway.
struct Switch {
  std::string ToString() const { return "Switch{}"; }
  void Perform(World& world, int /*self*/) const {
    world.gil.Detach();
    world.gil.Attach();
  }
};

struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const {
    world.locks.BeforeFork();
    if (ForkProcess() != 0) return world.locks.AfterForkInParent();
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    world.in_child = true;
    static_cast<void>(world.locks.AfterForkInChild());
    for (int i = 0; i < kMostThreads; ++i) {
      if (i == self) continue;
      for (int& frames : world.members[i].owns) frames = 0;
      world.members[i].wants = -1;
    }
    for (int module = 0; module < kModules; ++module) {
      DETSCHED_CHECK(world.locks.Locked(kNames[module]) == (world.members[self].owns[module] != 0));
    }
  }
};

using Operation = std::variant<Import, Return, Switch, Fork>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  const int module = byte >> 4 & 3;
  switch (byte & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
      return Import{module, false};
    case 7:
      return Import{module, true};
    case 8:
    case 9:
    case 10:
      return Return{};
    case 11:
      return byte >= 0xc0 ? Operation(Fork{}) : Operation(Return{});
    default:
      return Switch{};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
