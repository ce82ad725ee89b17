// pyrt as a Host of bench/contention.h: thread states on one Gil, as an interpreter has them.

#ifndef PYRT_BENCH_PYRT_HOST_H_
#define PYRT_BENCH_PYRT_HOST_H_

#include <atomic>
#include <cstdint>

#include "pyrt/bench/harness.h"
#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/qsbr.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt_bench {

// What an interpreter gives its threads, without the interpreter.
class PyrtHost {
 public:
  class Thread;

  PyrtHost() {
    link_.gil = &gil_;
    // An attached thread keeps its QSBR slot up to date in the GIL-disabled build; a figure without would
    // flatter.
    if constexpr (!pyrt::kGilEnabled) link_.qsbr = &qsbr_;
  }
  PyrtHost(const PyrtHost&) = delete;
  PyrtHost& operator=(const PyrtHost&) = delete;

  void SetIntervalUs(int64_t micros) { gil_.set_interval(static_cast<uint64_t>(micros)); }
  void SetPolicy(pyrt::SwitchPolicy policy) { gil_.set_policy(policy); }
  pyrt::Gil& gil() { return gil_; }

 private:
  pyrt::Gil gil_;
  pyrt::Qsbr qsbr_;
  pyrt::InterpreterLink link_;
  std::atomic<uint64_t> last_id_{0};
};

class PyrtHost::Thread {
 public:
  explicit Thread(PyrtHost& host)
      : state_(host.link_, pyrt::Whence::kUnknown, host.last_id_.fetch_add(1) + 1,
               host.link_.qsbr == nullptr ? nullptr : host.link_.qsbr->Reserve()) {
    state_.Bind();
  }
  ~Thread() { state_.UnbindGilState(); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  void Attach() { state_.Attach(); }
  void Detach() { state_.Detach(); }

  template <typename Ticker>
  void RunPolling(Ticker& ticker) {
    while (ticker.Tick()) {
      PYRT_CHECK(state_.Poll() == 0, "RunPolling", "a poll failed, and nobody has asked it to");
    }
  }

  pyrt::ThreadState& state() { return state_; }

 private:
  pyrt::ThreadState state_;
};

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_PYRT_HOST_H_
