// Critical sections on the deterministic scheduler, in the build that has them: opposite orders, stops in between, and
// a mutex that is handed to a thread which is suspended.

#include <functional>
#include <utility>

#include "gtest/gtest.h"

#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/critical_section.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_state.h"
#include "pyrt/tstate/tstate_schedule_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::ExpectWalks;
using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

using World = ScheduleWorld;

class CriticalSectionScheduleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if constexpr (kGilEnabled) GTEST_SKIP() << "sections are empty with the GIL";
  }
};

// Two threads, or four, in pairs of sections of opposite orders. `early`: states are made before the threads
// start.
Result ExploreOppositeOrders(const Options& options, int threads, bool early) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Mutex first, second;
    Plain<int> a{0}, b{0};
    for (int who = 0; who < threads; ++who) {
      const bool forward = who % 2 == 0;
      ThreadState* const made = early ? world.threads.New(Whence::kThreading) : nullptr;
      if (made != nullptr) world.Watch(made);
      schedule.Spawn(forward ? "forward" : "backward", [&, forward, made] {
        if (made != nullptr) {
          made->Bind();
          made->Attach();
        }
        ThreadState& thread = made != nullptr ? *made : world.Enter();
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
        if (made != nullptr) {
          thread.Detach();
        } else {
          world.Leave(thread);
        }
      });
    }
    schedule.Run();
    DETSCHED_CHECK(a.Get() == threads && b.Get() == threads);
    DETSCHED_CHECK(!first.IsLocked() && !second.IsLocked());
    world.DeleteAll();
  });
}

TEST_F(CriticalSectionScheduleTest, B017_SectionsInOppositeOrdersEverySchedule) {
  ExpectComplete(ExploreOppositeOrders(EverySchedule(/*stale_reads=*/2), 2, /*early=*/true));
}

TEST_F(CriticalSectionScheduleTest, B017_SectionsInOppositeOrdersDoNotDeadlock) {
  for (const int threads : {2, 4}) {
    ExpectWalks(
        [=](const Options& options) { return ExploreOppositeOrders(options, threads, /*early=*/false); },
        threads == 2 ? 20'000 : 10'000);
  }
}

// gh-148953, gh-149100: a thread stops the world inside a section while another waits for its mutex, for so long that
// the mutex is handed over. The one that gets it may be suspended at that moment, so nobody may want it inside the
// stop; sections there are empty.
Result ExploreStopInsideASection(const Options& options, int waiters) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    world.CheckEachStep(schedule, options);
    Mutex mutex;
    Plain<int> guarded{0};
    detsched::Name(&mutex, "mutex");
    const auto spawn = [&](const char* name, std::function<void(ThreadState&)> body) {
      ThreadState* const thread = world.threads.New(Whence::kThreading);
      world.Watch(thread);
      schedule.Spawn(name, [thread, body = std::move(body)] {
        thread->Bind();
        thread->Attach();
        body(*thread);
        thread->Detach();
      });
    };
    for (int i = 0; i < waiters; ++i) {
      spawn("waiter", [&](ThreadState& thread) {
        {
          CriticalSection section(mutex);
          guarded.Set(guarded.Get() + 1);
          // Longer than who waits puts up with: the next unlock hands over.
          detsched::AdvanceTime(2 * kNanosPerMilli);
        }
        thread.Poll();
      });
    }
    spawn("stopper", [&](ThreadState& thread) {
      CriticalSection section(mutex);
      detsched::AdvanceTime(2 * kNanosPerMilli);
      StopTheWorld stop(world.threads);
      stop.Stop();
      world.Stopped(&thread);
      {
        CriticalSection inside(mutex);
        DETSCHED_CHECK(!inside.begun());
        guarded.Set(guarded.Get() + 100);
      }
      world.Starting();
      stop.Start();
    });
    schedule.Run();
    DETSCHED_CHECK(guarded.Get() == 100 + waiters);
    DETSCHED_CHECK(!mutex.IsLocked());
    world.DeleteAll();
  });
}

TEST_F(CriticalSectionScheduleTest, gh_148953_AStopInsideASectionEverySchedule) {
  ExpectComplete(ExploreStopInsideASection(EverySchedule(), 1));
}

TEST_F(CriticalSectionScheduleTest, gh_148953_AStopInsideASectionWhoseMutexIsHandedOver) {
  ExpectWalks([](const Options& options) { return ExploreStopInsideASection(options, 2); }, 20'000);
}

// The same wish from a stopper that owns nothing: the mutex is handed to one of those that wait, who is stopped on its
// way back, and who wants it in the stop must not lock it (gh-149100).
void StopBesideAHandOver(Schedule& schedule) {
  World world;
  Mutex mutex;
  for (int i = 0; i < 2; ++i) {
    ThreadState* const thread = world.threads.New(Whence::kThreading);
    schedule.Spawn("waiter", [&, thread] {
      thread->Bind();
      thread->Attach();
      {
        CriticalSection section(mutex);
        detsched::AdvanceTime(2 * kNanosPerMilli);
      }
      thread->Detach();
    });
  }
  schedule.Spawn("stopper", [&] {
    ThreadState& thread = world.Enter();
    {
      StoppedWorld stopped(world.threads);
      const CriticalSection inside(mutex);
    }
    world.Leave(thread);
  });
  schedule.Run();
  DETSCHED_CHECK(!mutex.IsLocked());
  world.DeleteAll();
}

TEST_F(CriticalSectionScheduleTest, gh_148953_ASectionInAStopWaitsForNobody) {
  ExpectWalks([](const Options& options) { return Explore(Base(options), StopBesideAHandOver); }, 5000);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
