#include "pyrt/runtime/runtime.h"

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Never destroyed: threads may come late, also after main() has returned.
Runtime* instance = nullptr;

// For views and guards, which know interpreters by their ids. Called under the head lock.
InterpreterLink* FindLink(int64_t id) {
  for (Interpreter* interp = instance->interpreters().UnlockedHead(); interp != nullptr;
       interp = interp->next()) {
    if (interp->id() == id) return &interp->threads().link();
  }
  return nullptr;
}

// What a subsystem's containers throw when memory is short is a failure like any other.
template <typename Initialize>
absl::Status Guarded(const Initialize& initialize, void* context, Interpreter& interp) {
  try {
    return initialize(context, interp);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory");
  }
}

absl::Status RaiseKeyboardInterrupt(void*, int) { return Raise(ErrorType::KeyboardInterrupt(), "%s", ""); }

}  // namespace

Runtime& Runtime::Instance() {
  static Runtime* const runtime = [] {
    instance = new Runtime;
    static const InterpreterDirectory directory{.registry = &instance->registry_.threads(),
                                                .find = &FindLink};
    SetInterpreterDirectory(&directory);
    ThreadState::SetHangHook(&Thread::OnHang);
    return instance;
  }();
  return *runtime;
}

Runtime& Runtime::Get() {
  PYRT_CHECK(IsInitialized() || IsCoreInitialized() || IsFinalizing(), "Runtime::Get",
             "the runtime has not been initialized; call Runtime::Initialize first");
  return Instance();
}

void Runtime::AddSubsystem(const Subsystem& subsystem) {
  PYRT_CHECK(!IsInitialized() && !IsCoreInitialized(), "Runtime::AddSubsystem",
             "subsystem \"%s\" must be added before Runtime::Initialize", subsystem.name);
  Instance().subsystems_.push_back(subsystem);
}

int Runtime::AtExit(ExitFunctions::Function function) {
  return Instance().exit_functions_.Register(function);
}

absl::Status Runtime::Audit(const char* event, Args arguments) {
  for (const Subsystem& subsystem : Instance().subsystems_) {
    if (subsystem.audit == nullptr) continue;
    absl::Status status = subsystem.audit(subsystem.context, event, arguments);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

void Runtime::WriteUnraisable(const absl::Status& error, const char* what, const Ref<Object>& object) {
  const Runtime& runtime = Instance();
  const RuntimeOptions& host = runtime.options_;
  if (host.unraisable != nullptr) return host.unraisable(host.context, error, what, object);
  for (auto it = runtime.subsystems_.rbegin(); it != runtime.subsystems_.rend(); ++it) {
    if (it->unraisable != nullptr && it->unraisable(it->context, error, what, object)) return;
  }
  std::fprintf(stderr, "%s: %s\n", what == nullptr ? "Exception ignored" : what, error.ToString().c_str());
}

absl::Status Runtime::Warn(const char* category, const char* text) {
  const Runtime& runtime = Instance();
  if (runtime.options_.warn != nullptr) {
    runtime.options_.warn(runtime.options_.context, category, text);
    return absl::OkStatus();
  }
  for (auto it = runtime.subsystems_.rbegin(); it != runtime.subsystems_.rend(); ++it) {
    if (it->warn != nullptr) return it->warn(it->context, category, text);
  }
  // As CPython's default filters have it.
  const std::string_view name = category;
  if (name == "ImportWarning" || name == "DeprecationWarning") return absl::OkStatus();
  std::fprintf(stderr, "%s: %s\n", category, text);
  return absl::OkStatus();
}

// ---- The way up

absl::StatusOr<Runtime*> Runtime::Initialize(const RuntimeOptions& options) {
  Runtime& runtime = Instance();
  if (IsInitialized()) return &runtime;
  uint64_t nobody = 0;
  if (!runtime.busy_.compare_exchange_strong(nobody, CurrentThreadIdent() | kStarts, kAcquire, kRelaxed)) {
    return absl::FailedPreconditionError((nobody & ~kStarts) == CurrentThreadIdent()
                                             ? "Initialize was called inside Initialize or Finalize"
                                             : "another thread is initializing or finalizing the runtime");
  }
  // Also when memory is too short for saying so: then std::bad_alloc is what comes out.
  struct Idle {
    ~Idle() { busy.store(0, kRelease); }
    Atomic<uint64_t>& busy;
  } idle{runtime.busy_};
  if (absl::Status status = runtime.Start(options); !status.ok()) return status;
  return &runtime;
}

absl::Status Runtime::InitCore(Interpreter& interp) {
  for (const Subsystem& subsystem : subsystems_) {
    if (subsystem.init_core == nullptr) continue;
    if (absl::Status status = Guarded(subsystem.init_core, subsystem.context, interp); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status Runtime::InitMain(Interpreter& interp) {
  for (const Subsystem& subsystem : subsystems_) {
    if (subsystem.init_main == nullptr) continue;
    if (absl::Status status = Guarded(subsystem.init_main, subsystem.context, interp); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status Runtime::Start(const RuntimeOptions& options) {
  PhaseFlags& phase = process_phase;
  // What a second life does not inherit (RT-3); the first one keeps what was registered early (RT-4).
  if (was_initialized_) {
    if (was_finalized_) exit_functions_.Clear();
    registry_.Reset();
  }
  was_initialized_ = true;
  options_ = options;
  ThreadRegistry::SetAllocator(options.state_allocator);
  InstallPhaseFatalHook();
  ErrorType::MakeAll();
  phase.finalizing.store(0, kRelaxed);
  phase.finalizing_thread.store(0, kRelaxed);
  phase.preinitializing.store(true, kRelaxed);
  phase.preinitialized.store(true, kRelaxed);
  phase.preinitializing.store(false, kRelaxed);

  registry_.Enable();
  registry_.set_hooks({
      .context = this,
      .audit = [](void*, const char* event) { return Audit(event); },
      .unraisable = [](void*, const absl::Status& error, const char* what,
                       const Ref<Object>& object) { WriteUnraisable(error, what, object); },
      .references = options.references,
      .merge_references =
          [](void* context, ThreadState& thread) {
            const RuntimeOptions& host = static_cast<Runtime*>(context)->options_;
            if (host.merge_references != nullptr) host.merge_references(host.context, thread);
          },
      .sweep_executors =
          [](void* context, ThreadState& thread) {
            const RuntimeOptions& host = static_cast<Runtime*>(context)->options_;
            if (host.sweep_executors != nullptr) host.sweep_executors(host.context, thread);
          },
      .process_delayed =
          [](void* context, Interpreter& interp) {
            for (const Subsystem& subsystem : static_cast<Runtime*>(context)->subsystems_) {
              if (subsystem.process_delayed != nullptr) subsystem.process_delayed(subsystem.context, interp);
            }
          },
      .clear =
          [](void* context, Interpreter& interp) {
            Fork::Clear(interp);  // with everything working: what callbacks hold may run code
            const std::vector<Subsystem>& subsystems = static_cast<Runtime*>(context)->subsystems_;
            for (auto it = subsystems.rbegin(); it != subsystems.rend(); ++it) {
              if (it->clear_interpreter != nullptr) it->clear_interpreter(it->context, interp);
            }
            Thread::Disown(interp);
          },
      .join_threads = [](void*, Interpreter& interp) { return Thread::JoinAll(interp); },
      .joinable_threads = [](void*, Interpreter& interp) { return Thread::Joinable(interp); },
  });

  // A start that failed leaves nothing behind, unlike CPython's (LC-3).
  struct Undo {
    ~Undo() {
      if (done) return;
      if (thread != nullptr) {
        runtime.registry_.signals().RestoreDefaults();
        runtime.EndClaimed(*thread);  // runs code
      } else if (interp != nullptr) {
        runtime.registry_.Delete(interp);
      }
      process_phase.core_initialized.store(false, kRelaxed);
      process_phase.preinitialized.store(false, kRelaxed);
    }
    Runtime& runtime;
    Interpreter* interp = nullptr;
    ThreadState* thread = nullptr;
    bool done = false;
  } undo{*this};
  absl::StatusOr<Interpreter*> created =
      registry_.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime, options.enable_gil);
  if (!created.ok()) return created.status();
  Interpreter& interp = **created;
  undo.interp = &interp;
  ThreadState* const thread = undo.thread = interp.threads().NewBound(Whence::kInit);
  if (thread == nullptr) return absl::ResourceExhaustedError("can't make first thread");
  thread->Attach();
  registry_.SetMainThreadState(thread);

  absl::Status status = InitCore(interp);
  if (status.ok()) {
    phase.core_initialized.store(true, kRelease);
    if (options.install_signal_handlers) {
      // A write to a closed pipe or a full file is an OSError and not a death (signal_install_handlers).
      ::signal(SIGPIPE, SIG_IGN);
      ::signal(SIGXFSZ, SIG_IGN);
      // A SIGINT that is ignored (nohup, a shell's background job) or a host's own is not taken over.
      struct sigaction current = {};
      ::sigaction(SIGINT, nullptr, &current);
      if (current.sa_handler == SIG_DFL) {
        interrupt_handler_ = {.call = &RaiseKeyboardInterrupt};
        registry_.signals().SetHandler(SIGINT, &interrupt_handler_);
        status = registry_.signals().InstallOsHandler(SIGINT);
      }
    }
  }
  if (status.ok()) status = InitMain(interp);
  if (!status.ok()) {
    RuntimeStatus::NotePhase(&status);
    return status;
  }
  undo.done = true;
  // Last, after everything that a subsystem does (gh-146302). Release: who sees it sees all of that.
  phase.initialized.store(true, kRelease);
  interp.Unclaim();
  return absl::OkStatus();
}

// ---- Interpreters

absl::StatusOr<ThreadState*> Runtime::NewInterpreter(const InterpreterConfig& config,
                                                     InterpreterWhence whence) {
  if (!IsInitialized()) return absl::FailedPreconditionError("Py_Initialize must be called first");
  Runtime& runtime = Instance();
  // Finalize waits until the interpreter is there or not, and then ends it.
  const InterpreterGuard guard = InterpreterGuard::FromView(InterpreterView::FromMain());
  if (!guard) return absl::FailedPreconditionError("can't make an interpreter at interpreter shutdown");
  ThreadState* const creator = ThreadState::Current();
  absl::StatusOr<Interpreter*> created = runtime.registry_.New(creator, config, whence);
  if (!created.ok()) return created.status();
  Interpreter& interp = **created;
  // One way out for every failure from here on (LC-29), also where memory is too short for saying so.
  struct Undo {
    ~Undo() {
      if (interp == nullptr) return;
      if (thread == nullptr) {
        runtime.registry_.Delete(interp);
      } else {
        runtime.EndClaimed(*thread);  // with the threads that a subsystem has started
      }
      if (creator != nullptr) creator->Attach();
    }
    Runtime& runtime;
    ThreadState* const creator;
    Interpreter* interp;
    ThreadState* thread = nullptr;
  } undo{runtime, creator, &interp};
  if (creator != nullptr) creator->Detach();
  ThreadState* const thread = undo.thread = interp.threads().NewBound(Whence::kInit);
  if (thread == nullptr) {
    return absl::ResourceExhaustedError("can't make a thread state for the new interpreter");
  }
  thread->Attach();
  absl::Status status = runtime.InitCore(interp);
  if (status.ok()) status = runtime.InitMain(interp);
  if (!status.ok()) return status;
  undo.interp = nullptr;
  interp.Unclaim();
  return thread;
}

void Runtime::FinalizeModules(Interpreter& interp) {
  for (auto it = subsystems_.rbegin(); it != subsystems_.rend(); ++it) {
    if (it->finalize_modules != nullptr) it->finalize_modules(it->context, interp);
  }
}

void Runtime::Clear(Interpreter& interp, ThreadState& thread) {
  interp.Clear(thread);
  Fork::Clear(interp);  // what its last destructors have registered
}

void Runtime::TearDown(Interpreter& interp, ThreadState& thread) {
  FinalizeModules(interp);
  Clear(interp, thread);
  registry_.Delete(&interp);
}

void Runtime::EndInterpreter(ThreadState& thread) {
  if (ThreadState::Current() != &thread) Fatal("Py_EndInterpreter", "thread is not current");
  if (thread.data().current_frame.load(kRelaxed) != nullptr) {
    Fatal("Py_EndInterpreter", "thread still has a frame");
  }
  Interpreter& interp = *thread.interp();
  PYRT_CHECK(!interp.is_main(), "Py_EndInterpreter", "the main interpreter ends with Runtime::Finalize");
  if (!interp.Claim()) {
    PYRT_CHECK(interp.claimed_by() != CurrentThreadIdent() && thread.whence() != Whence::kThreading,
               "Py_EndInterpreter", "the interpreter is ending already (%s)", thread.ToString().c_str());
    // Finalize was faster: this thread has come too late and hangs as soon as it attaches.
    Thread::GiveUp();
    for (;;) {
      DetachedScope detached;
      YieldCpu();
    }
  }
  Instance().EndClaimed(thread);
}

void Runtime::EndClaimed(ThreadState& thread) {
  Interpreter& interp = *thread.interp();
  StopTheWorld stop(interp.threads());
  interp.PreFinalize(thread, stop, {});
  interp.SetFinalizing(thread);
  ThreadState* const others = interp.TakeOtherThreads(thread);
  stop.Start();
  InterpreterThreads::DeleteRemoved(others, /*threads_are_gone=*/false);
  TearDown(interp, thread);
}

void Runtime::ReleaseInterpreterId(int64_t id) {
  Runtime& runtime = Instance();
  Interpreter* const interp = runtime.registry_.ReleaseIdAndClaim(id);
  if (interp == nullptr) return;
  // The state would be gone when this thread wants it back.
  PYRT_CHECK(
      ThreadState::Current() == nullptr || ThreadState::Current()->interp() != interp,
      "_PyInterpreterState_IDDecref",
      "this thread is attached to the interpreter whose last reference it gives up; switch to another state "
      "first (%s)",
      ThreadState::Here().c_str());
  ThreadState* const thread = interp->threads().NewBound(Whence::kFini);
  PYRT_CHECK(thread != nullptr, "_PyInterpreterState_IDDecref", "no memory for a thread state");
  ThreadState* const before = ThreadState::Swap(thread);
  runtime.EndClaimed(*thread);
  if (before != nullptr) before->Attach();
}

void Runtime::EndRemainingInterpreters(ThreadState& thread) {
  bool warned = false;
  for (;;) {
    bool others = false;
    Interpreter* const interp = registry_.ClaimAnyButMain(&others);
    if (interp == nullptr) {
      if (!others) return;
      // Somebody is about to make or to end them.
      DetachedScope detached;
      YieldCpu();
      continue;
    }
    if (!std::exchange(warned, true)) {
      const absl::Status shown =
          Warn("RuntimeWarning", "remaining subinterpreters; close them with Interpreter.close()");
      if (!shown.ok()) WriteUnraisable(shown, "Exception ignored while finalizing remaining subinterpreters");
    }
    // The state that this thread has there, typically its first one; else a new one.
    ThreadState* end = interp->threads().Find(CurrentThreadIdent());
    if (end != nullptr) {
      end->DecRef();  // it is this thread's, which does nothing else meanwhile
      // Code of that interpreter called Finalize: its frames are below us, and are not unwound.
      if (end->data().current_frame.load(kRelaxed) != nullptr) end = nullptr;
    }
    if (end == nullptr) {
      end = interp->threads().NewBound(Whence::kFini);
    }
    PYRT_CHECK(end != nullptr, "Py_FinalizeEx", "no memory for a thread state to end interpreter %lld with",
               static_cast<long long>(interp->id()));
    ThreadState::Swap(end);
    EndClaimed(*end);
    thread.Attach();
  }
}

// ---- The way down

int Runtime::Flush(Interpreter& interp) {
  int status = 0;
  for (auto it = subsystems_.rbegin(); it != subsystems_.rend(); ++it) {
    if (it->flush != nullptr && !it->flush(it->context, interp)) status = -1;
  }
  return status;
}

// The state that finalizes, attached: the main thread's own, whatever it is attached to now; on another thread
// the current one if it belongs to the main interpreter, else a new one.
ThreadState& Runtime::FinalThread() {
  ThreadState* const current = ThreadState::Current();
  ThreadState* final = registry_.IsMainThread() ? registry_.main_thread_state() : nullptr;
  if (final == nullptr && current != nullptr && current->interp() == registry_.main()) final = current;
  if (final == nullptr) {
    final = registry_.main()->threads().NewBound(Whence::kFini);
    PYRT_CHECK(final != nullptr, "Py_FinalizeEx", "no memory for a thread state to finalize with");
  }
  if (final != current) ThreadState::Swap(final);
  return *final;
}

int Runtime::Finalize() {
  if (!IsInitialized()) return 0;
  Runtime& runtime = Instance();
  uint64_t nobody = 0;
  bool gave_up = false;
  while (!runtime.busy_.compare_exchange_strong(nobody, CurrentThreadIdent(), kAcquire, kRelaxed)) {
    if ((nobody & ~kStarts) == CurrentThreadIdent()) return 0;  // inside itself (RE-1)
    // Somebody else finalizes: this thread has come too late and hangs as soon as it attaches; if it is not
    // attached, there is nothing to do for it. Who starts is done in a moment, as IsInitialized is true already.
    if ((nobody & kStarts) == 0 || PYRT_MUTANT(finalize_takes_a_start_for_an_end)) {
      if (ThreadState::Current() == nullptr) return 0;
      // The end may be waiting for this very thread.
      if (!std::exchange(gave_up, true)) Thread::GiveUp();
    }
    {
      std::optional<DetachedScope> detached;
      if (ThreadState::Current() != nullptr) detached.emplace();
      YieldCpu();
    }
    nobody = 0;
    if (!IsInitialized()) return 0;
  }
  const int status = IsInitialized() ? runtime.FinalizeNow() : 0;
  runtime.busy_.store(0, kRelease);
  return status;
}

int Runtime::FinalizeNow() {
  ThreadState& thread = FinalThread();
  Interpreter& interp = *thread.interp();

  StopTheWorld stop(registry_.threads());
  interp.PreFinalize(thread, stop, [&] { EndRemainingInterpreters(thread); });

  // The point of no return. The interpreter first: who asks the runtime first finds both (RT-15).
  interp.SetFinalizing(thread);
  registry_.SetFinalizing(&thread);
  process_phase.finalizing_thread.store(CurrentThreadIdent(), kRelaxed);
  process_phase.finalizing.store(reinterpret_cast<uintptr_t>(&thread), kRelease);
  process_phase.initialized.store(false, kSeqCst);
  process_phase.core_initialized.store(false, kSeqCst);
  process_phase.preinitialized.store(false, kRelaxed);
  ThreadState* const others = interp.TakeOtherThreads(thread);
  stop.Start();
  if (!PYRT_MUTANT(main_thread_state_outlives_its_memory) && registry_.main_thread_state() != &thread) {
    registry_.SetMainThreadState(nullptr);  // on another thread: it is among those that go now
  }
  InterpreterThreads::DeleteRemoved(others, /*threads_are_gone=*/false);

  int status = Flush(interp);
  registry_.signals().RestoreDefaults();
  if (interp.gc().has_collector()) static_cast<void>(interp.gc().Collect(GcSchedule::kGenerations - 1));
  FinalizeModules(interp);
  if (Flush(interp) != 0) status = -1;
  Clear(interp, thread);
  for (auto it = subsystems_.rbegin(); it != subsystems_.rend(); ++it) {
    if (it->finalize_process != nullptr) it->finalize_process(it->context);
  }
  registry_.Delete(&interp);                               // and the current thread state
  ThreadRegistry::SetAllocator(options_.state_allocator);  // gives back what it kept for the next state
  exit_functions_.Run();
  was_finalized_ = true;
  return status;
}

void Runtime::Exit(int status) {
  if (Finalize() < 0) status = 120;
  std::exit(status);  // NOLINT(concurrency-mt-unsafe): the process's end, on the thread that asks for it
}

}  // namespace pyrt::inline PYRT_VARIANT
