// The cases that both sides of a comparison run: for Benchmark::Apply.

#ifndef PYRT_BENCH_CASES_H_
#define PYRT_BENCH_CASES_H_

#include "benchmark/benchmark.h"

namespace pyrt_bench {

using BenchmarkCases = benchmark::internal::Benchmark;

// Runs once, watches threads for Window(), and sets the time itself. compare knows such a benchmark by this.
inline void Watched(BenchmarkCases* cases) { cases->Iterations(1)->UseManualTime(); }

inline void ForcedSwitchCases(BenchmarkCases* cases) {
  Watched(cases->ArgNames({"pollers", "interval_us"})->ArgsProduct({{2, 4, 8}, {1, 50, 5000}}));
}

// asked:1, the waiter has asked for a drop; asked:0, it sleeps until the interval is over.
inline void GrantCases(BenchmarkCases* cases) { Watched(cases->ArgName("asked")->Arg(0)->Arg(1)); }

inline void StopCases(BenchmarkCases* cases) {
  Watched(cases->ArgName("busy")->RangeMultiplier(2)->Range(1, 16));
}

inline void ThreadsTo16(BenchmarkCases* cases) {
  Watched(cases->ArgName("threads")->RangeMultiplier(2)->Range(1, 16));
}

inline void ThreadsTo64(BenchmarkCases* cases) {
  Watched(cases->ArgName("threads")->RangeMultiplier(2)->Range(1, 64));
}

// own:1, each thread its module; own:0, all the same one, whose lock or reference count they share.
inline void ModulesOfThreadsTo64(BenchmarkCases* cases) {
  Watched(cases->ArgNames({"own", "threads"})->ArgsProduct({{0, 1}, {1, 2, 4, 8, 16, 32, 64}}));
}

inline void SleepersTo256(BenchmarkCases* cases) {
  cases->ArgName("threads")->RangeMultiplier(4)->Range(1, 256);
}

inline void InterpretersTo1000(BenchmarkCases* cases) {
  cases->ArgName("interpreters")->RangeMultiplier(10)->Range(1, 1000);
}

inline void ModulesTo100000(BenchmarkCases* cases) {
  cases->ArgName("modules")->RangeMultiplier(10)->Range(1, 100'000);
}

inline void HooksTo16(BenchmarkCases* cases) {
  cases->ArgName("hooks")->Arg(0)->Arg(1)->Arg(2)->Arg(4)->Arg(8)->Arg(16);
}

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_CASES_H_
