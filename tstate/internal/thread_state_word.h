// ThreadStateWord: whether a thread may touch its interpreter, in one word with legal transitions only.
//
//   from                 to                   who              when
//   kDetached            kAttached            the thread       attach (a compare-and-swap; plain under the GIL)
//   kAttached            kDetached            the thread       detach (a release store)
//   kAttached            kSuspended           -                never directly: a thread that is asked to stop
//                                                              detaches, and a detached thread is suspended
//   kDetached            kSuspended           a stopper, or    stop-the-world, handshake
//                                             the thread
//   kSuspended           kDetached            the stopper      the world starts
//   kSuspended           kSuspendedWaiting    the thread       it wants to attach while suspended, and parks
//   kSuspendedWaiting    kDetachedWaiting     the stopper      the world starts; the thread is woken
//   kDetachedWaiting     kAttached            the thread       attach. Not suspended in between, however soon
//                                                              the next stop comes (gh-151518)
//   kDetached, kSuspended, kSuspendedWaiting, kDetachedWaiting
//                        kShuttingDown        the finalizer    the thread may never attach again: it hangs
//                                                              when it tries
//   kShuttingDown        (nothing)
//
// In the GIL-enabled build only kDetached, kAttached and kShuttingDown occur; there the word is written by
// the holder of the GIL, and what it says is implied by who holds it.
//
// Every function but the ones marked "any thread" is for the party in the third column. A transition that the
// table does not have is fatal and prints both states.
//
// CPython counterpart: PyThreadState.state, _Py_THREAD_DETACHED and its siblings.

#ifndef PYRT_TSTATE_INTERNAL_THREAD_STATE_WORD_H_
#define PYRT_TSTATE_INTERNAL_THREAD_STATE_WORD_H_

#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// The values are CPython's.
enum class RunState : uint32_t {
  kDetached = 0,
  kAttached = 1,
  kSuspended = 2,
  kShuttingDown = 3,
  kSuspendedWaiting = 4,
  kDetachedWaiting = 5,
};
inline constexpr int kRunStates = 6;

constexpr const char* RunStateName(RunState state) {
  constexpr const char* kNames[kRunStates] = {"detached",      "attached",          "suspended",
                                              "shutting down", "suspended-waiting", "detached-waiting"};
  return static_cast<uint32_t>(state) < kRunStates ? kNames[static_cast<uint32_t>(state)] : "corrupt";
}

// The table above.
constexpr bool IsLegalTransition(RunState from, RunState to) {
  switch (to) {
    case RunState::kDetached:
      return from == RunState::kAttached || from == RunState::kSuspended;
    case RunState::kAttached:
      return from == RunState::kDetached || from == RunState::kDetachedWaiting;
    case RunState::kSuspended:
      return from == RunState::kDetached;
    case RunState::kShuttingDown:
      return from != RunState::kAttached && from != RunState::kShuttingDown;
    case RunState::kSuspendedWaiting:
      return from == RunState::kSuspended;
    case RunState::kDetachedWaiting:
      return from == RunState::kSuspendedWaiting;
  }
  return false;
}

class ThreadStateWord {
 public:
  constexpr explicit ThreadStateWord(RunState initial = RunState::kDetached)
      : word_(static_cast<uint32_t>(initial)) {}

  // Any thread; a moment's truth but for the thread itself while it is attached.
  RunState Get() const { return static_cast<RunState>(word_.load(kRelaxed)); }
  bool attached() const { return Get() == RunState::kAttached; }

  // The thread: attaches if it is detached; false if it must wait or exit. Acquire: pairs with Resume, so
  // that the thread sees what was done while the world was stopped.
  bool TryAttach() {
    uint32_t expected = static_cast<uint32_t>(RunState::kDetached);
    return word_.compare_exchange_strong(expected, static_cast<uint32_t>(RunState::kAttached), kAcquire,
                                         kRelaxed);
  }

  // The thread, after it was woken: as TryAttach, for kDetachedWaiting.
  bool TryAttachAfterWait() {
    uint32_t expected = static_cast<uint32_t>(RunState::kDetachedWaiting);
    return word_.compare_exchange_strong(expected, static_cast<uint32_t>(RunState::kAttached), kAcquire,
                                         kRelaxed);
  }

  // The thread, which holds the GIL of a GIL-enabled build: nobody else writes the word meanwhile. Relaxed:
  // the GIL orders.
  void AttachUnderGil() {
    Expect(RunState::kAttached);
    word_.store(static_cast<uint32_t>(RunState::kAttached), kRelaxed);
  }

  // The thread. Release: pairs with TrySuspend, so that the stopper sees what the thread did while attached.
  // Nobody else writes the word of an attached thread, so no compare-and-swap is needed.
  void Detach() {
    Expect(RunState::kDetached);
    word_.store(static_cast<uint32_t>(RunState::kDetached),
                PYRT_MUTANT(tstate_detach_is_relaxed) ? kRelaxed : kRelease);
  }

  // A stopper, or the thread itself: false if the thread is not detached (any more). Acquire: see Detach.
  bool TrySuspend() {
    uint32_t expected = static_cast<uint32_t>(RunState::kDetached);
    return word_.compare_exchange_strong(expected, static_cast<uint32_t>(RunState::kSuspended), kAcqRel,
                                         kRelaxed);
  }

  // The stopper that has suspended the thread lets it go; true if the thread sleeps on futex() and must be
  // woken. Release: see TryAttach.
  bool Resume() {
    uint32_t word = word_.load(kRelaxed);
    for (;;) {
      RunState to = static_cast<RunState>(word) == RunState::kSuspendedWaiting &&
                            !PYRT_MUTANT(gh_151518_resume_forgets_the_waiter)
                        ? RunState::kDetachedWaiting
                        : RunState::kDetached;
      const bool waits = static_cast<RunState>(word) == RunState::kSuspendedWaiting;
      if (static_cast<RunState>(word) != RunState::kSuspended && !waits) {
        if (static_cast<RunState>(word) == RunState::kShuttingDown) return false;
        Illegal(static_cast<RunState>(word), to);
      }
      // The thread may start to wait between the load and this.
      if (word_.compare_exchange_weak(word, static_cast<uint32_t>(to), kRelease, kRelaxed)) return waits;
    }
  }

  // The thread: says that it waits to attach, and what to sleep on. False if it need not wait any more.
  bool BeginWait() {
    uint32_t expected = static_cast<uint32_t>(RunState::kSuspended);
    return word_.compare_exchange_strong(expected, static_cast<uint32_t>(RunState::kSuspendedWaiting),
                                         kRelaxed, kRelaxed);
  }
  const Atomic<uint32_t>* futex() const { return &word_; }

  // The finalizer, while the thread cannot attach (it holds the GIL, or the world is stopped). True if the
  // thread sleeps on futex(). Idempotent.
  bool ShutDown() {
    uint32_t word = word_.load(kRelaxed);
    do {
      if (static_cast<RunState>(word) == RunState::kShuttingDown) return false;
      if (!IsLegalTransition(static_cast<RunState>(word), RunState::kShuttingDown)) {
        Illegal(static_cast<RunState>(word), RunState::kShuttingDown);
      }
    } while (!word_.compare_exchange_weak(word, static_cast<uint32_t>(RunState::kShuttingDown), kRelease,
                                          kRelaxed));
    return static_cast<RunState>(word) == RunState::kSuspendedWaiting;
  }

  // In a forked child, for the only thread: whatever the parent's other threads wanted of it.
  void ReinitAfterFork(RunState state) { word_.store(static_cast<uint32_t>(state), kRelaxed); }

 private:
  [[noreturn, gnu::cold]] static void Illegal(RunState from, RunState to) {
    Fatal("ThreadState", "thread state word: illegal transition from %s to %s", RunStateName(from),
          RunStateName(to));
  }
  void Expect(RunState to) const {
    if constexpr (kDebug) {
      if (!IsLegalTransition(Get(), to)) Illegal(Get(), to);
    }
  }

  Atomic<uint32_t> word_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_THREAD_STATE_WORD_H_
