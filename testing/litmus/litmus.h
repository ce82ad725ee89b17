// Litmus tests on real CPUs: two threads run once, at the same moment, over each of millions of fresh states,
// and every outcome is counted. What may not happen must be absent; that the harness could have seen it, the
// controls in litmus_test.cc show.
//
// A state is two or more Atomics on their own cache lines and what each thread saw. The threads meet at each
// state: neither runs ahead, and a few random pauses move them against each other.

#ifndef PYRT_TESTING_LITMUS_LITMUS_H_
#define PYRT_TESTING_LITMUS_LITMUS_H_

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT::litmus {

struct Outcomes {
  uint64_t states = 0;
  uint64_t required = 1;  // of them; see Required()
  std::map<std::string, uint64_t> histogram;
  uint64_t operator[](const std::string& outcome) const {
    const auto found = histogram.find(outcome);
    return found == histogram.end() ? 0 : found->second;
  }
  std::string ToString() const {
    std::string text = std::to_string(states) + " states";
    for (const auto& [outcome, count] : histogram) text += "\n  " + outcome + ": " + std::to_string(count);
    return text;
  }
};

// PYRT_LITMUS_SECONDS: how long each test runs; 0.3 unless set.
inline std::chrono::duration<double> Budget() {
  const char* const seconds = std::getenv("PYRT_LITMUS_SECONDS");
  return std::chrono::duration<double>(seconds == nullptr ? 0.3 : std::atof(seconds));
}

// How many states a campaign must have seen: `per_second` for each of its seconds. A run without PYRT_LITMUS_SECONDS is one
// of a few tenths of a second on a machine that may have other things to do: one is enough.
inline uint64_t Required(double per_second) {
  if (std::getenv("PYRT_LITMUS_SECONDS") == nullptr) return 1;
  return static_cast<uint64_t>(per_second * Budget().count());
}

// The CPUs that this thread may run on.
inline std::vector<int> Cpus() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

inline void PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // Refused in some containers: the threads then run wherever they like, which loses only speed.
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

// Meets the other thread at state `index`; the partner may be off its CPU, so it does not spin for ever.
class Meeting {
 public:
  void Meet(int self, uint64_t index) {
    position_[self].value.store(index, std::memory_order_release);
    for (int spins = 0; position_[1 - self].value.load(std::memory_order_acquire) < index; ++spins) {
      if (spins > 2000) std::this_thread::yield();
    }
  }

 private:
  struct alignas(128) Position {
    std::atomic<uint64_t> value{0};
  };
  Position position_[2];
};

// `first` and `second` run on kRound fresh states, one after the other, `judge` names its outcome afterwards. At least one round;
// goes on beyond the budget, for up to half a minute, until `enough` and, in a campaign, `per_second` states for each of
// its seconds.
template <typename State, uint64_t kRound = 2048, typename First, typename Second, typename Judge,
          typename Enough>
Outcomes Run(First first, Second second, Judge judge, Enough enough, double per_second) {
  const auto states = std::make_unique<State[]>(kRound);
  const std::vector<int> cpus = Cpus();
  const auto started = std::chrono::steady_clock::now();
  Outcomes outcomes;
  outcomes.required = Required(per_second);
  Meeting meeting;
  std::atomic<bool> more{true};
  const auto play = [&](int self, auto& role) {
    if (cpus.size() > 1) PinTo(cpus[self]);
    uint64_t index = 0;
    uint32_t random = 2463534242u + static_cast<uint32_t>(self);
    while (more.load(std::memory_order_acquire)) {
      for (uint64_t i = 0; i < kRound; ++i) {
        meeting.Meet(self, ++index);
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        for (uint32_t pauses = random % 64; pauses > 32; --pauses)
          std::atomic_signal_fence(std::memory_order_seq_cst);
        role(states[i]);
      }
      meeting.Meet(self, ++index);
      if (self == 0) {
        for (uint64_t i = 0; i < kRound; ++i) {
          ++outcomes.histogram[judge(states[i])];
          states[i].~State();
          new (&states[i]) State();
        }
        outcomes.states += kRound;
        const auto elapsed = std::chrono::steady_clock::now() - started;
        const bool satisfied = outcomes.states >= outcomes.required && enough(outcomes);
        const bool done = elapsed > Budget() && (satisfied || elapsed > Budget() + std::chrono::seconds(30));
        if (done) more.store(false, std::memory_order_release);
      }
      meeting.Meet(self, ++index);
    }
  };
  std::thread other([&] { play(1, second); });
  std::thread one([&] { play(0, first); });
  one.join();
  other.join();
  return outcomes;
}

template <typename State, uint64_t kRound = 2048, typename First, typename Second, typename Judge>
Outcomes Run(First first, Second second, Judge judge, double per_second) {
  return Run<State, kRound>(
      first, second, judge, [](const Outcomes&) { return true; }, per_second);
}

}  // namespace pyrt::inline PYRT_VARIANT::litmus

#endif  // PYRT_TESTING_LITMUS_LITMUS_H_
