// Birth and death: of thread states, and of interpreters; and what more of either costs the others.

#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"

#include "pyrt/bench/cases.h"
#include "pyrt/bench/crowd.h"
#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt_bench {
namespace {

using pyrt::InterpreterThreads;

const ParkedThread parked_thread;

void NewClearDelete(benchmark::State& state, PyrtHost& host) {
  for (auto _ : state) {
    pyrt::ThreadState* const thread = host.threads().NewBound();
    InterpreterThreads::Clear(*thread);
    InterpreterThreads::Delete(thread);
  }
}

void BM_ThreadStateNewDelete(benchmark::State& state) {
  PyrtHost host;
  const AttachedThread self(host);
  NewClearDelete(state, host);
}
BENCHMARK(BM_ThreadStateNewDelete);

// Beside `others` further states on the interpreter's list.
void BM_ThreadStateNewDeleteBeside(benchmark::State& state) {
  PyrtHost host;
  AttachedThread self(host);
  std::vector<pyrt::ThreadState*> others;
  for (int64_t i = 0; i < state.range(0); ++i) others.push_back(host.threads().New(pyrt::Whence::kThreading));
  NewClearDelete(state, host);
  for (pyrt::ThreadState* const other : others) {
    InterpreterThreads::Clear(*other);
    InterpreterThreads::Delete(other);
  }
}
BENCHMARK(BM_ThreadStateNewDeleteBeside)->ArgName("others")->Arg(1)->Arg(16)->Arg(256)->Arg(1024);

// What starting and ending a thread adds to the operating system's price.
void BM_ThreadStateNewAttachDelete(benchmark::State& state) {
  PyrtHost host;
  for (auto _ : state) PyrtHost::Thread thread(host);
}
BENCHMARK(BM_ThreadStateNewAttachDelete);

void BM_DetachAttachBeside(benchmark::State& state) {
  PyrtHost host;
  MeasureAttachBeside(state, host, static_cast<int>(state.range(0)));
}
BENCHMARK(BM_DetachAttachBeside)->Apply(SleepersTo256);

// --- Interpreters

// A main interpreter, the calling thread attached to it, and `others` subinterpreters with a GIL of their own.
class Interpreters {
 public:
  explicit Interpreters(int64_t others) {
    registry_.Enable();
    main_ = *registry_.New(nullptr, pyrt::InterpreterConfig::Main(), pyrt::InterpreterWhence::kRuntime);
    thread_ = main_->threads().NewBound(pyrt::Whence::kInit);
    thread_->Attach();
    registry_.SetMainThreadState(thread_);
    for (int64_t i = 0; i < others; ++i) others_.push_back(New());
  }
  ~Interpreters() {
    for (pyrt::Interpreter* const other : others_) End(other);
    main_->Clear(*thread_);
    registry_.Delete(main_);
  }
  Interpreters(const Interpreters&) = delete;
  Interpreters& operator=(const Interpreters&) = delete;

  pyrt::Interpreter* New() {
    auto made = registry_.New(thread_, pyrt::InterpreterConfig::Isolated(), pyrt::InterpreterWhence::kCApi);
    PYRT_CHECK(made.ok(), "Interpreters", "no new interpreter");
    return *made;
  }
  void End(pyrt::Interpreter* interpreter) {
    pyrt::ThreadState* const end = interpreter->threads().NewBound(pyrt::Whence::kFini);
    pyrt::ThreadState::Swap(end);
    interpreter->Clear(*end);
    registry_.Delete(interpreter);
    thread_->Attach();
  }
  pyrt::InterpreterRegistry& registry() { return registry_; }

 private:
  pyrt::InterpreterRegistry registry_;
  pyrt::Interpreter* main_ = nullptr;
  pyrt::ThreadState* thread_ = nullptr;
  std::vector<pyrt::Interpreter*> others_;
};

void BM_InterpreterNewEnd(benchmark::State& state) {
  Interpreters interpreters(state.range(0));
  for (auto _ : state) interpreters.End(interpreters.New());
}
BENCHMARK(BM_InterpreterNewEnd)->Apply(InterpretersTo1000);

// By id, the one in the middle of the list.
void BM_InterpreterLookUp(benchmark::State& state) {
  Interpreters interpreters(state.range(0));
  const int64_t id = state.range(0) / 2;
  for (auto _ : state) InRegister(interpreters.registry().Find(id));
}
BENCHMARK(BM_InterpreterLookUp)->Apply(InterpretersTo1000);

}  // namespace
}  // namespace pyrt_bench
