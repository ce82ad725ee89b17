// The three measurements of threads that contend for a GIL, written once for whoever owns the GIL.
//
// A Host is pyrt or an embedded CPython. It provides
//
//   void SetIntervalUs(int64_t)          the switch interval
//   class Host::Thread                   made on the OS thread that uses it; starts detached
//     Thread(Host&)
//     void Attach(), Detach()            wait for the GIL and take it; give it up
//     void RunPolling(Ticker& ticker)    called attached: while (ticker.Tick()) { one safe point }
//
// In a build without a GIL, Attach and Detach are what a blocking call does there.

#ifndef PYRT_BENCH_CONTENTION_H_
#define PYRT_BENCH_CONTENTION_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"

namespace pyrt_bench {

// Who ran when, told by the holder itself at each of its polls. Guarded by the GIL under test: two threads
// inside at once would corrupt it, so a wrong result shows as nonsense rather than as speed.
class SwitchLog {
 public:
  explicit SwitchLog(int threads) : held_(static_cast<size_t>(threads)) {}

  void Stamp(int thread, int64_t now) {
    if (thread != running_) {
      if (running_ >= 0) {
        gap_.Add(now - last_stamp_);
        period_.Add(now - began_);
        held_[static_cast<size_t>(running_)] += static_cast<double>(last_stamp_ - began_);
      }
      running_ = thread;
      began_ = now;
    }
    last_stamp_ = now;
  }

  // From the last poll of one thread to the first of the next: the time in which nobody ran.
  const LatencyHistogram& gap() const { return gap_; }
  // From one switch to the next.
  const LatencyHistogram& period() const { return period_; }
  const std::vector<double>& held() const { return held_; }

 private:
  int running_ = -1;
  int64_t began_ = 0;
  int64_t last_stamp_ = 0;
  LatencyHistogram gap_;
  LatencyHistogram period_;
  std::vector<double> held_;
};

// `threads` threads that do nothing but poll, for Window(): the forced switch.
// Counters: period_*, gap_*, switches_per_s, fairness (Jain, of the time that each thread held the GIL), CPU
// use.
template <typename Host>
void MeasureForcedSwitches(benchmark::State& state, Host& host, int threads, int64_t interval_us) {
  struct Ticker {
    SwitchLog& log;
    const int thread;
    const int64_t end;
    bool Tick() {
      const int64_t now = NowNs();
      log.Stamp(thread, now);
      return now < end;
    }
  };
  host.SetIntervalUs(interval_us);
  for (auto _ : state) {
    SwitchLog log(threads);
    std::atomic<int> ready{0};
    const ResourceMeter meter;
    const int64_t begin = NowNs();
    std::vector<std::thread> pollers;
    for (int i = 0; i < threads; ++i) {
      pollers.emplace_back([&, i] {
        typename Host::Thread self(host);
        ready.fetch_add(1);
        while (ready.load() < threads) std::this_thread::yield();
        Ticker ticker{log, i, begin + Window()};
        self.Attach();
        self.RunPolling(ticker);
        self.Detach();
      });
    }
    for (std::thread& poller : pollers) poller.join();
    const double switches = static_cast<double>(log.period().count());
    const double seconds = static_cast<double>(NowNs() - begin) * 1e-9;
    meter.Report(state, switches);
    DistributionReport report(state);
    report.Add("period", log.period());
    report.Add("gap", log.gap());
    state.counters["switches_per_s"] = switches / seconds;
    state.counters["fairness"] = JainIndex(log.held());
    state.SetIterationTime(log.period().Quantile(0.5) * 1e-9);
  }
}

// One thread holds, one waits: from just before the holder's Detach to the return of the waiter's Attach.
//
// The waiter has been waiting for `hold_us` when the GIL comes free. Below the interval it sleeps, having asked for
// nothing; a little above (`asked`), it has asked for a drop, and a design whose waiters spin after asking (pyrt's)
// spins. The two threads are kept on two CPUs: on one, nobody spins and a wake-up costs nothing.
template <typename Host>
void MeasureGrant(benchmark::State& state, Host& host, bool asked) {
  if (UsableCpuCount() < 2) {
    state.SkipWithError("needs 2 CPUs");
    return;
  }
  const int64_t hold_us = asked ? 4 : 200;
  host.SetIntervalUs(asked ? 1 : 100'000);
  for (auto _ : state) {
    std::atomic<int64_t> round{0};      // the holder starts round n; negative: the end
    std::atomic<int64_t> entering{-1};  // the waiter is about to wait in round n; 0: it is set up
    std::atomic<int64_t> done{0};       // the waiter has had the GIL in round n and given it back
    int64_t dropped_at = 0;             // guarded by the GIL
    LatencyHistogram grant;
    const ResourceMeter meter;
    std::thread waiter([&] {
      PinToCpu(1);
      typename Host::Thread self(host);
      entering.store(0, std::memory_order_release);
      for (int64_t n = 1;; ++n) {
        int64_t seen;
        while ((seen = round.load(std::memory_order_acquire)) < n && seen >= 0) Pause();
        if (seen < 0) return;
        entering.store(n, std::memory_order_release);
        self.Attach();
        grant.Add(NowNs() - dropped_at);
        self.Detach();
        done.store(n, std::memory_order_release);
      }
    });
    std::thread holder([&] {
      PinToCpu(0);
      typename Host::Thread self(host);
      while (entering.load(std::memory_order_acquire) < 0) Pause();
      const int64_t end = NowNs() + Window();
      for (int64_t n = 1; NowNs() < end; ++n) {
        self.Attach();
        round.store(n, std::memory_order_release);
        while (entering.load(std::memory_order_acquire) < n) Pause();
        BusyFor(hold_us * kMicro);
        dropped_at = NowNs();
        self.Detach();
        while (done.load(std::memory_order_acquire) < n) Pause();
      }
      round.store(-1, std::memory_order_release);
    });
    holder.join();
    waiter.join();
    meter.Report(state, static_cast<double>(grant.count()));
    DistributionReport report(state);
    report.Add("grant", grant);
    state.SetIterationTime(grant.Quantile(0.5) * 1e-9);
  }
}

// An I/O thread that sleeps 1 ms detached and then wants back, beside `busy` threads that only poll.
//
// Four phases, without and with the I/O thread in turn; `kept` is the busy threads' rate with it over their
// rate without. A design that serves the I/O thread by stopping everybody else shows it there.
template <typename Host>
void MeasureReattach(benchmark::State& state, Host& host, int busy, int64_t interval_us) {
  constexpr int kPhases = 4;
  constexpr int64_t kSleep = kMilli;
  constexpr int64_t kWork = 1 * kMicro;
  struct alignas(128) Counter {
    std::atomic<int64_t> turns{0};
  };
  struct Ticker {
    Counter& counter;
    const std::atomic<bool>& stop;
    bool Tick() {
      counter.turns.store(counter.turns.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return !stop.load(std::memory_order_relaxed);
    }
  };
  host.SetIntervalUs(interval_us);
  for (auto _ : state) {
    const auto counters = std::make_unique<Counter[]>(static_cast<size_t>(busy));
    std::atomic<bool> stop{false};
    std::atomic<int> started{0};
    std::vector<std::thread> threads;
    const ResourceMeter meter;
    for (int i = 0; i < busy; ++i) {
      threads.emplace_back([&, i] {
        typename Host::Thread self(host);
        Ticker ticker{counters[static_cast<size_t>(i)], stop};
        self.Attach();
        started.fetch_add(1);
        self.RunPolling(ticker);
        self.Detach();
      });
    }
    while (started.load() < busy) std::this_thread::yield();

    const auto turns = [&] {
      int64_t sum = 0;
      for (int i = 0; i < busy; ++i) {
        sum += counters[static_cast<size_t>(i)].turns.load(std::memory_order_relaxed);
      }
      return static_cast<double>(sum);
    };
    LatencyHistogram latency;
    double rate[2] = {0, 0};
    typename Host::Thread self(host);
    for (int phase = 0; phase < kPhases; ++phase) {
      const bool with_io = phase % 2 == 1;
      const double turns_before = turns();
      const int64_t begin = NowNs();
      const int64_t end = begin + 2 * Window() / kPhases;
      while (NowNs() < end) {
        const timespec sleep{0, kSleep};
        ::clock_nanosleep(CLOCK_MONOTONIC, 0, &sleep, nullptr);
        if (!with_io) continue;
        const int64_t asked = NowNs();
        self.Attach();
        latency.Add(NowNs() - asked);
        BusyFor(kWork);
        self.Detach();
      }
      rate[with_io] += (turns() - turns_before) / static_cast<double>(NowNs() - begin);
    }
    stop.store(true);
    for (std::thread& thread : threads) thread.join();

    meter.Report(state, static_cast<double>(latency.count()));
    DistributionReport report(state);
    report.Add("reattach", latency);
    std::vector<double> shares;
    for (int i = 0; i < busy; ++i) {
      shares.push_back(static_cast<double>(counters[static_cast<size_t>(i)].turns.load()));
    }
    state.counters["kept"] = rate[0] > 0 ? rate[1] / rate[0] : 0;
    state.counters["fairness"] = JainIndex(shares);
    state.SetIterationTime(latency.Quantile(0.5) * 1e-9);
  }
}

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_CONTENTION_H_
