// Signals: from the operating system's handler, on any thread, to the handlers of the main thread's poll.
//
//   OS handler, any thread (Trip)                 main thread (Run, called by HandlePending and CheckSignals)
//     tripped[n] = 1                                nothing unless any_tripped
//     any_tripped = 1                               any_tripped = 0
//     set SignalsPending in the main thread's word  for n = 1, 2, ...: if tripped[n], tripped[n] = 0, call
//     write the byte n to the wake-up descriptor    a failure: any_tripped = 1 again, stop
//
// The byte is written last: who reads it finds the flag (bpo-30038). any_tripped is cleared before the scan,
// so a signal that comes during it is seen by this scan or by the next. A signal that comes twice before it
// is seen runs its handler once, as signals do.
//
// A handler here is a function of the host's; CPython's signal.signal puts Python functions there. Calls run
// attached, on the main thread of the main interpreter only (the caller sees to that), outside any lock.
//
// CPython counterpart: trip_signal, _PyErr_CheckSignalsTstate, PyErr_SetInterruptEx, signal.set_wakeup_fd,
// _PySignal_AfterFork, the struct _signals_runtime_state.

#ifndef PYRT_CEVAL_BREAKER_SIGNALS_H_
#define PYRT_CEVAL_BREAKER_SIGNALS_H_

#include <signal.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// What runs for a signal. The object must outlive its registration and, because the main thread may be about
// to call it, the next poll of the main thread.
struct SignalHandler {
  absl::Status (*call)(void* context, int signal_number) = nullptr;
  void* context = nullptr;
};

class Signals {
 public:
  static constexpr int kCount = NSIG;  // signal numbers are 1 ... kCount - 1

  struct Hooks {
    // A tripped signal whose handler has been taken away meanwhile: "Signal %i ignored due to race condition"
    // (bpo-43406). Null drops it silently.
    void (*ignored)(void* context, int signal_number) = nullptr;
    // The wake-up descriptor refused a byte, with this errno. Called by Run, not by the signal handler.
    void (*wakeup_failed)(void* context, int error_number) = nullptr;
    void* context = nullptr;
    // write(2); tests bring their own.
    ssize_t (*write)(int fd, const void* data, size_t size) = nullptr;
  };

  Signals() : Signals(Hooks{}) {}
  explicit Signals(const Hooks& hooks);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Records that signal `number` has arrived, for the main thread to see. Any thread; async-signal-safe;
  // preserves errno. A number outside 1 ... kCount - 1 is ignored.
  void Trip(int number);

  // Sets `event` in the main thread's word, as Trip sets SignalsPending; nothing while there is none. For the
  // queue of calls that only the main thread runs. Any thread; async-signal-safe.
  void RaiseOnMainThread(BreakerEvent event);

  // Runs the handlers of the tripped signals in ascending order. The first failure is returned and leaves the
  // rest tripped and the bit set (EB-42). On the main thread, attached. CPython: _PyErr_CheckSignalsTstate.
  absl::Status Run(EvalBreaker& self) {
    // seq_cst, like the stores in Trip: a thread that has read the wake-up byte finds the flag.
    if (!any_tripped_.load(kSeqCst)) [[likely]]
      return absl::OkStatus();
    return RunSlow(self);
  }
  bool IsTripped() const { return any_tripped_.load(kSeqCst); }

  // The word to set SignalsPending in: the main thread's. Null while there is none. Returns only when no
  // handler can be using the old word any more, so that it may be freed (EB-41).
  void SetMainThread(EvalBreaker* main);

  // Registers `handler` for `number`, or kDefault or kIgnore. Returns the old one. On the main thread.
  // CPython: signal.signal. What the operating system does with the signal is InstallOsHandler's business.
  static const SignalHandler* const kDefault;
  static const SignalHandler* const kIgnore;
  const SignalHandler* SetHandler(int number, const SignalHandler* handler);
  const SignalHandler* GetHandler(int number) const;

  // As if the signal had arrived: -1 for a number that is none, 0 otherwise; no effect while the handler is
  // default or ignore. Any thread; async-signal-safe. CPython: PyErr_SetInterruptEx.
  int SetInterrupt(int number);

  // Where the byte goes: a non-blocking descriptor, or -1 for none. `warn_on_full_buffer`: report EAGAIN too.
  // Returns the old descriptor. CPython: signal.set_wakeup_fd.
  int SetWakeupFd(int fd, bool warn_on_full_buffer = true);

  // Makes the operating system deliver `number` to this object (sigaction with SA_ONSTACK, without
  // SA_RESTART: a wait that is interrupted lets its thread look). One Signals of a process can do this at a
  // time; it becomes that one. FailedPrecondition if another is. Main thread.
  absl::Status InstallOsHandler(int number);
  // The system's default action for every signal that was installed, and their handlers back to kDefault.
  // CPython: _PySignal_Fini.
  void RestoreDefaults();

  // What has arrived and was not handled, and the wake-up descriptor: they are not the next life's. While no handler of
  // the operating system is installed.
  void Forget();

  // In a forked child: what arrived before the fork is the parent's (EB-47, bpo-9535).
  void AfterForkInChild(EvalBreaker* main);

 private:
  absl::Status RunSlow(EvalBreaker& self);
  void WaitForTrips();
  void Announce();
  void WakeUp(int number);
  void ReportWakeupError();
  void ForgetTripped();
  static void OsHandler(int number);

  // What a signal handler reads: the two kinds and the handlers themselves, told apart by address.
  static uintptr_t ToWord(const SignalHandler* handler) { return reinterpret_cast<uintptr_t>(handler); }

  const Hooks hooks_;
  std::array<Atomic<bool>, kCount> tripped_;
  std::array<Atomic<uintptr_t>, kCount> handlers_;
  std::array<bool, kCount> installed_{};
  Atomic<bool> any_tripped_{false};
  Atomic<uintptr_t> main_{0};
  // Trips that may have read main_, by epoch. SetMainThread waits for them.
  std::array<Atomic<uint32_t>, 2> trips_in_flight_;
  Atomic<uint32_t> trip_epoch_{0};
  Atomic<int> wakeup_fd_{-1};
  Atomic<bool> warn_on_full_buffer_{true};
  Atomic<int> wakeup_error_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_CEVAL_BREAKER_SIGNALS_H_
