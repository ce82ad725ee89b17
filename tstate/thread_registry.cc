#include "pyrt/tstate/thread_registry.h"

#include <new>
#include <utility>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

void* DefaultAllocate(size_t size, size_t alignment) {
  return ::operator new(size, std::align_val_t(alignment), std::nothrow);
}
void DefaultDeallocate(void* memory, size_t, size_t alignment) {
  ::operator delete(memory, std::align_val_t(alignment));
}
constexpr ThreadRegistry::Allocator kDefaultAllocator{&DefaultAllocate, &DefaultDeallocate};
constinit const ThreadRegistry::Allocator* allocator = &kDefaultAllocator;

// The memory of the state that was freed last: creating and deleting one state over and over costs no
// allocation. It belongs to the process, not to an interpreter, because the last reference may go when the
// interpreter has long gone (a thread that hangs).
//
// Acquire and release: the memory's last use happens before its next.
constinit Atomic<void*> spare{nullptr};

ThreadState* Allocate(InterpreterLink& link, Whence whence, QsbrSlot* slot) {
  void* memory = spare.load(kRelaxed);
  if (PYRT_MUTANT(gh_126914_spare_is_taken_in_two_steps)) {
    spare.store(nullptr, kRelaxed);
  } else if (memory != nullptr) {
    memory = spare.exchange(nullptr, kAcquire);
  }
  if (memory == nullptr) memory = ThreadRegistry::AllocateState(sizeof(ThreadState), alignof(ThreadState));
  return memory == nullptr ? nullptr : new (memory) ThreadState(link, whence, /*id=*/0, slot);
}

void Free(ThreadState* thread) {
  thread->~ThreadState();
  void* expected = nullptr;
  if (spare.compare_exchange_strong(expected, thread, kRelease, kRelaxed)) return;
  ThreadRegistry::DeallocateState(thread, sizeof(ThreadState), alignof(ThreadState));
}

}  // namespace

void* ThreadRegistry::AllocateState(size_t size, size_t alignment) {
  return allocator->allocate(size, alignment);
}

void ThreadRegistry::DeallocateState(void* memory, size_t size, size_t alignment) {
  allocator->deallocate(memory, size, alignment);
}

// The last word of a thread that hangs, or ends, about an interpreter which ended before it.
void InterpreterThreads::FreeLost(ThreadState* thread) {
  InterpreterThreads& threads = *thread->link().threads;
  Free(thread);
  // Release: the list may go from here on.
  threads.lost_states_.fetch_sub(1, kRelease);
}

void ThreadRegistry::SetAllocator(const Allocator* replacement) {
  if (void* const memory = spare.exchange(nullptr, kAcquire)) {
    DeallocateState(memory, sizeof(ThreadState), alignof(ThreadState));
  }
  if (replacement == nullptr) replacement = &kDefaultAllocator;
  // Threads that hang from now on give their states back at any time, and read this: a second life writes nothing.
  if (allocator != replacement) allocator = replacement;
}

void ThreadRegistry::ReinitAfterFork() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  if (!PYRT_MUTANT(fork_head_lock_stays_held)) head_lock_.ReinitAfterFork();
  global_stop_.ReinitAfterFork();
  if (!PYRT_MUTANT(fork_stop_gate_stays_closed)) stop_gate_.ReinitAfterFork();
  for (InterpreterThreads* threads = first_; threads != nullptr; threads = threads->next_) {
    threads->stop_state_.ReinitAfterFork();
  }
}

// --- The list of lists

InterpreterThreads::InterpreterThreads(const Options& options) : registry_(*options.registry) {
  link_.gil = options.gil;
  link_.interp = options.interp;
  link_.handle_pending = options.handle_pending;
  link_.breaker_on_attach.store(options.instrumentation_version, kRelaxed);
  link_.recursion_limit.store(options.recursion_limit, kRelaxed);
  link_.qsbr = kGilEnabled ? nullptr : &qsbr_;
  link_.interpreter_stop = &stop_state_.counter;
  link_.global_stop = &registry_.global_stop_.counter;
  link_.threads = this;
  if constexpr (!kGilEnabled) {
    // A poll that handles it reports; nothing else comes of it where no reference is queued.
    qsbr_.SetAsk(
        [](void* threads) {
          static_cast<InterpreterThreads*>(threads)->SetOnAll(BreakerEvent::kExplicitMerge);
        },
        this);
  }

  HeadLockGuard guard(registry_.head_lock_);
  previous_ = nullptr;
  next_ = registry_.first_;
  if (next_ != nullptr) next_->previous_ = this;
  registry_.first_ = this;
}

InterpreterThreads::~InterpreterThreads() {
  HeadLockGuard guard(registry_.head_lock_);
  PYRT_CHECK(first_ == nullptr, "PyInterpreterState_Delete", "remaining threads");
  (previous_ == nullptr ? registry_.first_ : previous_->next_) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
}

// --- Birth

// Under the head lock.
void InterpreterThreads::Link(ThreadState& thread) {
  thread.id_ = ++last_id_;
  // A stop that is going on, or about to count the list, finds the state suspended and does not count it; who
  // starts the world resumes it (TS-18).
  if constexpr (!kGilEnabled) {
    if ((stop_state_.requested.load(kRelaxed) || registry_.global_stop_.requested.load(kRelaxed)) &&
        !PYRT_MUTANT(stw_newborn_is_not_suspended)) {
      thread.word_.TrySuspend();
    }
  }
  thread.previous_ = nullptr;
  thread.next_ = first_;
  if (first_ != nullptr) first_->previous_ = &thread;
  first_ = &thread;
  thread.listed_ = true;
  ++size_;
  // It may have been changed since the state was made, and for the states on the list only (SY-58).
  thread.data_.recursion.set_limit(link_.recursion_limit.load(kRelaxed));
}

ThreadState* InterpreterThreads::New(Whence whence) {
  QsbrSlot* slot = nullptr;
  if constexpr (!kGilEnabled) {
    slot = qsbr_.Reserve();  // before the head lock (QS-6)
    if (slot == nullptr) return nullptr;
  }
  ThreadState* const thread = Allocate(link_, whence, slot);
  if (thread == nullptr) {
    if (slot != nullptr && !PYRT_MUTANT(gh_155363_slot_stays_reserved)) qsbr_.Release(slot);  // gh-155363
    return nullptr;
  }
  thread->set_deleter(&Free);
  HeadLockGuard guard(registry_.head_lock_);
  Link(*thread);
  return thread;
}

ThreadState* InterpreterThreads::NewBound(Whence whence) {
  ThreadState* const thread = New(whence);
  if (thread != nullptr) thread->Bind();
  return thread;
}

// --- Death

void InterpreterThreads::Clear(ThreadState& thread) {
  PYRT_CHECK(thread.lifecycle_status_.Has(internal::kInitialized) &&
                 !thread.lifecycle_status_.Has(internal::kCleared),
             "PyThreadState_Clear", "a thread state is cleared once (%s)", thread.ToString().c_str());
  PYRT_CHECK(ThreadState::Current() != nullptr && &ThreadState::Current()->link() == &thread.link(),
             "PyThreadState_Clear",
             "only a thread that is attached to the state's interpreter may clear it (%s)",
             thread.ToString().c_str());
  {
    HeadLockGuard guard(thread.link().threads->registry_.head_lock_);  // as SetAsyncException looks at it
    thread.lifecycle_status_.Set(internal::kFinalizing);
  }
  thread.ClearData();
  thread.lifecycle_status_.Set(internal::kCleared);
}

// Takes the state off the list and acknowledges, in its place, whoever waits for it to stop (B058).
void InterpreterThreads::Unlink(ThreadState& thread) {
  HeadLockGuard guard(registry_.head_lock_);
  if (thread.listed_) {
    (thread.previous_ == nullptr ? first_ : thread.previous_->next_) =
        PYRT_MUTANT(registry_unlink_loses_the_rest) ? nullptr : thread.next_;
    if (thread.next_ != nullptr) thread.next_->previous_ = thread.previous_;
    thread.previous_ = thread.next_ = nullptr;
    thread.listed_ = false;
    --size_;
  }
  if constexpr (!kGilEnabled) {
    if (PYRT_MUTANT(stw_deletion_is_not_an_acknowledgement)) return;
    if (thread.ClaimStop(kStopInterpreter)) stop_state_.counter.Acknowledge();
    if (thread.ClaimStop(kStopGlobal)) registry_.global_stop_.counter.Acknowledge();
    if (thread.ClaimStop(kStopHandshake)) {
      HandshakeOperation* const operation = thread.handshake_.exchange(nullptr, kAcquire);
      operation->outcome.Set(HandshakeOperation::kGone);
      operation->counter.Acknowledge();
    }
  }
}

void InterpreterThreads::FinishDelete(ThreadState& thread) {
  if (internal::gilstate_thread_state == &thread) thread.UnbindGilState();
  thread.data_.data_stack.Clear();
  thread.lifecycle_status_.Set(internal::kFinalized);
}

void InterpreterThreads::Delete(ThreadState* thread) {
  if (thread == nullptr) Fatal("PyThreadState_Delete", "the thread state is NULL");
  PYRT_CHECK(ThreadState::Current() != thread && !thread->attached(), "PyThreadState_Delete",
             "tstate %p is still current (%s; %s)", static_cast<void*>(thread), thread->ToString().c_str(),
             ThreadState::Here().c_str());
  PYRT_CHECK(thread->lifecycle_status_.Has(internal::kCleared) &&
                 !thread->lifecycle_status_.Has(internal::kFinalized),
             "PyThreadState_Delete", "a thread state is deleted once, after it was cleared (%s)",
             thread->ToString().c_str());
  InterpreterThreads& threads = *thread->link().threads;
  if (thread->qsbr_slot_ != nullptr) threads.qsbr_.Release(std::exchange(thread->qsbr_slot_, nullptr));
  thread->gil().Forget(thread->holder_);
  threads.Unlink(*thread);
  FinishDelete(*thread);
  // A state that is slot B of another, living thread stays until that thread has noticed.
  const bool foreign = thread->thread_id() != 0 && thread->thread_id() != CurrentThreadIdent();
  const bool named =
      foreign && thread->tie_.exchange(ThreadState::Tie::kDeleted, kAcqRel) == ThreadState::Tie::kSlotB;
  thread->DecRef(named ? 1 : 2);
}

void InterpreterThreads::DeleteCurrent() {
  ThreadState& thread = ThreadState::Get("_PyThreadState_DeleteCurrent");
  PYRT_CHECK(
      thread.lifecycle_status_.Has(internal::kCleared) && !thread.lifecycle_status_.Has(internal::kFinalized),
      "_PyThreadState_DeleteCurrent", "a thread state is deleted once, after it was cleared (%s)",
      thread.ToString().c_str());
  InterpreterThreads& threads = *thread.link().threads;
  Gil& gil = thread.gil();
  if constexpr (!kGilEnabled) {
    // Before the state leaves the list: from then on the interpreter need not wait for us. The locks are
    // leaves that nobody holds while waiting for the GIL, so that holding it here hinders nobody (gh-119369).
    threads.qsbr_.Offline(*thread.qsbr_slot_);
    threads.qsbr_.Release(std::exchange(thread.qsbr_slot_, nullptr));
    if (!thread.holder_.holds()) gil.Forget(thread.holder_);
  }
  threads.Unlink(thread);
  FinishDelete(thread);
  thread.word_.Detach();
  internal::current_thread_state = nullptr;
  internal::current_interpreter = nullptr;
  if (kGilEnabled || thread.holder_.holds()) gil.DropFinal(thread.holder_);
  // Only the state itself is touched from here on (gh-104341).
  thread.DecRef(2);
}

ThreadState* InterpreterThreads::RemoveAllExcept(ThreadState* keep, bool shut_down) {
  HeadLockGuard guard(registry_.head_lock_);
  ThreadState* removed = nullptr;
  ThreadState* kept = nullptr;
  for (ThreadState* thread = first_; thread != nullptr;) {
    ThreadState* const next = thread->next_;
    if (thread == keep) {
      kept = thread;
    } else {
      if (shut_down && !PYRT_MUTANT(gh_124878_removed_and_not_shut_down)) thread->ShutDown();
      thread->listed_ = false;
      thread->previous_ = nullptr;
      thread->next_ = removed;
      removed = thread;
    }
    thread = next;
  }
  first_ = kept;
  size_ = kept == nullptr ? 0 : 1;
  if (kept != nullptr) kept->previous_ = kept->next_ = nullptr;
  return removed;
}

void InterpreterThreads::ReleaseSlot(ThreadState& thread) {
  if (thread.qsbr_slot_ == nullptr) return;
  Qsbr& qsbr = thread.link().threads->qsbr_;
  qsbr.Offline(*thread.qsbr_slot_);
  qsbr.Release(std::exchange(thread.qsbr_slot_, nullptr));
}

void InterpreterThreads::DeleteRemoved(ThreadState* list, bool threads_are_gone) {
  // See ThreadState::Attach.
  if (!threads_are_gone && list != nullptr && !PYRT_MUTANT(gh_124619_delete_without_fence))
    AsymmetricFence::Heavy();
  while (list != nullptr) {
    ThreadState& thread = *std::exchange(list, list->next_);
    thread.next_ = nullptr;
    InterpreterThreads& threads = *thread.link().threads;
    if (!thread.lifecycle_status_.Has(internal::kCleared)) Clear(thread);
    if (!threads_are_gone) {
      // One that is about to attach, or waits for the GIL, has been told to leave (ShutDown) and needs a moment to
      // do so. It cannot come back. Its place in the GIL's queue is on its own stack.
      while (thread.attaching_.load(kAcquire)) YieldCpu();
    }
    if (!threads_are_gone) thread.gil().Forget(thread.holder_);
    FinishDelete(thread);
    // The other states of the caller itself: frames further down may want them back, and must then hang.
    const bool own =
        thread.thread_id() == CurrentThreadIdent() &&
        thread.tie_.load(kRelaxed) != ThreadState::Tie::kEnded;  // or of one that had its ident before
    if (own) {
      thread.ShutDown();
      thread.KeepUntilThreadExit();
    }
    if (!own && threads_are_gone) {
      ReleaseSlot(thread);
      thread.DecRef(2);
      continue;
    }
    threads.lost_states_.fetch_add(1, kRelaxed);
    thread.set_deleter(&FreeLost);
    // The slot of a thread that lives stays its own, offline but for a moment in each attach that fails: given
    // to another thread, that moment would be the other's.
    const bool ended =
        !own && thread.tie_.exchange(ThreadState::Tie::kRemoved, kAcqRel) == ThreadState::Tie::kEnded;
    if (ended) ReleaseSlot(thread);
    thread.DecRef(ended ? 2 : 1);
  }
}

void InterpreterThreads::ShutDownAllExcept(ThreadState* keep) {
  ForEach([keep](ThreadState& thread) {
    if (&thread != keep) thread.ShutDown();
  });
}

// --- Looking around

size_t InterpreterThreads::size() {
  HeadLockGuard guard(registry_.head_lock_);
  return size_;
}

uint64_t InterpreterThreads::last_id() {
  HeadLockGuard guard(registry_.head_lock_);
  return last_id_;
}

ThreadState* InterpreterThreads::Find(uint64_t ident) {
  HeadLockGuard guard(registry_.head_lock_);
  for (ThreadState* thread = first_; thread != nullptr; thread = thread->next_) {
    if (thread->thread_id() != ident) continue;
    thread->IncRef();
    return thread;
  }
  return nullptr;
}

bool InterpreterThreads::SetAsyncException(uint64_t ident, Ref<Object> exception) {
  Ref<Object> old;  // released after the lock
  HeadLockGuard guard(registry_.head_lock_);
  for (ThreadState* thread = first_; thread != nullptr; thread = thread->next_) {
    if (thread->thread_id() != ident || thread->lifecycle_status_.Has(internal::kFinalizing)) continue;
    old = thread->data_.async_exception.Set(std::move(exception), thread->breaker_);
    return true;
  }
  return false;
}

void InterpreterThreads::SetOnAll(BreakerEvent event) {
  ForEach([event](ThreadState& thread) { thread.breaker().Set(event); });
}

void InterpreterThreads::ClearOnAll(BreakerEvent event) {
  ForEach([event](ThreadState& thread) { thread.breaker().Clear(event); });
}

void InterpreterThreads::ReinitAfterFork(ThreadState* survivor, bool attached) {
  stop_state_.ReinitAfterFork();
  if (survivor != nullptr) survivor->ReinitAfterFork(attached);
  // The others are gone, wherever they were. Their slots stay reserved until their states are deleted; their
  // clocks must not hold anybody up.
  ForEach([this, survivor](ThreadState& thread) {
    if (&thread == survivor) return;
    thread.word_.ReinitAfterFork(RunState::kDetached);
    thread.stop_requests_.store(0, kRelaxed);
    if (thread.qsbr_slot_ != nullptr) qsbr_.Offline(*thread.qsbr_slot_);
  });
  if constexpr (!kGilEnabled) {
    if (!PYRT_MUTANT(fork_qsbr_lock_stays_held)) qsbr_.ReinitLockAfterFork();
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
