// What this machine charges for the pieces that every design is made of. Latencies drift with the hour and
// with the neighbours of a virtual machine; a figure means something next to the floor of the same run.

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"

namespace pyrt_bench {

// External, so that the compiler must believe that anybody may write it.
__attribute__((tls_model("initial-exec"))) constinit thread_local void* floor_tls_pointer = nullptr;

namespace {

const ParkedThread parked_thread;

void BM_FloorEmptyLoop(benchmark::State& state) {
  for (auto _ : state) std::atomic_signal_fence(std::memory_order_seq_cst);
}
BENCHMARK(BM_FloorEmptyLoop);

// One load and one branch on a word that never changes: what a poll with nothing pending costs at best.
void BM_FloorLoadBranch(benchmark::State& state) {
  std::atomic<uintptr_t> word{0};
  benchmark::DoNotOptimize(&word);
  for (auto _ : state) {
    if (word.load(std::memory_order_relaxed) != 0) state.SkipWithError("nobody writes the word");
  }
}
BENCHMARK(BM_FloorLoadBranch);

void BM_FloorTlsLoad(benchmark::State& state) {
  floor_tls_pointer = &state;
  for (auto _ : state) InRegister(floor_tls_pointer);
}
BENCHMARK(BM_FloorTlsLoad);

void BM_FloorCasStore(benchmark::State& state) {
  alignas(128) std::atomic<uint32_t> word{0};
  for (auto _ : state) {
    uint32_t expected = 0;
    word.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed);
    word.store(0, std::memory_order_release);
  }
}
BENCHMARK(BM_FloorCasStore);

void BM_FloorCasXchg(benchmark::State& state) {
  alignas(128) std::atomic<uint32_t> word{0};
  for (auto _ : state) {
    uint32_t expected = 0;
    word.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed);
    benchmark::DoNotOptimize(word.exchange(0, std::memory_order_release));
  }
}
BENCHMARK(BM_FloorCasXchg);

void BM_FloorMutexPair(benchmark::State& state) {
  std::mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    mutex.unlock();
  }
}
BENCHMARK(BM_FloorMutexPair);

void BM_FloorClockGettime(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(NowNs());
}
BENCHMARK(BM_FloorClockGettime);

// One way of a cache line between two spinning threads, each on its own CPU.
void BM_FloorLinePingPong(benchmark::State& state) {
  if (UsableCpuCount() < 2) {
    state.SkipWithError("needs 2 CPUs");
    return;
  }
  alignas(128) std::atomic<uint64_t> ball{0};  // even: with us; the last value ends the game
  constexpr uint64_t kOver = ~uint64_t{0};
  std::thread partner([&ball] {
    PinToCpu(1);
    for (uint64_t turn = 1;; turn += 2) {
      uint64_t seen;
      while ((seen = ball.load(std::memory_order_acquire)) != turn && seen != kOver) Pause();
      if (seen == kOver) return;
      ball.store(turn + 1, std::memory_order_release);
    }
  });
  std::thread us([&] {
    PinToCpu(0);
    LatencyHistogram one_way;
    uint64_t turn = 0;
    for (const int64_t end = NowNs() + Window(); NowNs() < end;) {
      const int64_t begin = NowNs();
      constexpr int kRounds = 16;
      for (int i = 0; i < kRounds; ++i) {
        ball.store(turn + 1, std::memory_order_release);
        turn += 2;
        while (ball.load(std::memory_order_acquire) != turn) Pause();
      }
      one_way.Add((NowNs() - begin) / (2 * kRounds));
    }
    ball.store(kOver, std::memory_order_release);
    for (auto _ : state) state.SetIterationTime(one_way.Quantile(0.5) * 1e-9);
    DistributionReport(state).Add("latency", one_way);
  });
  us.join();
  partner.join();
}
BENCHMARK(BM_FloorLinePingPong)->Iterations(1)->UseManualTime();

long Futex(std::atomic<uint32_t>* word, int operation, uint32_t value) {
  return ::syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

// From just before FUTEX_WAKE to the sleeper running, on the waker's CPU or on another that has gone idle.
void BM_FloorFutexWake(benchmark::State& state) {
  const bool same_cpu = state.range(0) != 0;
  if (!same_cpu && UsableCpuCount() < 2) {
    state.SkipWithError("needs 2 CPUs");
    return;
  }
  alignas(128) std::atomic<uint32_t> word{0};  // odd: the sleeper may run
  alignas(128) std::atomic<int64_t> woken_at{0};
  constexpr uint32_t kOver = ~uint32_t{0};
  std::thread sleeper([&] {
    PinToCpu(same_cpu ? 0 : 1);
    for (uint32_t asleep = 0;;) {
      while (word.load(std::memory_order_acquire) == asleep) Futex(&word, FUTEX_WAIT, asleep);
      woken_at.store(NowNs(), std::memory_order_release);
      const uint32_t now = word.load(std::memory_order_acquire);
      if (now == kOver) return;
      asleep = now;
    }
  });
  std::thread waker([&] {
    PinToCpu(0);
    LatencyHistogram wake;
    LatencyHistogram waker_pays;
    uint32_t turn = 0;
    for (const int64_t end = NowNs() + Window(); NowNs() < end;) {
      // Long enough for the sleeper to be asleep and its CPU to be idle.
      const timespec pause{0, 60 * kMicro};
      ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      if (!same_cpu) BusyFor(20 * kMicro);
      woken_at.store(0, std::memory_order_relaxed);
      const int64_t begin = NowNs();
      word.store(++turn, std::memory_order_release);
      Futex(&word, FUTEX_WAKE, 1);
      waker_pays.Add(NowNs() - begin);
      int64_t woken;
      while ((woken = woken_at.load(std::memory_order_acquire)) == 0) {
        if (same_cpu) {
          std::this_thread::yield();
        } else {
          Pause();
        }
      }
      wake.Add(woken - begin);
    }
    word.store(kOver, std::memory_order_release);
    Futex(&word, FUTEX_WAKE, 1);
    for (auto _ : state) state.SetIterationTime(wake.Quantile(0.5) * 1e-9);
    DistributionReport report(state);
    report.Add("latency", wake);
    report.Add("waker", waker_pays);
  });
  waker.join();
  sleeper.join();
}
BENCHMARK(BM_FloorFutexWake)->ArgName("same_cpu")->Arg(1)->Arg(0)->Iterations(1)->UseManualTime();

// membarrier(PRIVATE_EXPEDITED), with the process alone or with another of its threads on a CPU: the price of
// the slow side of an asymmetric fence.
void BM_FloorMembarrier(benchmark::State& state) {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0) {
    state.SkipWithError("membarrier(PRIVATE_EXPEDITED) is not available");
    return;
  }
  std::atomic<bool> stop{false};
  std::atomic<bool> running{false};
  std::thread busy;
  if (state.range(0) != 0) {
    busy = std::thread([&] {
      while (!stop.load(std::memory_order_relaxed)) running.store(true, std::memory_order_relaxed);
    });
    while (!running.load()) std::this_thread::yield();
  }
  LatencyHistogram cost;
  for (const int64_t end = NowNs() + Window() / 2; NowNs() < end;) {
    const int64_t begin = NowNs();
    ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    cost.Add(NowNs() - begin);
  }
  stop.store(true);
  if (busy.joinable()) busy.join();
  for (auto _ : state) state.SetIterationTime(cost.Quantile(0.5) * 1e-9);
  DistributionReport(state).Add("latency", cost);
}
BENCHMARK(BM_FloorMembarrier)->ArgName("busy")->Arg(0)->Arg(1)->Iterations(1)->UseManualTime();

// The least that a stop of running threads can be: each sees one word, counts itself and goes to sleep, while whoever
// waits for them gives its CPU away. Where CPUs are short each of them has to be given one first.
class SleepingCrowd {
 public:
  class Thread {
   public:
    explicit Thread(SleepingCrowd& crowd) : crowd_(crowd) {}
    void Attach() {}
    void Detach() {}
    template <typename Ticker>
    void RunPolling(Ticker& ticker) {
      while (ticker.Tick()) {
        const uint32_t round = crowd_.round_.load(std::memory_order_acquire);
        if (round % 2 == 0) continue;
        crowd_.asleep_.fetch_add(1, std::memory_order_release);
        while (crowd_.round_.load(std::memory_order_acquire) == round)
          Futex(&crowd_.round_, FUTEX_WAIT, round);
      }
    }

   private:
    SleepingCrowd& crowd_;
  };

  explicit SleepingCrowd(int size) : size_(size) {}

  void Stop() {
    asleep_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    while (asleep_.load(std::memory_order_acquire) < size_) {
      if (size_ < UsableCpuCount()) {
        Pause();
      } else {
        std::this_thread::yield();
      }
    }
  }
  void Start() {
    round_.fetch_add(1, std::memory_order_release);
    Futex(&round_, FUTEX_WAKE, static_cast<uint32_t>(size_));
  }

 private:
  const int size_;
  alignas(128) std::atomic<uint32_t> round_{0};  // odd: sleep
  alignas(128) std::atomic<int> asleep_{0};
};

void BM_FloorSleepAll(benchmark::State& state) {
  const int busy = static_cast<int>(state.range(0));
  SleepingCrowd crowd(busy);
  MeasureStops(
      state, crowd, busy, [&crowd] { crowd.Stop(); }, [&crowd] { crowd.Start(); });
}
BENCHMARK(BM_FloorSleepAll)->Apply(StopCases);

}  // namespace
}  // namespace pyrt_bench
