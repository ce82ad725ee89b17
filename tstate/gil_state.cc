#include "pyrt/tstate/gil_state.h"

#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A new state of this thread for `link`'s interpreter; null when memory is short.
ThreadState* NewState(InterpreterLink& link) { return link.threads->NewBound(Whence::kCApi); }

}  // namespace

GilStateBefore internal::GilStateEnsureNew() {
  ThreadState* thread;
  {
    // The guard holds the interpreter while the state goes on its list, so that a finalizer either sees the
    // state or we see that it is too late (TS-47).
    const InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
    if (!guard) HangForever();
    thread = NewState(*guard.link());
    if (thread == nullptr) Fatal("PyGILState_Ensure", "Couldn't create thread-state for new thread");
    thread->data().gilstate_counter = 0;
    thread->data().made_by_ensure = true;
    thread->BindGilState();
  }
  thread->Attach();
  ++thread->data().gilstate_counter;
  return GilStateBefore::kUnlocked;
}

void internal::GilStateReleaseSlow(GilStateBefore before) {
  ThreadState* const thread = ThreadState::GilState();
  if (thread == nullptr) {
    Fatal("PyGILState_Release", "auto-releasing thread-state, but no thread-state for this thread (%s)",
          ThreadState::Here().c_str());
  }
  PYRT_CHECK(thread == ThreadState::Current(), "PyGILState_Release",
             "thread state %p must be current when releasing (%s; %s)", static_cast<void*>(thread),
             thread->ToString().c_str(), ThreadState::Here().c_str());
  ThreadData& data = thread->data();
  // A state that Ensure did not make is never deleted by a release too many (TS-17), nor is it left at 0.
  PYRT_CHECK(data.gilstate_counter > (data.made_by_ensure ? 0 : 1), "PyGILState_Release",
             "released more often than ensured (%s; %s)", thread->ToString().c_str(),
             ThreadState::Here().c_str());
  if (--data.gilstate_counter > 0) {
    if (before == GilStateBefore::kUnlocked) thread->Detach();
    return;
  }
  PYRT_CHECK(
      before == GilStateBefore::kUnlocked, "PyGILState_Release",
      "the outermost release of a state that Ensure made must be given what that Ensure returned (%s; %s)",
      thread->ToString().c_str(), ThreadState::Here().c_str());
  // A destructor may ensure and release; that must not delete the state under our feet (gh-119585).
  if (!PYRT_MUTANT(gh_119585_counter_is_zero_in_clear)) data.gilstate_counter = 1;
  InterpreterThreads::Clear(*thread);
  data.gilstate_counter = 0;
  InterpreterThreads::DeleteCurrent();
}

EnsureToken EnsureAttached(const InterpreterGuard& guard) {
  PYRT_CHECK(static_cast<bool>(guard), "PyThreadState_Ensure",
             "the guard is null, or is the parent's in a forked child");
  InterpreterLink& link = *guard.link();
  ThreadState* const current = ThreadState::Current();
  if (current != nullptr && &current->link() == &link) {
    ++current->data().ensure_counter;
    return EnsureToken(true, current);
  }
  ThreadState* const known = ThreadState::GilState();
  if (current == nullptr && known != nullptr && !known->deleted() && &known->link() == &link) {
    known->Attach();
    ++known->data().ensure_counter;
    return EnsureToken(true);
  }
  ThreadState* const thread = NewState(link);
  if (thread == nullptr) return EnsureToken(false);
  thread->data().ensure_counter = 1;
  thread->data().delete_on_release = true;
  ThreadState::Swap(thread);
  return EnsureToken(true, current);
}

EnsureToken EnsureAttachedFromView(InterpreterView view) {
  InterpreterGuard guard = InterpreterGuard::FromView(view);
  if (!guard) return EnsureToken(false);
  const EnsureToken token = EnsureAttached(guard);
  if (!token) return token;
  ThreadData& data = ThreadState::Current()->data();
  // The state keeps one guard; one more would only be one more to give back (TS-52).
  if (!data.owned_guard) data.owned_guard = std::move(guard);
  return token;
}

void ReleaseAttached(EnsureToken token) {
  ThreadState& thread = ThreadState::Get("PyThreadState_Release");
  ThreadData& data = thread.data();
  PYRT_CHECK(token && data.ensure_counter > 0, "PyThreadState_Release",
             "PyThreadState_Release() called more times than PyThreadState_Ensure() (%s; %s)",
             thread.ToString().c_str(), ThreadState::Here().c_str());
  ThreadState* const before = token.before_;
  if (--data.ensure_counter > 0) {
    if (before == nullptr || PYRT_MUTANT(pep_788_release_detaches_the_outer)) thread.Detach();
    return;
  }
  // Given up when the state is gone: until then the interpreter waits for us.
  InterpreterGuard guard = std::move(data.owned_guard);
  if (!data.delete_on_release) {
    if (before == nullptr) thread.Detach();
    return;
  }
  data.ensure_counter = 1;  // destructors may ensure and release
  InterpreterThreads::Clear(thread);
  data.ensure_counter = 0;
  InterpreterThreads::DeleteCurrent();
  guard.Close();  // before an attach that may hang, for the interpreter of `before` may have ended
  if (before != nullptr) before->Attach();
}

}  // namespace pyrt::inline PYRT_VARIANT
