// pyrt as a Host of bench/contention.h and bench/crowd.h: an interpreter's threads on one Gil.

#ifndef PYRT_BENCH_PYRT_HOST_H_
#define PYRT_BENCH_PYRT_HOST_H_

#include <cstdint>

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/finalization_guards.h"
#include "pyrt/tstate/interpreter_link.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt_bench {

// What an interpreter gives its threads, without the interpreter: the list, the GIL, QSBR, stops, guards. In the
// GIL-disabled build an attached thread keeps its QSBR slot up to date; a figure without would flatter.
class PyrtHost {
 public:
  class Thread;

  PyrtHost()
      : threads_(
            {.registry = &registry_, .gil = &gil_, .interp = reinterpret_cast<pyrt::Interpreter*>(this)}) {
    threads_.link().guards = &guards_;
  }
  PyrtHost(const PyrtHost&) = delete;
  PyrtHost& operator=(const PyrtHost&) = delete;

  void SetIntervalUs(int64_t micros) { gil_.set_interval(static_cast<uint64_t>(micros)); }
  void SetPolicy(pyrt::SwitchPolicy policy) { gil_.set_policy(policy); }
  pyrt::Gil& gil() { return gil_; }
  pyrt::ThreadRegistry& registry() { return registry_; }
  pyrt::InterpreterThreads& threads() { return threads_; }

 private:
  pyrt::ThreadRegistry registry_;
  pyrt::Gil gil_;
  pyrt::FinalizationGuards guards_;
  pyrt::InterpreterThreads threads_;
};

// A state bound to the calling OS thread; detached when it is made, and when it dies.
class PyrtHost::Thread {
 public:
  explicit Thread(PyrtHost& host) : state_(host.threads_.NewBound()) {
    PYRT_CHECK(state_ != nullptr, "PyrtHost::Thread", "memory is short");
  }
  ~Thread() {
    state_->Attach();
    pyrt::InterpreterThreads::Clear(*state_);
    pyrt::InterpreterThreads::DeleteCurrent();
  }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  void Attach() { state_->Attach(); }
  void Detach() { state_->Detach(); }

  template <typename Ticker>
  void RunPolling(Ticker& ticker) {
    pyrt::ThreadState& state = *state_;
    while (ticker.Tick()) {
      PYRT_CHECK(state.Poll() == 0, "RunPolling", "a poll failed, and nobody has asked it to");
    }
  }

  pyrt::ThreadState& state() { return *state_; }

 private:
  pyrt::ThreadState* const state_;
};

// Attached for a scope, for a benchmark of one thread.
class AttachedThread {
 public:
  explicit AttachedThread(PyrtHost& host) : thread_(host) { thread_.Attach(); }
  ~AttachedThread() { thread_.Detach(); }
  pyrt::ThreadState& state() { return thread_.state(); }

 private:
  PyrtHost::Thread thread_;
};

}  // namespace pyrt_bench

#endif  // PYRT_BENCH_PYRT_HOST_H_
