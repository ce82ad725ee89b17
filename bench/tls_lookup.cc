// Which thread am I, and is there something to do: what an interpreter asks at every call and every loop.

#include <pthread.h>

#include "benchmark/benchmark.h"

#include "pyrt/bench/harness.h"
#include "pyrt/bench/pyrt_host.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt_bench {
namespace {

const ParkedThread parked_thread;

void BM_CurrentThreadUnchecked(benchmark::State& state) {
  PyrtHost host;
  PyrtHost::Thread self(host);
  self.Attach();
  for (auto _ : state) InRegister(pyrt::ThreadState::Current());
  self.Detach();
}
BENCHMARK(BM_CurrentThreadUnchecked);

// And fatal when there is none.
void BM_CurrentThread(benchmark::State& state) {
  PyrtHost host;
  PyrtHost::Thread self(host);
  self.Attach();
  for (auto _ : state) InRegister(&pyrt::ThreadState::Get());
  self.Detach();
}
BENCHMARK(BM_CurrentThread);

void BM_PollIdle(benchmark::State& state) {
  PyrtHost host;
  PyrtHost::Thread self(host);
  self.Attach();
  pyrt::ThreadState& thread = self.state();
  InRegister(&thread);
  for (auto _ : state) {
    if (thread.Poll() != 0) [[unlikely]]
      state.SkipWithError("a poll failed");
    benchmark::ClobberMemory();
  }
  self.Detach();
}
BENCHMARK(BM_PollIdle);

// Comparators: what the usual ways to have one pointer per thread cost.
thread_local int dynamic_slot_owner = 0;
thread_local int* const dynamic_slot =
    &dynamic_slot_owner;  // initialised at run time: read through a wrapper

void BM_CurrentThreadDynamicTls(benchmark::State& state) {
  for (auto _ : state) InRegister(dynamic_slot);
}
BENCHMARK(BM_CurrentThreadDynamicTls);

void BM_CurrentThreadPthreadKey(benchmark::State& state) {
  pthread_key_t key;
  pthread_key_create(&key, nullptr);
  pthread_setspecific(key, &key);
  for (auto _ : state) InRegister(pthread_getspecific(key));
  pthread_key_delete(key);
}
BENCHMARK(BM_CurrentThreadPthreadKey);

}  // namespace
}  // namespace pyrt_bench
