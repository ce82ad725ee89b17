#include "pyrt/tstate/finalization_guard.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Written while no interpreter exists; read by any thread.
constinit Atomic<const InterpreterDirectory*> directory{nullptr};

}  // namespace

// Release and acquire: the directory's contents.
void SetInterpreterDirectory(const InterpreterDirectory* replacement) {
  directory.store(replacement, kRelease);
}

InterpreterView InterpreterView::FromCurrent() {
  return InterpreterView(ThreadState::Get("PyInterpreterView_FromCurrent").link().id);
}

InterpreterGuard::InterpreterGuard(InterpreterLink* link)
    : link_(link), generation_(FinalizationGuards::generation()) {}

absl::StatusOr<InterpreterGuard> InterpreterGuard::FromCurrent() {
  InterpreterLink& link = ThreadState::Get("PyInterpreterGuard_FromCurrent").link();
  if (link.guards == nullptr || !link.guards->TryAcquire()) {
    return Raise(ErrorType::PythonFinalizationError(), "cannot acquire finalization guard anymore");
  }
  return InterpreterGuard(&link);
}

InterpreterGuard InterpreterGuard::FromView(InterpreterView view) {
  const InterpreterDirectory* const known = directory.load(kAcquire);
  if (known == nullptr) return {};
  // The head lock keeps the interpreter on its list, and alive, until we have the guard.
  BasicMutexLock<HeadLock> lock(known->registry->head_lock());
  InterpreterLink* const link = known->find(view.id());
  if (link == nullptr || link->guards == nullptr || !link->guards->TryAcquire()) return {};
  return InterpreterGuard(link);
}

}  // namespace pyrt::inline PYRT_VARIANT
