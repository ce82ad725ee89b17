// What the tests of tstate have in common: an interpreter without an interpreter, and threads in it.

#ifndef PYRT_TSTATE_TSTATE_TEST_UTIL_H_
#define PYRT_TSTATE_TSTATE_TEST_UTIL_H_

#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "pyrt/gil/gil.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// The registry of the whole test program: memory of thread states goes back to the process.
inline ThreadRegistry& TestRegistry() {
  static constinit ThreadRegistry registry;
  return registry;
}

struct TestInterpreter {
  explicit TestInterpreter(ThreadRegistry& registry = TestRegistry(), int64_t id = 0)
      : threads({.registry = &registry, .gil = &gil, .interp = reinterpret_cast<Interpreter*>(this)}) {
    threads.link().id = id;
    threads.link().guards = &guards;
  }

  Gil gil;
  FinalizationGuards guards;
  InterpreterThreads threads;
};

// A new state, attached to this thread; cleared and deleted at the end of the scope.
class TestThread {
 public:
  explicit TestThread(TestInterpreter& interpreter) : thread_(interpreter.threads.NewBound()) {
    thread_->Attach();
  }
  ~TestThread() {
    InterpreterThreads::Clear(*thread_);
    InterpreterThreads::DeleteCurrent();
  }
  TestThread(const TestThread&) = delete;
  TestThread& operator=(const TestThread&) = delete;
  ThreadState& operator*() const { return *thread_; }
  ThreadState* operator->() const { return thread_; }

 private:
  ThreadState* const thread_;
};

// Waits until `condition` holds; false if it has not after ten seconds.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_TSTATE_TEST_UTIL_H_
