#include "pyrt/bench/harness.h"

#include <malloc.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace pyrt_bench {
namespace {

bool WantsHistograms() {
  static const bool wants = [] {
    const char* value = std::getenv("PYRT_BENCH_HISTOGRAMS");
    return value != nullptr && value[0] == '1';
  }();
  return wants;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// One line of context per program: the compiler that built it. compare.py copies it into its report.
const bool context_added = [] {
#if defined(__clang__)
  benchmark::AddCustomContext("compiler", "clang " __clang_version__);
#else
  benchmark::AddCustomContext("compiler", "gcc " __VERSION__);
#endif
#if defined(NDEBUG) && defined(__OPTIMIZE__)
  benchmark::AddCustomContext("optimised", "yes");
#else
  benchmark::AddCustomContext("optimised", "no");
#endif
  return true;
}();

}  // namespace

int64_t Window() {
  static const int64_t window = [] {
    const char* value = std::getenv("PYRT_BENCH_WINDOW_MS");
    const long millis = value == nullptr ? 0 : std::strtol(value, nullptr, 10);
    return (millis > 0 ? millis : 100) * kMilli;
  }();
  return window;
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

double LatencyHistogram::Quantile(double quantile) const {
  if (count_ == 0) return 0;
  const double rank = quantile * static_cast<double>(count_);
  double below = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    const double here = static_cast<double>(buckets_[i]);
    if (here > 0 && below + here >= rank) {
      const double low = static_cast<double>(LowerBound(i));
      const double high = static_cast<double>(LowerBound(i + 1));
      return std::min(low + (high - low) * (rank - below) / here, static_cast<double>(max_));
    }
    below += here;
  }
  return static_cast<double>(max_);
}

std::string LatencyHistogram::Encode() const {
  std::string text;
  for (size_t i = 0; i < kBuckets; ++i) {
    if (buckets_[i] == 0) continue;
    if (!text.empty()) text += ',';
    text += std::to_string(i) + '*' + std::to_string(buckets_[i]);
  }
  return text;
}

void DistributionReport::Add(const std::string& name, const LatencyHistogram& histogram) {
  state_.counters[name + "_p50_ns"] = histogram.Quantile(0.50);
  state_.counters[name + "_p99_ns"] = histogram.Quantile(0.99);
  state_.counters[name + "_max_ns"] = static_cast<double>(histogram.max());
  state_.counters[name + "_count"] = static_cast<double>(histogram.count());
  if (!WantsHistograms()) return;
  if (!label_.empty()) label_ += ';';
  label_ += name + '=' + histogram.Encode();
}

DistributionReport::~DistributionReport() {
  if (!label_.empty()) state_.SetLabel(label_.c_str());
}

double JainIndex(const std::vector<double>& shares) {
  double sum = 0;
  double squares = 0;
  for (const double share : shares) {
    sum += share;
    squares += share * share;
  }
  return squares == 0 ? 0 : sum * sum / (static_cast<double>(shares.size()) * squares);
}

ResourceMeter::ResourceMeter() : start_ns_(NowNs()) { ::getrusage(RUSAGE_SELF, &start_); }

void ResourceMeter::Report(benchmark::State& state, double operations) const {
  rusage end;
  ::getrusage(RUSAGE_SELF, &end);
  const double cpu =
      Seconds(end.ru_utime) + Seconds(end.ru_stime) - Seconds(start_.ru_utime) - Seconds(start_.ru_stime);
  const double wall = static_cast<double>(NowNs() - start_ns_) * 1e-9;
  state.counters["cpus_used"] = wall > 0 ? cpu / wall : 0;
  state.counters["sleeps_per_op"] =
      operations > 0 ? static_cast<double>(end.ru_nvcsw - start_.ru_nvcsw) / operations : 0;
}

int64_t ResidentBytes() {
  ::malloc_trim(0);
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  statm >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

ParkedThread::ParkedThread() : thread_([this] { stop_.wait(false); }) {}

ParkedThread::~ParkedThread() {
  stop_.store(true);
  stop_.notify_one();
  thread_.join();
}

bool PinToCpu(int index) {
  cpu_set_t usable;
  if (::sched_getaffinity(0, sizeof(usable), &usable) != 0) return false;
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable) || seen++ != index) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return ::sched_setaffinity(0, sizeof(one), &one) == 0;
  }
  return false;
}

int UsableCpuCount() {
  cpu_set_t usable;
  return ::sched_getaffinity(0, sizeof(usable), &usable) == 0 ? std::max(1, CPU_COUNT(&usable)) : 1;
}

}  // namespace pyrt_bench
