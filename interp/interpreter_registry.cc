#include "pyrt/interp/interpreter_registry.h"

#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using HeadLockGuard = BasicMutexLock<HeadLock>;

}  // namespace

InterpreterRegistry::InterpreterRegistry()
    : signals_({.ignored =
                    [](void* context, int number) {
                      static_cast<InterpreterRegistry*>(context)->ReportUnraisable(
                          Raise(ErrorType::OSError(), "Signal %i ignored due to race condition", number),
                          /*what=*/nullptr, None());
                    },
                .wakeup_failed =
                    [](void* context, int error_number) {
                      static_cast<InterpreterRegistry*>(context)->ReportUnraisable(
                          ToStatus(NewOsError(error_number)),
                          "Exception ignored while trying to write to the signal wakeup fd", nullptr);
                    },
                .context = this,
                .write = nullptr}),
      main_calls_({.limits = PendingCalls::kMainThreadLimits,
                   .raise =
                       [](void* context) {
                         static_cast<InterpreterRegistry*>(context)->signals_.RaiseOnMainThread(
                             BreakerEvent::kCallsToDo);
                       },
                   .context = this}) {}

void InterpreterRegistry::ReportUnraisable(const absl::Status& error, const char* what,
                                           const Ref<Object>& object) {
  if (hooks_.unraisable != nullptr) hooks_.unraisable(hooks_.context, error, what, object);
}

InterpreterRegistry::~InterpreterRegistry() {
  PYRT_CHECK(head_ == nullptr, "InterpreterRegistry", "an interpreter is left");
  KeepOrFree(nullptr);
}

void InterpreterRegistry::Enable() {
  PYRT_CHECK(head_ == nullptr, "_PyInterpreterState_Enable", "interpreters exist already");
  main_thread_.store(CurrentThreadIdent(), kRelaxed);
  next_id_.store(0, kRelaxed);
}

void InterpreterRegistry::Reset() {
  next_id_.store(-1, kRelaxed);
  main_.store(nullptr, kRelease);
  main_thread_.store(0, kRelaxed);
  SetFinalizing(nullptr);
  main_calls_.Reopen();
  signals_.Forget();
  KeepOrFree(nullptr);
}

// Keeps the locks of an interpreter that has ended until the last of its threads has noticed, and frees those
// that have been kept long enough: a process that starts and ends the runtime over and over does not grow.
void InterpreterRegistry::KeepOrFree(std::unique_ptr<InterpreterCore> core) {
  InterpreterCore* go = nullptr;
  {
    HeadLockGuard guard(threads_.head_lock());
    if (core != nullptr) {
      core->next_lost = lost_;
      lost_ = core.release();
    }
    // Newest first; who uses another one's GIL ended before it and stands behind it: once more for those.
    for (bool again = true; std::exchange(again, false);) {
      for (InterpreterCore** link = &lost_; *link != nullptr;) {
        InterpreterCore* const lost = *link;
        if (lost->needed()) {
          link = &lost->next_lost;
          continue;
        }
        if (lost->gil_owner != nullptr)
          again = lost->gil_owner->dependents.fetch_sub(1, kRelaxed) == 1 || again;
        *link = lost->next_lost;
        lost->next_lost = go;
        go = lost;
      }
    }
  }
  while (go != nullptr) delete std::exchange(go, go->next_lost);
}

size_t InterpreterRegistry::lost() {
  HeadLockGuard guard(threads_.head_lock());
  size_t count = 0;
  for (InterpreterCore* core = lost_; core != nullptr; core = core->next_lost) ++count;
  return count;
}

absl::StatusOr<Interpreter*> InterpreterRegistry::New(ThreadState* creator, const InterpreterConfig& config,
                                                      InterpreterWhence whence, bool gil_enabled) {
  if (creator != nullptr && hooks_.audit != nullptr) {
    if (absl::Status status = hooks_.audit(hooks_.context, "cpython.PyInterpreterState_New"); !status.ok()) {
      return absl::AbortedError("sys.audit failed");
    }
  }
  int64_t id = next_id_.load(kRelaxed);
  do {
    if (id < 0) return absl::FailedPreconditionError("failed to get an interpreter ID");
  } while (!next_id_.compare_exchange_weak(id, id + 1, kRelaxed, kRelaxed));

  // Made complete, then linked: nobody finds a half-made interpreter, and a failure has nothing to unlink
  // (IN-2), be it memory that runs out. The main one is known as such before it is configured.
  struct Undo {
    ~Undo() {
      if (interp == nullptr) return;
      if (registry.main() == interp) registry.main_.store(nullptr, kRelease);
      delete interp;
    }
    InterpreterRegistry& registry;
    Interpreter* interp;
  } undo{*this, new Interpreter(*this, id, whence)};
  Interpreter* const interp = undo.interp;
  if (interp == nullptr) return absl::ResourceExhaustedError("memory allocation failed");
  if (id == 0) main_.store(interp, kRelease);
  if (absl::Status status = interp->Configure(config, gil_enabled); !status.ok()) return status;
  undo.interp = nullptr;
  HeadLockGuard guard(threads_.head_lock());
  interp->next_ = head_;
  head_ = interp;
  return interp;
}

void InterpreterRegistry::Delete(Interpreter* interp) {
  if (interp == nullptr) Fatal("PyInterpreterState_Delete", "NULL interpreter");
  if (ThreadState* current = ThreadState::Current(); current != nullptr && current->interp() == interp) {
    if (main_thread_state() == current) SetMainThreadState(nullptr);
    if (!current->status().cleared) InterpreterThreads::Clear(*current);
    InterpreterThreads::DeleteCurrent();
  }
  PYRT_CHECK(interp->threads().size() == 0, "PyInterpreterState_Delete", "remaining threads");
  Abandon(interp);
  // A thread that has not noticed yet may look at its GIL when it tries to attach, be it the main interpreter's.
  std::unique_ptr<InterpreterCore> core = std::move(interp->core_);
  if (core->needed() && interp != main() && core->link().gil != &core->own_gil) {
    core->gil_owner = main()->core_.get();
    core->gil_owner->dependents.fetch_add(1, kRelaxed);
  }
  if (interp == main()) main_.store(nullptr, kRelease);
  delete interp;
  KeepOrFree(std::move(core));
}

void InterpreterRegistry::Abandon(Interpreter* interp) {
  HeadLockGuard guard(threads_.head_lock());
  Interpreter** link = &head_;
  while (*link != nullptr && *link != interp) link = &(*link)->next_;
  PYRT_CHECK(*link == interp, "PyInterpreterState_Delete", "NULL interpreter");
  PYRT_CHECK(interp != main() || (head_ == interp && interp->next_ == nullptr), "PyInterpreterState_Delete",
             "remaining subinterpreters");
  *link = interp->next_;
}

Interpreter* InterpreterRegistry::ClaimAnyButMain(bool* others) {
  HeadLockGuard guard(threads_.head_lock());
  *others = false;
  for (Interpreter* interp = head_; interp != nullptr; interp = interp->next_) {
    if (interp->is_main()) continue;
    *others = true;
    if (interp->Claim()) return interp;
    PYRT_CHECK(interp->claimed_by() != CurrentThreadIdent(), "Py_FinalizeEx",
               "this thread is making or ending interpreter %lld", static_cast<long long>(interp->id()));
  }
  return nullptr;
}

Interpreter* InterpreterRegistry::ReleaseIdAndClaim(int64_t id) {
  HeadLockGuard guard(threads_.head_lock());
  for (Interpreter* interp = head_; interp != nullptr; interp = interp->next_) {
    if (interp->id_ != id) continue;
    return interp->DecrefId() && interp->Claim() ? interp : nullptr;
  }
  return nullptr;
}

Interpreter* InterpreterRegistry::head() {
  HeadLockGuard guard(threads_.head_lock());
  return head_;
}

std::vector<int64_t> InterpreterRegistry::Ids() {
  std::vector<int64_t> ids;
  // Room first: nothing is allocated under the head lock.
  for (;;) {
    ids.clear();
    bool complete = true;
    {
      HeadLockGuard guard(threads_.head_lock());
      for (Interpreter* interp = head_; interp != nullptr; interp = interp->next_) {
        if (ids.size() == ids.capacity()) {
          complete = false;
          break;
        }
        ids.push_back(interp->id_);
      }
    }
    if (complete) return ids;
    ids.reserve(ids.capacity() * 2 + 8);
  }
}

size_t InterpreterRegistry::size() {
  HeadLockGuard guard(threads_.head_lock());
  size_t count = 0;
  for (Interpreter* interp = head_; interp != nullptr; interp = interp->next_) ++count;
  return count;
}

Interpreter* InterpreterRegistry::Find(int64_t id) {
  if (id < 0) return nullptr;
  HeadLockGuard guard(threads_.head_lock());
  for (Interpreter* interp = head_; interp != nullptr; interp = interp->next_) {
    if (interp->id_ == id) return interp;
  }
  return nullptr;
}

absl::StatusOr<Interpreter*> InterpreterRegistry::LookUpId(int64_t id) {
  if (Interpreter* interp = Find(id)) return interp;
  return Raise(ErrorType::InterpreterNotFoundError(), "unrecognized interpreter ID %lld",
               static_cast<long long>(id));
}

void InterpreterRegistry::SetMainThreadState(ThreadState* thread) {
  main_thread_state_.store(thread, kRelease);
  signals_.SetMainThread(thread == nullptr ? nullptr : &thread->breaker());
  // Calls that came while there was nobody to tell.
  if (thread != nullptr && !main_calls_.IsEmpty()) thread->breaker().Set(BreakerEvent::kCallsToDo);
}

absl::StatusOr<int64_t> InterpreterIdFromObject(const Ref<Object>& object) {
  int64_t id;
  if (const Int* number = As<Int>(object)) {
    if (!number->fits_int64()) return Raise(ErrorType::OverflowError(), "int too big to convert");
    id = number->value();
  } else if (const Bool* flag = As<Bool>(object)) {
    id = flag->value() ? 1 : 0;
  } else {
    return Raise(ErrorType::TypeError(), "interpreter ID must be an int, got %.100s", object->TypeName());
  }
  if (id < 0) {
    return Raise(ErrorType::ValueError(), "interpreter ID must be a non-negative int, got %lld",
                 static_cast<long long>(id));
  }
  return id;
}

bool InterpreterRegistry::MustExit(const ThreadState& thread) const {
  // The runtime first: the interpreter may be gone (RT-15). The ident breaks the tie when the finalizer has
  // switched to another of its states (gh-109793).
  if (IsFinalizing()) {
    return finalizing_.load(kRelaxed) != reinterpret_cast<uintptr_t>(&thread) &&
           finalizing_thread_.load(kRelaxed) != CurrentThreadIdent();
  }
  const Interpreter& interp = *thread.interp();
  return interp.IsFinalizing() && !interp.IsFinalizingThread(thread);
}

void InterpreterRegistry::AfterForkInChild(ThreadState* survivor, bool attached) {
  main_thread_.store(CurrentThreadIdent(), kRelaxed);
  FinalizationGuards::ForgetAfterFork();
  main_calls_.AfterForkInChild();
  ThreadState* const main_state =
      survivor != nullptr && survivor->interp() == main() && !PYRT_MUTANT(fk_1_stale_main_thread_state)
          ? survivor
          : nullptr;
  main_thread_state_.store(main_state, kRelaxed);
  signals_.AfterForkInChild(main_state == nullptr ? nullptr : &main_state->breaker());
  if (main_state != nullptr && !main_calls_.IsEmpty()) main_state->breaker().Set(BreakerEvent::kCallsToDo);
  for (Interpreter* interp = head_; interp != nullptr; interp = interp->next_) {
    ThreadState* const own = survivor != nullptr && survivor->interp() == interp ? survivor : nullptr;
    // The survivor's GIL may be another interpreter's, the main one's.
    const bool holds = survivor != nullptr && &survivor->gil() == &interp->core_->own_gil;
    interp->core_->own_gil.ReinitAfterFork(holds ? &survivor->gil_holder() : nullptr);
    interp->core_->guards.Reopen();  // guards are their threads', which are gone
    // A thread that was just starting, attached to nothing, held it.
    if (!PYRT_MUTANT(fork_child_keeps_the_start_mutex)) interp->core_->start_mutex.ReinitAfterFork();
    if (interp->brc() != nullptr) interp->brc()->ReinitAfterFork();
    interp->threads().ReinitAfterFork(own, own != nullptr && attached);
    interp->calls_.AfterForkInChild();
    interp->call_handler_.AfterForkInChild(own == nullptr ? nullptr : &own->breaker());
    interp->gc_.AfterForkInChild();
    interp->at_exit_.AfterForkInChild();
    if (interp->claimed_by() != CurrentThreadIdent()) interp->Unclaim();
    if (interp->running_main() != own) interp->running_main_.store(nullptr, kRelaxed);
  }
  // The GIL is free now, also where this thread had it.
  if (survivor != nullptr && attached) {
    const auto taken = survivor->gil().Take(survivor->gil_holder());
    PYRT_CHECK(taken != Gil::TakeResult::kMustExit, "PyOS_AfterFork_Child",
               "the thread that forked may not run any more (%s)", survivor->ToString().c_str());
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
