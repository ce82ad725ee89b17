// Threads that are born, attach, detach, ensure, release, die, fork and finalize the interpreter, in a
// schedule that the bytes choose. After each step at most one of them is attached where there is a GIL, or
// while somebody has the world stopped, and at the end no state is left.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// An Ensure that has not been released.
struct Ensured {
  std::variant<GilStateBefore, EnsureToken> token;
  ThreadState* before;    // what was attached
  ThreadState* detached;  // Member::detached
};

struct Member {
  ThreadState* own = nullptr;       // made by Start
  ThreadState* detached = nullptr;  // to be attached again before anything else
  std::vector<Ensured> ensured;
  bool attached = false;                 // model: false while it waits
  const ThreadState* current = nullptr;  // model: what was attached last
};

struct World : ScheduleWorld {
  // Setup: bit 0: without a GIL in the build one is switched on.
  World(uint8_t setup, const detsched::Options& /*options*/) : exclusive(kGilEnabled || (setup & 1) != 0) {
    if (!kGilEnabled && exclusive) gil.AddEnableRequest();
    world = this;
    SetInterpreterDirectory(&directory);
  }
  ~World() { SetInterpreterDirectory(nullptr); }
  static void Reset() {
    ScheduleWorld::Reset();
    SetInterpreterDirectory(nullptr);
  }

  void Enter(int /*self*/) {}
  void Leave(int self) {
    Member& me = members[self];
    Reattach(me);
    while (!me.ensured.empty()) Release(me);
    Delete(me);
    DETSCHED_CHECK(ThreadState::Current() == nullptr);
    DETSCHED_CHECK(me.own == nullptr);
  }

  // A new thread comes before the finalizer shuts its state down, or it is too late: as the layer above has it.
  bool Bind(ThreadState& thread) {
    const MutexLock lock(start_mutex);
    if (thread.must_exit()) {
      thread.DecRef();
      return false;
    }
    thread.Bind();
    return true;
  }
  void Attached(Member& me) {
    me.current = ThreadState::Current();
    DETSCHED_CHECK(me.current != nullptr && me.current->attached());
    me.attached = true;
  }
  void Reattach(Member& me) {
    if (me.detached == nullptr) return;
    me.detached->Attach();
    me.detached = nullptr;
    Attached(me);
  }
  void Release(Member& me) {
    Reattach(me);
    const Ensured last = me.ensured.back();
    me.attached = false;
    if (const auto* before = std::get_if<GilStateBefore>(&last.token)) {
      GilStateRelease(*before);
    } else {
      ReleaseAttached(std::get<EnsureToken>(last.token));
    }
    me.ensured.pop_back();
    DETSCHED_CHECK(ThreadState::Current() == last.before);
    if (last.before != nullptr) Attached(me);
    me.detached = last.detached;
  }
  void Delete(Member& me) {
    Reattach(me);
    if (me.own == nullptr || !me.ensured.empty()) return;
    InterpreterThreads::Clear(*me.own);
    me.own = nullptr;
    me.attached = false;
    InterpreterThreads::DeleteCurrent();
  }

  bool Holds() const {
    int attached = 0;
    for (const Member& member : members) {
      if (!member.attached) continue;
      if (stopped && member.current != stopper) return false;
      ++attached;
    }
    return !exclusive || attached <= 1;
  }
  void CheckEnd(detsched::Schedule& schedule) {
    DETSCHED_CHECK(schedule.hung() == 0 || finalized);
    DeleteAll(/*threads_are_gone=*/false);
    DETSCHED_CHECK(!exclusive || owned[3].Get() == done);
  }

  static inline World* world = nullptr;
  Mutex start_mutex;
  InterpreterDirectory directory{&registry, [](int64_t) { return &world->threads.link(); }};
  const bool exclusive;
  Member members[kMostThreads];
  int done = 0;             // model: what owned[3], which the GIL guards, is to be
  bool finalizing = false;  // model: somebody is about to
  bool finalized = false;   // model: from now on a thread that attaches hangs
};

struct Start {
  std::string ToString() const { return "Start{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (me.own != nullptr || me.detached != nullptr || ThreadState::Current() != nullptr) return;
    ThreadState* const thread = world.threads.New(Whence::kThreading);
    if (!world.Bind(*thread)) return;
    me.own = thread;
    me.own->Attach();
    world.Attached(me);
  }
};

struct Toggle {
  std::string ToString() const { return "Toggle{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (me.detached != nullptr) return world.Reattach(me);
    if (ThreadState::Current() == nullptr) return;
    me.attached = false;
    me.detached = ThreadState::SaveThread();
  }
};

struct Poll {
  std::string ToString() const { return "Poll{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.attached) return;
    me.attached = false;
    static_cast<void>(ThreadState::Get().Poll());
    world.Attached(me);
  }
};

struct Work {
  std::string ToString() const { return "Work{}"; }
  void Perform(World& world, int self) const {
    if (!world.members[self].attached) return;
    if (!world.exclusive) return world.owned[self].Set(world.owned[self].Get() + 1);
    world.owned[3].Set(world.owned[3].Get() + 1);
    ++world.done;
  }
};

struct Ensure {
  bool guarded;
  std::string ToString() const { return guarded ? "Ensure{true}" : "Ensure{false}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    me.attached = false;
    ThreadState* const before = ThreadState::Current();
    if (guarded) {
      const EnsureToken token = EnsureAttachedFromView(InterpreterView::FromMain());
      if (!token) {
        DETSCHED_CHECK(world.guards.closed() && ThreadState::Current() == before);
        if (before != nullptr) world.Attached(me);
        return;
      }
      me.ensured.push_back({token, before, me.detached});
    } else {
      me.ensured.push_back({GilStateEnsure(), before, me.detached});
    }
    me.detached = nullptr;  // until the release
    world.Attached(me);
  }
};

struct Release {
  std::string ToString() const { return "Release{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.ensured.empty()) world.Release(me);
  }
};

struct Delete {
  std::string ToString() const { return "Delete{}"; }
  void Perform(World& world, int self) const { world.Delete(world.members[self]); }
};

// As a finalizer: nobody else comes back, and their states go.
struct Finalize {
  std::string ToString() const { return "Finalize{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    // One thread only: of two that wait for the same stop, the one that is woken may have been told to hang.
    if (!me.attached || std::exchange(world.finalizing, true)) return;
    if (!world.guards.CloseIfNone()) {
      world.finalizing = false;
      return;
    }
    ThreadState& thread = ThreadState::Get();
    ThreadState* removed;
    {
      me.attached = false;
      const StoppedWorld stopped(world.threads);
      world.Attached(me);
      world.Stopped(&thread);
      world.finalized = true;
      const MutexLock lock(world.start_mutex);
      removed = world.threads.RemoveAllExcept(&thread, /*shut_down=*/true);
      world.Starting();
    }
    me.attached = false;
    InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
    world.Attached(me);
  }
};

// Goes on in the child, where the others do not exist. A finalizer does not fork.
struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const {
    Member& me = world.members[self];
    if (!me.attached || world.finalized) return;
    me.attached = false;
    const bool child = world.ScheduleWorld::Fork(ThreadState::Get());
    world.Attached(me);
    if (!child) return;
    for (Member& member : world.members) {
      if (&member != &me) member = Member();
    }
    FinalizationGuards::ForgetAfterFork();
    world.guards.Reopen();
    world.start_mutex.ReinitAfterFork();
    world.finalizing = false;
  }
};

using Operation = std::variant<Start, Toggle, Poll, Work, Ensure, Release, Delete, Finalize, Fork>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t kind = input.Byte();
  if (kind / 16 == 7) return Fork{};  // none of the corpus's
  switch (kind % 16) {
    case 0:
    case 1:
      return Start{};
    case 2:
    case 3:
    case 4:
      return Toggle{};
    case 5:
    case 6:
      return Poll{};
    case 7:
    case 8:
      return Work{};
    case 9:
    case 10:
      return Ensure{false};
    case 11:
      return Ensure{true};
    case 12:
    case 13:
      return Release{};
    case 14:
      return Delete{};
    default:
      return Finalize{};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
