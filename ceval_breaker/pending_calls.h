// PendingCalls: work that any thread hands to the threads of an interpreter, to be run where they poll.
//
//   producer (any thread, signal handler)          consumer (HandlePending, at a poll)
//     push the call                                  become the handler, or tell the handler "again"
//     raise the CallsToDo bit                        clear the bit
//                                                    pop and run, at most max_per_pass
//                                                    stop being the handler; more, or "again": raise the bit
//
// "Push, raise" against "clear, pop": both bit operations are seq_cst read-modify-writes of the same word, so
// whichever comes last in its order finds the other's work (EvalBreaker).
//
// An interpreter has a queue of its own, and the main interpreter shares one more with the runtime for calls
// that only the main thread may run. One PendingCallHandler guards both: one thread of an interpreter runs
// pending calls at a time, others return at once and leave the work to it.
//
//   guard word      0 nobody | the handler's EvalBreaker* | that + kAgain: somebody came by meanwhile
//   Run by          nobody handles         somebody else handles            this thread handles (re-entry)
//                   becomes the handler    own bit cleared, kAgain set, OK  OK, nothing changes (B091)
//
// Calls run outside any lock and may do anything: add calls (run in the same pass while it lasts), run nested
// polls (which do nothing), detach, fork, end the thread. A failed call is consumed, those behind it stay.
//
// CPython counterpart: struct _pending_calls, _PyEval_AddPendingCall, make_pending_calls,
// Py_AddPendingCall, Py_MakePendingCalls. Differences: Add is async-signal-safe (EB-23); the guard does not
// survive a fork with a dead owner (EB-35); a queue that has been closed says so instead of losing the call
// (EB-34); what is left at the end is not leaked (EB-36).

#ifndef PYRT_CEVAL_BREAKER_PENDING_CALLS_H_
#define PYRT_CEVAL_BREAKER_PENDING_CALLS_H_

#include <cstdint>
#include <cstdlib>

#include "absl/status/status.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/internal/call_ring.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class PendingCalls {
 public:
  // Runs attached, with no runtime lock held. A status that is not OK travels to the poll which ran it.
  using Function = absl::Status (*)(void* argument);

  struct Limits {
    uint32_t max;           // calls that may wait
    uint32_t max_per_pass;  // calls that one pass runs
  };
  static constexpr Limits kInterpreterLimits{300, 100};
  static constexpr Limits kMainThreadLimits{32, 32};

  // CPython: _Py_PENDING_MAINTHREADONLY (for who chooses the queue), _Py_PENDING_RAWFREE.
  enum Flags : uint8_t {
    kNoFlags = 0,
    kMainThreadOnly = 1,
    kFreeArgument = 2,  // give the argument to Options::free after the call, whether it succeeded or not
  };

  enum class AddResult : uint8_t {
    kAdded,
    kFull,    // nothing added; the bit has been raised all the same, so that somebody makes room
    kClosed,  // nothing added: the interpreter is beyond the point where it runs calls
  };

  struct Options {
    Limits limits = kInterpreterLimits;
    // Sets CallsToDo on the threads that may run these calls. Must be as safe as Add is meant to be.
    void (*raise)(void* context) = nullptr;
    void* context = nullptr;
    // For kFreeArgument: the raw domain's.
    void (*free)(void*) = &std::free;
  };

  explicit PendingCalls(const Options& options) : options_(options), ring_(options.limits.max) {}
  ~PendingCalls();  // calls that are left do not run; their arguments are freed where that was asked for
  PendingCalls(const PendingCalls&) = delete;
  PendingCalls& operator=(const PendingCalls&) = delete;

  // Queues `function(argument)` and raises the bit. Any thread, with or without a thread state, attached or
  // not; never blocks, allocates or sets an error; async-signal-safe if Options::raise is. Order: first in,
  // first out, in the order of the claims. CPython: _PyEval_AddPendingCall (0, -1 for full).
  AddResult Add(Function function, void* argument, Flags flags = kNoFlags);

  // Sets the bit on the threads that may run these calls.
  void Raise() const { options_.raise(options_.context); }

  // Relaxed looks: outdated when they return, exact when nobody adds or runs.
  bool IsEmpty() const { return ring_.IsEmpty(); }
  uint32_t size() const { return ring_.size(); }

  // At the end of the interpreter, by the handler or with the world stopped: from now on Add returns kClosed;
  // false, and nothing changes, if a call is waiting or just being added (EB-34).
  bool CloseIfEmpty() { return ring_.CloseIfEmpty(); }
  void Reopen() { ring_.Reopen(); }

  // In a forked child. Complete calls stay, they run in both processes (EB-35); a call that another thread
  // was just adding is dropped.
  void AfterForkInChild() { ring_.AfterForkInChild(); }

  const Limits& limits() const { return options_.limits; }

 private:
  friend class PendingCallHandler;

  struct Call {
    Function function = nullptr;
    void* argument = nullptr;
    uint8_t flags = kNoFlags;
  };

  // Runs up to max_per_pass calls. Stops at the first failure and returns it.
  absl::Status RunPass();
  size_t DropAll();

  const Options options_;
  CallRing<Call> ring_;
};

class PendingCallHandler {
 public:
  // `main_calls` is null for every interpreter but the main one.
  PendingCallHandler(PendingCalls* calls, PendingCalls* main_calls)
      : calls_(calls), main_calls_(main_calls) {}
  PendingCallHandler(const PendingCallHandler&) = delete;
  PendingCallHandler& operator=(const PendingCallHandler&) = delete;

  // Runs what is due: the interpreter's calls, then, if `is_main_thread`, the main queue's; at most one pass
  // of each. Ignores whether the bit is set. `self` is the word of the calling thread, which must be
  // attached. Returns the first failure; then, and when a pass was too short, the bit is set again. CPython:
  // make_pending_calls.
  absl::Status Run(EvalBreaker& self, bool is_main_thread) {
    if (!HasWork(is_main_thread) && !self.IsSet(BreakerEvent::kCallsToDo)) [[likely]] {
      return absl::OkStatus();
    }
    return RunSlow(self, is_main_thread);
  }

  // Whether a thread that attaches should look: for EvalBreaker::RefreshOnAttach (EB-10, EB-11).
  bool HasWork(bool is_main_thread) const {
    return !calls_->IsEmpty() || (is_main_thread && main_calls_ != nullptr && !main_calls_->IsEmpty());
  }

  // Whether some thread is running calls; `self` when asking whether it is that thread.
  bool IsHandling(const EvalBreaker& self) const {
    return (handler_.load(kRelaxed) & ~kAgain) == reinterpret_cast<uintptr_t>(&self);
  }
  bool HasHandler() const { return handler_.load(kRelaxed) != 0; }

  // Forgets every call that waits, without running it, and says how many; arguments are freed as asked for. Waits
  // for no other handler: 0 while there is one. For a finalizer that has had enough (EB-33).
  size_t Drop(EvalBreaker& self, bool is_main_thread);

  // `self`'s thread is gone or will never run again: if it was the handler, nobody is (EB-37).
  void Forget(const EvalBreaker& self);

  // In a forked child: nobody handles, unless the thread that forked does (EB-35). Raises what waits: every lock that
  // the queues' raise functions take has been put in order.
  void AfterForkInChild(const EvalBreaker* survivor);

 private:
  static constexpr uintptr_t kAgain = 1;

  absl::Status RunSlow(EvalBreaker& self, bool is_main_thread) __attribute__((noinline));
  bool BecomeHandler(EvalBreaker& self);
  void Leave(EvalBreaker& self);
  void RaiseWhatIsLeft() const;

  PendingCalls* const calls_;
  PendingCalls* const main_calls_;
  Atomic<uintptr_t> handler_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_CEVAL_BREAKER_PENDING_CALLS_H_
