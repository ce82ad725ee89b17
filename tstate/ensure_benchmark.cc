// Ensure and Release, both families, from each state before. A second thread is alive and parked: with one
// thread glibc leaves the lock prefixes out.

#include <atomic>
#include <thread>

#include "benchmark/benchmark.h"

#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

TestInterpreter& Main() {
  static TestInterpreter interpreter;
  static InterpreterDirectory directory{
      &TestRegistry(), [](int64_t id) { return id == 0 ? &Main().threads.link() : nullptr; }};
  static const bool installed = [] {
    SetInterpreterDirectory(&directory);
    return true;
  }();
  static_cast<void>(installed);
  return interpreter;
}

class ParkedThread {
 public:
  ParkedThread() : thread_([this] { end_.wait(false); }) {}
  ~ParkedThread() {
    end_ = true;
    end_.notify_one();
    thread_.join();
  }

 private:
  std::atomic<bool> end_{false};
  std::thread thread_;
};

void BM_GilStateEnsureNested(benchmark::State& state) {
  const ParkedThread parked;
  TestThread thread(Main());
  for (auto _ : state) {
    const GilStateBefore before = GilStateEnsure();
    benchmark::ClobberMemory();
    GilStateRelease(before);
  }
}
BENCHMARK(BM_GilStateEnsureNested);

void BM_GilStateEnsureFromDetached(benchmark::State& state) {
  const ParkedThread parked;
  TestThread thread(Main());
  thread->Detach();
  for (auto _ : state) {
    const GilStateBefore before = GilStateEnsure();
    benchmark::ClobberMemory();
    GilStateRelease(before);
  }
  thread->Attach();
}
BENCHMARK(BM_GilStateEnsureFromDetached);

void BM_GilStateEnsureUnknownThread(benchmark::State& state) {
  const ParkedThread parked;
  Main();
  for (auto _ : state) {
    const GilStateBefore before = GilStateEnsure();
    benchmark::ClobberMemory();
    GilStateRelease(before);
  }
}
BENCHMARK(BM_GilStateEnsureUnknownThread);

void BM_EnsureAttachedNested(benchmark::State& state) {
  const ParkedThread parked;
  TestThread thread(Main());
  const InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
  for (auto _ : state) {
    const EnsureToken token = EnsureAttached(guard);
    benchmark::ClobberMemory();
    ReleaseAttached(token);
  }
}
BENCHMARK(BM_EnsureAttachedNested);

void BM_EnsureAttachedFromDetached(benchmark::State& state) {
  const ParkedThread parked;
  TestThread thread(Main());
  const InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
  thread->Detach();
  for (auto _ : state) {
    const EnsureToken token = EnsureAttached(guard);
    benchmark::ClobberMemory();
    ReleaseAttached(token);
  }
  thread->Attach();
}
BENCHMARK(BM_EnsureAttachedFromDetached);

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
