// What to explore and how, and the ways to fail. Part of scheduler.h.

#ifndef PYRT_TESTING_DETSCHED_OPTIONS_H_
#define PYRT_TESTING_DETSCHED_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::detsched {

enum class Strategy : uint8_t {
  kRandom,      // a random walk; each schedule has its own inclination to switch
  kPct,         // probabilistic concurrency testing: random priorities, pct_depth - 1 changes
  kExhaustive,  // depth-first search of every choice within the bounds
  kReplay,      // Options::trace, then choice 0
  kBytes,       // Options::bytes, one for each choice, then choice 0: for fuzzers
};

enum class ForkSide : uint8_t { kChild, kParent, kEither };
enum class Death : uint8_t {
  kHang,  // never runs again, as after HangForever()
  kExit,  // ends without unwinding; joiners go on
};

using FiberId = int;

struct Options {
  static constexpr int kUnlimited = -1;

  Strategy strategy = Strategy::kRandom;
  uint64_t seed = 1;
  // Schedules at most. The environment's PYRT_DETSCHED_SCHEDULES multiplies it for random and pct.
  uint64_t max_schedules = 10'000;
  // Steps of one schedule; more is a livelock.
  uint32_t max_steps = 20'000;

  // Exhaustive only: preemptions in one schedule, or the environment's PYRT_DETSCHED_PREEMPTIONS if they are more
  // (switches away from a fiber that could go on; switches at CpuRelax and YieldCpu are free).
  int preemption_bound = 2;
  // Exhaustive only: the environment asks in vain, because the claim is about as many preemptions and no more.
  bool bound_is_claim = false;
  // Exhaustive only: leave out schedules that differ from an explored one only in the order of independent
  // steps. Ignored if the schedule has an Invariant, which sees that order. See README.md.
  bool sleep_sets = true;

  // Pct only: the depth of the bugs that are looked for, 1 to 3 and more.
  int pct_depth = 3;
  // Pct only: goes on after max_schedules until Result::guaranteed is as much, 0 to 1, or max_seconds have passed.
  double pct_guarantee = 0;

  // Ends after as many seconds, unfinished; 0: never.
  double max_seconds = 0;

  // Loads may return older values. `stale_reads` bounds how often in one schedule: kUnlimited, or 2 for
  // kExhaustive, unless set.
  bool weak_memory = true;
  int stale_reads = kStrategyDefault;

  // How often in one schedule: FutexWait returns for nothing; a FutexWait ends at a deadline which has not
  // come (the clock jumps to it); a compare_exchange_weak fails for nothing; the clock jumps by `clock_jump`
  // at a MonotonicNow(); OsThread::Start returns EAGAIN.
  int spurious_wakeups = 0;
  int early_timeouts = 0;
  int weak_cas_failures = 0;
  int clock_jumps = 0;
  int64_t clock_jump = 10'000'000;
  int thread_start_failures = 0;

  ForkSide fork = ForkSide::kChild;
  bool membarrier = true;  // AsymmetricFence::IsAsymmetric()
  int usable_cpus = 2;

  // After a failure look for a simpler schedule that fails in the same way.
  bool shrink = true;
  // Explore in a forked process, so that a failure (even a crash) leaves the globals of this one alone. What
  // the body writes to variables outside of it is lost then.
  bool isolate = false;
  // Exhaustive and isolated: schedules of one process, then another one goes on with the search. For code that keeps
  // something of each schedule, such as threads that hang. 0: one process for all.
  uint64_t schedules_per_process = 0;
  // Fatal() and PYRT_CHECK fail the schedule; otherwise they end the process, after the report.
  bool catch_fatal = true;
  // Called before each schedule and before the next exploration: for globals of the code under test.
  std::function<void()> reset;

  std::string trace;               // kReplay: Result::trace
  std::string resume;              // kExhaustive: Result::rest of the same search, which goes on
  const uint8_t* bytes = nullptr;  // kBytes
  size_t bytes_size = 0;
  // Incremented by interleaving, for a coverage-guided fuzzer; a power of two many. Null for none.
  uint8_t* coverage = nullptr;
  size_t coverage_size = 0;

  static constexpr int kStrategyDefault = -2;

  static Options Random(uint64_t schedules = 10'000, uint64_t seed = 1);
  static Options Pct(int depth, uint64_t schedules = 10'000, uint64_t seed = 1);
  static Options Exhaustive(int preemption_bound = 2);  // kUnlimited: all schedules
  static Options Replay(std::string trace);
  static Options Bytes(const uint8_t* bytes, size_t size);
};

enum class Failure : uint8_t {
  kNone,
  kCheck,  // DETSCHED_CHECK, Fail
  kFatal,  // Fatal, PYRT_CHECK
  kRace,   // on a Plain, or with the construction of an Atomic
  kDeadlock,
  kLivelock,
  kInvariant,
  kException,
  kUsage,  // the test itself is wrong
  kCrash,  // the isolated process died
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched

#endif  // PYRT_TESTING_DETSCHED_OPTIONS_H_
