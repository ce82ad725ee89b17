// EvalBreaker: the one word that an evaluation loop looks at to learn that something else wants to be done.
//
//   63                                    8 7         0
//   +--------------------------------------+-----------+
//   |       instrumentation version        |   events  |
//   +--------------------------------------+-----------+
//
// Each thread state has one. The low byte holds an event bit per reason (PYRT_EVAL_BREAKER_EVENTS); any
// thread may set one, and who clears it is part of the table. The bits above hold the interpreter's
// instrumentation version, so that one compare at a function's entry covers both (gh-109369).
//
// The word orders nothing by itself. Poll() is a relaxed load: a thread that sees a bit must read the payload
// (a queue, a pointer) with an acquire operation of its own. Set() and Clear() are seq_cst
// read-modify-writes, so a bit set while another is cleared is never lost, and "publish the payload, set the
// bit" pairs with "clear the bit, read the payload": whichever comes last in the word's order finds the
// other's work (EB-2, EB-17).
//
// Safe from any thread and from signal handlers; never blocks; attached or detached.
//
// CPython counterpart: PyThreadState.eval_breaker, _Py_set_eval_breaker_bit, _Py_unset_eval_breaker_bit,
// _Py_eval_breaker_bit_is_set, _PY_EVAL_EVENTS_MASK, _PY_EVAL_EVENTS_BITS.

#ifndef PYRT_CEVAL_BREAKER_EVAL_BREAKER_H_
#define PYRT_CEVAL_BREAKER_EVAL_BREAKER_H_

#include <cstdint>
#include <string>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// What handling an event may do to the code around the poll, from harmless to harmful. A poll that cannot
// stand an effect must not handle the events of that level or above.
enum class BreakerEffect : uint8_t {
  kNone,      // bookkeeping of the runtime; the caller cannot tell
  kMayBlock,  // other threads run meanwhile: anything shared may have changed
  kRunsCode,  // the host's code runs on this thread: anything may have changed
  kMayRaise,  // and it may end with an exception to propagate
};

// X(name, bit, CPython's name, effect, "who sets it / who clears it")
#define PYRT_EVAL_BREAKER_EVENTS(X)                                                                     \
  X(GilDropRequest, 0, _PY_GIL_DROP_REQUEST_BIT, kMayBlock,                                             \
    "a thread waiting in Gil::Take / the holder when it gives the GIL away, the waiter when it leaves") \
  X(SignalsPending, 1, _PY_SIGNALS_PENDING_BIT, kMayRaise,                                              \
    "a signal handler, on the main thread's word / HandlePending before it runs the handlers")          \
  X(CallsToDo, 2, _PY_CALLS_TO_DO_BIT, kMayRaise,                                                       \
    "PendingCalls::Add, attach / HandlePending before it runs the calls")                               \
  X(AsyncException, 3, _PY_ASYNC_EXCEPTION_BIT, kMayRaise,                                              \
    "SetAsyncException / HandlePending before it takes the exception")                                  \
  X(GcScheduled, 4, _PY_GC_SCHEDULED_BIT, kRunsCode,                                                    \
    "the allocation that passes a threshold / HandlePending before it collects")                        \
  X(PleaseStop, 5, _PY_EVAL_PLEASE_STOP_BIT, kMayBlock,                                                 \
    "a thread stopping the world / HandlePending before it suspends")                                   \
  X(ExplicitMerge, 6, _PY_EVAL_EXPLICIT_MERGE_BIT, kNone,                                               \
    "a queued reference-count merge, a held-up reclamation / HandlePending before it merges")           \
  X(JitInvalidateCold, 7, _PY_EVAL_JIT_INVALIDATE_COLD_BIT, kNone,                                      \
    "the host's executor bookkeeping / HandlePending before it sweeps")

enum class BreakerEvent : uint8_t {
#define PYRT_BREAKER_ENUMERATOR(name, bit, cpython, effect, who) k##name = bit,
  PYRT_EVAL_BREAKER_EVENTS(PYRT_BREAKER_ENUMERATOR)
#undef PYRT_BREAKER_ENUMERATOR
};

constexpr uintptr_t BreakerBit(BreakerEvent event) { return uintptr_t{1} << static_cast<unsigned>(event); }

// The effect level of an event, from the table.
constexpr BreakerEffect EffectOf(BreakerEvent event) {
  switch (event) {
#define PYRT_BREAKER_CASE(name, bit, cpython, effect, who) \
  case BreakerEvent::k##name:                              \
    return BreakerEffect::effect;
    PYRT_EVAL_BREAKER_EVENTS(PYRT_BREAKER_CASE)
#undef PYRT_BREAKER_CASE
  }
  return BreakerEffect::kMayRaise;
}

class EvalBreaker {
 public:
  static constexpr unsigned kEventBits = 8;
  static constexpr uintptr_t kEventMask = (uintptr_t{1} << kEventBits) - 1;
  static constexpr uintptr_t kVersionIncrement = uintptr_t{1} << kEventBits;
  static constexpr uintptr_t kVersionMask = ~kEventMask;

  // A word with no event and the interpreter's instrumentation version (TS-16).
  constexpr explicit EvalBreaker(uintptr_t version = 0) : word_(version & kVersionMask) {}

  // The poll: whether any event waits. One relaxed load and a test; hand the result to a predictable branch.
  bool AnyPending() const { return (word_.load(kRelaxed) & kEventMask) != 0; }

  // Everything in one relaxed load, for a handler that works through the events of one moment (EB: bits set
  // later wait for the next check) and for the compare at a function's entry (EB-9).
  uintptr_t Load() const { return word_.load(kRelaxed); }

  bool IsSet(BreakerEvent event) const { return (word_.load(kRelaxed) & BreakerBit(event)) != 0; }

  void Set(BreakerEvent event) { word_.fetch_or(BreakerBit(event), kSeqCst); }
  void Clear(BreakerEvent event) { word_.fetch_and(~BreakerBit(event), kSeqCst); }

  // The instrumentation version, a multiple of kVersionIncrement.
  uintptr_t version() const { return word_.load(kRelaxed) & kVersionMask; }

  // Replaces the version and keeps whatever events are set at that moment (EB-3). `version` must be a
  // multiple of kVersionIncrement.
  void SetVersion(uintptr_t version);

  // Brings the word in line with its sources of truth when the thread attaches (EB-10): CallsToDo says
  // whether a queue that this thread may run is not empty, and the version is the interpreter's. No
  // read-modify-write unless something differs. The other events belong to whoever set them and stay.
  void RefreshOnAttach(bool calls_to_do, uintptr_t version) {
    // One branch: what differs, of the version's bits and of CallsToDo if that is to be set.
    const uintptr_t bit = calls_to_do ? BreakerBit(BreakerEvent::kCallsToDo) : 0;
    const uintptr_t wanted = (version & kVersionMask) | bit;
    if (((word_.load(kRelaxed) ^ wanted) & (kVersionMask | bit)) != 0) [[unlikely]] {
      RefreshSlow(calls_to_do, version);
    }
  }

  // For a component that sets and clears one bit of a word it knows nothing else about (Gil).
  Atomic<uintptr_t>* word() { return &word_; }

  // "GilDropRequest|CallsToDo, version 3", or "none, version 0".
  std::string ToString() const;

 private:
  void RefreshSlow(bool calls_to_do, uintptr_t version);

  Atomic<uintptr_t> word_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_CEVAL_BREAKER_EVAL_BREAKER_H_
