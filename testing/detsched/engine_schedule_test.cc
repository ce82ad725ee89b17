// What a fiber sees of the platform: threads, thread-locals, time, futexes, and the world outside of a run.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {

PYRT_THREAD_LOCAL(const char*, local_name) = "initial";
PYRT_THREAD_LOCAL(int, local_number);
struct Pair {
  int first;
  char second[12];
};
PYRT_THREAD_LOCAL(Pair, local_pair) = {5, "five"};

namespace {

using ::testing::HasSubstr;

// Every schedule passes, and there is no other one.
void ExpectAll(const std::function<void(Schedule&)>& body, Options options = Options::Exhaustive(2)) {
  const Result result = Explore(options, body);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete || options.strategy != Strategy::kExhaustive) << result.report;
}

void Increment(void* word) { static_cast<Atomic<uint32_t>*>(word)->fetch_add(1, kRelaxed); }

// ---- Outside of a run

Atomic<uint32_t> static_word{3};
const uint32_t kReadBeforeMain = static_word.fetch_add(1, kRelaxed);

TEST(EngineScheduleTest, OutsideOfARunAccessesArePlainMemory) {
  EXPECT_EQ(kReadBeforeMain, 3u);
  EXPECT_EQ(static_word.load(kRelaxed), 4u);
  uint32_t expected = 5;
  EXPECT_FALSE(static_word.compare_exchange_strong(expected, 6, kRelaxed, kRelaxed));
  EXPECT_EQ(expected, 4u);
  EXPECT_TRUE(static_word.compare_exchange_weak(expected, 3, kRelaxed, kRelaxed));
  EXPECT_EQ(FutexWait(&static_word, 9, kNoDeadline), FutexResult::kChanged);
  const int64_t start = MonotonicNow();
  EXPECT_EQ(FutexWait(&static_word, 3, start + 100), FutexResult::kTimedOut);
  EXPECT_EQ(MonotonicNow(), start + 100);
  EXPECT_EQ(FutexWake(&static_word, 1), 0);
  AsymmetricFence::Heavy();
  CpuRelax();
  EXPECT_FALSE(Running());
  EXPECT_EQ(CurrentFiber(), -1);
  EXPECT_NE(CurrentThreadIdent(), 0u);
  local_number = 12;
  ExpectAll([](Schedule& s) {
    DETSCHED_CHECK(local_number == 0);  // the body is a thread of its own
    local_number = 13;
    static_word.store(7, kRelaxed);
    s.Run();
  });
  EXPECT_EQ(local_number, 12);
  EXPECT_EQ(static_word.exchange(3, kRelaxed), 7u);
}

TEST(EngineScheduleDeathTest, AWaitThatNobodyCanEndIsFatal) {
  EXPECT_DEATH(FutexWait(&static_word, static_word.load(kRelaxed), kNoDeadline),
               "nobody can wake the caller");
  EXPECT_DEATH(HangForever(), "outside of a schedule");
  OsThread thread;
  EXPECT_DEATH(static_cast<void>(thread.Start(&Increment, &static_word)), "threads exist only in a schedule");
}

TEST(EngineScheduleTest, SizesAreThoseOfTheNativePlatform) {
  static_assert(sizeof(Atomic<uint8_t>) == 1 && sizeof(Atomic<uint32_t>) == 4 && sizeof(Atomic<void*>) == 8);
  static_assert(sizeof(Plain<char>) == 1 && sizeof(Plain<Pair>) == sizeof(Pair));
  static_assert(std::is_trivially_destructible_v<Atomic<int>>);
}

TEST(EngineScheduleTest, EveryWidthWrapsAsItsTypeDoes) {
  ExpectAll([](Schedule& s) {
    Atomic<uint8_t> byte{250};
    Atomic<int16_t> signed_half{-5};
    Atomic<uint64_t> word{~uint64_t{0}};
    Atomic<bool> flag{false};
    s.Spawn("a", [&] {
      DETSCHED_CHECK(byte.fetch_add(10, kRelaxed) == 250 && byte.load(kRelaxed) == 4);
      DETSCHED_CHECK(byte.fetch_sub(5, kRelaxed) == 4 && byte.load(kRelaxed) == 255);
      DETSCHED_CHECK(signed_half.fetch_sub(-3, kRelaxed) == -5 && signed_half.load(kRelaxed) == -2);
      DETSCHED_CHECK(word.fetch_add(2, kRelaxed) == ~uint64_t{0} && word.load(kRelaxed) == 1);
      DETSCHED_CHECK(word.fetch_or(6, kRelaxed) == 1 && word.fetch_and(5, kRelaxed) == 7);
      DETSCHED_CHECK(word.exchange(9, kRelaxed) == 5);
      DETSCHED_CHECK(!flag.exchange(true, kRelaxed) && flag.load(kRelaxed));
    });
    s.Run();
  });
}

TEST(EngineScheduleTest, MemoryThatIsWrittenBarelyBeginsANewLife) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{1};
    s.Spawn("a", [&] {
      word.store(2, kRelaxed);
      std::memset(static_cast<void*>(&word), 0, sizeof(word));  // as if it had come back from an allocator
      DETSCHED_CHECK(word.load(kRelaxed) == 0);
      DETSCHED_CHECK(word.fetch_add(5, kRelaxed) == 0);
    });
    s.Run();
    DETSCHED_CHECK(word.load(kRelaxed) == 5);
  });
}

// ---- Threads

TEST(EngineScheduleTest, EachFiberHasItsThreadLocals) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    for (const char* name : {"a", "b", "c"}) {
      s.Spawn(name, [&word, name] {
        DETSCHED_CHECK(std::string(local_name) == "initial" && local_number == 0);
        DETSCHED_CHECK(local_pair.first == 5 && std::string(local_pair.second) == "five");
        local_name = name;
        local_number = name[0];
        local_pair.second[0] = name[0];
        errno = name[0];
        for (int i = 0; i < 2; ++i) word.fetch_add(1, kRelaxed);
        DETSCHED_CHECK(local_name == name && local_number == name[0] && local_pair.second[0] == name[0]);
        DETSCHED_CHECK(errno == name[0]);
      });
    }
    s.Run();
    DETSCHED_CHECK(std::string(local_name) == "initial");
  });
}

TEST(EngineScheduleTest, ExceptionsStayWithTheirFiber) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    for (const char* name : {"a", "b"}) {
      s.Spawn(name, [&word, name] {
        try {
          throw std::runtime_error(name);
        } catch (const std::runtime_error& error) {
          word.fetch_add(1, kRelaxed);  // the other one throws and catches here
          try {
            throw;
          } catch (const std::runtime_error& again) {
            DETSCHED_CHECK(std::string(again.what()) == name);
          }
        }
      });
    }
    s.Run();
  });
}

TEST(EngineScheduleTest, ThreadsStartJoinAndDetach) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    Plain<int> plain{0};
    s.Spawn("main", [&] {
      std::set<uint64_t> idents = {CurrentThreadIdent()};
      OsThread threads[2];
      struct Argument {
        Atomic<uint32_t>* word;
        Plain<int>* plain;
        uint64_t ident;
      } arguments[2] = {{&word, nullptr, 0}, {&word, &plain, 0}};
      for (int i = 0; i < 2; ++i) {
        DETSCHED_CHECK(threads[i].Start(
                           [](void* raw) {
                             auto* argument = static_cast<Argument*>(raw);
                             argument->ident = CurrentThreadIdent();
                             if (argument->plain != nullptr) argument->plain->Set(1);
                             argument->word->fetch_add(1, kRelaxed);
                           },
                           &arguments[i]) == 0);
      }
      for (int i = 0; i < 2; ++i) {
        threads[i].Join();
        idents.insert(arguments[i].ident);
      }
      DETSCHED_CHECK(plain.Get() == 1);  // joining orders
      DETSCHED_CHECK(word.load(kRelaxed) == 2);
      DETSCHED_CHECK(idents.size() == 3 && idents.count(0) == 0);
      OsThread detached;
      DETSCHED_CHECK(detached.Start(&Increment, &word) == 0);
      detached.Detach();
    });
    s.Run();
    DETSCHED_CHECK(word.load(kRelaxed) == 3);
  });
}

TEST(EngineScheduleTest, ManyThreadsOneAfterTheOther) {
  Options options = Options::Random(50);
  ExpectAll(
      [](Schedule& s) {
        Atomic<uint32_t> word{0};
        s.Spawn("main", [&] {
          for (int i = 0; i < 100; ++i) {
            OsThread thread;
            DETSCHED_CHECK(thread.Start(&Increment, &word) == 0);
            thread.Join();
          }
        });
        s.Run();
        DETSCHED_CHECK(word.load(kRelaxed) == 100);
      },
      options);
}

TEST(EngineScheduleTest, AThreadStartedInTheBodyBeginsWithRun) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    OsThread thread;
    DETSCHED_CHECK(thread.Start(&Increment, &word) == 0);
    DETSCHED_CHECK(word.load(kRelaxed) == 0);
    s.Run();
    thread.Join();
    DETSCHED_CHECK(word.load(kRelaxed) == 1);
  });
}

TEST(EngineScheduleTest, ABodyMayRunMoreThanOnce) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    Plain<uint32_t> plain{0};
    int ends = 0;
    s.OnEnd([&] { ++ends; });
    for (uint32_t round = 1; round <= 3; ++round) {
      s.Spawn("a", [&] { plain.Set(word.fetch_add(1, kRelaxed)); });
      s.Run();
      DETSCHED_CHECK(word.load(kRelaxed) == round && ends == static_cast<int>(round));
      plain.Set(round);
    }
  });
}

// ---- Time

TEST(EngineScheduleTest, TimeStandsStillWhileSomebodyRuns) {
  ExpectAll([](Schedule& s) {
    s.Spawn("a", [&] {
      const int64_t start = MonotonicNow();
      Atomic<uint32_t> word{0};
      for (int i = 0; i < 10; ++i) word.fetch_add(1, kRelaxed);
      DETSCHED_CHECK(MonotonicNow() == start);
      AdvanceTime(5);
      DETSCHED_CHECK(MonotonicNow() == start + 5);
    });
    s.Run();
  });
}

TEST(EngineScheduleTest, TimeoutsComeInOrderWhenNobodyCanRun) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    Atomic<uint32_t> order{0};
    for (uint32_t i = 1; i <= 3; ++i) {
      s.Spawn(i == 1   ? "one"
              : i == 2 ? "two"
                       : "three",
              [&, i] {
                const Deadline deadline = DeadlineAfter(i * kNanosPerMilli);
                DETSCHED_CHECK(FutexWait(&word, 0, deadline) == FutexResult::kTimedOut);
                DETSCHED_CHECK(MonotonicNow() == deadline);
                DETSCHED_CHECK(order.fetch_add(1, kRelaxed) == i - 1);
              });
    }
    s.Run();
  });
}

TEST(EngineScheduleTest, APastDeadlineDoesNotSleep) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    s.Spawn("a", [&] {
      DETSCHED_CHECK(FutexWait(&word, 0, 0) == FutexResult::kTimedOut);
      DETSCHED_CHECK(FutexWait(&word, 1, 0) == FutexResult::kChanged);
    });
    s.Run();
  });
}

TEST(EngineScheduleTest, WhenEverybodySpinsTimePasses) {
  ExpectAll([](Schedule& s) {
    Atomic<uint32_t> word{0};
    s.Spawn("spinner", [&] {
      const Deadline deadline = DeadlineAfter(20 * kNanosPerMicro);
      while (MonotonicNow() < deadline) CpuRelax();
    });
    s.Spawn("waits for the sleeper", [&] {
      while (word.load(kAcquire) == 0) YieldCpu();
    });
    s.Spawn("sleeper", [&] {
      Atomic<uint32_t> nobody{0};
      FutexWait(&nobody, 0, DeadlineAfter(kNanosPerSecond));
      word.store(1, kRelease);
    });
    s.Run();
  });
}

TEST(EngineScheduleTest, WhenEverybodySpinsStoresArriveBeforeTimePasses) {
  Options options = Options::Random(2000);
  options.stale_reads = Options::kUnlimited;
  ExpectAll(
      [](Schedule& s) {
        Atomic<uint32_t> there{0}, back{0}, nobody{0};
        s.Spawn("sleeper", [&] { FutexWait(&nobody, 0, DeadlineAfter(3600 * kNanosPerSecond)); });
        const auto await = [](const Atomic<uint32_t>& word) {
          const Deadline deadline = DeadlineAfter(kNanosPerSecond);
          while (word.load(kRelaxed) == 0) YieldCpu();
          DETSCHED_CHECK(MonotonicNow() < deadline);
        };
        s.Spawn("a", [&] {
          there.store(1, kRelaxed);
          await(back);
        });
        s.Spawn("b", [&] {
          await(there);
          back.store(1, kRelaxed);
        });
        s.Run();
      },
      options);
}

TEST(EngineScheduleTest, ASpinnerDoesNotHideProgress) {
  for (const Options& options : {Options::Exhaustive(1), Options::Pct(3, 2000), Options::Random(2000)}) {
    ExpectAll(
        [](Schedule& s) {
          Atomic<uint32_t> word{0};
          for (uint32_t i = 0; i < 3; ++i) {
            s.Spawn(i == 0   ? "a"
                    : i == 1 ? "b"
                             : "c",
                    [&, i] {
                      while (word.load(kAcquire) != i) CpuRelax();
                      word.store(i + 1, kRelease);
                    });
          }
          s.Run();
        },
        options);
  }
}

// ---- Futexes

TEST(EngineScheduleTest, WakeUpsTakeTheSleepersInTheirOrder) {
  Options options = Options::Exhaustive(0);  // who has counted itself sleeps before another one counts
  options.weak_memory = false;
  ExpectAll(
      [](Schedule& s) {
        Atomic<uint32_t> word{0};
        Atomic<uint32_t> arrivals{0};
        Atomic<uint32_t> awake{0};
        for (const char* name : {"a", "b", "c"}) {
          s.Spawn(name, [&] {
            const uint32_t arrival = arrivals.fetch_add(1, kRelaxed);
            DETSCHED_CHECK(FutexWait(&word, 0, kNoDeadline) == FutexResult::kWoken);
            DETSCHED_CHECK(awake.fetch_add(1, kRelaxed) == arrival);
          });
        }
        s.Spawn("waker", [&] {
          Atomic<uint32_t> other{0};
          while (arrivals.load(kRelaxed) != 3) YieldCpu();
          DETSCHED_CHECK(FutexWake(&other, 1) == 0);
          for (uint32_t i = 1; i <= 3; ++i) {
            DETSCHED_CHECK(FutexWake(&word, 1) == 1);
            while (awake.load(kRelaxed) != i) YieldCpu();
          }
        });
        s.Run();
      },
      options);
}

// ---- What a fiber has done

TEST(EngineScheduleTest, AccessesAreCountedByFiberAndObject) {
  ExpectAll([](Schedule& s) {
    struct Pair {
      Atomic<uint32_t> first{0};
      Atomic<uint32_t> second{0};
    } pair;
    const auto is = [](const AccessCounts& counts, int loads, int stores, int updates) {
      return counts.loads == loads && counts.stores == stores && counts.updates == updates;
    };
    pair.first.store(1, kRelaxed);  // no fiber's
    const FiberId busy = s.Spawn("busy", [&] {
      static_cast<void>(pair.first.load(kAcquire));
      pair.first.store(2, kRelease);
      pair.second.fetch_add(1, kRelaxed);
      uint32_t expected = 7;
      pair.second.compare_exchange_strong(expected, 8, kAcquire, kRelaxed);
      pair.second.compare_exchange_weak(expected, 8, kAcquire, kRelaxed);
      DETSCHED_CHECK(is(AccessesBy(CurrentFiber(), &pair.second), 0, 0, 3));
      CpuRelax();
      YieldCpu();
    });
    const FiberId other = s.Spawn("other", [&] { static_cast<void>(pair.first.load(kRelaxed)); });
    s.Run();
    DETSCHED_CHECK(is(AccessesBy(busy, &pair.first), 1, 1, 0));
    DETSCHED_CHECK(is(AccessesBy(busy, &pair), 1, 1, 3));
    DETSCHED_CHECK(is(AccessesBy(other, &pair), 1, 0, 0));
    DETSCHED_CHECK(PausesOf(busy) == 2 && PausesOf(other) == 0);
  });
}

// ---- The report

TEST(EngineScheduleTest, TheReportTellsOneLinePerStep) {
  const Result result = Explore(Options::Exhaustive(2), [](Schedule& s) {
    struct Box {
      Atomic<uint32_t> head{0};
      Atomic<uint32_t> words[2];
    } box;
    Plain<int> plain{0};
    Name(&box, "box");
    Name(&box.head, "head");
    Name(&box.words[1], "words", 1);
    s.Spawn("writer", [&] {
      plain.Set(1);
      box.words[0].fetch_or(0x1000, kAcqRel);
      box.words[1].store(5, kRelease);
      uint32_t expected = 3;
      box.head.compare_exchange_strong(expected, 4, kSeqCst, kRelaxed);
      FutexWait(&box.head, 7, kNoDeadline);
      FutexWake(&box.head, 1);
      AsymmetricFence::Light();
      AsymmetricFence::Heavy();
      CpuRelax();
      Point("half way");
      FutexWait(&box.head, 0, kNoDeadline);
    });
    s.Run();
  });
  EXPECT_EQ(result.failure, Failure::kDeadlock);
  for (const char* line :
       {"fibers: writer sleeps on head", "fetch_or    box+4 0 -> 0x1000 (acq_rel)",
        "store       words[1] 0 -> 5 (release)", "cas failed  head = 0, expected 3 (relaxed)",
        "futex_wait  head = 0, expected 7", "futex_wake  head: wakes 0 of at most 1", "light fence",
        "heavy fence", "relax", "half way", "futex_wait  head = 0, expected 0: sleeps",
        "engine_schedule_test.cc:", "replay: Options::Replay(\"0:0\")"}) {
    EXPECT_THAT(result.report, HasSubstr(line));
  }
}

TEST(EngineScheduleTest, MisuseOfTheSchedulerFailsTheSchedule) {
  EXPECT_THAT(Explore(Options::Random(1), [](Schedule& s) { s.Spawn("a", [] {}); }).message,
              HasSubstr("without Schedule::Run()"));
  EXPECT_THAT(Explore(Options::Random(1),
                      [](Schedule& s) {
                        for (int i = 0; i < 17; ++i) s.Spawn("a", [] {});
                        s.Run();
                      })
                  .message,
              HasSubstr("more than 16 fibers"));
  EXPECT_THAT(Explore(Options::Random(1), [](Schedule& s) { s.MayDie(3, Death::kHang); }).message,
              HasSubstr("no such fiber: 3"));
  EXPECT_EQ(Explore(Options::Random(1), [](Schedule& s) { s.MayDie(3, Death::kHang); }).failure,
            Failure::kUsage);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT::detsched
