// Thread: a thread of the runtime: an OS thread with a thread state, that can be joined.
//
//   state      not started -> starting -> running -> done
//
// A non-daemon thread is waited for by the end of its interpreter. A daemon thread is not: when its interpreter
// has ended it hangs at its next attach, for ever, without unwinding (gh-87135).
//
// "Done" means that the thread state is gone, not only that the body has returned (gh-114271), or that the thread hangs
// for good: a daemon is done only if it does because it wanted to end what another thread is ending. The handle
// outlives the thread; copies of it name the same thread. A body may end its own interpreter, or the runtime, and
// return: its state is gone then.
//
// CPython counterpart: _thread.start_joinable_thread, ThreadHandle, threading.Thread.

#ifndef PYRT_RUNTIME_THREAD_H_
#define PYRT_RUNTIME_THREAD_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

struct ThreadOptions {
  bool daemon = false;
  size_t stack_size = 0;  // 0: the system's default
  // What the thread runs, as audit hooks and the report of its failure show it; may be null.
  Ref<Object> function = nullptr;
};

class Thread {
 public:
  // Runs attached on the new thread. A failure is reported: "Exception ignored in thread started by <function f>".
  // After a body that has ended its own interpreter, or the runtime, there is nobody to report to: its failure is
  // dropped.
  using Body = std::function<absl::Status()>;

  // Starts a thread in the current thread's interpreter. Attached; does not wait for the thread to run. First
  // the audit event _thread.start_joinable_thread (function or None, daemon, None), which may refuse.
  // RuntimeError "thread is not supported for isolated subinterpreters", "daemon threads are disabled in this
  // (sub)interpreter", "can't start new thread"; PythonFinalizationError "can't create new thread at
  // interpreter shutdown"; what the audit event _thread.start_joinable_thread fails with. After a failure nothing
  // is left of the thread (gh-109746).
  static absl::StatusOr<Thread> Start(Body body, const ThreadOptions& options = {});

  // Waits for the end, up to `timeout` nanoseconds (negative: for ever, 0: looks), detached if the caller is
  // attached. DeadlineExceeded when time is up; RuntimeError "Cannot join current thread";
  // PythonFinalizationError "cannot join thread at interpreter shutdown" when it would wait for a thread that
  // may hang (gh-130402). An exception of a signal handler ends the wait.
  absl::Status Join(Timeout timeout = kForever);

  bool IsDone() const;
  bool daemon() const;
  uint64_t ident() const;  // of the OS thread; 0 until it runs

  // ---- For Runtime and Fork

  // Waits for the non-daemon threads of `interp` but the current one. Attached. The exception of a signal
  // handler ends it. CPython: threading._shutdown.
  static absl::Status JoinAll(Interpreter& interp);
  // How many there are to wait for.
  static size_t Joinable(Interpreter& interp);
  // The interpreter is being cleared: what is left of its threads is nobody's, whatever is made at its address.
  static void Disown(Interpreter& interp);
  // The current thread, attached, has come too late with an end of its own and is going to hang: nobody waits for it
  // any more, as a thread of the runtime (it is done) or as the owner of guards that its states, in any interpreter,
  // were attached with.
  static void GiveUp();
  // The current thread is at an attach at which it hangs: the same, but for a daemon thread, which is never done. It
  // may hang in an interpreter that it has made, and be joined by the end of its own.
  static void OnHang();
  // Across a fork, under the head lock: the child finds a whole list, and whoever is not on it done.
  static void BeforeFork();
  static void AfterForkInParent();
  // The parent's other threads do not exist in a forked child: they are done (FK-6).
  static void AfterForkInChild();

 private:
  struct Handle;
  explicit Thread(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

  static void StopWaitingForThis(bool daemons_too);
  static void Run(void* boot_record);
  static absl::Status Wait(Handle& handle, Timeout timeout);

  std::shared_ptr<Handle> handle_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_THREAD_H_
