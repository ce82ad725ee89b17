#include "pyrt/interp/interpreter.h"

#include <new>
#include <string>
#include <utility>

#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {

Interpreter::Interpreter(InterpreterRegistry& registry, int64_t id, InterpreterWhence whence)
    : registry_(registry),
      id_(id),
      whence_(whence),
      calls_({.limits = PendingCalls::kInterpreterLimits, .raise = &RaiseCalls, .context = this}),
      call_handler_(&calls_, id == 0 ? &registry.main_calls_ : nullptr) {
  gc_.SetAfterwards([](void* interp) { static_cast<Interpreter*>(interp)->ProcessDelayed(); }, this);
}

Interpreter::~Interpreter() = default;

Interpreter& Interpreter::Get() {
  Interpreter* const current = Current();
  if (current == nullptr) Fatal("PyInterpreterState_Get", "no current interpreter");
  return *current;
}

bool Interpreter::is_main() const { return registry_.main() == this; }

absl::Status Interpreter::Configure(const InterpreterConfig& config, bool gil_enabled) {
  PYRT_CHECK(core_ == nullptr, "PyInterpreterState_New", "interpreter already initialized");
  const bool main = is_main();
  const InterpreterConfig wanted = main ? InterpreterConfig::Main() : config;
  if (absl::Status status = wanted.Validate(main); !status.ok()) return status;
  Gil* const shared = wanted.has_own_gil() ? nullptr : &registry_.main()->gil();
  core_.reset(new InterpreterCore(
      shared, gil_enabled,
      InterpreterThreads::Options{
          .registry = &registry_.threads_, .interp = this, .handle_pending = &HandlePending}));
  if (core_ == nullptr) return absl::ResourceExhaustedError("memory allocation failed");
  config_ = wanted;
  features_ = wanted.Features();
  InterpreterLink& link = threads().link();
  link.id = id_;
  link.guards = &core_->guards;
  if constexpr (!kGilEnabled) {
    const BrcHooks& references = registry_.hooks().references;
    if (references.merge != nullptr) {
      core_->brc.reset(new (std::nothrow) Brc(references));
      if (core_->brc == nullptr) {
        core_.reset();
        return absl::ResourceExhaustedError("memory allocation failed");
      }
    }
    link.brc = core_->brc.get();
  }
  return absl::OkStatus();
}

const Ref<Dict>& Interpreter::dict() {
  if (dict_ == nullptr) dict_ = Dict::New();
  return dict_;
}

void Interpreter::SetRecursionLimit(int32_t limit) {
  // Other threads read their limits while they run: with the world stopped (gh-128717).
  StoppedWorld stopped(threads());
  threads().link().recursion_limit.store(limit, kRelaxed);
  threads().ForEach([limit](ThreadState& thread) { thread.data().recursion.set_limit(limit); });
}

absl::Status Interpreter::BumpInstrumentationVersion() {
  StoppedWorld stopped(threads());
  Atomic<uintptr_t>& word = threads().link().breaker_on_attach;
  const uintptr_t version = word.load(kRelaxed) & EvalBreaker::kVersionMask;
  if (version == EvalBreaker::kVersionMask) {
    return Raise(ErrorType::OverflowError(), "events set too many times");
  }
  // An addition, because RaiseCalls may set its bit at any time.
  word.fetch_add(EvalBreaker::kVersionIncrement, kSeqCst);
  // Under the GIL the others would see it when they attach; eager in both builds, it is rare.
  threads().ForEach([version](ThreadState& thread) {
    thread.breaker().SetVersion(version + EvalBreaker::kVersionIncrement);
  });
  return absl::OkStatus();
}

void Interpreter::QueueReference(uint64_t owner, void* object) {
  Brc* const queues = brc();
  PYRT_CHECK(queues != nullptr, "_Py_brc_queue_object",
             "this build or this host has no queues of references: see InterpreterHooks::references");
  if (queues->Queue(owner, object) != Brc::QueueResult::kNoMemory) return;
  const BrcHooks& hooks = queues->hooks();
  bool dead;
  {
    StoppedWorld stopped(threads());
    dead = hooks.merge(hooks.context, object);
  }
  if (dead) hooks.destroy(hooks.context, object);
}

bool Interpreter::MergeReferencesOf(uint64_t owner) {
  if (brc() == nullptr) return false;
  ThreadState* const thread = threads().Find(owner);
  if (thread == nullptr) return false;
  thread->DecRef();
  // By ident and not by the state that was found: the thread may run attached by another one, and may only
  // just be binding this one.
  void* dead;
  {
    StoppedWorld stopped(threads());
    dead = brc()->MergeStopped(owner);
  }
  brc()->Destroy(dead);
  return true;
}

void Interpreter::ProcessDelayed() {
  if constexpr (!kGilEnabled) {
    ThreadState& thread = ThreadState::Get("_PyMem_ProcessDelayed");
    thread.ReportQuiescent();
    if (internal::world_stops_held != 0) return;
    DelayedFrees& frees = thread.data().delayed_frees;
    {
      // A thread that stays detached for long does not free what it has retired.
      StoppedWorld stopped(threads());
      threads().qsbr().Advance();  // nobody reads now: the goals of all of them are reached
      threads().ForEach([&](ThreadState& other) {
        if (&other != &thread) frees.TakeFrom(other.data().delayed_frees);
      });
    }
    thread.ReportQuiescent();
    static_cast<void>(frees.Process(threads().qsbr(), thread.qsbr_slot()));
    const InterpreterHooks& hooks = registry_.hooks();
    if (hooks.process_delayed != nullptr) hooks.process_delayed(hooks.context, *this);
  }
}

absl::Status Interpreter::SetRunningMain(ThreadState& thread) {
  if (thread.interp() != this) {
    return Raise(ErrorType::RuntimeError(), "current tstate has wrong interpreter");
  }
  ThreadState* expected = nullptr;
  if (!running_main_.compare_exchange_strong(expected, &thread, kAcqRel, kRelaxed)) {
    return Raise(ErrorType::InterpreterError(), "interpreter already running");
  }
  return absl::OkStatus();
}

void Interpreter::ClearRunningMain(ThreadState& thread) {
  PYRT_CHECK(running_main() == &thread, "_PyInterpreterState_SetNotRunningMain",
             "this thread state does not run the interpreter's main program (%s)", thread.ToString().c_str());
  running_main_.store(nullptr, kRelease);
}

bool Interpreter::DecrefId() {
  const int64_t before = id_references_.fetch_sub(1, kAcqRel);
  PYRT_CHECK(before > 0, "_PyInterpreterState_IDDecref", "interpreter %lld has no id reference to give up",
             static_cast<long long>(id_));
  return before == 1 && requires_idref();
}

void Interpreter::SetFinalizing(ThreadState& thread) {
  finalizing_.store(reinterpret_cast<uintptr_t>(&thread), kRelaxed);
}

bool Interpreter::BindNewThread(ThreadState& thread) {
  // The core is there as long as a state has a thread of its own (lost_states), the interpreter need not be.
  InterpreterCore& core = static_cast<InterpreterCore&>(*thread.link().threads);
  MutexLock lock(core.start_mutex);
  if (thread.must_exit()) return false;
  thread.Bind();
  return true;
}

ThreadState* Interpreter::TakeOtherThreads(ThreadState& keep) {
  threads().ForEach([&](ThreadState& thread) {
    if (&thread != &keep) call_handler_.Forget(thread.breaker());  // EB-37
  });
  MutexLock lock(core_->start_mutex);
  return threads().RemoveAllExcept(&keep, /*shut_down=*/true);
}

void Interpreter::Clear(ThreadState& thread) {
  const InterpreterHooks& hooks = registry_.hooks();
  if (hooks.audit != nullptr) {
    // Its failure is ignored: a hook cannot keep an interpreter alive (RT-29).
    static_cast<void>(hooks.audit(hooks.context, "cpython.PyInterpreterState_Clear"));
  }
  if (unrun_calls_ != 0) {
    Report(absl::FailedPreconditionError(std::to_string(unrun_calls_) +
                                         " calls for the main thread were dropped: another thread finalized"),
           nullptr);
  }
  // Normally nobody is left; a foreign thread may have come in since.
  if (threads().size() > 1) {
    ThreadState* others;
    {
      StoppedWorld stopped(threads());
      others = TakeOtherThreads(thread);
    }
    InterpreterThreads::DeleteRemoved(others, /*threads_are_gone=*/false);
  }
  if (running_main() == &thread) ClearRunningMain(thread);
  InterpreterThreads::Clear(thread);
  dict_.reset();
  at_exit_.Clear();
  at_exit_.RunLowLevel();
  if (hooks.clear != nullptr) hooks.clear(hooks.context, *this);
  // The tables last: destructors use them (IN-46), sys and builtins after everything else.
  for (const Table table : {Table::kImporter, Table::kModules, Table::kSysDict, Table::kBuiltins}) {
    static_cast<void>(set_table(table, nullptr));
  }
  if constexpr (!kGilEnabled) {
    // What all of this has retired, while destructors still have a thread and an interpreter. Nobody reads
    // now, unless a foreign thread has come in, which Delete does not put up with either.
    if (threads().size() == 1) thread.data().delayed_frees.FreeAll(&threads().qsbr());
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
