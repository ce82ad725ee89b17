// A bare Gil as a Host of bench/contention.h: no thread states, only what //gil offers a consumer.

#ifndef PYRT_BENCH_PYRT_GIL_HOST_H_
#define PYRT_BENCH_PYRT_GIL_HOST_H_

#include <cstdint>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt_bench {

class PyrtGilHost {
 public:
  void SetIntervalUs(int64_t micros) { gil_.set_interval(static_cast<uint64_t>(micros)); }
  void SetPolicy(pyrt::SwitchPolicy policy) { gil_.set_policy(policy); }

  class Thread {
   public:
    explicit Thread(PyrtGilHost& host) : gil_(host.gil_) {}
    ~Thread() { gil_.Forget(holder_); }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;

    void Attach() {
      PYRT_CHECK(gil_.Take(holder_) == pyrt::Gil::TakeResult::kTaken, "Attach", "the GIL was not taken");
    }
    void Detach() { gil_.Drop(holder_); }

    template <typename Ticker>
    void RunPolling(Ticker& ticker) {
      while (ticker.Tick()) {
        if (breaker_.load(pyrt::kRelaxed) == 0) [[likely]]
          continue;
        PYRT_CHECK(gil_.Yield(holder_) == pyrt::Gil::TakeResult::kTaken, "Yield", "the GIL was not taken");
      }
    }

   private:
    static constexpr uintptr_t kDropRequest = 1;

    pyrt::Gil& gil_;
    pyrt::Atomic<uintptr_t> breaker_{0};
    pyrt::GilHolder holder_{&breaker_, kDropRequest};
  };

 private:
  // Enabled also in the GIL-disabled build, where it starts off.
  pyrt::Gil gil_{true};
};

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_PYRT_GIL_HOST_H_
