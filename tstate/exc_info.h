// ExcInfoStack: which exceptions a thread is handling, innermost last.
//
// An entry belongs to a frame that can suspend: the thread itself owns the bottom one, and each generator or
// coroutine owns another, pushed while it runs, so that what it handles does not leak to its caller. Within
// an entry, a handler saves the value before it and restores it when it is left.
//
//   bottom { ValueError } <- generator { null } <- generator { KeyError }      handled: KeyError
//   bottom { ValueError } <- generator { null }                                handled: ValueError
//   bottom { null }                                                            handled: nothing
//
// Owned by the thread; attached. A null value means "not handling" (None is never stored, TS-68).
//
// CPython counterpart: _PyErr_StackItem, PyThreadState.exc_info and exc_state, _PyErr_GetTopmostException.

#ifndef PYRT_TSTATE_EXC_INFO_H_
#define PYRT_TSTATE_EXC_INFO_H_

#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {

struct ExcInfo {
  Ref<Error> value;
  ExcInfo* previous = nullptr;
};

class ExcInfoStack {
 public:
  ExcInfoStack() = default;
  ExcInfoStack(const ExcInfoStack&) = delete;
  ExcInfoStack& operator=(const ExcInfoStack&) = delete;

  // Never null.
  ExcInfo& top() { return *top_; }
  const ExcInfo& top() const { return *top_; }
  const ExcInfo& bottom() const { return bottom_; }

  // A generator that owns `entry` starts or goes on running; it stops again, in the reverse order.
  void Push(ExcInfo& entry) {
    PYRT_DCHECK(entry.previous == nullptr && &entry != &bottom_);
    entry.previous = top_;
    top_ = &entry;
  }
  void Pop(ExcInfo& entry) {
    PYRT_CHECK(top_ == &entry && &entry != &bottom_, "ExcInfoStack::Pop",
               "entry %p is not the innermost one (%p)", static_cast<void*>(&entry),
               static_cast<void*>(top_));
    top_ = std::exchange(entry.previous, nullptr);
  }

  // The innermost entry that handles something; the bottom one if none does (TS-67).
  const ExcInfo& Topmost() const {
    const ExcInfo* entry = top_;
    while (entry->value == nullptr && entry->previous != nullptr) entry = entry->previous;
    return *entry;
  }

  // What sys.exception() returns; null for None.
  const Ref<Error>& Handled() const { return Topmost().value; }

  // Enters or leaves a handler of the running frame: the value before it, which the frame keeps and puts
  // back. The old value is not released here: its destructor may run code.
  [[nodiscard]] Ref<Error> Exchange(Ref<Error> value) { return std::exchange(top_->value, std::move(value)); }

  // The thread is being cleared: takes the bottom value, for its owner to release.
  [[nodiscard]] Ref<Error> TakeBottom() { return std::exchange(bottom_.value, nullptr); }
  bool at_bottom() const { return top_ == &bottom_; }

 private:
  ExcInfo bottom_;
  ExcInfo* top_ = &bottom_;
};

// A handler's length: `error` is the one being handled; what was handled before is back afterwards (TS-70).
class HandlingScope {
 public:
  HandlingScope(ExcInfoStack& stack, Ref<Error> error)
      : stack_(stack), before_(stack.Exchange(std::move(error))) {}
  ~HandlingScope() { Ref<Error> handled = stack_.Exchange(std::move(before_)); }
  HandlingScope(const HandlingScope&) = delete;
  HandlingScope& operator=(const HandlingScope&) = delete;

 private:
  ExcInfoStack& stack_;
  Ref<Error> before_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_EXC_INFO_H_
