// InterpreterView and InterpreterGuard. Include tstate/finalization_guard.h.

#ifndef PYRT_TSTATE_INTERNAL_INTERPRETER_GUARD_H_
#define PYRT_TSTATE_INTERNAL_INTERPRETER_GUARD_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/finalization_guards.h"

namespace pyrt::inline PYRT_VARIANT {

struct InterpreterLink;

// Names an interpreter. Any thread; a value. CPython: PyInterpreterView.
class InterpreterView {
 public:
  // Of the attached state; fatal when detached. CPython: PyInterpreterView_FromCurrent.
  static InterpreterView FromCurrent();
  // The main interpreter, whether there is one or not (TS-50). CPython: PyInterpreterView_FromMain.
  static InterpreterView FromMain() { return InterpreterView(0); }
  explicit InterpreterView(int64_t id) : id_(id) {}
  int64_t id() const { return id_; }

 private:
  int64_t id_;
};

// While one exists its interpreter does not finalize. Null after a move or a failure. CPython:
// PyInterpreterGuard.
class InterpreterGuard {
 public:
  InterpreterGuard() = default;
  InterpreterGuard(InterpreterGuard&& other) noexcept
      : link_(std::exchange(other.link_, nullptr)), generation_(other.generation_) {}
  InterpreterGuard& operator=(InterpreterGuard&& other) noexcept {
    std::swap(link_, other.link_);
    std::swap(generation_, other.generation_);
    return *this;
  }
  ~InterpreterGuard() { Close(); }

  // Attached. PythonFinalizationError "cannot acquire finalization guard anymore". CPython:
  // PyInterpreterGuard_FromCurrent.
  static absl::StatusOr<InterpreterGuard> FromCurrent();
  // Any thread, attached or not; takes the head lock. Null if there is no such interpreter or it is
  // finalizing. CPython: PyInterpreterGuard_FromView.
  static InterpreterGuard FromView(InterpreterView view);

  // Gives the guard up now. Any thread. CPython: PyInterpreterGuard_Close.
  void Close();

  // Not in a child of a fork either, for a guard of the parent.
  explicit operator bool() const {
    return link_ != nullptr && generation_ == FinalizationGuards::generation();
  }
  InterpreterLink* link() const { return link_; }

 private:
  // Takes over what TryAcquire has counted.
  explicit InterpreterGuard(InterpreterLink* link);

  InterpreterLink* link_ = nullptr;
  uint32_t generation_ = 0;  // FinalizationGuards::generation
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_INTERPRETER_GUARD_H_
