// Interpreter: everything that belongs to one interpreter and not to one thread.
//
//   InterpreterRegistry (one)      list, ids, main interpreter, main thread, signals, main-only calls
//     Interpreter (each)           config, GIL, threads, pending calls, GC schedule, exit callbacks, tables
//       ThreadState (each)         tstate
//
//   New (registry) -> Configure -> threads run -> PreFinalize -> SetFinalizing -> Clear -> Delete (registry)
//
// "Attached" below means attached to this interpreter.
//
// CPython counterpart: PyInterpreterState.

#ifndef PYRT_INTERP_INTERPRETER_H_
#define PYRT_INTERP_INTERPRETER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"

#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/gil/gil.h"
#include "pyrt/interp/atexit.h"
#include "pyrt/interp/gc_schedule.h"
#include "pyrt/interp/interpreter_config.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/tstate/brc.h"
#include "pyrt/tstate/finalization_guard.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

class InterpreterRegistry;

// Who made an interpreter. CPython's values (_PyInterpreterState_WHENCE_*).
enum class InterpreterWhence : int8_t {
  kNotSet = -1,
  kUnknown = 0,
  kRuntime = 1,     // the main interpreter
  kLegacyCApi = 2,  // Py_NewInterpreter
  kCApi = 3,        // Py_NewInterpreterFromConfig
  kCrossInterpreter = 4,
  kStdlib = 5,
};

// A GIL and the threads that may hold it. Apart from the rest because it may have to live longer: a daemon
// thread that has not noticed the end of its interpreter will look at both when it tries to attach (IN-50).
struct InterpreterLocks {
  explicit InterpreterLocks(bool gil_enabled) : own_gil(gil_enabled) {}
  Gil own_gil;        // unused by an interpreter that shares the main one's
  Mutex start_mutex;  // a new thread binds its state, or the finalizer takes it away
  FinalizationGuards guards;
  std::unique_ptr<Brc> brc;
};

struct InterpreterCore : InterpreterLocks, InterpreterThreads {
  // From ThreadRegistry's allocator; null when memory is short.
  static void* operator new(size_t size) noexcept {
    return ThreadRegistry::AllocateState(size, kStateAlignment);
  }
  static void operator delete(void* memory, size_t size) {
    ThreadRegistry::DeallocateState(memory, size, kStateAlignment);
  }
  static constexpr size_t kStateAlignment = 64;

  InterpreterCore(Gil* shared_gil, bool gil_enabled, const InterpreterThreads::Options& options)
      : InterpreterLocks(gil_enabled),
        InterpreterThreads(WithGil(options, shared_gil == nullptr ? &own_gil : shared_gil)) {}

  // May a thread that has not noticed the end still look at this?
  bool needed() const { return lost_states() != 0 || dependents.load(kAcquire) != 0; }

  // Once the interpreter is gone (InterpreterRegistry): the core whose GIL its threads use, if it is not its own,
  // how many do so with this one, and the list of cores that are kept, guarded by the head lock.
  InterpreterCore* gil_owner = nullptr;
  Atomic<int32_t> dependents{0};
  InterpreterCore* next_lost = nullptr;

 private:
  static InterpreterThreads::Options WithGil(InterpreterThreads::Options options, Gil* gil) {
    options.gil = gil;
    return options;
  }
};

class Interpreter {
 public:
  // The tables that CPython keeps in fields of the interpreter.
  enum class Table : uint8_t { kModules, kBuiltins, kSysDict, kImporter, kCount };

  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  static void* operator new(size_t size) noexcept { return InterpreterCore::operator new(size); }
  static void operator delete(void* memory, size_t size) { InterpreterCore::operator delete(memory, size); }

  // The interpreter of the current thread; fatal "no current interpreter" when detached. CPython:
  // PyInterpreterState_Get.
  static Interpreter& Get();
  static Interpreter* Current() { return ThreadState::CurrentInterpreter(); }

  InterpreterRegistry& registry() const { return registry_; }
  int64_t id() const { return id_; }
  bool is_main() const;
  InterpreterWhence whence() const { return whence_; }
  void set_whence(InterpreterWhence whence) { whence_ = whence; }
  Interpreter* next() const { return next_; }  // under the head lock, or when nobody creates or deletes

  // Settles what the interpreter may do and makes its GIL; once, before the first thread state. The main
  // interpreter's configuration is InterpreterConfig::Main() whatever is given. InvalidArgument with
  // CPython's text if `config` is not valid, ResourceExhausted when memory is short, and then nothing has changed.
  // CPython: init_interp_settings.
  absl::Status Configure(const InterpreterConfig& config, bool gil_enabled = kGilEnabled);
  const InterpreterConfig& config() const { return config_; }
  FeatureFlags features() const { return features_; }

  InterpreterThreads& threads() { return *core_; }
  Gil& gil() { return *threads().link().gil; }
  bool owns_gil() { return &gil() == &core_->own_gil; }

  // ---- What threads poll for

  // The slow half of ThreadState::Poll, in CPython's order: stop, signals, calls, merge and QSBR, collection,
  // drop, asynchronous exception. Each bit is cleared before its work; bits that are set meanwhile wait for
  // the next poll. 0, or -1 with the thread's current exception set: the rest has kept its bits. Attached;
  // runs anything. CPython: _Py_HandlePending.
  static int HandlePending(ThreadState& thread);

  // Native code that runs long asks what polls would do, without giving the GIL away: collection, signals (on
  // the main thread of the main interpreter), asynchronous exception. 0 or -1. CPython: PyErr_CheckSignals.
  static int CheckSignals(ThreadState& thread);

  // On a new OS thread, for the state that its starter made: binds it, or returns false because the interpreter
  // has ended meanwhile; the thread then gives up its reference and ends (TS-80). Not attached.
  static bool BindNewThread(ThreadState& thread);

  FinalizationGuards& guards() { return core_->guards; }
  PendingCalls& pending_calls() { return calls_; }
  PendingCallHandler& pending_handler() { return call_handler_; }
  // Py_MakePendingCalls: signals and calls, on the main thread of the main interpreter only. 0 or -1.
  static int MakePendingCalls(ThreadState& thread);
  // Runs calls until none is left; at most `max_calls` of those that calls add (EB-33), then the rest is
  // dropped and reported. What fails is reported. Attached. CPython: _Py_FinishPendingCalls.
  void FinishPendingCalls(ThreadState& thread, int max_rounds = 1000);

  // ---- Reference counts (GIL-disabled build, if the host has told how to merge: InterpreterHooks::references)

  // Gives up a reference to an object that thread `owner` (CurrentThreadIdent there) owns: the owner merges it at a
  // poll, or it is merged now if there is none. Attached; may run the object's destructor, and stops the world when
  // memory is short (BR-3). CPython: _Py_brc_queue_object.
  void QueueReference(uint64_t owner, void* object);
  // Merges what is queued for a thread that does not poll, in its place, with the world stopped (BR-5). False if there
  // is no such thread. Attached; runs destructors.
  bool MergeReferencesOf(uint64_t owner);
  Brc* brc() { return core_->brc.get(); }

  // What //runtime:object_memory keeps for an interpreter that does not use the main one's object allocator.
  void* object_memory() const { return object_memory_.load(kAcquire); }
  void set_object_memory(void* memory) { object_memory_.store(memory, kRelease); }

  // Frees what lock-free readers could still have seen when it was unlinked, by whichever thread, as far as
  // they have been quiescent since. Stops the world to take over the other threads' queues, and frees with it
  // running. On a thread that has itself stopped a world it only reports that the thread is quiescent:
  // destructors may not run then. After each collection; a host without a collector calls it now and then.
  // Attached, no lock held; the caller holds no pointer into a table; may detach; runs destructors. CPython:
  // _PyMem_ProcessDelayed, process_delayed_frees.
  void ProcessDelayed();

  GcSchedule& gc() { return gc_; }
  AtExit& at_exit() { return at_exit_; }

  // ---- State

  // A copy of the reference; null while there is none. Attached; setting is the initializer's and
  // finalizer's.
  Ref<Object> table(Table table) const { return tables_[static_cast<size_t>(table)]; }
  Ref<Object> set_table(Table table, Ref<Object> object) {
    std::swap(tables_[static_cast<size_t>(table)], object);
    return object;  // the old one: the caller releases it where destructors may run
  }
  // Extensions' per-interpreter data, made on demand. Attached. CPython: PyInterpreterState_GetDict.
  const Ref<Dict>& dict();

  // sys.setrecursionlimit's limit for new and for existing threads. At least 1 (the caller checks). Attached.
  int32_t recursion_limit() { return threads().link().recursion_limit.load(kRelaxed); }
  void SetRecursionLimit(int32_t limit);

  // The version that instrumented code is compared with: bumps it by one and brings every thread's word up to
  // date. OverflowError "events set too many times" instead of an overflow (EB-1). Attached; stops the world.
  absl::Status BumpInstrumentationVersion();
  uintptr_t instrumentation_version() {
    return threads().link().breaker_on_attach.load(kRelaxed) & EvalBreaker::kVersionMask;
  }

  // ---- "Running main" (IN-25)

  // InterpreterError "interpreter already running"; RuntimeError "current tstate has wrong interpreter".
  absl::Status SetRunningMain(ThreadState& thread);
  void ClearRunningMain(ThreadState& thread);  // fatal if `thread` does not
  bool IsRunningMain() const { return running_main_.load(kRelaxed) != nullptr; }
  ThreadState* running_main() const { return running_main_.load(kRelaxed); }

  // ---- Ids as references (IN-22)

  void IncrefId() { id_references_.fetch_add(1, kRelaxed); }
  // True when this was the last reference of an interpreter whose life is linked to them: the caller ends it.
  [[nodiscard]] bool DecrefId();
  int64_t id_references() const { return id_references_.load(kRelaxed); }
  void set_requires_idref(bool required) { requires_idref_.store(required, kRelaxed); }
  bool requires_idref() const { return requires_idref_.load(kRelaxed); }

  // ---- The end

  // Whoever makes or ends the interpreter has claimed it, its maker from the beginning: nobody else ends it meanwhile.
  // False if another thread, or this one already, has claimed it.
  [[nodiscard]] bool Claim() {
    uint64_t nobody = 0;
    return claimed_by_.compare_exchange_strong(nobody, CurrentThreadIdent(), kAcquire, kRelaxed);
  }
  void Unclaim() { claimed_by_.store(0, kRelease); }
  uint64_t claimed_by() const { return claimed_by_.load(kRelaxed); }

  // Whether the interpreter is ending; the registry's finalizing must be asked first (RT-15).
  bool IsFinalizing() const { return finalizing_.load(kRelaxed) != 0; }
  // The point of no return for this interpreter, by its finalizing thread. The world is stopped.
  void SetFinalizing(ThreadState& thread);
  bool IsFinalizingThread(const ThreadState& thread) const {
    return finalizing_.load(kRelaxed) == reinterpret_cast<uintptr_t>(&thread);
  }

  // The last steps with everything still working, over and over until nothing is outstanding: joins threads,
  // runs pending calls and exit callbacks, calls `end_others` (the main interpreter: ends subinterpreters;
  // may be empty), waits for finalization guards. On return `stop` has stopped the world, and guards and
  // queues are closed: nothing that was accepted is lost, and nothing more is accepted. `thread` is attached.
  // CPython: make_pre_finalization_calls (3.15).
  void PreFinalize(ThreadState& thread, StopTheWorld& stop, const std::function<void()>& end_others);

  // With the world stopped, or under the GIL: takes every other thread state off the list; their threads hang
  // when they attach. The result goes to InterpreterThreads::DeleteRemoved with the world running. CPython:
  // _PyThreadState_RemoveExcept.
  ThreadState* TakeOtherThreads(ThreadState& keep);

  // Releases everything that refers to objects: thread states, low-level exit callbacks (which run here),
  // tables. Attached, finalizing. CPython: interpreter_clear.
  void Clear(ThreadState& thread);

 private:
  friend class InterpreterRegistry;

  Interpreter(InterpreterRegistry& registry, int64_t id, InterpreterWhence whence);
  ~Interpreter();

  static void RaiseCalls(void* interpreter);
  void UpdateCallsOnAttach();
  int Fail(ThreadState& thread, const absl::Status& status);
  void Report(const absl::Status& error, const char* what, const Ref<Object>& object = nullptr);
  void JoinThreads(ThreadState& thread);
  void WaitForGuards(ThreadState& thread);
  bool CloseIfNothingIsOutstanding(ThreadState& thread);

  InterpreterRegistry& registry_;
  const int64_t id_;
  Interpreter* next_ = nullptr;  // guarded by the head lock
  InterpreterWhence whence_;
  InterpreterConfig config_;
  FeatureFlags features_;
  std::unique_ptr<InterpreterCore> core_;

  PendingCalls calls_;
  PendingCallHandler call_handler_;
  GcSchedule gc_;
  AtExit at_exit_;

  std::array<Ref<Object>, static_cast<size_t>(Table::kCount)> tables_;
  Ref<Dict> dict_;

  Atomic<void*> object_memory_{nullptr};
  Atomic<ThreadState*> running_main_{nullptr};
  Atomic<int64_t> id_references_{0};
  Atomic<bool> requires_idref_{false};
  Atomic<uint64_t> claimed_by_{CurrentThreadIdent()};
  Atomic<uintptr_t> finalizing_{0};
  size_t unrun_calls_ = 0;  // the finalizer's
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_INTERP_INTERPRETER_H_
