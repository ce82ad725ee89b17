// AsyncException: the slot in which one thread leaves an exception for another to raise at its next poll.
//
//   Set (any thread)                          Take (the thread itself, last step of HandlePending)
//     exchange the slot's pointer               clear the bit
//     set the AsyncException bit                exchange the slot's pointer with null
//
// A later Set replaces an exception that has not been taken. Set with null empties the slot and still sets
// the bit; Take then finds nothing (TS-81). The old exception is handed back, to be released where
// destructors may run: the caller may hold the lock that keeps the target alive.
//
// CPython counterpart: PyThreadState.async_exc, PyThreadState_SetAsyncExc, _PyEval_RaiseAsyncExc.

#ifndef PYRT_CEVAL_BREAKER_ASYNC_EXCEPTION_H_
#define PYRT_CEVAL_BREAKER_ASYNC_EXCEPTION_H_

#include <cstdint>

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class AsyncException {
 public:
  constexpr AsyncException() = default;
  ~AsyncException() { Exchange(nullptr); }
  AsyncException(const AsyncException&) = delete;
  AsyncException& operator=(const AsyncException&) = delete;

  // Puts `exception` (an Error or an ErrorType; null to withdraw) into the slot of the thread whose word is
  // `target`, and returns what was there. Attached to the target's interpreter; whoever calls keeps the
  // target alive until this returns, also for the bit (TS-86). Never blocks, never runs a destructor.
  [[nodiscard]] Ref<Object> Set(Ref<Object> exception, EvalBreaker& target) {
    Ref<Object> old = Exchange(std::move(exception));
    target.Set(BreakerEvent::kAsyncException);
    return old;
  }

  // Takes the exception to be raised, null if there is none. The bit is cleared first, so that one which is
  // set from now on raises it again.
  [[nodiscard]] Ref<Object> Take(EvalBreaker& self) {
    if (!PYRT_MUTANT(async_bit_cleared_last)) self.Clear(BreakerEvent::kAsyncException);
    Ref<Object> exception = Exchange(nullptr);
    if (PYRT_MUTANT(async_bit_cleared_last)) self.Clear(BreakerEvent::kAsyncException);
    return exception;
  }

  bool IsSet() const { return slot_.load(kRelaxed) != 0; }

 private:
  // Acquire and release: the object's contents travel with the pointer, in both directions.
  Ref<Object> Exchange(Ref<Object> exception) {
    const uintptr_t word = reinterpret_cast<uintptr_t>(exception.release());
    return Ref<Object>::Adopt(reinterpret_cast<Object*>(slot_.exchange(word, kAcqRel)));
  }

  Atomic<uintptr_t> slot_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_CEVAL_BREAKER_ASYNC_EXCEPTION_H_
