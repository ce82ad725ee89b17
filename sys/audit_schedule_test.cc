// Hook lists on the deterministic scheduler: appended to by several threads while others deliver events through
// them; a veto that comes in between; the end. With the GIL the process's list is what interpreters with GILs of
// their own share, so it is explored in both builds.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/object/counted_test_util.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

class AuditTestPeer {
 public:
  static const internal::AuditHookList& ListOf(const NativeAuditHooks& hooks) { return hooks.hooks_; }
  static const internal::AuditHookList& OwnOf(const Auditor& auditor) { return auditor.own_; }
};

namespace {

using detsched::ExpectPct;
using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using detsched::Watched;

// Made on first use, and a fiber may not be switched in the middle of that.
void MakeSingletons() {
  static_cast<void>(Tuple::Empty());
  static_cast<void>(None());
  static_cast<void>(Raise(ErrorType::RuntimeError(), "no").ok());
}

// A list to which hooks are added only, of at most `most`: it never gets shorter, and each hook is in it once.
class OnlyGrows {
 public:
  OnlyGrows(const internal::AuditHookList& list, size_t most) : list_(list), most_(most) {}
  bool Holds() {
    size_t size = 0;
    const internal::AuditHook* seen[kMost] = {};
    for (const internal::AuditHook* hook = list_.first(); hook != nullptr; hook = hook->next.load(kRelaxed)) {
      if (size == most_ || std::count(seen, seen + size, hook) != 0) return false;
      seen[size++] = hook;
    }
    return std::exchange(longest_, size) <= size;
  }

 private:
  static constexpr size_t kMost = 8;
  const internal::AuditHookList& list_;
  const size_t most_;
  size_t longest_ = 0;
};

// An interpreter with a GIL of its own.
struct Interp {
  explicit Interp(ThreadRegistry& registry, NativeAuditHooks& native)
      : threads({.registry = &registry, .gil = &gil}), auditor(native) {}

  Gil gil;
  InterpreterThreads threads;
  Auditor auditor;
};

class Attached {
 public:
  explicit Attached(Interp& interp) : thread_(interp.threads.NewBound()) { thread_->Attach(); }
  ~Attached() {
    InterpreterThreads::Clear(*thread_);
    InterpreterThreads::DeleteCurrent();
  }
  ThreadState& thread() { return *thread_; }

 private:
  ThreadState* const thread_;
};

// A hook that says who was called, to whoever delivers.
struct Hook {
  static absl::Status Run(std::string_view event, const Ref<Tuple>&, void* data) {
    Hook& self = *static_cast<Hook*>(data);
    // What its registrar wrote before it added the hook: a race where the list publishes too early.
    self.logs[detsched::CurrentFiber() + 1].push_back(self.number.Get());
    detsched::Point("in the hook");
    if (self.vetoes && event == "sys.addaudithook") return Raise(ErrorType::RuntimeError(), "no");
    return absl::OkStatus();
  }
  Plain<int> number{0};
  bool vetoes = false;
  std::vector<int>* logs = nullptr;  // of each fiber that delivers, the first one of the schedule's body
};

struct World {
  World() {
    MakeSingletons();
    detsched::Name(&native, "hooks");
  }
  World(Schedule& s, Watched watched) : World() {
    if (watched == Watched::kNo) return;
    s.Invariant("the list only grows", [this] { return grows.Holds(); });
    s.Invariant("who was accepted is in it",
                [this] { return native.size() >= static_cast<size_t>(accepted.load(kRelaxed)); });
  }
  void Add(int i, Auditor* current, bool expected = true) {
    hooks[i].logs = logs;
    hooks[i].number.Set(i);
    const absl::StatusOr<bool> added = native.Add(&Hook::Run, &hooks[i], current);
    DETSCHED_CHECK(added.ok() && (*added == expected || !expected));
    if (*added) accepted.fetch_add(1, kRelaxed);
  }
  // The hooks that an event reaches, in order.
  std::vector<int> Deliver(Interp& interp) {
    std::vector<int>& log = logs[detsched::CurrentFiber() + 1];
    log.clear();
    DETSCHED_CHECK(interp.auditor.Audit("e").ok());
    return log;
  }

  NativeAuditHooks native;
  OnlyGrows grows{AuditTestPeer::ListOf(native), std::size(hooks)};
  ThreadRegistry registry;
  Interp first{registry, native}, second{registry, native};
  Hook hooks[4];
  Atomic<int> accepted{0};
  std::vector<int> logs[5];
};

Options Base(Options options) {
  options.reset = [] { ThreadRegistry::SetAllocator(nullptr); };
  return options;
}

// Nobody spins.
Options OnOneCpu(int preemption_bound, int stale_reads) {
  Options options = Base(Options::Exhaustive(preemption_bound));
  options.stale_reads = stale_reads;
  options.usable_cpus = 1;
  return options;
}

// Two threads without a state append while others deliver: each event sees a complete prefix of the list, no
// hook is lost, none is there twice.
template <int kAuditors, Watched kWatched = Watched::kNo>
void AppendAndTraverse(Schedule& s) {
  World world(s, kWatched);
  Interp* const interps[] = {&world.first, &world.second};
  std::vector<std::vector<int>> events[kAuditors];
  s.Spawn("registrar", [&] {
    world.Add(0, nullptr);
    world.Add(1, nullptr);
  });
  s.Spawn("other", [&] { world.Add(2, nullptr); });
  for (int who = 0; who < kAuditors; ++who) {
    s.Spawn("auditor", [&, who] {
      Attached attached(*interps[who]);
      for (int i = 0; i < 2; ++i) events[who].push_back(world.Deliver(*interps[who]));
    });
  }
  s.Run();
  DETSCHED_CHECK(world.native.size() == 3);
  std::vector<int> all;
  {
    Attached attached(world.first);
    all = world.Deliver(world.first);
  }
  DETSCHED_CHECK(all.size() == 3);
  for (int i = 0; i < 3; ++i) DETSCHED_CHECK(std::count(all.begin(), all.end(), i) == 1);
  for (const std::vector<std::vector<int>>& seen : events) {
    for (const std::vector<int>& event : seen) {
      DETSCHED_CHECK(std::equal(event.begin(), event.end(), all.begin()));
    }
    DETSCHED_CHECK(seen[0].size() <= seen[1].size());
  }
}

TEST(AuditScheduleTest, gh_154431_AppendWhileOthersTraverse) {
  ExpectComplete(Explore(OnOneCpu(2, /*stale_reads=*/1), AppendAndTraverse<1>));
  ExpectComplete(Explore(OnOneCpu(2, /*stale_reads=*/0), AppendAndTraverse<1, Watched::kYes>));
  ExpectPct(AppendAndTraverse<1, Watched::kYes>, 20'000, Base);
}

TEST(AuditScheduleTest, gh_154431_AppendWhileTwoTraverse) {
  ExpectPct(AppendAndTraverse<2, Watched::kYes>, 20'000, Base);
}

// A hook that forbids hooks comes in while two interpreters add some: who was accepted is in the list, who was
// refused is not, and after the guard nobody gets in (B026, gh-152912).
template <Watched kWatched>
void VetoBesideAdd(Schedule& s) {
  World world(s, kWatched);
  world.hooks[0].vetoes = true;
  s.Spawn("guard", [&] { world.Add(0, nullptr); });
  s.Spawn("adder", [&] {
    Attached attached(world.first);
    world.Add(1, &world.first.auditor, /*expected=*/false);
    world.Add(2, &world.first.auditor, /*expected=*/false);
  });
  s.Run();
  const auto in_list = static_cast<size_t>(world.accepted.load(kRelaxed));
  DETSCHED_CHECK(world.native.size() == in_list);
  Attached attached(world.second);
  world.Add(3, &world.second.auditor, /*expected=*/false);
  DETSCHED_CHECK(world.native.size() == in_list);
}

TEST(AuditScheduleTest, B026_AVetoThatComesInBetween) {
  ExpectComplete(Explore(Base(Options::Exhaustive(2)), VetoBesideAdd<Watched::kNo>));
  ExpectPct(VetoBesideAdd<Watched::kYes>, 4000, Base);
}

// An interpreter's own hooks are objects. One that lets the others in, as a hook that reads a file does, sees
// hooks added behind it in the same event (SY-41), and threads of the interpreter add at the same time.
class OwnHook : public Object {
 public:
  explicit OwnHook(Atomic<int>* calls) : calls_(calls) {}
  const char* TypeName() const override { return "OwnHook"; }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view) override { return Ref<Object>(None()); }
  absl::StatusOr<Ref<Object>> Call(Args) override {
    calls_->fetch_add(1, kRelaxed);
    DetachedScope detached;
    return Ref<Object>(None());
  }

 private:
  Atomic<int>* const calls_;
};

template <int kThreads, Watched kWatched>
void OwnHooks(Schedule& s) {
  World world;
  Atomic<int> calls{0};
  Auditor& auditor = world.first.auditor;
  OnlyGrows grows(AuditTestPeer::OwnOf(auditor), kThreads);
  if (kWatched == Watched::kYes) s.Invariant("the list only grows", [&] { return grows.Holds(); });
  for (int i = 0; i < kThreads; ++i) {
    s.Spawn("thread", [&] {
      Attached attached(world.first);
      DETSCHED_CHECK(auditor.AddHook(MakeRef<OwnHook>(&calls)).value());
      DETSCHED_CHECK(auditor.Audit("e").ok());
    });
  }
  s.Run();
  DETSCHED_CHECK(auditor.own_hooks() == kThreads);
  // Each thread's event reaches its own hook at least, and each addition may be seen by the hooks of the others.
  const int most = kThreads * kThreads + kThreads * (kThreads - 1);
  DETSCHED_CHECK(calls.load(kRelaxed) >= kThreads && calls.load(kRelaxed) <= most);
  auditor.Clear();
}

TEST(AuditScheduleTest, SY41_HooksThatLetOthersIn) {
  ExpectComplete(Explore(OnOneCpu(2, /*stale_reads=*/0), OwnHooks<2, Watched::kNo>));
  ExpectComplete(Explore(OnOneCpu(1, /*stale_reads=*/1), OwnHooks<2, Watched::kNo>));
  ExpectPct(OwnHooks<2, Watched::kYes>, 10'000, Base);
  ExpectPct(OwnHooks<4, Watched::kYes>, 4000, Base);
}

// Somebody still adds hooks while the list is cleared: each is in the list then or gone, and nobody follows
// what is freed.
void AppendBesideClear(Schedule& s) {
  internal::AuditHookList list;
  Atomic<int> living{0};
  const auto append = [&] {
    auto* const hook = new internal::AuditHook;
    hook->object = MakeRef<Counted>(&living);
    list.Append(hook);
  };
  append();
  append();
  s.Spawn("adder", append);
  s.Spawn("clearer", [&] { list.Clear(); });
  s.Run();
  DETSCHED_CHECK(list.size() <= 1);
  DETSCHED_CHECK(living.load(kRelaxed) == static_cast<int>(list.size()));
  list.Clear();
  DETSCHED_CHECK(living.load(kRelaxed) == 0);
}

TEST(AuditScheduleTest, B026_AppendWhileTheListIsCleared) {
  ExpectComplete(Explore(Base(Options::Exhaustive(2)), AppendBesideClear));
}

// The end: the finalizer takes the other thread away, then clears. Nobody is inside a hook by then.
void ClearAtTheEnd(Schedule& s) {
  World world;
  world.Add(0, nullptr);
  Plain<bool> cleared{false};
  struct Late {
    static absl::Status Run(std::string_view, const Ref<Tuple>&, void* data) {
      DETSCHED_CHECK(!static_cast<Plain<bool>*>(data)->Get());
      return absl::OkStatus();
    }
  };
  DETSCHED_CHECK(world.native.Add(&Late::Run, &cleared, nullptr).value());
  ThreadState* const worker = world.first.threads.New(Whence::kThreadingDaemon);
  Atomic<uint32_t> bound{0};
  s.Spawn("worker", [&] {
    worker->Bind();
    bound.store(1, kRelease);
    for (int i = 0; i < 2; ++i) {
      worker->Attach();  // hangs here when it comes too late
      DETSCHED_CHECK(world.first.auditor.Audit("e").ok());
      worker->Detach();
    }
  });
  s.Spawn("finalizer", [&] {
    while (bound.load(kAcquire) == 0) CpuRelax();
    Attached attached(world.first);
    InterpreterThreads& threads = world.first.threads;
    ThreadState* removed = nullptr;
    {
      StoppedWorld stopped(threads);
      threads.ShutDownAllExcept(&attached.thread());
      removed = threads.RemoveAllExcept(&attached.thread());
    }
    InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/false);
    world.native.Clear(&world.first.auditor);
    cleared.Set(true);
    DETSCHED_CHECK(world.native.empty());
    DETSCHED_CHECK(world.first.auditor.Audit("e").ok());
  });
  s.Run();
}

TEST(AuditScheduleTest, B026_ClearedWhenNobodyIsLeft) {
  ExpectComplete(Explore(OnOneCpu(2, /*stale_reads=*/0), ClearAtTheEnd));
  ExpectComplete(Explore(OnOneCpu(1, /*stale_reads=*/1), ClearAtTheEnd));
  ExpectOk(Explore(Base(Options::Random(4000)), ClearAtTheEnd));
  ExpectPct(ClearAtTheEnd, 10'000, Base);
}

// gh-152912: who forbids hooks by another error than RuntimeError is not obeyed in silence: a native addition ends with
// that error, whenever the guard comes in.
void AnotherErrorBesideAdd(Schedule& s) {
  World world;
  Atomic<int> guarded{0};
  s.Spawn("guard", [&] {
    const NativeAuditHook guard = [](std::string_view event, const Ref<Tuple>&, void*) -> absl::Status {
      if (event == "sys.addaudithook") return Raise(ErrorType::ValueError(), "no");
      return absl::OkStatus();
    };
    DETSCHED_CHECK(world.native.Add(guard, nullptr, nullptr).value());
    guarded.store(1, kRelease);
  });
  s.Spawn("adder", [&] {
    Attached attached(world.first);
    world.hooks[1].logs = world.logs;
    const bool too_late = guarded.load(kAcquire) != 0;
    const absl::StatusOr<bool> added = world.native.Add(&Hook::Run, &world.hooks[1], &world.first.auditor);
    DETSCHED_CHECK(added.ok() ? *added && !too_late : IsError(added.status(), ErrorType::ValueError()));
  });
  s.Run();
}

TEST(AuditScheduleTest, gh_152912_OnlyARuntimeErrorIsSwallowed) {
  ExpectComplete(Explore(Base(Options::Exhaustive(2)), AnotherErrorBesideAdd));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
