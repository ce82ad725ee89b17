// StopGate: lets stops of single interpreters overlap each other, and a stop of all of them overlap nothing.
//
//   word   31..3             2              1        0
//          interpreters      global wanted  sleepers global
//
// A readers-writer lock with deadlines. Who may have to wait detaches first (StopTheWorld::EnterScope), so that a
// stopper which waits for its turn can itself be stopped. A waiting global stop keeps new interpreter stops out.
//
// CPython counterpart: runtime.stoptheworld_mutex (an RW mutex without deadlines).

#ifndef PYRT_TSTATE_INTERNAL_STOP_GATE_H_
#define PYRT_TSTATE_INTERNAL_STOP_GATE_H_

#include <climits>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class StopGate {
 public:
  constexpr StopGate() = default;
  StopGate(const StopGate&) = delete;
  StopGate& operator=(const StopGate&) = delete;

  // False when the deadline has passed.
  bool EnterInterpreter(Deadline deadline) {
    uint32_t word = word_.load(kRelaxed);
    for (;;) {
      if ((word & (kGlobal | kGlobalWanted)) == 0) {
        if (word_.compare_exchange_weak(word, word + kInterpreter, kAcquire, kRelaxed)) return true;
      } else if (!Sleep(word, deadline)) {
        return false;
      }
    }
  }
  void LeaveInterpreter() { WakeIf(word_.fetch_sub(kInterpreter, kRelease)); }

  // The caller holds the mutex of the global stop: at most one thread is here.
  bool EnterGlobal(Deadline deadline) {
    uint32_t word = word_.load(kRelaxed);
    for (;;) {
      if (word < kInterpreter) {
        const uint32_t next = (word & ~kGlobalWanted) | kGlobal;
        if (word_.compare_exchange_weak(word, next, kAcquire, kRelaxed)) return true;
      } else if ((word & kGlobalWanted) == 0) {
        if (word_.compare_exchange_weak(word, word | kGlobalWanted, kRelaxed, kRelaxed))
          word |= kGlobalWanted;
      } else if (!Sleep(word, deadline)) {
        WakeIf(word_.fetch_and(~kGlobalWanted, kRelaxed));
        return false;
      }
    }
  }
  void LeaveGlobal() { WakeIf(word_.fetch_and(~kGlobal, kRelease)); }

  uint32_t interpreters() const { return word_.load(kRelaxed) / kInterpreter; }
  bool global() const { return (word_.load(kRelaxed) & kGlobal) != 0; }
  void ReinitAfterFork() { word_.store(0, kRelaxed); }

 private:
  static constexpr uint32_t kGlobal = 1;
  static constexpr uint32_t kSleepers = 2;
  static constexpr uint32_t kGlobalWanted = 4;
  static constexpr uint32_t kInterpreter = 8;

  // Sleeps while the word is `word`; false when the deadline has passed. Reloads `word`.
  bool Sleep(uint32_t& word, Deadline deadline) {
    if ((word & kSleepers) == 0 && !word_.compare_exchange_weak(word, word | kSleepers, kRelaxed, kRelaxed)) {
      return true;
    }
    const FutexResult result = FutexWait(&word_, word | kSleepers, deadline);
    word = word_.load(kRelaxed);
    return result != FutexResult::kTimedOut;
  }

  // Everybody looks again: who may go in depends on who else does.
  void WakeIf(uint32_t before) {
    if ((before & kSleepers) == 0) return;
    word_.fetch_and(~kSleepers, kRelaxed);
    FutexWake(&word_, INT_MAX);
  }

  Atomic<uint32_t> word_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_STOP_GATE_H_
