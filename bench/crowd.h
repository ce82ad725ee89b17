// One operation in a crowd, written once for whoever runs it: what it costs with many threads at it, beside many
// that sleep, and how long it takes to stop them all. Hosts are those of bench/contention.h.

#ifndef PYRT_BENCH_CROWD_H_
#define PYRT_BENCH_CROWD_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"

namespace pyrt_bench {

// `threads` threads that do nothing but one operation, for Window(). make(i), called attached on the i-th thread,
// returns the operation, which dies attached. Each is attached for 5 ms at a time, as the usual switch interval has
// it, so that the GIL's own cost stays out of the figure.
//
// Counters: ns_per_op, wall time over the operations of all threads: it halves with twice the threads up to the
// number of CPUs where nothing is shared, and stays where a GIL admits one at a time. fairness, CPU use.
template <typename Host, typename Make>
void MeasureThroughput(benchmark::State& state, Host& host, int threads, Make make) {
  constexpr int kBatch = 500;
  constexpr int64_t kTurn = 5 * kMilli;
  host.SetIntervalUs(kTurn / kMicro);
  for (auto _ : state) {
    std::vector<double> operations(static_cast<size_t>(threads));
    std::atomic<int> ready{0};
    std::atomic<int64_t> end{0};
    std::vector<std::thread> crowd;
    for (int i = 0; i < threads; ++i) {
      crowd.emplace_back([&, i] {
        typename Host::Thread self(host);
        self.Attach();
        {
          auto operation = make(i);
          self.Detach();
          ready.fetch_add(1);
          while (end.load(std::memory_order_acquire) == 0) std::this_thread::yield();
          const int64_t until = end.load(std::memory_order_relaxed);
          int64_t done = 0;
          while (NowNs() < until) {
            self.Attach();
            const int64_t turn = std::min(until, NowNs() + kTurn);
            do {
              for (int n = 0; n < kBatch; ++n) operation();
              done += kBatch;
            } while (NowNs() < turn);
            self.Detach();
          }
          operations[static_cast<size_t>(i)] = static_cast<double>(done);
          self.Attach();
        }
        self.Detach();
      });
    }
    while (ready.load() < threads) std::this_thread::yield();
    const ResourceMeter meter;
    const int64_t begin = NowNs();
    end.store(begin + Window(), std::memory_order_release);
    for (std::thread& thread : crowd) thread.join();
    const double elapsed = static_cast<double>(NowNs() - begin);
    double total = 0;
    for (const double one : operations) total += one;
    if (total == 0) {
      state.SkipWithError("no thread got a turn: the window is too short for this machine");
      return;
    }
    meter.Report(state, total);
    state.counters["ns_per_op"] = elapsed / total;
    state.counters["fairness"] = JainIndex(operations);
    state.SetIterationTime(elapsed / total * 1e-9);
  }
}

// Threads of `host` that exist, detached, and sleep: what a server's pool is most of the time.
template <typename Host>
class SleepingThreads {
 public:
  SleepingThreads(Host& host, int threads) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([&host, this] {
        typename Host::Thread self(host);
        ready_.fetch_add(1);
        ready_.notify_one();
        end_.wait(false);
      });
    }
    for (int seen; (seen = ready_.load()) < threads;) ready_.wait(seen);
  }
  // The caller is detached: each thread attaches once more to leave.
  ~SleepingThreads() {
    end_.store(true);
    end_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  SleepingThreads(const SleepingThreads&) = delete;
  SleepingThreads& operator=(const SleepingThreads&) = delete;

 private:
  std::atomic<int> ready_{0};
  std::atomic<bool> end_{false};
  std::vector<std::thread> threads_;
};

// Detach and attach with `others` further threads in the interpreter, which sleep.
template <typename Host>
void MeasureAttachBeside(benchmark::State& state, Host& host, int others) {
  const SleepingThreads<Host> sleeping(host, others);
  typename Host::Thread self(host);
  self.Attach();
  for (auto _ : state) {
    self.Detach();
    self.Attach();
  }
  self.Detach();
}

// From the call of stop() to its return, beside `busy` threads that do nothing but poll. The next stop waits until
// one of them has run again, or it would find the world as the last stop left it.
template <typename Host, typename Stop, typename Start>
void MeasureStops(benchmark::State& state, Host& host, int busy, Stop stop, Start start) {
  struct Ticker {
    const std::atomic<bool>& end;
    const std::atomic<int64_t>& round;
    std::atomic<int64_t>& ran;
    int64_t seen = -1;
    bool Tick() {
      const int64_t now = round.load(std::memory_order_relaxed);
      if (now != seen) {
        seen = now;
        ran.store(now, std::memory_order_relaxed);
      }
      return !end.load(std::memory_order_relaxed);
    }
  };
  for (auto _ : state) {
    alignas(128) std::atomic<bool> over{false};
    alignas(128) std::atomic<int64_t> round{0};
    alignas(128) std::atomic<int64_t> ran{-1};
    std::atomic<int> started{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < busy; ++i) {
      threads.emplace_back([&] {
        typename Host::Thread self(host);
        Ticker ticker{over, round, ran};
        self.Attach();
        started.fetch_add(1);
        self.RunPolling(ticker);
        self.Detach();
      });
    }
    while (started.load() < busy) std::this_thread::yield();
    LatencyHistogram latency;
    const ResourceMeter meter;
    {
      typename Host::Thread self(host);
      self.Attach();
      const int64_t end = NowNs() + Window();
      for (int64_t n = 1; NowNs() < end; ++n) {
        const int64_t begin = NowNs();
        stop();
        latency.Add(NowNs() - begin);
        round.store(n, std::memory_order_relaxed);
        start();
        // Not for ever: with more threads than CPUs the one that could run may not be given one.
        const int64_t patience = NowNs() + kMilli;
        while (ran.load(std::memory_order_relaxed) < n && NowNs() < patience) Pause();
      }
      self.Detach();
    }
    over.store(true);
    for (std::thread& thread : threads) thread.join();
    meter.Report(state, static_cast<double>(latency.count()));
    DistributionReport(state).Add("stop", latency);
    state.SetIterationTime(latency.Quantile(0.5) * 1e-9);
  }
}

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_CROWD_H_
