// Mishaps: spurious wake-ups, early timeouts, failing starts, signals, dying threads, forks, crashes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// The values of `outcome` that exhaustive search sees.
template <typename T>
std::set<T> Outcomes(const Options& options, const std::function<void(Schedule&, T*)>& body) {
  std::set<T> outcomes;
  const Result result = Explore(options, [&](Schedule& s) {
    T outcome{};
    body(s, &outcome);
    outcomes.insert(outcome);
  });
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete);
  return outcomes;
}

std::set<FutexResult> WaitResults(const Options& options, Deadline deadline) {
  return Outcomes<FutexResult>(options, [=](Schedule& s, FutexResult* outcome) {
    Atomic<uint32_t> word{0};
    s.Spawn("sleeper", [&] { *outcome = FutexWait(&word, 0, deadline); });
    s.Spawn("waker", [&] {
      Point();
      word.store(1, kRelease);
      FutexWake(&word, 1);
    });
    s.Run();
  });
}

constexpr Deadline kLate = kNoDeadline - 1;

TEST(FaultsScheduleTest, MishapsHappenOnlyWhenAskedFor) {
  const Options none = Options::Exhaustive(Options::kUnlimited);
  EXPECT_THAT(WaitResults(none, kLate), UnorderedElementsAre(FutexResult::kWoken, FutexResult::kChanged));
}

TEST(FaultsScheduleTest, EarlyTimeouts) {
  Options options = Options::Exhaustive(Options::kUnlimited);
  options.early_timeouts = 1;
  EXPECT_THAT(WaitResults(options, kLate),
              UnorderedElementsAre(FutexResult::kWoken, FutexResult::kChanged, FutexResult::kTimedOut));
  EXPECT_THAT(WaitResults(options, kNoDeadline),
              UnorderedElementsAre(FutexResult::kWoken, FutexResult::kChanged));
}

TEST(FaultsScheduleTest, SpuriousWakeUps) {
  const auto wakes = [](int budget) {
    Options options = Options::Exhaustive(Options::kUnlimited);
    options.spurious_wakeups = budget;
    options.weak_memory = false;  // a wake-up orders nothing: the load could still return 0
    return Outcomes<int>(options, [](Schedule& s, int* outcome) {
      Atomic<uint32_t> word{0};
      s.Spawn("sleeper", [&] {
        while (FutexWait(&word, 0, kNoDeadline) != FutexResult::kChanged && word.load(kAcquire) == 0)
          ++*outcome;
      });
      s.Spawn("waker", [&] {
        Point();
        word.store(1, kRelease);
        FutexWake(&word, 1);
      });
      s.Run();
    });
  };
  EXPECT_THAT(wakes(0), UnorderedElementsAre(0));
  EXPECT_THAT(wakes(2), UnorderedElementsAre(0, 1, 2));
}

TEST(FaultsScheduleTest, ASpuriousWakeUpHidesNoDeadlock) {
  Options options = Options::Exhaustive(2);
  options.spurious_wakeups = Options::kUnlimited;
  const Result result = Explore(options, [](Schedule& s) {
    Atomic<uint32_t> word{0};
    s.Spawn("sleeper", [&] { FutexWait(&word, 0, kNoDeadline); });
    s.Run();
  });
  EXPECT_EQ(result.failure, Failure::kDeadlock);
}

TEST(FaultsScheduleTest, WeakCompareExchangeMayFail) {
  Options options = Options::Exhaustive(0);
  options.weak_cas_failures = 1;
  const auto outcomes = Outcomes<int>(options, [](Schedule& s, int* outcome) {
    Atomic<uint32_t> word{0};
    s.Spawn("a", [&] {
      uint32_t expected = 0;
      DETSCHED_CHECK(word.compare_exchange_strong(expected, 1, kRelaxed, kRelaxed));
      expected = 1;
      while (!word.compare_exchange_weak(expected, 2, kRelaxed, kRelaxed)) {
        DETSCHED_CHECK(expected == 1);
        ++*outcome;
      }
    });
    s.Run();
  });
  EXPECT_THAT(outcomes, UnorderedElementsAre(0, 1));
}

TEST(FaultsScheduleTest, ThreadStartsMayFailAndTheClockMayJump) {
  Options options = Options::Exhaustive(0);
  options.thread_start_failures = 1;
  options.clock_jumps = 1;
  options.clock_jump = 50;
  const auto outcomes = Outcomes<std::string>(options, [](Schedule& s, std::string* outcome) {
    s.Spawn("a", [=] {
      const int64_t start = MonotonicNow();
      OsThread thread;
      const int error = thread.Start([](void*) {}, nullptr);
      if (error == 0) thread.Join();
      *outcome = std::to_string(error) + " " + std::to_string(MonotonicNow() - start);
    });
    s.Run();
  });
  const std::string failed = std::to_string(EAGAIN);
  EXPECT_THAT(outcomes, UnorderedElementsAre("0 0", "0 50", failed + " 0", failed + " 50"));
}

// ---- Signals

TEST(FaultsScheduleTest, AnOptionalSignalComesAtAnyPointOrNever) {
  const auto outcomes =
      Outcomes<int>(Options::Exhaustive(Options::kUnlimited), [](Schedule& s, int* outcome) {
        *outcome = -1;
        Atomic<int> progress{0};
        const FiberId fiber = s.Spawn("a", [&] {
          for (int i = 1; i <= 3; ++i) progress.store(i, kRelaxed);
        });
        s.MaySignal(fiber, [&, outcome] {
          DETSCHED_CHECK(CurrentFiber() == 0);
          *outcome = progress.load(kRelaxed);
        });
        s.Run();
      });
  EXPECT_THAT(outcomes, UnorderedElementsAre(-1, 0, 1, 2));
}

TEST(FaultsScheduleTest, ASentSignalInterruptsASleeper) {
  const auto outcomes =
      Outcomes<std::string>(Options::Exhaustive(Options::kUnlimited), [](Schedule& s, std::string* outcome) {
        Atomic<uint32_t> word{0};
        int handled = 0;
        const FiberId sleeper = s.Spawn("sleeper", [&, outcome] {
          word.load(kRelaxed);
          const FutexResult result = FutexWait(&word, 0, DeadlineAfter(kNanosPerSecond));
          *outcome = result == FutexResult::kInterrupted ? "interrupted" : "timed out";
        });
        s.Spawn("sender", [&] {
          SendSignal(sleeper, [&] {
            DETSCHED_CHECK(CurrentFiber() == sleeper);
            ++handled;
          });
        });
        s.Run();
        DETSCHED_CHECK(handled == 1);  // no signal is lost, whenever it came
      });
  EXPECT_THAT(outcomes, UnorderedElementsAre("interrupted", "timed out"));
}

// ---- Dying threads

TEST(FaultsScheduleTest, AFiberMayDieAtAnyPoint) {
  for (const Death death : {Death::kHang, Death::kExit}) {
    const auto outcomes =
        Outcomes<int>(Options::Exhaustive(Options::kUnlimited), [=](Schedule& s, int* outcome) {
          Atomic<int> word{0};
          const FiberId fiber = s.Spawn("a", [&] {
            for (int i = 1; i <= 2; ++i) word.store(i, kRelaxed);
          });
          s.MayDie(fiber, death);
          s.Run();
          *outcome = word.load(kRelaxed) + 10 * s.hung();
        });
    if (death == Death::kHang) {
      EXPECT_THAT(outcomes, UnorderedElementsAre(10, 11, 2));
    } else {
      EXPECT_THAT(outcomes, UnorderedElementsAre(0, 1, 2));
    }
  }
}

TEST(FaultsScheduleTest, AHangingThreadIsNoDeadlockButWhoWaitsForItIs) {
  const auto explore = [](Death death) {
    return Explore(Options::Exhaustive(2), [=](Schedule& s) {
      OsThread thread;
      s.Spawn("main", [&] {
        DETSCHED_CHECK(thread.Start([](void*) { HangForever(); }, nullptr) == 0);
        if (death == Death::kExit) thread.Join();
      });
      s.Run();
      DETSCHED_CHECK(s.hung() == 1);
    });
  };
  EXPECT_TRUE(explore(Death::kHang).ok());
  const Result joined = explore(Death::kExit);
  EXPECT_EQ(joined.failure, Failure::kDeadlock);
  EXPECT_THAT(joined.report, HasSubstr("main joins thread 1; thread 1 hangs"));
}

TEST(FaultsScheduleTest, KillStopsAnotherFiberOrTheCaller) {
  const Result result = Explore(Options::Exhaustive(2), [](Schedule& s) {
    Atomic<uint32_t> word{0};
    const FiberId victim = s.Spawn("victim", [&] { FutexWait(&word, 0, kNoDeadline); });
    s.Spawn("killer", [&] {
      Kill(victim, Death::kHang);
      Kill(CurrentFiber(), Death::kExit);
      Fail("a dead fiber runs");
    });
    s.Run();
    DETSCHED_CHECK(s.hung() == 1);
  });
  EXPECT_TRUE(result.ok()) << result.report;
}

// ---- Fork

TEST(FaultsScheduleTest, AForkKeepsTheCallerOnly) {
  Options options = Options::Exhaustive(Options::kUnlimited);
  options.fork = ForkSide::kEither;
  const auto outcomes = Outcomes<std::string>(options, [](Schedule& s, std::string* outcome) {
    Atomic<uint32_t> word{0};
    std::string side;
    s.Spawn("other", [&] {
      for (int i = 0; i < 2; ++i) word.fetch_add(1, kRelaxed);
    });
    s.Spawn("forker", [&] {
      const uint64_t id = CurrentNativeThreadId();
      const pid_t pid = ForkProcess();
      DETSCHED_CHECK(CurrentNativeThreadId() == id);  // cached
      PlatformAfterForkInChild();
      DETSCHED_CHECK((CurrentNativeThreadId() != id) == (pid == 0));
      // The child reads what its memory holds, not something older.
      const uint32_t first = word.load(kRelaxed);
      side = pid == 0 ? "child " + std::to_string(first) : "parent";
      DETSCHED_CHECK(pid != 0 || word.load(kRelaxed) == first);
    });
    s.Run();
    *outcome = side == "parent" ? side + " " + std::to_string(word.load(kRelaxed)) : side;
    DETSCHED_CHECK(s.forked() == (side != "parent"));
  });
  EXPECT_THAT(outcomes, UnorderedElementsAre("child 0", "child 1", "child 2", "parent 2"));
}

TEST(FaultsScheduleTest, AChildDeadlocksOnALockThatAnotherThreadHeld) {
  const auto explore = [](bool resets) {
    return Explore(Options::Exhaustive(2), [=](Schedule& s) {
      Atomic<uint32_t> lock{0};
      const auto acquire = [&] {
        while (lock.exchange(1, kAcquire) != 0) FutexWait(&lock, 1, kNoDeadline);
      };
      const auto release = [&] {
        lock.store(0, kRelease);
        FutexWake(&lock, 1);
      };
      s.Spawn("other", [&] {
        acquire();
        release();
      });
      s.Spawn("forker", [&] {
        if (ForkProcess() == 0 && resets) lock.store(0, kRelaxed);
        acquire();
        release();
      });
      s.Run();
    });
  };
  EXPECT_EQ(explore(false).failure, Failure::kDeadlock);
  EXPECT_TRUE(explore(true).ok());
}

TEST(FaultsScheduleTest, AChildMayNotReadWhatAnotherThreadWasWriting) {
  const auto explore = [](bool overwrites) {
    return Explore(Options::Exhaustive(2), [=](Schedule& s) {
      Plain<int> data{0};
      s.Spawn("other", [&] {
        Point();
        data.Set(1);
        Point();
      });
      s.Spawn("forker", [&] {
        ForkProcess();
        if (overwrites) data.Set(0);
        data.Get();
      });
      s.Run();
    });
  };
  EXPECT_EQ(explore(false).failure, Failure::kRace);
  EXPECT_TRUE(explore(true).ok());
}

TEST(FaultsScheduleTest, ThreadsOfTheChildRaceAsEver) {
  const Result result = Explore(Options::Exhaustive(2), [](Schedule& s) {
    static Plain<int>* data;
    Plain<int> fresh{0};
    data = &fresh;
    s.Spawn("other", [&] { fresh.Set(1); });
    s.Spawn("forker", [&] {
      ForkProcess();
      fresh.Set(2);  // whatever became of the other one's write
      OsThread thread;
      DETSCHED_CHECK(thread.Start([](void*) { data->Set(3); }, nullptr) == 0);
      fresh.Set(4);
      thread.Join();
    });
    s.Run();
  });
  EXPECT_EQ(result.failure, Failure::kRace);
  EXPECT_THAT(result.message, HasSubstr("by thread 2"));
}

// ---- Failures of the code under test

TEST(FaultsScheduleTest, FatalErrorsAndExceptionsFailTheSchedule) {
  const auto explore = [](const std::function<void()>& act) {
    return Explore(Options::Exhaustive(2), [&](Schedule& s) {
      s.Spawn("a", act);
      s.Run();
    });
  };
  for (int i = 0; i < 2; ++i) {  // the first must not spoil the second
    const Result fatal = explore([] { PYRT_CHECK(1 + 1 == 3, "Sum", "one and one is %d", 2); });
    EXPECT_EQ(fatal.failure, Failure::kFatal);
    EXPECT_EQ(fatal.message, "Fatal Python error: Sum: one and one is 2");
  }
  const Result thrown = explore([] { throw std::runtime_error("out of luck"); });
  EXPECT_EQ(thrown.failure, Failure::kException);
  EXPECT_THAT(thrown.message, HasSubstr("out of luck"));
  const Result failed = explore([] { Fail("value %d", 7); });
  EXPECT_EQ(failed.failure, Failure::kCheck);
  EXPECT_EQ(failed.message, "value 7");
  EXPECT_TRUE(explore([] {}).ok());
}

TEST(FaultsScheduleTest, AFailureInTheBodyIsOneToo) {
  EXPECT_EQ(Explore(Options::Random(10), [](Schedule&) { Fail("at once"); }).message, "at once");
}

TEST(FaultsScheduleTest, AnIsolatedCrashIsAFailureWithItsInterleaving) {
  Options options = Options::Exhaustive(2);
  options.isolate = true;
  int calls = 0;
  const Result result = Explore(options, [&](Schedule& s) {
    ++calls;
    Atomic<int*> pointer{nullptr};
    int value = 0;
    Name(&pointer, "pointer");
    s.Spawn("reader", [&] {
      if (pointer.load(kAcquire) == nullptr) ::raise(SIGSEGV);  // not a load, which UBSan would see first
    });
    s.Spawn("writer", [&] { pointer.store(&value, kRelease); });
    s.Run();
  });
  EXPECT_EQ(result.failure, Failure::kCrash);
  EXPECT_THAT(result.report, HasSubstr("load        pointer = 0 (acquire)"));
  EXPECT_EQ(calls, 0) << "the body ran in another process";
}

TEST(FaultsScheduleTest, AnIsolatedExplorationBringsItsResultBack) {
  Options options = Options::Random(100);
  options.isolate = true;
  const auto body = [](Schedule& s) {
    Atomic<uint32_t> word{0};
    for (const char* name : {"a", "b"}) s.Spawn(name, [&] { word.store(word.load(kRelaxed) + 1, kRelaxed); });
    s.Run();
    DETSCHED_CHECK(word.load(kRelaxed) == 2);
  };
  const Result result = Explore(options, body);
  EXPECT_EQ(result.failure, Failure::kCheck);
  EXPECT_THAT(result.report, HasSubstr("store"));
  EXPECT_EQ(Explore(Options::Replay(result.trace), body).message, result.message);
}

TEST(FaultsScheduleTest, AnExhaustiveSearchGoesOnInAnotherProcess) {
  int lives = 0;  // of the process: they may pile up
  const auto body = [&](Schedule& s) {
    DETSCHED_CHECK(++lives <= 8);
    Atomic<uint32_t> word{0};
    for (const char* name : {"a", "b"}) {
      s.Spawn(name, [&] {
        for (int i = 0; i < 4; ++i) word.fetch_add(1, kRelaxed);
      });
    }
    s.Run();
  };
  const auto without_lives = [&](Schedule& s) {
    lives = 0;
    body(s);
  };
  Options options = Options::Exhaustive(2);
  options.sleep_sets = false;
  const Result whole = Explore(options, without_lives);
  EXPECT_TRUE(whole.complete) << whole.report;
  EXPECT_GT(whole.schedules, 10u);

  Options cut = options;
  cut.max_schedules = 5;
  Result result = Explore(cut, without_lives);
  uint64_t schedules = result.schedules;
  while (!result.complete) {
    ASSERT_FALSE(result.rest.empty()) << result.report;
    ASSERT_LT(schedules, whole.schedules) << "it begins again each time";
    cut.resume = result.rest;
    result = Explore(cut, without_lives);
    schedules += result.schedules;
  }
  EXPECT_EQ(schedules, whole.schedules);

  lives = 0;
  options.isolate = true;
  EXPECT_EQ(Explore(options, body).failure, Failure::kCheck);
  options.schedules_per_process = 7;  // and the one ahead
  const Result parts = Explore(options, body);
  EXPECT_TRUE(parts.complete) << parts.report;
  EXPECT_EQ(parts.schedules, whole.schedules);
  options.max_schedules = 10;
  const Result not_all = Explore(options, body);
  EXPECT_EQ(not_all.schedules, 10u);
  EXPECT_FALSE(not_all.complete);
}

TEST(FaultsScheduleDeathTest, ACrashPrintsItsInterleaving) {
  const auto crash = [] {
    Explore(Options::Exhaustive(2), [](Schedule& s) {
      Atomic<uint32_t> word{0};
      Name(&word, "the word");
      s.Spawn("a", [&] {
        word.store(1, kRelaxed);
        std::abort();
      });
      s.Run();
    });
  };
  EXPECT_DEATH(crash(), "store +the word 0 -> 1");
  Options options = Options::Exhaustive(2);
  options.catch_fatal = false;
  const auto fatal = [&] {
    Explore(options, [](Schedule& s) {
      s.Spawn("a", [] { Fatal("Here", "as asked"); });
      s.Run();
    });
  };
  EXPECT_DEATH(fatal(), "Fatal Python error: Here: as asked");
}

// ---- Mutants

bool Mutated() { return PYRT_MUTANT(faults_schedule_test_mutant); }

TEST(FaultsScheduleTest, MutantsAreActiveByName) {
  SetMutants("");
  EXPECT_FALSE(Mutated());
  {
    ScopedMutant mutant("another,faults_schedule_test_mutant");
    EXPECT_TRUE(Mutated());
    EXPECT_TRUE(Mutated());
    EXPECT_EQ(MutantHits(), 2u);
  }
  EXPECT_FALSE(Mutated());
  ScopedMutant prefix("faults_schedule_test");
  EXPECT_FALSE(Mutated());
  EXPECT_EQ(MutantHits(), 0u);
}

TEST(FaultsScheduleDeathTest, MutantsOfTheEnvironmentAreActiveFromTheStart) {
  EXPECT_EXIT(
      {
        ::setenv("PYRT_MUTANT", "x,faults_schedule_test_mutant", 1);
        ::execl("/proc/self/exe", "test", "--gtest_filter=*TheEnvironmentDecidesFirst",
                static_cast<char*>(nullptr));
      },
      ::testing::ExitedWithCode(0), "");
}
// Also run by the test above, in a process of its own.
TEST(FaultsScheduleTest, TheEnvironmentDecidesFirst) {
  EXPECT_EQ(Mutated(), std::getenv("PYRT_MUTANT") != nullptr);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT::detsched
