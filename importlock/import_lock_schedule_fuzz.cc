// Threads that acquire, try, wait for a while, release, switch and fork, in a schedule that the bytes choose.
// After each step at most one owns the lock, and it is the one that the lock names.

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>

#include "pyrt/importlock/import_lock.h"
#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct World {
  World(uint8_t /*setup*/, const detsched::Options& /*options*/) {
    detsched::Name(&lock, "lock");
    detsched::Name(&gil, "gil");
    detsched::Name(&guarded, "guarded");
    // The error's parts are made on first use, and a thread may not be switched in the middle of that.
    DETSCHED_CHECK(!lock.Release().ok());
  }
  static void Reset() { ParkingLot::AfterForkInChild(); }

  void Enter(int /*self*/) { gil.Attach(); }
  void Leave(int self) {
    while (held[self] != 0) Release(self);
    gil.Detach();
  }

  // The model changes with the last acquisition's return and before the last release.
  void Acquired(int self) {
    if (held[self]++ == 0) guarded.Set(guarded.Get() + 1);
    ++acquisitions;
    DETSCHED_CHECK(lock.HeldByCurrentThread() && lock.level() == held[self] - 1);
  }
  void Release(int self) {
    const bool owned = held[self] != 0;
    if (owned) --held[self];
    DETSCHED_CHECK(lock.Release().ok() == owned);
  }

  bool Holds() const {
    int owners = 0;
    for (const size_t levels : held) owners += levels != 0;
    return owners <= 1 && (owners == 0 || lock.Held());
  }
  void CheckEnd(detsched::Schedule& /*schedule*/) {
    DETSCHED_CHECK(!lock.Held() && lock.level() == 0);
    DETSCHED_CHECK(guarded.Get() <= acquisitions);
  }

  TestGil gil;
  ImportLock lock;
  Plain<int> guarded{0};
  int acquisitions = 0;
  size_t held[kMostThreads] = {};  // model
};

struct Acquire {
  std::string ToString() const { return "Acquire{}"; }
  void Perform(World& world, int self) const {
    world.lock.Acquire(world.gil.hooks());
    world.Acquired(self);
  }
};

struct TryAcquire {
  int64_t timeout;
  std::string ToString() const { return "TryAcquire{" + std::to_string(timeout) + "}"; }
  void Perform(World& world, int self) const {
    const bool acquired = timeout == 0
                              ? world.lock.TryAcquire()
                              : world.lock.AcquireTimed(timeout, world.gil.hooks()) == LockStatus::kAcquired;
    DETSCHED_CHECK(acquired || world.held[self] == 0);
    if (acquired) world.Acquired(self);
  }
};

struct Release {
  std::string ToString() const { return "Release{}"; }
  void Perform(World& world, int self) const { world.Release(self); }
};

// Another thread may run in between; without a GIL it may anyway.
struct Switch {
  std::string ToString() const { return "Switch{}"; }
  void Perform(World& world, int /*self*/) const {
    world.gil.Detach();
    world.gil.Attach();
  }
};

// A release after a waiter's millisecond hands the lock over.
struct Pass {
  std::string ToString() const { return "Pass{}"; }
  void Perform(World& /*world*/, int /*self*/) const { detsched::AdvanceTime(2 * kNanosPerMilli); }
};

struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const {
    world.lock.BeforeFork(world.gil.hooks());
    if (ForkProcess() == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      world.lock.AfterForkInChild();
      for (int other = 0; other < kMostThreads; ++other) {
        if (other != self) world.held[other] = 0;
      }
    } else {
      world.lock.AfterForkInParent();
    }
    DETSCHED_CHECK(world.lock.HeldByCurrentThread() == (world.held[self] != 0));
  }
};

using Operation = std::variant<Acquire, TryAcquire, Release, Switch, Pass, Fork>;

Operation NextOperation(FuzzInput& input) {
  switch (input.Below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return Acquire{};
    case 4:
      return TryAcquire{0};
    case 5:
    case 6:
      return TryAcquire{kNanosPerMicro};
    case 7:
    case 8:
    case 9:
    case 10:
      return Release{};
    case 11:
    case 12:
    case 13:
      return Switch{};
    case 14:
      return Pass{};
    default:
      return Fork{};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
