#include "pyrt/runtime/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct Registration {
  const Interpreter* interp;
  std::shared_ptr<const Fork::Callbacks> callbacks;
};

struct ForkState {
  Mutex mutex;  // guards `registrations`
  std::list<Registration> registrations;
  // From BeforeFork to AfterFork..., by the thread that forks, which has stopped all others.
  std::optional<StopTheWorld> stop;
  ThreadState* thread = nullptr;
};

ForkState& State() {
  // Without the heap: the end of an interpreter comes here, also of one that could not be made for lack of memory.
  alignas(ForkState) static std::byte memory[sizeof(ForkState)];
  static ForkState* const state = new (memory) ForkState;
  return *state;
}

// Of the whole process, the host's own ones too; 0 if the system does not tell. CPython: get_number_of_os_threads.
int CountOsThreads() {
  const int file = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[512];
  const ssize_t size = ::read(file, text, sizeof(text) - 1);
  ::close(file);
  if (size <= 0) return 0;
  text[size] = '\0';
  // The second field, in parentheses, is the program's name and may contain anything. The twentieth is wanted.
  const char* field = std::strrchr(text, ')');
  for (int i = 2; field != nullptr && i < 20; ++i) field = std::strchr(field + 1, ' ');
  return field == nullptr ? 0 : std::atoi(field + 1);
}

// In the child, with the states as the parent left them: whether a thread was in the middle of something in another
// interpreter, whose data may then be half changed. Only where it ran under another GIL: a world that is stopped has no
// such threads.
bool RanBesideUs(Interpreter& interp) {
  if constexpr (!kGilEnabled) return false;
  bool attached = false;
  interp.threads().ForEach([&](const ThreadState& thread) { attached = attached || thread.attached(); });
  return attached;
}

}  // namespace

void Fork::Register(Callbacks callbacks) {
  const Interpreter* const interp = ThreadState::Get("os.register_at_fork").interp();
  std::list<Registration> fresh;
  fresh.push_back({interp, std::make_shared<const Callbacks>(std::move(callbacks))});
  MutexLock lock(State().mutex);
  std::list<Registration>& all = State().registrations;
  all.splice(all.end(), fresh);
}

void Fork::Clear(const Interpreter& interp) {
  std::list<Registration>& all = State().registrations;
  for (;;) {
    std::list<Registration> old;  // goes after the lock, and may register others
    MutexLock lock(State().mutex);
    for (auto it = all.begin(); it != all.end();) {
      const auto entry = it++;
      if (entry->interp == &interp) old.splice(old.end(), all, entry);
    }
    if (old.empty()) return;
  }
}

void Fork::RunCallbacks(const Interpreter& interp, Callback Callbacks::*which, bool newest_first) {
  std::vector<std::shared_ptr<const Callbacks>> callbacks;
  // Room first: nothing is allocated under the lock.
  for (;;) {
    callbacks.clear();
    bool complete = true;
    {
      MutexLock lock(State().mutex);
      for (const Registration& entry : State().registrations) {
        if (entry.interp != &interp) continue;
        complete = callbacks.size() < callbacks.capacity();
        if (!complete) break;
        callbacks.push_back(entry.callbacks);
      }
    }
    if (complete) break;
    callbacks.reserve(callbacks.capacity() * 2 + 8);
  }
  if (newest_first) std::reverse(callbacks.begin(), callbacks.end());
  const InterpreterHooks& hooks = Runtime::Get().interpreters().hooks();
  for (const auto& entry : callbacks) {
    const Callback& callback = (*entry).*which;
    if (!callback) continue;
    const absl::Status status = callback();
    if (!status.ok()) hooks.unraisable(hooks.context, status, "Exception ignored in fork callback", nullptr);
  }
}

void Fork::BeforeFork() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  ThreadState& thread = ThreadState::Get("PyOS_BeforeFork");
  Runtime& runtime = Runtime::Get();
  RunCallbacks(*thread.interp(), &Callbacks::before, /*newest_first=*/true);
  for (auto it = runtime.subsystems_.rbegin(); it != runtime.subsystems_.rend(); ++it) {
    if (it->before_fork != nullptr) it->before_fork(it->context, *thread.interp());
  }
  ThreadRegistry& threads = runtime.interpreters().threads();
  StopTheWorld stop(threads);
  stop.Stop();
  // Held across fork, so that the child finds complete lists. Reinitialised there, not unlocked (FK-2).
  threads.head_lock().Lock();
  Thread::BeforeFork();
  // A detached thread registers exit functions, one under a GIL of its own fork callbacks: nothing has stopped these.
  runtime.exit_functions_.BeforeFork();
  State().mutex.Lock();
  for (auto it = runtime.subsystems_.rbegin(); it != runtime.subsystems_.rend(); ++it) {
    if (it->before_fork_stopped != nullptr) it->before_fork_stopped(it->context, *thread.interp());
  }
  // Two threads that fork at once meet in Stop or, with GILs of their own, at this lock: the state is one's at a time.
  State().stop.emplace(stop);
  State().thread = &thread;
}

void Fork::AfterForkInParent() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  ForkState& state = State();
  Runtime& runtime = Runtime::Get();
  ThreadState& thread = *std::exchange(state.thread, nullptr);
  StopTheWorld stop = *std::exchange(state.stop, std::nullopt);
  // While nobody runs yet who could wait, attached, for what is held.
  for (const Subsystem& subsystem : runtime.subsystems_) {
    if (subsystem.after_fork_in_parent != nullptr) {
      subsystem.after_fork_in_parent(subsystem.context, *thread.interp());
    }
  }
  state.mutex.Unlock();
  runtime.exit_functions_.AfterForkInParent();
  Thread::AfterForkInParent();
  runtime.interpreters().threads().head_lock().Unlock();
  stop.Start();
  RunCallbacks(*thread.interp(), &Callbacks::after_in_parent, /*newest_first=*/false);
}

void Fork::AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  ForkState& state = State();
  Runtime& runtime = Runtime::Get();
  InterpreterRegistry& registry = runtime.interpreters();
  ThreadState& thread = *std::exchange(state.thread, nullptr);
  Interpreter& own = *thread.interp();

  // Locks, from the bottom up: the parking lot before what parks in it (RT-39). Nothing else may run before.
  PlatformAfterForkInChild();
  ParkingLot::AfterForkInChild();
  registry.threads().ReinitAfterFork();
  LockRankForgetAfterFork();
  // The other interpreters whose data we may not touch.
  std::vector<Interpreter*> torn;
  for (Interpreter* interp = registry.head(); interp != nullptr; interp = interp->next()) {
    if (interp != &own && RanBesideUs(*interp)) torn.push_back(interp);
  }
  const auto is_torn = [&](const Interpreter* interp) {
    return std::find(torn.begin(), torn.end(), interp) != torn.end();
  };
  state.mutex.ReinitAfterFork();
  runtime.exit_functions_.AfterForkInChild();
  // Another thread may have been ending the runtime, and waiting for us to end: it is not here, and we may.
  if ((runtime.busy_.load(kRelaxed) & ~Runtime::kStarts) != CurrentThreadIdent() &&
      !PYRT_MUTANT(fork_child_inherits_the_end)) {
    runtime.busy_.store(0, kRelaxed);
  }
  state.stop->ForgetAfterFork();
  state.stop.reset();
  registry.AfterForkInChild(&thread, /*attached=*/true);
  Thread::AfterForkInChild();

  // Before any destructor runs: it may import, write and audit.
  for (const Subsystem& subsystem : runtime.subsystems_) {
    if (subsystem.after_fork_in_child != nullptr) subsystem.after_fork_in_child(subsystem.context, own);
    if (subsystem.reinit_after_fork == nullptr) continue;
    for (Interpreter* interp = registry.head(); interp != nullptr; interp = interp->next()) {
      // The main one goes on also when it was torn.
      if (interp != &own && (interp->is_main() || !is_torn(interp))) {
        subsystem.reinit_after_fork(subsystem.context, *interp);
      }
    }
  }

  // The states of threads that do not exist, cleared and freed with everything working: destructors run.
  InterpreterThreads::DeleteRemoved(own.threads().RemoveAllExcept(&thread), /*threads_are_gone=*/true);
  // And the other interpreters; of the main one only the states (it cannot go).
  for (Interpreter* interp = registry.head(); interp != nullptr;) {
    Interpreter* const next = interp->next();
    if (interp != &own) Thread::Disown(*interp);  // of this thread's state there, too
    if (is_torn(interp)) {
      // This thread may have a state there as well, to which it must not come back.
      interp->threads().ForEach([](ThreadState& state) {
        if (state.thread_id() == CurrentThreadIdent()) state.ShutDown();
      });
      interp->threads().RemoveAllExcept(nullptr);
      if (!interp->is_main()) registry.Abandon(interp);
    } else if (interp != &own) {
      ThreadState* const removed = interp->threads().RemoveAllExcept(nullptr);
      ThreadState* const temporary = interp->threads().NewBound(Whence::kFini);
      PYRT_CHECK(temporary != nullptr, "PyOS_AfterFork_Child", "no memory for a thread state");
      ThreadState::Swap(temporary);
      InterpreterThreads::DeleteRemoved(removed, /*threads_are_gone=*/true);
      if (interp->is_main()) {
        InterpreterThreads::Clear(*temporary);
        InterpreterThreads::DeleteCurrent();
      } else {
        runtime.TearDown(*interp, *temporary);
      }
      thread.Attach();
    }
    interp = next;
  }

  RunCallbacks(own, &Callbacks::after_in_child, /*newest_first=*/false);
}

absl::Status Fork::Check(const char* event, Args arguments) {
  ThreadState& thread = ThreadState::Get("os.fork");
  Interpreter& interp = *thread.interp();
  // In this order.
  if (interp.registry().IsFinalizing() || interp.IsFinalizing()) {
    return Raise(ErrorType::PythonFinalizationError(), "can't fork at interpreter shutdown");
  }
  if (absl::Status status = CheckForkAllowed(interp.features()); !status.ok()) return status;
  return Runtime::Audit(event, arguments);
}

absl::StatusOr<pid_t> Fork::Run() {
  if (absl::Status status = Check("os.fork"); !status.ok()) return status;
  BeforeFork();
  const int threads =
      CountOsThreads();  // as the child has found them, and not as its parent finds them later
  const pid_t pid = ForkProcess();
  const int error = errno;
  if (pid == 0) {
    AfterForkInChild();
    return 0;
  }
  AfterForkInParent();
  if (pid < 0) return ToStatus(NewOsError(error, "fork"));
  // After the bookkeeping, as an error too (gh-135427).
  if (threads > 1) {
    char text[128];
    std::snprintf(
        text, sizeof(text),
        "This process (pid=%d) is multi-threaded, use of fork() may lead to deadlocks in the child.",
        static_cast<int>(::getpid()));
    // One that was made an exception: the child lives all the same.
    if (absl::Status status = Runtime::Warn("DeprecationWarning", text); !status.ok()) return status;
  }
  return pid;
}

}  // namespace pyrt::inline PYRT_VARIANT
