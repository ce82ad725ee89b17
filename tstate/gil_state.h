// Ensure and Release: native code that does not know whether its thread is attached, or known at all.
//
//   before                          GilStateEnsure            EnsureAttached(guard)          Release restores
//   attached, to the interpreter    nothing                   nothing                        attached, to the
//   same attached, to another            nothing (reuses it)       new state, swapped in          the other
//   one detached, has a state of it     attaches that             attaches that                  detached
//   detached, unknown               new state, attached       new state, attached            no state
//
// Nest as you like, on one thread, in the order of a stack. The two families have counters of their own.
//
// GilState* is PyGILState: it cannot fail, so a thread that comes when the interpreter is finalizing hangs,
// for ever. EnsureAttached is PEP 788's: it needs a guard, which can be refused, and then nobody hangs.
//
// Not signal-safe. Both may block (attach) and allocate.
//
// CPython counterpart: PyGILState_Ensure, PyGILState_Release, PyThreadState_Ensure, PyThreadState_Release.

#ifndef PYRT_TSTATE_GIL_STATE_H_
#define PYRT_TSTATE_GIL_STATE_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

enum class GilStateBefore : uint8_t { kLocked = 0, kUnlocked = 1 };

namespace internal {
GilStateBefore GilStateEnsureNew();
void GilStateReleaseSlow(GilStateBefore before);
}  // namespace internal

// Attaches this thread, with the state that it used last or a new one of the main interpreter, and says what
// to pass to Release. Any thread. CPython: PyGILState_Ensure.
[[nodiscard]] inline GilStateBefore GilStateEnsure() {
  ThreadState* const thread = ThreadState::GilState();
  if (thread == nullptr) [[unlikely]]
    return internal::GilStateEnsureNew();
  const bool attached = thread == ThreadState::Current();
  if (!attached) {
    // Another thread has deleted the state. (One that must exit is for Attach, which hangs.)
    if (thread->deleted() && !thread->must_exit()) [[unlikely]]
      return internal::GilStateEnsureNew();
    thread->Attach();
  }
  ++thread->data().gilstate_counter;
  return attached ? GilStateBefore::kLocked : GilStateBefore::kUnlocked;
}

// Undoes the last Ensure of this thread; deletes the state if that Ensure made it. CPython:
// PyGILState_Release.
inline void GilStateRelease(GilStateBefore before) {
  ThreadState* const thread = ThreadState::GilState();
  if (thread == nullptr || thread != ThreadState::Current() || thread->data().gilstate_counter <= 1)
      [[unlikely]] {
    return internal::GilStateReleaseSlow(before);
  }
  --thread->data().gilstate_counter;
  if (before == GilStateBefore::kUnlocked) thread->Detach();
}

// Whether this thread is attached with the state that Ensure would use. Diagnostic. CPython:
// PyGILState_Check.
inline bool GilStateCheck() {
  return ThreadState::Current() != nullptr && ThreadState::Current() == ThreadState::GilState();
}

// What EnsureAttached hands to ReleaseAttached.
class EnsureToken {
 public:
  // False: memory was short, nothing has happened, and there is nothing to release.
  explicit operator bool() const { return valid_; }

 private:
  friend EnsureToken EnsureAttached(const InterpreterGuard& guard);
  friend EnsureToken EnsureAttachedFromView(InterpreterView view);
  friend void ReleaseAttached(EnsureToken token);

  constexpr explicit EnsureToken(bool valid = false, ThreadState* before = nullptr)
      : valid_(valid), before_(before) {}

  bool valid_;
  ThreadState* before_;  // what Release attaches again; null: nothing
};

// Attaches this thread to the interpreter of `guard`, which must be kept until the matching release. CPython:
// PyThreadState_Ensure.
[[nodiscard]] EnsureToken EnsureAttached(const InterpreterGuard& guard);
// The same, with a guard that the state keeps itself; false if there is no such interpreter any more or it is
// finalizing. CPython: PyThreadState_EnsureFromView.
[[nodiscard]] EnsureToken EnsureAttachedFromView(InterpreterView view);
// CPython: PyThreadState_Release.
void ReleaseAttached(EnsureToken token);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_GIL_STATE_H_
