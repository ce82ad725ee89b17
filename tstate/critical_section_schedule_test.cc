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

// What threads do in the innermost section of a mutex, where they do not detach: one at a time, and the mutex is locked.
class Section {
 public:
  // `watched`: after each step.
  Section(Schedule& schedule, const Mutex& mutex, bool watched) : watched_(watched) {
    if (!watched) return;
    schedule.Invariant("one thread in a section, and it has the mutex",
                       [&] { return inside_ == 0 || (inside_ == 1 && mutex.IsLocked()); });
  }
  void Work(int times = 1) {
    ++inside_;
    guarded_.Set(guarded_.Get() + times);
    if (watched_) detsched::Point("inside");
    --inside_;
  }
  int done() const { return guarded_.Get(); }

 private:
  const bool watched_;
  int inside_ = 0;  // the model's
  Plain<int> guarded_{0};
};

// Two threads, or four, in pairs of sections of opposite orders. `early`: states are made before the threads
// start.
Result ExploreOppositeOrders(const Options& options, int threads, bool early) {
  return Explore(Base(options), [=](Schedule& schedule) {
    World world;
    const bool watched = world.CheckEachStep(schedule, options);
    Mutex first, second;
    Section a(schedule, first, watched), b(schedule, second, watched);
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
            (forward ? b : a).Work();  // of the innermost mutex
          }
          (forward ? a : b).Work();
        }
        if (made != nullptr) {
          thread.Detach();
        } else {
          world.Leave(thread);
        }
      });
    }
    schedule.Run();
    DETSCHED_CHECK(a.done() == threads && b.done() == threads);
    DETSCHED_CHECK(!first.IsLocked() && !second.IsLocked());
    world.DeleteAll();
  });
}

TEST_F(CriticalSectionScheduleTest, B017_SectionsInOppositeOrdersEverySchedule) {
  ExpectComplete(ExploreOppositeOrders(EverySchedule(/*stale_reads=*/2), 2, /*early=*/true));
  ExpectComplete(ExploreOppositeOrders(EveryStep(), 2, /*early=*/true));
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
    const bool watched = world.CheckEachStep(schedule, options);
    Mutex mutex;
    Section guarded(schedule, mutex, watched);
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
          guarded.Work();
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
        guarded.Work(100);
      }
      world.Starting();
      stop.Start();
    });
    schedule.Run();
    DETSCHED_CHECK(guarded.done() == 100 + waiters);
    DETSCHED_CHECK(!mutex.IsLocked());
    world.DeleteAll();
  });
}

TEST_F(CriticalSectionScheduleTest, gh_148953_AStopInsideASectionEverySchedule) {
  ExpectComplete(ExploreStopInsideASection(EverySchedule(), 1));
  ExpectComplete(ExploreStopInsideASection(EveryStep(), 1));
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
