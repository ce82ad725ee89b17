#include "pyrt/runtime/thread.h"

#include <cstddef>
#include <new>
#include <string>
#include <utility>

#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/phase.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/sync/lock_rank.h"

namespace pyrt::inline PYRT_VARIANT {

struct Thread::Handle {
  // Guarded by handles_lock, as the list: compared, never dereferenced; null when it has been cleared.
  const Interpreter* interp;
  ThreadState* thread = nullptr;  // the thread's own to use, while `interp` is there
  const bool daemon;
  Atomic<uint64_t> ident{0};
  Event done;
  // Given up by its interpreter's end (LC-14): nobody joins it at finalization.
  Atomic<bool> abandoned{false};

  // The list of threads that are not done.
  std::shared_ptr<Handle> self;  // keeps the handle while it is listed
  Handle* previous = nullptr;
  Handle* next = nullptr;

  Handle(const Interpreter* owner, bool is_daemon) : interp(owner), daemon(is_daemon) {}
};

namespace {

using HandleLock = RankedMutex<LockRank::kThreadHandle>;
using HandleLockGuard = BasicMutexLock<HandleLock>;

// Never destroyed: a thread that hangs may come here while the process ends. Only ThreadSanitizer's locks have a destructor.
union KeptLock {
  constexpr KeptLock() : lock() {}
  ~KeptLock() {}
  HandleLock lock;
};
constinit KeptLock kept_lock;
constinit HandleLock& handles_lock = kept_lock.lock;

}  // namespace

// Guarded by handles_lock.
struct Handles {
  template <typename Handle>
  static void Link(Handle*& head, Handle& handle) {
    handle.next = head;
    handle.previous = nullptr;
    if (head != nullptr) head->previous = &handle;
    head = &handle;
  }
  template <typename Handle>
  static void Unlink(Handle*& head, Handle& handle) {
    (handle.previous == nullptr ? head : handle.previous->next) = handle.next;
    if (handle.next != nullptr) handle.next->previous = handle.previous;
  }
};

namespace {

// For the standard library: memory of the runtime's own structures.
template <typename T>
struct StateMemory {
  using value_type = T;
  StateMemory() = default;
  template <typename U>
  explicit StateMemory(const StateMemory<U>&) {}
  T* allocate(size_t count) {
    void* const memory = ThreadRegistry::AllocateState(count * sizeof(T), alignof(T));
    if (memory == nullptr) throw std::bad_alloc();  // as `new` does
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) {
    ThreadRegistry::DeallocateState(memory, count * sizeof(T), alignof(T));
  }
  friend bool operator==(const StateMemory&, const StateMemory&) { return true; }
};

// All that a new thread needs, from the heap: it may start when nothing else is left (gh-108987, gh-109795).
struct BootRecord {
  ThreadState* thread;
  std::shared_ptr<void> handle;
  Thread::Body body;
  Ref<Object> function;
  BootRecord* next = nullptr;
  absl::Status status = absl::OkStatus();  // what the body returned

  static void* operator new(size_t size) { return StateMemory<std::max_align_t>().allocate(Units(size)); }
  static void operator delete(void* memory, size_t size) {
    StateMemory<std::max_align_t>().deallocate(static_cast<std::max_align_t*>(memory), Units(size));
  }

 private:
  static size_t Units(size_t size) {
    return (size + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t);
  }
};

// Of threads that came too late to run, or whose body has ended their interpreter. Only a thread that is attached to
// that, which is gone, may let go of what the bodies hold on to, and the errors that they returned: it stays as it is.
constinit Atomic<BootRecord*> abandoned{nullptr};

void Abandon(std::unique_ptr<BootRecord> record) {
  record->handle = nullptr;
  record->next = abandoned.load(kRelaxed);
  while (!abandoned.compare_exchange_weak(record->next, record.get(), kRelaxed, kRelaxed)) {
  }
  static_cast<void>(record.release());
}

void* listed_handles = nullptr;  // Thread::Handle*, guarded by handles_lock

template <typename Handle>
Handle*& Head() {
  return reinterpret_cast<Handle*&>(listed_handles);
}

template <typename Handle>
void Finish(Handle& handle) {
  std::shared_ptr<Handle> keep;
  {
    HandleLockGuard lock(handles_lock);
    if (handle.self == nullptr) return;  // a forked child has finished it already
    Handles::Unlink(Head<Handle>(), handle);
    keep = std::move(handle.self);
    // Under the lock, which a fork holds: its child sees a thread that is listed, or one that is done.
    handle.done.Notify();
  }
}

template <typename Handle>
bool IsDisowned(const Handle& handle) {
  HandleLockGuard lock(handles_lock);
  return handle.interp == nullptr;
}

}  // namespace

absl::StatusOr<Thread> Thread::Start(Body body, const ThreadOptions& options) {
  ThreadState& current = ThreadState::Get("PyThread_start_new_thread");
  Interpreter& interp = *current.interp();
  // In CPython's order: threading.Thread's constructor, the audit event, the thread itself.
  if (options.daemon) {
    if (absl::Status status = CheckDaemonThreadsAllowed(interp.features()); !status.ok()) return status;
  }
  const Ref<Object> audited[] = {options.function ? options.function : None(), Int::Of(options.daemon),
                                 None()};
  if (absl::Status status = Runtime::Audit("_thread.start_joinable_thread", audited); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckThreadsAllowed(interp.features()); !status.ok()) return status;
  if (interp.IsFinalizing()) {
    return Raise(ErrorType::PythonFinalizationError(), "can't create new thread at interpreter shutdown");
  }
  // The state last: what is made before it goes by itself when memory is short.
  auto handle = std::allocate_shared<Handle>(StateMemory<Handle>(), &interp, options.daemon);
  std::unique_ptr<BootRecord> record(
      new BootRecord{nullptr, handle, std::move(body), options.function, nullptr});
  ThreadState* const thread =
      interp.threads().New(options.daemon ? Whence::kThreadingDaemon : Whence::kThreading);
  if (thread == nullptr) return Raise(ErrorType::MemoryError(), "no memory for a thread state");
  record->thread = handle->thread = thread;
  {
    HandleLockGuard lock(handles_lock);
    handle->self = handle;
    Handles::Link(Head<Handle>(), *handle);
  }
  OsThread os_thread;
  if (os_thread.Start(&Run, record.get(), options.stack_size) != 0) {
    if (!PYRT_MUTANT(failed_start_leaves_the_thread_listed)) Finish(*handle);
    InterpreterThreads::Clear(*thread);
    InterpreterThreads::Delete(thread);
    return Raise(ErrorType::RuntimeError(), "can't start new thread");
  }
  static_cast<void>(record.release());  // the new thread's
  os_thread.Detach();                   // it is joined through `done`
  return Thread(std::move(handle));
}

void Thread::Run(void* boot_record) {
  std::unique_ptr<BootRecord> record(static_cast<BootRecord*>(boot_record));
  const auto handle = std::static_pointer_cast<Handle>(record->handle);
  ThreadState& thread = *record->thread;
  handle->ident.store(CurrentThreadIdent(), kRelaxed);
  if (!Interpreter::BindNewThread(thread)) {
    Abandon(std::move(record));
    thread.DecRef();
    Finish(*handle);
    return;
  }
  thread.Attach();  // may hang
  absl::Status& status = record->status;
  status = record->body();
  if (IsDisowned(*handle)) {
    // The body has ended its own interpreter, or the runtime, and with it this state: nothing may run there any more.
    if (ThreadState* const other = ThreadState::Current()) other->Detach();
    Abandon(std::move(record));
    Finish(*handle);
    return;
  }
  if (!status.ok() && !IsError(status, ErrorType::SystemExit())) {
    // The function is part of the message and not the hook's `object`.
    std::string what = "Exception ignored in thread started by";
    if (record->function) what += " " + ReprOrPlaceholder(*record->function);
    Runtime::WriteUnraisable(status, what.c_str());
  }
  record.reset();  // destructors of the body run attached
  InterpreterThreads::Clear(thread);
  InterpreterThreads::DeleteCurrent();
  Finish(*handle);
}

bool Thread::IsDone() const { return handle_->done.IsSet(); }
bool Thread::daemon() const { return handle_->daemon; }
uint64_t Thread::ident() const { return handle_->ident.load(kRelaxed); }

absl::Status Thread::Wait(Handle& handle, Timeout timeout) {
  const Deadline deadline = DeadlineAfter(timeout);
  for (;;) {
    Timeout left = timeout;
    if (timeout > 0 && deadline != kNoDeadline) {
      left = deadline - MonotonicNow();
      if (left <= 0) left = 0;
    }
    // Who wakes us: Finish, on the thread's way out or before it hangs (GiveUp, OnHang), unless it is a daemon.
    if (handle.done.WaitTimed(left, ThreadState::DetachWhileWaiting())) return absl::OkStatus();
    if (left == 0) return absl::DeadlineExceededError("the thread has not ended in time");
    // Time is nearly up, or a signal.
    if (ThreadState* current = ThreadState::Current(); current != nullptr) {
      if (Interpreter::CheckSignals(*current) != 0) {
        return ToStatus(std::exchange(current->data().current_exception, nullptr));
      }
    }
  }
}

absl::Status Thread::Join(Timeout timeout) {
  if (IsDone()) return absl::OkStatus();
  if (ident() == CurrentThreadIdent()) return Raise(ErrorType::RuntimeError(), "Cannot join current thread");
  if (process_phase.finalizing.load(kRelaxed) != 0) {
    return Raise(ErrorType::PythonFinalizationError(), "cannot join thread at interpreter shutdown");
  }
  return Wait(*handle_, timeout);
}

absl::Status Thread::JoinAll(Interpreter& interp) {
  const uint64_t self = CurrentThreadIdent();
  for (;;) {
    std::shared_ptr<Handle> wait_for;
    {
      HandleLockGuard lock(handles_lock);
      for (Handle* handle = Head<Handle>(); handle != nullptr; handle = handle->next) {
        if (handle->interp == &interp && !handle->daemon && !handle->abandoned.load(kRelaxed) &&
            handle->ident.load(kRelaxed) != self) {
          wait_for = handle->self;
          break;
        }
      }
    }
    if (wait_for == nullptr) return absl::OkStatus();
    if (absl::Status status = Wait(*wait_for, kForever); !status.ok()) {
      HandleLockGuard lock(handles_lock);
      for (Handle* handle = Head<Handle>(); handle != nullptr; handle = handle->next) {
        if (handle->interp == &interp) handle->abandoned.store(true, kRelaxed);
      }
      return status;
    }
  }
}

size_t Thread::Joinable(Interpreter& interp) {
  const uint64_t self = CurrentThreadIdent();
  size_t count = 0;
  HandleLockGuard lock(handles_lock);
  for (Handle* handle = Head<Handle>(); handle != nullptr; handle = handle->next) {
    count += handle->interp == &interp && !handle->daemon && !handle->abandoned.load(kRelaxed) &&
             handle->ident.load(kRelaxed) != self;
  }
  return count;
}

void Thread::Disown(Interpreter& interp) {
  HandleLockGuard lock(handles_lock);
  for (Handle* handle = Head<Handle>(); handle != nullptr; handle = handle->next) {
    if (handle->interp == &interp) handle->interp = nullptr;
  }
}

void Thread::GiveUp() { StopWaitingForThis(/*daemons_too=*/true); }
void Thread::OnHang() { StopWaitingForThis(/*daemons_too=*/false); }

void Thread::StopWaitingForThis(bool daemons_too) {
  const uint64_t self = CurrentThreadIdent();
  std::shared_ptr<Handle> own;
  {
    HandleLockGuard lock(handles_lock);
    for (Handle* handle = Head<Handle>(); handle != nullptr && own == nullptr; handle = handle->next) {
      if (handle->ident.load(kRelaxed) != self || (handle->daemon && !daemons_too)) continue;
      own = handle->self;
      if (handle->interp != nullptr) handle->thread->set_whence(Whence::kThreadingDaemon);
    }
  }
  if (own != nullptr) Finish(*own);
  // Not the current state's alone: frames further down may be attached to others, to which they never come back. Such a
  // state stays listed, and nobody else's, as long as its interpreter has to wait for its guard.
  InterpreterRegistry& registry = Runtime::Instance().registry_;
  for (;;) {
    InterpreterGuard guard;  // closed without the lock, one at a time: that wakes who waits
    {
      BasicMutexLock<HeadLock> lock(registry.threads().head_lock());
      for (Interpreter* interp = registry.UnlockedHead(); interp != nullptr; interp = interp->next()) {
        interp->threads().UnlockedForEach([&](ThreadState& thread) {
          if (guard || thread.thread_id() != self || !thread.data().owned_guard) return;
          guard = std::move(thread.data().owned_guard);
        });
      }
    }
    if (!guard) return;
  }
}

void Thread::BeforeFork() PYRT_NO_THREAD_SAFETY_ANALYSIS { handles_lock.Lock(); }
void Thread::AfterForkInParent() PYRT_NO_THREAD_SAFETY_ANALYSIS { handles_lock.Unlock(); }

void Thread::AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  handles_lock.ReinitAfterFork();
  const uint64_t self = CurrentThreadIdent();
  Handle* next = nullptr;
  for (Handle* handle = Head<Handle>(); handle != nullptr; handle = next) {
    next = handle->next;
    handle->done.ReinitAfterFork();
    if (handle->ident.load(kRelaxed) == self || PYRT_MUTANT(fork_child_joins_absent_threads)) continue;
    Finish(*handle);
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
