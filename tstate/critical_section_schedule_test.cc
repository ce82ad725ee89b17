// Critical sections on the deterministic scheduler, in the build that has them: opposite orders, stops in between, and
// a mutex that is handed to a thread which is suspended.

#include "gtest/gtest.h"

#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/critical_section.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

struct World {
  ThreadState& Enter() {
    ThreadState* const thread = threads.NewBound();
    thread->Attach();
    return *thread;
  }
  void Leave(ThreadState& thread) {
    InterpreterThreads::Clear(thread);
    InterpreterThreads::DeleteCurrent();
  }

  ThreadRegistry registry;
  Gil gil;
  InterpreterThreads threads{{.registry = &registry, .gil = &gil}};
};

Options Base(Options options) {
  options.reset = [] { ThreadRegistry::SetAllocator(nullptr); };
  return options;
}

class CriticalSectionScheduleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kGilEnabled) GTEST_SKIP() << "sections are empty with the GIL";
  }
};

TEST_F(CriticalSectionScheduleTest, B017_SectionsInOppositeOrdersDoNotDeadlock) {
  const Result result = Explore(Base(Options::Random(4000)), [](Schedule& schedule) {
    World world;
    Mutex first, second;
    Plain<int> a{0}, b{0};
    for (const bool forward : {true, false}) {
      schedule.Spawn(forward ? "forward" : "backward", [&, forward] {
        ThreadState& thread = world.Enter();
        {
          CriticalSection outer(forward ? first : second);
          {
            CriticalSection inner(forward ? second : first);
            Plain<int>& mine = forward ? b : a;  // of the innermost mutex
            mine.Set(mine.Get() + 1);
          }
          Plain<int>& mine = forward ? a : b;
          mine.Set(mine.Get() + 1);
        }
        world.Leave(thread);
      });
    }
    schedule.Run();
    DETSCHED_CHECK(a.Get() == 2 && b.Get() == 2);
    DETSCHED_CHECK(!first.IsLocked() && !second.IsLocked());
    DETSCHED_CHECK(world.threads.size() == 0);
  });
  EXPECT_TRUE(result.ok()) << result.report;
}

// gh-148953, gh-149100: a thread stops the world inside a section while another waits for its mutex, for so long that
// the mutex is handed over. The one that gets it may be suspended at that moment, so nobody may want it inside the
// stop; sections there are empty.
void StopInsideASection(Schedule& schedule) {
  World world;
  Mutex mutex;
  Plain<int> guarded{0};
  detsched::Name(&mutex, "mutex");
  for (const char* name : {"waiter 1", "waiter 2"}) {
    schedule.Spawn(name, [&] {
      ThreadState& thread = world.Enter();
      {
        CriticalSection section(mutex);
        guarded.Set(guarded.Get() + 1);
        // Longer than who waits puts up with: the next unlock hands over.
        detsched::AdvanceTime(2 * kNanosPerMilli);
      }
      thread.Poll();
      world.Leave(thread);
    });
  }
  schedule.Spawn("stopper", [&] {
    ThreadState& thread = world.Enter();
    {
      CriticalSection section(mutex);
      detsched::AdvanceTime(2 * kNanosPerMilli);
      StoppedWorld stopped(world.threads);
      CriticalSection inside(mutex);
      DETSCHED_CHECK(!inside.begun());
      guarded.Set(guarded.Get() + 100);
    }
    world.Leave(thread);
  });
  schedule.Run();
  DETSCHED_CHECK(guarded.Get() == 102);
  DETSCHED_CHECK(!mutex.IsLocked());
  DETSCHED_CHECK(world.threads.size() == 0);
}

TEST_F(CriticalSectionScheduleTest, gh_148953_AStopInsideASectionWhoseMutexIsHandedOver) {
  const Result random = Explore(Base(Options::Random(5000)), StopInsideASection);
  EXPECT_TRUE(random.ok()) << random.report;
  const Result pct = Explore(Base(Options::Pct(3, 5000)), StopInsideASection);
  EXPECT_TRUE(pct.ok()) << pct.report;
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
