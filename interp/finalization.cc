#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/status/status.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {

void Interpreter::Report(const absl::Status& error, const char* what, const Ref<Object>& object) {
  registry_.ReportUnraisable(error, what, object);
}

void Interpreter::JoinThreads(ThreadState& thread) {
  const InterpreterHooks& hooks = registry_.hooks();
  if (hooks.join_threads == nullptr) return;
  const absl::Status status = hooks.join_threads(hooks.context, *this);
  if (status.ok()) return;
  Report(status, "Exception ignored on threading shutdown");
  // Nobody waits for these any more; otherwise the loop would never end (LC-14).
  StoppedWorld stopped(threads());
  threads().ForEach([&thread](ThreadState& other) {
    if (&other != &thread && other.whence() == Whence::kThreading) {
      other.set_whence(Whence::kThreadingDaemon);
    }
  });
}

void Interpreter::WaitForGuards(ThreadState& thread) {
  while (!guards().WaitUntilNone(kNoDeadline, ThreadState::DetachWhileWaiting())) {
    // A signal, or nothing.
    if (CheckSignals(thread) == 0) continue;
    const Ref<Error> error = std::exchange(thread.data().current_exception, nullptr);
    Report(ToStatus(error), "Exception ignored while waiting on finalization guards");
    if (error->IsA(ErrorType::KeyboardInterrupt())) {
      std::fputs("Interrupted while waiting on finalization guards\n", stderr);
      std::exit(1);  // NOLINT(concurrency-mt-unsafe): the process's end, on the thread that finalizes
    }
  }
}

// With the world stopped. Everything or nothing: what was closed is opened again when something is left.
bool Interpreter::CloseIfNothingIsOutstanding(ThreadState& thread) {
  bool joinable = false;
  threads().ForEach([&](ThreadState& other) {
    // Nobody joins himself: this may be one of this thread's own, which it had before it came here to finalize.
    const bool own = &other == &thread || other.thread_id() == thread.thread_id();
    if (!own && other.whence() == Whence::kThreading) joinable = true;
  });
  if (joinable || !at_exit_.empty()) return false;
  const InterpreterHooks& hooks = registry_.hooks();
  if (hooks.joinable_threads != nullptr && hooks.joinable_threads(hooks.context, *this) != 0) return false;
  if (is_main() && registry_.size() > 1) return false;
  // Only the main thread may run its calls, and it may be blocked for ever in native code: a finalizer on
  // another thread does not wait for it.
  if (is_main() && !registry_.IsMainThread() && calls_.IsEmpty()) {
    unrun_calls_ += call_handler_.Drop(thread.breaker(), /*is_main_thread=*/true);
  }
  // A look that closes nothing, so that a thread is refused a guard only where the end may really have come.
  if (!calls_.IsEmpty() || (is_main() && !registry_.main_calls().IsEmpty())) return false;
  // Guards before the queues: who holds one finds the queues open. Who asks for one from here on is refused, be it that
  // we go round once more.
  if (!guards().CloseIfNone()) return false;
  // Who was making an interpreter, by a thread without a state that no stop stops, had a guard until it was there.
  if (is_main() && registry_.size() > 1) {
    guards().Reopen();
    return false;
  }
  // Both queues (EB-34): CPython does not look at the main thread's.
  if (calls_.CloseIfEmpty()) {
    if (!is_main() || registry_.main_calls().CloseIfEmpty()) return true;
    calls_.Reopen();
  }
  guards().Reopen();
  return false;
}

void Interpreter::PreFinalize(ThreadState& thread, StopTheWorld& stop,
                              const std::function<void()>& end_others) {
  // Endless if some thread always leaves another one behind, as in CPython (LC-12).
  for (;;) {
    JoinThreads(thread);
    FinishPendingCalls(thread);
    at_exit_.Run([this](const absl::Status& error, const Ref<Object>& callback) {
      // The callback is part of the message and not the hook's `object` (IN-38).
      const std::string what = "Exception ignored in atexit callback " + ReprOrPlaceholder(*callback);
      Report(error, what.c_str());
    });
    if (end_others) {
      // A thread that has come since hangs when the interpreter goes that it works in: it is joined first. One that
      // comes during end_others may still hang, and is not joined then.
      const InterpreterHooks& hooks = registry_.hooks();
      if (hooks.joinable_threads != nullptr && hooks.joinable_threads(hooks.context, *this) != 0) continue;
      end_others();
    }
    WaitForGuards(thread);
    stop.Stop();
    if (CloseIfNothingIsOutstanding(thread)) return;
    stop.Start();
    // What is outstanding may be a call that somebody is in the middle of adding, on this CPU.
    DetachedScope detached(thread);
    YieldCpu();
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
