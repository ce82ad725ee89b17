// States of threads on the deterministic scheduler: whose they are, and what their making and their end leave behind when
// memory is short, or when the memory of one state becomes another's.

#include <cstddef>
#include <new>

#include "gtest/gtest.h"

#include "pyrt/runtime/object/object.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::ExpectWalks;
using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

using World = ScheduleWorld;

// gh-105699: a state is attached by the thread that it is bound to; another one that tries ends the process, and not only
// when both run at once.
void AttachedByAnother(Schedule& schedule) {
  World world;
  ThreadState* const state = world.threads.New(Whence::kThreading);
  Atomic<uint32_t> bound{0};
  schedule.Spawn("owner", [&] {
    state->Bind();
    state->Attach();
    state->Detach();
    bound.store(1, kRelease);
  });
  schedule.Spawn("other", [&] {
    while (bound.load(kAcquire) == 0) CpuRelax();
    state->Attach();
    state->Detach();
  });
  schedule.Run();
  world.DeleteAll();
}

TEST(ThreadStateScheduleTest, gh_105699_AStateIsItsOwnThreadsOnly) {
  Options options = Base(Options::Exhaustive(1));
  options.shrink = false;
  options.isolate = true;
  const Result result = Explore(options, AttachedByAnother);
  EXPECT_EQ(result.failure, Failure::kFatal) << result.report;
}

// gh-126914: the memory of the state that was freed last is the next one's, and of two threads that come at once only
// one's.
void TwoComeAtOnce(Schedule& schedule) {
  World world;
  Plain<int> inside[2];
  world.Leave(world.Enter());
  for (int who = 0; who < 2; ++who) {
    schedule.Spawn(who == 0 ? "a" : "b", [&, who] {
      ThreadState* const thread = world.threads.New(Whence::kThreading);
      DETSCHED_CHECK(thread->thread_id() == 0);
      thread->Bind();
      thread->Attach();
      inside[who].Set(inside[who].Get() + 1);
      InterpreterThreads::Clear(*thread);
      InterpreterThreads::DeleteCurrent();
    });
  }
  schedule.Run();
  world.CheckPristine();
}

TEST(ThreadStateScheduleTest, gh_126914_FreedMemoryBecomesOneThreads) {
  ExpectWalks(
      [](Options options) {
        options.isolate = true;  // a failure leaves half a state behind
        return Explore(Base(options), TwoComeAtOnce);
      },
      4000);
}

// gh-155363: an allocation that fails leaves nothing, as often as it fails.
void NoMemoryForAState(Schedule& schedule) {
  static constexpr ThreadRegistry::Allocator kNone{
      [](size_t, size_t) -> void* { return nullptr; },
      [](void* memory, size_t, size_t alignment) { ::operator delete(memory, std::align_val_t(alignment)); }};
  World world;
  schedule.Spawn("thread", [&] {
    const size_t capacity = world.threads.qsbr().capacity();
    ThreadRegistry::SetAllocator(&kNone);
    for (int i = 0; i < 20; ++i) DETSCHED_CHECK(world.threads.New(Whence::kThreading) == nullptr);
    ThreadRegistry::SetAllocator(nullptr);
    DETSCHED_CHECK(world.threads.size() == 0);
    world.Leave(world.Enter());
    // Places for threads that were never made would have made it grow.
    DETSCHED_CHECK(world.threads.qsbr().capacity() - capacity <= Qsbr::kFirstChunk);
  });
  schedule.Run();
  world.CheckPristine();
}

TEST(ThreadStateScheduleTest, gh_155363_AStateThatCannotBeMadeLeavesNothing) {
  ExpectOk(Explore(Base(Options::Exhaustive(0)), NoMemoryForAState));
}

// gh-119585: what a state holds ensures and releases while the last Release clears that state, beside another thread that
// does the same.
class Reentrant final : public Object {
 public:
  ~Reentrant() override {
    const GilStateBefore before = GilStateEnsure();
    DETSCHED_CHECK(before == GilStateBefore::kLocked && ThreadState::Current() != nullptr);
    GilStateRelease(before);
    DETSCHED_CHECK(ThreadState::Current() != nullptr);
  }
  const char* TypeName() const override { return "reentrant"; }
};

void DestructorsEnsure(Schedule& schedule) {
  World world;
  static InterpreterLink* link;
  link = &world.threads.link();
  const InterpreterDirectory directory{&world.registry, [](int64_t) { return link; }};
  SetInterpreterDirectory(&directory);
  for (const char* name : {"a", "b"}) {
    schedule.Spawn(name, [] {
      const GilStateBefore before = GilStateEnsure();
      ThreadState::Current()->data().context = MakeRef<Reentrant>();
      GilStateRelease(before);
      DETSCHED_CHECK(ThreadState::GilState() == nullptr);
    });
  }
  schedule.Run();
  SetInterpreterDirectory(nullptr);
  world.CheckPristine();
}

TEST(ThreadStateScheduleTest, gh_119585_DestructorsInTheLastReleaseMayEnsure) {
  ExpectWalks([](const Options& options) { return Explore(Base(options), DestructorsEnsure); }, 3000);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
