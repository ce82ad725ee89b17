// Runtime: the life of the process' runtime, from Initialize to Finalize, any number of times.
//
//   absl::StatusOr<Runtime*> runtime = Runtime::Initialize();
//   ...                                         // attached to the main interpreter
//   int status = Runtime::Finalize();           // 0, or -1 if flushing standard streams failed
//
//                     Initialize        Finalize                IsInitialized   IsFinalizing
//   never started     starts            0                       false           false
//   starting          (same thread: no) 0                       false           false
//   initialized       ok, no change     ends                    true            false
//   finalizing        FailedPrecond.    0 on the same thread    false           true
//   finalized         starts again      0                       false           true
//
// The thread that initializes is the main thread. There is one runtime per process; nothing of it is touched
// before the first Initialize but exit functions, subsystems and allocators that a host registers.
//
// CPython counterpart: Py_InitializeFromConfig, Py_FinalizeEx, Py_IsInitialized, _PyRuntimeState.

#ifndef PYRT_RUNTIME_RUNTIME_H_
#define PYRT_RUNTIME_RUNTIME_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/exit_functions.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/phase.h"
#include "pyrt/runtime/runtime_status.h"
#include "pyrt/runtime/subsystem.h"
#include "pyrt/tstate/brc.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt::inline PYRT_VARIANT {

struct RuntimeOptions {
  // GIL-disabled build: start with the GIL on, for good. Ignored by the GIL-enabled build. CPython: -X gil=1.
  bool enable_gil = kGilEnabled;
  // Let SIGINT raise KeyboardInterrupt on the main thread, unless it is ignored or has a handler of the host's, and
  // ignore SIGPIPE and SIGXFSZ, for good. CPython: PyConfig.install_signal_handlers.
  bool install_signal_handlers = false;
  // Where what cannot be raised goes: sys.unraisablehook. `what` may be null. Null: a subsystem's (sys has one),
  // without any one line on stderr.
  void (*unraisable)(void* context, const absl::Status& error, const char* what,
                     const Ref<Object>& object) = nullptr;
  // Warnings: "RuntimeWarning" or "DeprecationWarning", text. Attached. Null: the same.
  void (*warn)(void* context, const char* category, const char* text) = nullptr;
  // How to merge the host's reference counts, and the host's events: see InterpreterHooks.
  BrcHooks references{};
  void (*merge_references)(void* context, ThreadState& thread) = nullptr;
  void (*sweep_executors)(void* context, ThreadState& thread) = nullptr;
  void* context = nullptr;
  // Where the runtime's own structures come from, the same in each life; null: operator new. CPython: the raw
  // domain, which here is state_allocator.h's RawDomainForStates().
  const ThreadRegistry::Allocator* state_allocator = nullptr;
};

class Runtime {
 public:
  // Starts the runtime; on success the caller is attached to the main interpreter. Does nothing if it is
  // initialized. On failure everything is as before, and the caller detached: FailedPrecondition while it is
  // starting or finalizing elsewhere, or what a subsystem failed with. Any thread; not from a signal handler.
  // IsInitialized becomes true last (RT-12).
  static absl::StatusOr<Runtime*> Initialize(const RuntimeOptions& options = {});

  // Ends it, in CPython's order: what is outstanding is waited for, then nothing attaches
  // any more (daemon threads hang), then modules, interpreters, audit hooks, exit functions. -1 if flushing
  // failed, else 0. Any thread, attached to whatever or nothing; detached afterwards. A call from inside
  // another one returns 0 and does nothing.
  static int Finalize();

  // Any thread, any time, also from signal handlers.
  static bool IsInitialized() { return process_phase.initialized.load(kAcquire); }
  static bool IsCoreInitialized() { return process_phase.core_initialized.load(kAcquire); }
  static bool IsFinalizing() { return process_phase.finalizing.load(kAcquire) != 0; }

  // The runtime, once it has been initialized. Fatal before.
  static Runtime& Get();

  // Before Initialize: takes part in everything from then on, in all later lives as well (it is not removed).
  static void AddSubsystem(const Subsystem& subsystem);

  // Runs `function` after everything is gone. 0, or -1 if 32 are registered. Any time. What is registered
  // between Finalize and the next Initialize is lost (RT-3). CPython: Py_AtExit.
  static int AtExit(ExitFunctions::Function function);

  InterpreterRegistry& interpreters() { return registry_; }
  Interpreter& main_interpreter() { return *registry_.main(); }

  // A new interpreter and its first thread state, which is attached on return; the caller's is detached. On
  // failure the caller is as before. FailedPrecondition "Py_Initialize must be called first". CPython:
  // Py_NewInterpreterFromConfig.
  static absl::StatusOr<ThreadState*> NewInterpreter(const InterpreterConfig& config,
                                                     InterpreterWhence whence = InterpreterWhence::kCApi);
  // Ends the interpreter of `thread`, which must be attached: joins its threads, runs its calls and callbacks,
  // then lets its other threads hang. Detached afterwards. CPython: Py_EndInterpreter.
  static void EndInterpreter(ThreadState& thread);
  // Gives up an id reference; ends the interpreter with the last one if its life is linked (IN-22). Nothing happens if
  // it has ended, whatever referred to it, and the reference is all that goes if somebody is ending it. Any thread,
  // attached to whatever but that interpreter or nothing; the current state is as before.
  static void ReleaseInterpreterId(int64_t id);

  // The audit event of all subsystems, in order; the first failure. Attached.
  static absl::Status Audit(const char* event, Args arguments = {});
  // Shows an error that nobody can be given; `what` is "Exception ignored ..." or null, `object` may be null.
  // Attached. CPython: PyErr_FormatUnraisable.
  static void WriteUnraisable(const absl::Status& error, const char* what,
                              const Ref<Object>& object = nullptr);
  // Shows a warning; the error is one that was made an exception. Attached. CPython: PyErr_WarnEx.
  static absl::Status Warn(const char* category, const char* text);

  // Ends the process: Finalize, then exit(status), or 120 if flushing failed. CPython: Py_Exit.
  [[noreturn]] static void Exit(int status);

 private:
  friend class Fork;
  friend class Thread;

  Runtime() = default;

  static Runtime& Instance();
  absl::Status Start(const RuntimeOptions& options);
  ThreadState& FinalThread();
  void EndRemainingInterpreters(ThreadState& thread);
  int Flush(Interpreter& interp);
  absl::Status InitCore(Interpreter& interp);
  absl::Status InitMain(Interpreter& interp);
  void FinalizeModules(Interpreter& interp);
  void Clear(Interpreter& interp, ThreadState& thread);
  void TearDown(Interpreter& interp, ThreadState& thread);
  void EndClaimed(ThreadState& thread);
  int FinalizeNow();

  InterpreterRegistry registry_;
  RuntimeOptions options_;
  SignalHandler interrupt_handler_;
  std::vector<Subsystem> subsystems_;
  ExitFunctions exit_functions_;
  bool was_initialized_ = false;  // or it has been tried
  bool was_finalized_ = false;
  // The ident of the thread that starts or ends the runtime, 0 for none; kStarts tells which of both.
  Atomic<uint64_t> busy_{0};
  static constexpr uint64_t kStarts = uint64_t{1} << 63;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_RUNTIME_H_
