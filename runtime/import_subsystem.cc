#include "pyrt/runtime/import_subsystem.h"

#include <list>
#include <memory>
#include <utility>

#include "pyrt/importlock/qsbr_reclaimer.h"
#include "pyrt/importlock/reclaimer.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// What outlives interpreters.
struct Process {
  ImportSubsystemOptions next;     // of the next life of the runtime
  ImportSubsystemOptions options;  // of this one
  ExtensionCache extensions;
  std::shared_ptr<const InittabSnapshot> inittab;
  Mutex mutex;
  // Importers with threads in them that hang for ever: their stacks refer to it, and the parking lot to its locks.
  std::list<Ref<Object>> lost PYRT_GUARDED_BY(mutex);
};

Process& TheProcess() {
  static Process* const process = new Process;
  return *process;
}

class InterpreterImportHost final : public ImportHost {
 public:
  InterpreterImportHost(Interpreter& interp, const ImportSubsystemOptions& options)
      : interp_(interp), options_(options) {
    const WaitHooks* const detach = ThreadState::DetachWhileWaiting();
    hooks_ = {.context = this,
              .before_park = detach->before_park,
              .after_park = detach->after_park,
              .interrupted =
                  [](void*) {
                    ThreadState* const thread = ThreadState::Current();
                    return thread != nullptr && Interpreter::CheckSignals(*thread) != 0;
                  },
              .must_fail =
                  [](void* host) {
                    Interpreter& interp = static_cast<InterpreterImportHost*>(host)->interp_;
                    return interp.registry().IsFinalizing() || interp.IsFinalizing();
                  }};
  }

  const WaitHooks* Hooks() override { return &hooks_; }

  absl::Status WaitFailure(LockStatus status, const std::string& module) override {
    if (status == LockStatus::kInterrupted) {
      ThreadState& thread = ThreadState::Get("PyImport_ImportModule");
      if (Ref<Error> error = std::exchange(thread.data().current_exception, nullptr)) return ToStatus(error);
    }
    return ImportHost::WaitFailure(status, module);
  }

  absl::Status AuditImport(Args arguments) override { return Runtime::Audit("import", arguments); }
  absl::Status Warn(const ErrorType& category, const std::string& message) override {
    return Runtime::Warn(category.name().c_str(), message.c_str());
  }
  Ref<Object> SysValue(std::string_view name) override {
    return options_.sys_value ? options_.sys_value(interp_, name) : nullptr;
  }
  Ref<Object> CoreModule(std::string_view name) override {
    return name == "sys" ? interp_.table(Interpreter::Table::kSysDict) : nullptr;
  }
  void CollectGarbage() override {
    if (interp_.gc().has_collector()) static_cast<void>(interp_.gc().Collect(GcSchedule::kGenerations - 1));
  }

  bool IsMainInterpreter() override { return interp_.is_main(); }
  bool ChecksMultiInterpExtensions() override {
    return interp_.features().Has(FeatureFlags::kMultiInterpExtensions);
  }
  bool OwnsGil() override { return interp_.owns_gil(); }

  absl::Status RunInMainInterpreter(const std::function<absl::Status()>& body) override {
    if (interp_.is_main()) return body();
    ThreadState* const temporary = interp_.registry().main()->threads().NewBound(Whence::kExec);
    if (temporary == nullptr) return Raise(ErrorType::MemoryError(), "no memory for a thread state");
    // Back, however the body ends: it may throw, or end its thread.
    struct Back {
      ~Back() {
        InterpreterThreads::Clear(*temporary);
        InterpreterThreads::DeleteCurrent();
        before->Attach();
      }
      ThreadState* const temporary;
      ThreadState* const before;
    } const back{temporary, ThreadState::Swap(temporary)};
    return body();
  }

  ModuleLockRegistry* MainModuleLocks() override {
    Importer* const importer = ImporterOf(*interp_.registry().main());
    return importer == nullptr ? nullptr : &importer->module_locks();
  }

  bool EnableGilForImport() override {
    if (kGilEnabled || !options_.may_enable_gil) return false;
    ThreadState& thread = ThreadState::Get("_PyEval_EnableGILTransient");
    {
      StoppedWorld stopped(interp_.registry().threads());
      interp_.gil().AddEnableRequest();
    }
    // Whoever attaches from now on takes it; this thread was attached without it.
    if (!thread.gil_holder().holds()) {
      thread.Detach();
      thread.Attach();
    }
    return true;
  }
  bool KeepGilEnabled() override { return interp_.gil().EnableForGood(); }
  void DisableGilAfterImport() override {
    static_cast<void>(interp_.gil().RemoveEnableRequest(ThreadState::Get("_PyEval_DisableGIL").gil_holder()));
  }

 private:
  Interpreter& interp_;
  const ImportSubsystemOptions& options_;
  WaitHooks hooks_;
};

template <bool gil_enabled>
struct ReclaimerFor {
  explicit ReclaimerFor(Qsbr&) {}
  ImmediateReclaimer reclaimer;
};
template <>
struct ReclaimerFor<false> {
  explicit ReclaimerFor(Qsbr& qsbr) : reclaimer(qsbr) {}
  QsbrReclaimer reclaimer;
};

// The importer and what it stands on, in the interpreter's table.
class ImportState final : public Object {
 public:
  ImportState(Interpreter& interp, Process& process)
      : options_(process.options),
        host_(interp, options_),
        reclaimer_(interp.threads().qsbr()),
        importer_(MakeRef<Importer>(host_, reclaimer_.reclaimer)),
        native_(host_, process.extensions),
        lazy_(*importer_) {
    lazy_.set_mode(options_.lazy_imports);
    if (options_.import_time > 0) {
      importer_->import_time().Enable(options_.import_time_sink, options_.import_time);
    }
    for (const std::string& entry : options_.path) importer_->path()->Append(String::Of(entry));
    std::vector<Ref<Object>> finders;
    if (process.inittab != nullptr) finders.push_back(MakeRef<BuiltinFinder>(process.inittab, native_));
    if (options_.frozen != nullptr) {
      finders.push_back(MakeRef<FrozenFinder>(*options_.frozen, options_.use_frozen, options_.run_frozen));
    }
    if (options_.path_finder) {
      PathFinder::Options paths;
      paths.suffixes = options_.suffixes;
      paths.native_suffix = options_.native_suffix;
      paths.native = &native_;
      paths.host = &host_;
      paths.path_hooks = importer_->path_hooks();
      finders.push_back(MakeRef<PathFinder>(importer_->path(), std::move(paths)));
    }
    importer_->meta_path()->Assign(std::move(finders));
  }

  const char* TypeName() const override { return "ImportState"; }
  Importer& importer() { return *importer_; }
  NativeModules& native() { return native_; }
  LazyImports& lazy() { return lazy_; }
  Reclaimer& reclaimer() { return reclaimer_.reclaimer; }

 private:
  const ImportSubsystemOptions options_;  // of this life of the runtime
  InterpreterImportHost host_;
  ReclaimerFor<kGilEnabled> reclaimer_;
  const Ref<Importer> importer_;
  NativeModules native_;
  LazyImports lazy_;
};

ImportState* StateOf(Interpreter& interp) {
  return static_cast<ImportState*>(interp.table(Interpreter::Table::kImporter).get());
}

absl::Status InitCore(void*, Interpreter& interp) {
  Process& process = TheProcess();
  if (interp.is_main()) {
    process.options = process.next;
    process.inittab = process.options.inittab == nullptr ? nullptr : process.options.inittab->Freeze();
  }
  static_cast<void>(interp.set_table(Interpreter::Table::kImporter, MakeRef<ImportState>(interp, process)));
  return absl::OkStatus();
}

void ClearInterpreter(void*, Interpreter& interp) {
  Process& process = TheProcess();
  if (interp.is_main()) {
    // Once: after this life the host may do with the table as it likes.
    Inittab* const inittab = std::exchange(process.options.inittab, nullptr);
    if (inittab != nullptr) inittab->Thaw();
  }
  Ref<Object> state = interp.set_table(Interpreter::Table::kImporter, nullptr);
  if (state == nullptr || !static_cast<ImportState*>(state.get())->importer().InUse()) return;
  std::list<Ref<Object>> node;  // allocated before the lock
  node.push_back(std::move(state));
  const MutexLock lock(process.mutex);
  process.lost.splice(process.lost.end(), node);
}

}  // namespace

Importer* ImporterOf(Interpreter& interp) {
  ImportState* const state = StateOf(interp);
  return state == nullptr ? nullptr : &state->importer();
}

NativeModules* NativeModulesOf(Interpreter& interp) {
  ImportState* const state = StateOf(interp);
  return state == nullptr ? nullptr : &state->native();
}

LazyImports* LazyImportsOf(Interpreter& interp) {
  ImportState* const state = StateOf(interp);
  return state == nullptr ? nullptr : &state->lazy();
}

namespace {

void BeforeForkStopped(void*, Interpreter& interp) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  ImporterOf(interp)->BeforeForkStopped();
  // Of the process: interpreters with a GIL of their own are not stopped in the GIL-enabled build.
  TheProcess().mutex.Lock();
  TheProcess().extensions.BeforeFork();
}

void AfterForkInParent(void*, Interpreter& interp) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  TheProcess().extensions.AfterForkInParent();
  TheProcess().mutex.Unlock();
  ImporterOf(interp)->AfterForkInParent();
}

void AfterForkInChild(void*, Interpreter& interp) {
  TheProcess().extensions.AfterForkInChild();
  TheProcess().mutex.ReinitAfterFork();
  ImporterOf(interp)->AfterForkInChild();
}

}  // namespace

Subsystem ImportSubsystem(ImportSubsystemOptions options) {
  TheProcess().next = std::move(options);
  return {
      .name = "import",
      .init_core = &InitCore,
      .finalize_modules =
          [](void*, Interpreter& interp) {
            if (Importer* importer = ImporterOf(interp)) importer->Finalize();
          },
      .clear_interpreter = &ClearInterpreter,
      .before_fork = [](void*, Interpreter& interp) { ImporterOf(interp)->BeforeForkTakeImportLock(); },
      .before_fork_stopped = &BeforeForkStopped,
      .after_fork_in_parent = &AfterForkInParent,
      .after_fork_in_child = &AfterForkInChild,
      .reinit_after_fork =
          [](void*, Interpreter& interp) {
            if (Importer* const importer = ImporterOf(interp)) importer->ReinitAfterFork();
          },
      .process_delayed =
          [](void*, Interpreter& interp) {
            if (ImportState* const state = StateOf(interp)) state->reclaimer().Collect();
          },
  };
}

}  // namespace pyrt::inline PYRT_VARIANT
