// Fork: fork(2) for a process with a runtime in it.
//
//   Fork::BeforeFork          callbacks, newest first; subsystems (import lock); all interpreters stopped; head
//                             lock
//   fork(2)
//   Fork::AfterForkInParent   the reverse; callbacks, oldest first
//   Fork::AfterForkInChild    every lock is free, the forking thread is the only one and the main thread, its
//                             thread state is the only one of its interpreter; other interpreters are gone but
//                             the main one; callbacks, oldest first
//
// The child can do everything: attach, import, stop the world, start threads, fork again, finalize. Hosts that
// call fork themselves call the three functions around it.
//
// What the child inherits: pending calls that were complete (they run in both processes), exit callbacks. What
// it does not: signals that had arrived, guards, a collection or a pending call under way on another thread.
//
// CPython counterpart: PyOS_BeforeFork, PyOS_AfterFork_Parent, PyOS_AfterFork_Child, os.fork,
// os.register_at_fork.

#ifndef PYRT_RUNTIME_FORK_H_
#define PYRT_RUNTIME_FORK_H_

#include <sys/types.h>

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

class Interpreter;

class Fork {
 public:
  // Run attached, with no lock held. A failure is reported, and the others still run (FK-4).
  using Callback = std::function<absl::Status()>;
  struct Callbacks {
    Callback before;
    Callback after_in_parent;
    Callback after_in_child;
  };

  // Run by forks of the current interpreter, until its end. Any may be empty. Attached. CPython: os.register_at_fork.
  static void Register(Callbacks callbacks);

  // The child's process id in the parent, 0 in the child. Attached, before and after, in both.
  // PythonFinalizationError "can't fork at interpreter shutdown"; RuntimeError "fork not supported for isolated
  // subinterpreters"; what the audit event os.fork fails with; OSError of fork(2) itself. The parent is warned
  // (DeprecationWarning) when the process had more than one thread, whoever made them.
  static absl::StatusOr<pid_t> Run();

  // What Run() asks first, for hosts that fork in another way: whether it is allowed, and the audit event
  // ("os.forkpty", "subprocess.Popen"). Attached.
  static absl::Status Check(const char* event, Args arguments = {});

  // For hosts that call fork themselves, attached, on the forking thread. Every BeforeFork is followed by
  // exactly one of the others, also when fork(2) fails. No lock of the runtime may be held.
  static void BeforeFork();
  static void AfterForkInParent();
  static void AfterForkInChild();

  // Forgets the callbacks of `interp`, which ends. Attached.
  static void Clear(const Interpreter& interp);

 private:
  static void RunCallbacks(const Interpreter& interp, Callback Callbacks::*which, bool newest_first);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_FORK_H_
