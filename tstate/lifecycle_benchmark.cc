// Birth and death of a thread state: new, bind, clear, delete.

#include <atomic>
#include <thread>

#include "benchmark/benchmark.h"

#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

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

// Beside `others` further states in the interpreter.
void BM_ThreadStateNewClearDelete(benchmark::State& state) {
  const ParkedThread parked;
  TestInterpreter interpreter;
  TestThread self(interpreter);
  for (int64_t i = 0; i < state.range(0); ++i) interpreter.threads.New(Whence::kThreading);
  for (auto _ : state) {
    ThreadState* const thread = interpreter.threads.NewBound();
    InterpreterThreads::Clear(*thread);
    InterpreterThreads::Delete(thread);
  }
  InterpreterThreads::DeleteRemoved(interpreter.threads.RemoveAllExcept(&*self), /*threads_are_gone=*/true);
}
BENCHMARK(BM_ThreadStateNewClearDelete)->ArgName("others")->Arg(0)->Arg(64)->Arg(1024);

void BM_ThreadStateNewAttachClearDeleteCurrent(benchmark::State& state) {
  const ParkedThread parked;
  TestInterpreter interpreter;
  for (auto _ : state) TestThread thread(interpreter);
}
BENCHMARK(BM_ThreadStateNewAttachClearDeleteCurrent);

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
