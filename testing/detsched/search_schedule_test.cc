// The strategies: exhaustive search counts what it should, sleep sets lose no outcome, PCT keeps its promise,
// a schedule repeats from its seed and from its trace, and shrinks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

using ::testing::HasSubstr;

constexpr const char* kNames[] = {"a", "b", "c", "d", "e", "f"};

Options WithoutReduction(int preemption_bound = Options::kUnlimited) {
  Options options = Options::Exhaustive(preemption_bound);
  options.sleep_sets = false;
  options.weak_memory = false;
  return options;
}

// `fibers` fibers of `steps` increments each of one word.
Result ExploreCounting(const Options& options, int fibers, int steps) {
  return Explore(options, [=](Schedule& s) {
    Atomic<uint32_t> word{0};
    for (int i = 0; i < fibers; ++i) {
      s.Spawn(kNames[i], [&] {
        for (int k = 0; k < steps; ++k) word.fetch_add(1, kRelaxed);
      });
    }
    s.Run();
    DETSCHED_CHECK(word.load(kRelaxed) == static_cast<uint32_t>(fibers * steps));
  });
}

TEST(SearchScheduleTest, ExhaustiveSearchVisitsEveryInterleavingOnce) {
  // (n k)! / (k!)^n
  const std::vector<std::array<uint64_t, 3>> counts = {{2, 1, 2},  {2, 2, 6},    {2, 4, 70},  {3, 1, 6},
                                                       {3, 2, 90}, {3, 3, 1680}, {4, 2, 2520}};
  for (const auto& [fibers, steps, schedules] : counts) {
    const Result result =
        ExploreCounting(WithoutReduction(), static_cast<int>(fibers), static_cast<int>(steps));
    EXPECT_TRUE(result.ok()) << result.report;
    EXPECT_TRUE(result.complete);
    EXPECT_EQ(result.schedules, schedules) << fibers << " fibers of " << steps << " steps";
  }
}

TEST(SearchScheduleTest, ThePreemptionBoundCountsPreemptions) {
  // Two fibers of k steps; the second one of a pair runs to its end. Without preemption: who begins. With
  // one: besides, the first is interrupted after 1..k-1 steps (after 0 the other one began), and then the
  // interrupted one goes on at the end.
  EXPECT_EQ(ExploreCounting(WithoutReduction(0), 2, 5).schedules, 2u);
  EXPECT_EQ(ExploreCounting(WithoutReduction(1), 2, 5).schedules, 2u + 2 * 4);
  // All of them have at most 2 k - 2 preemptions.
  EXPECT_EQ(ExploreCounting(WithoutReduction(8), 2, 5).schedules, 252u);
  EXPECT_LT(ExploreCounting(WithoutReduction(7), 2, 5).schedules, 252u);
}

TEST(SearchScheduleTest, IndependentStepsAreExploredInOneOrderOnly) {
  const Result result = Explore(Options::Exhaustive(Options::kUnlimited), [](Schedule& s) {
    Atomic<uint32_t> words[3];
    for (int i = 0; i < 3; ++i) {
      s.Spawn(kNames[i], [&words, i] {
        for (int k = 0; k < 3; ++k) words[i].fetch_add(1, kRelaxed);
      });
    }
    s.Run();
  });
  EXPECT_TRUE(result.complete);
  EXPECT_EQ(result.schedules - result.pruned, 1u) << result.report;
}

TEST(SearchScheduleTest, AnInvariantSwitchesSleepSetsOff) {
  const auto explore = [](bool with_invariant) {
    return Explore(Options::Exhaustive(Options::kUnlimited), [=](Schedule& s) {
      Atomic<uint32_t> x{0}, y{0};
      if (with_invariant) {
        s.Invariant("y is not ahead of x", [&] { return y.load(kRelaxed) <= x.load(kRelaxed); });
      }
      s.Spawn("x", [&] { x.store(1, kRelaxed); });
      s.Spawn("y", [&] { y.store(1, kRelaxed); });
      s.Run();
    });
  };
  EXPECT_EQ(explore(true).failure, Failure::kInvariant);
  EXPECT_TRUE(explore(false).ok());
  EXPECT_THAT(explore(true).message, HasSubstr("y is not ahead of x"));
}

// A random program: each fiber a list of accesses. The outcome is everything that was read.
struct Access {
  int kind;
  int variable;
  std::memory_order order;
};
using Program = std::vector<std::vector<Access>>;

Program RandomProgram(std::mt19937& random) {
  Program program(2 + random() % 2);
  for (auto& fiber : program) {
    fiber.resize(program.size() == 2 ? 2 + random() % 3 : 1 + random() % 2);
    for (Access& access : fiber) {
      access.kind = static_cast<int>(random() % 10);
      access.variable = static_cast<int>(random() % 3);
      static constexpr std::memory_order kOrders[] = {kRelaxed, kAcqRel, kSeqCst};
      access.order = kOrders[random() % 3];
    }
  }
  return program;
}

std::map<std::string, uint64_t> Outcomes(const Program& program, const Options& options, Result* result) {
  std::map<std::string, uint64_t> outcomes;
  *result = Explore(options, [&](Schedule& s) {
    Atomic<uint32_t> words[3];
    std::vector<std::string> read(program.size());
    for (size_t i = 0; i < program.size(); ++i) {
      s.Spawn(kNames[i], [&, i] {
        uint32_t next = static_cast<uint32_t>(10 * (i + 1));
        for (const Access& access : program[i]) {
          Atomic<uint32_t>& word = words[access.variable];
          const bool rmw_order = access.order == kAcqRel;
          switch (access.kind) {
            case 0:
            case 1:
            case 2:
              read[i] += std::to_string(word.load(rmw_order ? kAcquire : access.order)) + " ";
              break;
            case 3:
            case 4:
              word.store(next++, rmw_order ? kRelease : access.order);
              break;
            case 5:
              read[i] += std::to_string(word.exchange(next++, access.order)) + " ";
              break;
            case 6:
              AsymmetricFence::Heavy();
              break;
            case 7:
              AsymmetricFence::Light();
              break;
            case 8:
              CpuRelax();
              break;
            case 9: {
              uint32_t expected =
                  static_cast<uint32_t>(10 * (i + 1));  // what this fiber stores first, or 0 is there
              if (access.variable == 0) expected = 0;
              const std::memory_order failure = rmw_order ? kAcquire : access.order;
              const bool done = word.compare_exchange_strong(expected, next++, access.order, failure);
              read[i] += std::to_string(expected) + (done ? "! " : "? ");
              break;
            }
          }
        }
      });
    }
    s.Run();
    std::string outcome;
    for (const std::string& text : read) outcome += text + "| ";
    for (const auto& word : words) outcome += std::to_string(word.load(kRelaxed)) + " ";
    ++outcomes[outcome];
  });
  return outcomes;
}

// The soundness of sleep sets, with and without a preemption bound: on random programs they lose no outcome.
TEST(SearchScheduleTest, SleepSetsLoseNoOutcome) {
  std::mt19937 random(20240607);
  uint64_t with = 0;
  uint64_t without = 0;
  const int programs = kAsan || kTsan ? 40 : 400;  // the sanitizers take twenty times as long
  for (int i = 0; i < programs; ++i) {
    const Program program = RandomProgram(random);
    for (const int bound : {0, 1, 2, Options::kUnlimited}) {
      Options options = Options::Exhaustive(bound);
      options.stale_reads = 1 + i % 3;
      options.sleep_sets = false;
      Result full;
      const auto expected = Outcomes(program, options, &full);
      options.sleep_sets = true;
      Result reduced;
      const auto found = Outcomes(program, options, &reduced);
      ASSERT_TRUE(full.ok() && reduced.ok()) << full.report << reduced.report;
      ASSERT_TRUE(full.complete && reduced.complete);
      for (const auto& [outcome, times] : expected) {
        ASSERT_TRUE(found.contains(outcome)) << "program " << i << " bound " << bound << " lost " << outcome;
      }
      ASSERT_EQ(found.size(), expected.size());
      if (bound < 0) with += reduced.schedules - reduced.pruned;
      if (bound < 0) without += full.schedules;
    }
  }
  EXPECT_LT(2 * with, without);
  RecordProperty("schedules_with", std::to_string(with));
  RecordProperty("schedules_without", std::to_string(without));
}

// Random walks stay within what exhaustive search finds, and find the whole of it before long.
TEST(SearchScheduleTest, RandomAndPctFindTheOutcomesThatExist) {
  std::mt19937 random(7);
  const int programs = kAsan || kTsan ? 2 : 20;
  for (int i = 0; i < programs; ++i) {
    const Program program = RandomProgram(random);
    Options options = Options::Exhaustive(Options::kUnlimited);
    options.stale_reads = Options::kUnlimited;
    Result result;
    const auto all = Outcomes(program, options, &result);
    ASSERT_TRUE(result.complete);
    const auto walked = Outcomes(program, Options::Random(20'000), &result);
    EXPECT_EQ(walked.size(), all.size()) << "program " << i;
    for (const auto& [outcome, times] : walked) EXPECT_TRUE(all.contains(outcome)) << outcome;
    for (const auto& [outcome, times] : Outcomes(program, Options::Pct(3, 5'000), &result)) {
      EXPECT_TRUE(all.contains(outcome)) << outcome;
    }
  }
}

// A bug of depth 3: three orderings between the fibers must hold at once.
void DepthThree(Schedule& s) {
  Atomic<uint32_t> a{0}, b{0};
  s.Spawn("first", [&] {
    for (int i = 0; i < 5; ++i) a.fetch_add(1, kRelaxed);
    if (b.load(kRelaxed) == 5) {                // 1: the other one's five are done before this
      a.store(100, kRelaxed);                   // 2: it sees this
      DETSCHED_CHECK(b.load(kRelaxed) != 200);  // 3: and answers before this
    }
  });
  s.Spawn("second", [&] {
    for (int i = 0; i < 5; ++i) b.fetch_add(1, kRelaxed);
    for (int i = 0; i < 5; ++i) {
      if (a.load(kRelaxed) == 100) {
        b.store(200, kRelaxed);
        return;
      }
    }
  });
  s.Spawn("third", [] { Point(); });
  s.Run();
}

TEST(SearchScheduleTest, PctFindsABugOfDepthThreeWithinItsBound) {
  // n fibers of k steps in all: probability at least 1 / (n k^(d-1)), here 1 / (3 * 20^2) = 1/1200.
  int found = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Options options = Options::Pct(3, 1200 * 5, seed);  // misses with probability e^-5
    options.weak_memory = false;
    options.shrink = false;
    found += Explore(options, DepthThree).failure == Failure::kCheck;
  }
  EXPECT_GE(found, 18);
  Options shallow = Options::Pct(1, 2000);
  shallow.weak_memory = false;
  EXPECT_TRUE(Explore(shallow, DepthThree).ok()) << "priorities that never change cannot find it";
}

TEST(SearchScheduleTest, AWalkGoesOnUntilItHasItsGuarantee) {
  const auto body = [](Schedule& s) {
    for (const char* name : kNames) s.Spawn(name, [] { Point(); });
    s.Run();
  };
  Options options = Options::Pct(2, 10);
  const Result few = Explore(options, body);
  EXPECT_EQ(few.schedules, 10u);
  EXPECT_LT(few.guaranteed, 0.9);
  options.pct_guarantee = 0.99;
  const Result enough = Explore(options, body);
  EXPECT_GE(enough.guaranteed, 0.99);
  options.max_schedules = enough.schedules - 1;
  options.pct_guarantee = 0;
  EXPECT_LT(Explore(options, body).guaranteed, 0.99) << "not one more than needed";
  options.pct_guarantee = 2;  // never reached
  options.max_seconds = 0.05;
  const Result late = Explore(options, body);
  EXPECT_GE(late.seconds, 0.05);
  EXPECT_FALSE(late.complete);
}

TEST(SearchScheduleTest, TheEnvironmentDeepensSearches) {
  const Options shallow = WithoutReduction(1);
  const uint64_t at_one = ExploreCounting(shallow, 2, 5).schedules;
  const uint64_t at_two = ExploreCounting(WithoutReduction(2), 2, 5).schedules;
  ASSERT_LT(at_one, at_two);
  ::setenv("PYRT_DETSCHED_PREEMPTIONS", "2", 1);
  const Result deepened = ExploreCounting(shallow, 2, 5);
  EXPECT_TRUE(deepened.deepened && deepened.complete);
  EXPECT_EQ(deepened.schedules, at_two);
  EXPECT_FALSE(ExploreCounting(WithoutReduction(2), 2, 5).deepened);
  Options claim = shallow;
  claim.bound_is_claim = true;
  EXPECT_EQ(ExploreCounting(claim, 2, 5).schedules, at_one);
  EXPECT_FALSE(ExploreCounting(WithoutReduction(Options::kUnlimited), 2, 5).deepened);
  ::setenv("PYRT_DETSCHED_PREEMPTIONS", "30", 1);
  ::setenv("PYRT_DETSCHED_SECONDS", "1", 1);
  for (const uint64_t schedules_per_process : {0, 10'000}) {
    Options endless = shallow;
    endless.isolate = schedules_per_process != 0;
    endless.schedules_per_process = schedules_per_process;
    const Result cut = ExploreCounting(endless, 4, 12);
    EXPECT_TRUE(cut.ok()) << cut.report;
    EXPECT_TRUE(cut.deepened);
    EXPECT_FALSE(cut.complete);
    EXPECT_GE(cut.seconds, 1);
  }
  ::unsetenv("PYRT_DETSCHED_PREEMPTIONS");
  ::unsetenv("PYRT_DETSCHED_SECONDS");
}

TEST(SearchScheduleTest, ASeedRepeatsItsSchedule) {
  for (const Strategy strategy : {Strategy::kRandom, Strategy::kPct}) {
    Options options;
    options.strategy = strategy;
    options.pct_depth = 3;
    options.max_schedules = 100'000;
    options.shrink = false;
    const Result found = Explore(options, DepthThree);
    ASSERT_EQ(found.failure, Failure::kCheck) << found.report;
    ASSERT_GT(found.schedules, 1u);
    if (strategy == Strategy::kPct) continue;  // change points depend on the length of earlier schedules
    options.seed = found.seed;
    options.max_schedules = 1;
    const Result again = Explore(options, DepthThree);
    EXPECT_EQ(again.failure, Failure::kCheck);
    EXPECT_EQ(again.trace, found.trace);
  }
}

std::string Interleaving(const Result& result) { return result.report.substr(result.report.find("fibers:")); }

TEST(SearchScheduleTest, ATraceRepeatsItsScheduleIdentically) {
  for (Options options : {Options::Random(100'000), Options::Pct(3, 100'000), Options::Exhaustive(3)}) {
    for (const bool shrink : {false, true}) {
      options.shrink = shrink;
      const Result found = Explore(options, DepthThree);
      ASSERT_EQ(found.failure, Failure::kCheck) << found.report;
      const Result again = Explore(Options::Replay(found.trace), DepthThree);
      EXPECT_EQ(again.failure, Failure::kCheck) << found.report;
      EXPECT_EQ(Interleaving(again), Interleaving(found));
    }
  }
}

TEST(SearchScheduleTest, AReplayFromTheEnvironmentReplacesTheSearch) {
  Options options = Options::Random(100'000);
  const Result found = Explore(options, DepthThree);
  ASSERT_EQ(::setenv("PYRT_DETSCHED_REPLAY", found.trace.c_str(), 1), 0);
  const Result again = Explore(options, DepthThree);
  ASSERT_EQ(::unsetenv("PYRT_DETSCHED_REPLAY"), 0);
  EXPECT_EQ(again.schedules, 1u);
  EXPECT_EQ(again.trace, found.trace);
}

TEST(SearchScheduleTest, ShrinkingLeavesOnlyTheChoicesThatMatter) {
  Options options = Options::Random(100'000);
  options.shrink = false;
  const Result found = Explore(options, DepthThree);
  options.shrink = true;
  const Result shrunk = Explore(options, DepthThree);
  ASSERT_EQ(shrunk.failure, Failure::kCheck);
  const auto choices = [](const std::string& trace) { return std::count(trace.begin(), trace.end(), ':'); };
  EXPECT_GT(choices(found.trace), choices(shrunk.trace));
  EXPECT_LE(choices(shrunk.trace), 4) << shrunk.report;
  EXPECT_THAT(shrunk.report, HasSubstr("turns and mishaps shrunk to 4"));
}

TEST(SearchScheduleTest, BytesDriveAScheduleAndCoverageCountsInterleavings) {
  std::set<std::vector<uint8_t>> coverages;
  int failures = 0;
  std::mt19937 random(3);
  for (int i = 0; i < 3'000; ++i) {
    std::vector<uint8_t> bytes(40);
    for (uint8_t& byte : bytes) byte = random() % 4 == 0 ? static_cast<uint8_t>(random()) : 0;
    std::vector<uint8_t> coverage(256);
    Options options = Options::Bytes(bytes.data(), bytes.size());
    options.coverage = coverage.data();
    options.coverage_size = coverage.size();
    const Result result = Explore(options, DepthThree);
    failures += !result.ok();
    coverages.insert(coverage);
    if (i != 0) continue;
    std::vector<uint8_t> repeated(256);
    options.coverage = repeated.data();
    Explore(options, DepthThree);
    EXPECT_EQ(repeated, coverage);
  }
  EXPECT_GT(failures, 0);
  EXPECT_GT(coverages.size(), 100u);
}

TEST(SearchScheduleTest, AChoiceOfTheTestIsExploredToo) {
  std::set<int> chosen;
  const Result result = Explore(Options::Exhaustive(0), [&](Schedule& s) {
    const int first = s.Choose(3);
    int second = -1;
    s.Spawn("a", [&] { second = Choose(4); });
    s.Run();
    chosen.insert(10 * first + second);
  });
  EXPECT_TRUE(result.complete);
  EXPECT_EQ(result.schedules, 12u);
  EXPECT_EQ(chosen.size(), 12u);
}

TEST(SearchScheduleTest, ABodyThatDoesNotRepeatIsNoticed) {
  int calls = 0;
  const Result result = Explore(Options::Exhaustive(2), [&](Schedule& s) {
    Atomic<uint32_t> word{0};
    const int steps = ++calls % 3 + 1;
    for (const char* name : {"a", "b"}) {
      s.Spawn(name, [&, steps] {
        for (int i = 0; i < steps; ++i) word.fetch_add(1, kRelaxed);
      });
    }
    s.Run();
  });
  EXPECT_GT(result.diverged, 0u);
  EXPECT_FALSE(result.complete);
}

// As where two addresses share a bucket of the parking lot by chance, in some schedules.
TEST(SearchScheduleTest, ASearchThatDoesNotRepeatBeginsAgain) {
  int calls = 0;
  const Result result = Explore(Options::Exhaustive(2), [&](Schedule& s) {
    Atomic<uint32_t> word{0};
    const int steps = ++calls < 6 ? calls % 3 + 1 : 2;
    for (const char* name : {"a", "b"}) {
      s.Spawn(name, [&, steps] {
        for (int i = 0; i < steps; ++i) word.fetch_add(1, kRelaxed);
      });
    }
    s.Run();
  });
  EXPECT_EQ(result.diverged, 0u);
  EXPECT_TRUE(result.complete);
}

TEST(SearchScheduleTest, AMalformedTraceIsRefused) {
  EXPECT_DEATH(Explore(Options::Replay("1:x"), DepthThree), "'1:x' is not a trace");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT::detsched
