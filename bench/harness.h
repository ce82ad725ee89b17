// What every measuring program of this folder shares: pyrt's own benchmarks, the floors, and the programs
// that measure CPython. Nothing here knows pyrt or CPython, so that the ruler is the same on both sides.

#ifndef PYRT_BENCH_HARNESS_H_
#define PYRT_BENCH_HARNESS_H_

#include <sys/resource.h>
#include <time.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"

namespace pyrt_bench {

inline constexpr int64_t kMicro = 1'000;
inline constexpr int64_t kMilli = 1'000'000;
inline constexpr int64_t kSecond = 1'000'000'000;

// CLOCK_MONOTONIC in nanoseconds; 17 ns a call where the vDSO serves it (floor BM_FloorClockGettime).
inline int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * kSecond + now.tv_nsec;
}

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

// Spins for `nanos` on the caller's CPU.
inline void BusyFor(int64_t nanos) {
  for (const int64_t until = NowNs() + nanos; NowNs() < until;) Pause();
}

// Makes the compiler compute `value` into a register here, and read memory anew afterwards.
// benchmark::DoNotOptimize lets it leave the value in memory, and a load that is to be measured then is not
// there.
template <typename T>
inline void InRegister(T value) {
  asm volatile("" : : "r"(value) : "memory");
}

// How long one benchmark of contended threads watches, in nanoseconds: PYRT_BENCH_WINDOW_MS, 100 ms when
// unset.
int64_t Window();

// Counts latencies in buckets of 1/16 octave (6 % wide) from 1 ns to half an hour: recording is a few
// instructions and no allocation, so it may run between two stamps.
class LatencyHistogram {
 public:
  void Add(int64_t nanos) {
    const uint64_t value = nanos < 0 ? 0 : static_cast<uint64_t>(nanos);
    ++buckets_[Bucket(value)];
    ++count_;
    if (value > max_) max_ = value;
  }

  void Merge(const LatencyHistogram& other);

  // Nanoseconds below which the share `quantile` (0..1) of the samples lies, interpolated within its bucket;
  // 0 without samples.
  double Quantile(double quantile) const;

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }

  // "bucket*count,bucket*count,...", non-empty buckets only; bench/report/histogram.py reads it.
  std::string Encode() const;

  static constexpr int kSubBits = 4;
  static constexpr uint64_t kSub = uint64_t{1} << kSubBits;
  static constexpr size_t kBuckets = (41 - kSubBits + 1) << kSubBits;

  static constexpr size_t Bucket(uint64_t value) {
    if (value < kSub) return static_cast<size_t>(value);
    const int octave = std::bit_width(value) - 1;
    const size_t bucket = (static_cast<size_t>(octave - kSubBits + 1) << kSubBits) |
                          ((value >> (octave - kSubBits)) & (kSub - 1));
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }
  static constexpr uint64_t LowerBound(size_t bucket) {
    if (bucket < kSub) return bucket;
    const int octave = static_cast<int>(bucket >> kSubBits) + kSubBits - 1;
    return (uint64_t{1} << octave) + ((bucket & (kSub - 1)) << (octave - kSubBits));
  }

 private:
  std::array<uint64_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

// Puts `name`_p50_ns, _p99_ns, _max_ns and _count of a distribution among the counters of a benchmark, and
// the buckets into its label when compare.py asks for them (PYRT_BENCH_HISTOGRAMS=1; unreadable on a
// terminal).
class DistributionReport {
 public:
  explicit DistributionReport(benchmark::State& state) : state_(state) {}
  ~DistributionReport();
  void Add(const std::string& name, const LatencyHistogram& histogram);

 private:
  benchmark::State& state_;
  std::string label_;
};

// Jain's fairness index of what each of n parties got: 1 when all got the same, 1/n when one got everything.
double JainIndex(const std::vector<double>& shares);

// CPU time and voluntary context switches of the process while it lives: a spinning design buys latency with
// CPU time, and the report shows the price.
class ResourceMeter {
 public:
  ResourceMeter();
  // Counters cpus_used (CPU seconds per second) and sleeps_per_op (voluntary context switches per operation).
  void Report(benchmark::State& state, double operations) const;

 private:
  rusage start_;
  int64_t start_ns_;
};

// Bytes that the process has in memory now, after what malloc keeps for later has been given back.
int64_t ResidentBytes();

// What `count` of something take of memory: make(i) makes one more. Counter bytes_each.
template <typename Make>
void MeasureMemory(benchmark::State& state, int count, Make make) {
  for (auto _ : state) {
    const int64_t begin = NowNs();
    const int64_t before = ResidentBytes();
    for (int i = 0; i < count; ++i) make(i);
    state.counters["bytes_each"] = static_cast<double>(ResidentBytes() - before) / count;
    state.SetIterationTime(static_cast<double>(NowNs() - begin) * 1e-9);
  }
}

// Visits the numbers below `size` over and over, in steps of the golden section: far apart, and no division.
class Stride {
 public:
  explicit Stride(size_t size) : size_(size), step_(static_cast<size_t>(0.618 * static_cast<double>(size))) {}
  size_t operator()() {
    at_ += step_;
    if (at_ >= size_) at_ -= size_;
    return at_;
  }

 private:
  const size_t size_;
  const size_t step_;
  size_t at_ = 0;
};

// A second thread that exists and sleeps. glibc drops the lock prefix of its mutexes while a process has only
// ever had one thread, which flatters CPython by a factor of two: every measuring program keeps one of these.
class ParkedThread {
 public:
  ParkedThread();
  ~ParkedThread();
  ParkedThread(const ParkedThread&) = delete;
  ParkedThread& operator=(const ParkedThread&) = delete;

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Keeps the calling thread on the `index`-th CPU that the process may use; false when there are fewer.
bool PinToCpu(int index);

// CPUs that the process may use.
int UsableCpuCount();

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_HARNESS_H_
