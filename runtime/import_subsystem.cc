#include "pyrt/runtime/import_subsystem.h"

#include <utility>

#include "pyrt/importlock/qsbr_reclaimer.h"
#include "pyrt/importlock/reclaimer.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class InterpreterImportHost final : public ImportHost {
 public:
  explicit InterpreterImportHost(Interpreter& interp) : interp_(interp) {
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

  bool IsMainInterpreter() override { return interp_.is_main(); }
  bool ChecksMultiInterpExtensions() override {
    return interp_.features().Has(FeatureFlags::kMultiInterpExtensions);
  }
  bool OwnsGil() override { return interp_.owns_gil(); }

  absl::Status RunInMainInterpreter(const std::function<absl::Status()>& body) override {
    if (interp_.is_main()) return body();
    ThreadState* const temporary = interp_.registry().main()->threads().NewBound(Whence::kExec);
    if (temporary == nullptr) return Raise(ErrorType::MemoryError(), "no memory for a thread state");
    ThreadState* const before = ThreadState::Swap(temporary);
    absl::Status status = body();
    InterpreterThreads::Clear(*temporary);
    InterpreterThreads::DeleteCurrent();
    before->Attach();
    return status;
  }

  bool EnableGilForImport() override {
    if constexpr (kGilEnabled) return false;
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
  void KeepGilEnabled() override { interp_.gil().EnableForGood(); }
  void DisableGilAfterImport() override {
    interp_.gil().RemoveEnableRequest(ThreadState::Get("_PyEval_DisableGIL").gil_holder());
  }

 private:
  Interpreter& interp_;
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
  explicit ImportState(Interpreter& interp)
      : host_(interp),
        reclaimer_(interp.threads().qsbr()),
        importer_(MakeRef<Importer>(host_, reclaimer_.reclaimer)) {}

  const char* TypeName() const override { return "ImportState"; }
  Importer& importer() { return *importer_; }

 private:
  InterpreterImportHost host_;
  ReclaimerFor<kGilEnabled> reclaimer_;
  const Ref<Importer> importer_;
};

}  // namespace

Importer* ImporterOf(Interpreter& interp) {
  const Ref<Object> state = interp.table(Interpreter::Table::kImporter);
  return state == nullptr ? nullptr : &static_cast<ImportState*>(state.get())->importer();
}

Subsystem ImportSubsystem() {
  return {
      .name = "import",
      .init_core =
          [](void*, Interpreter& interp) {
            static_cast<void>(interp.set_table(Interpreter::Table::kImporter, MakeRef<ImportState>(interp)));
            return absl::OkStatus();
          },
      .finalize_modules =
          [](void*, Interpreter& interp) {
            if (Importer* importer = ImporterOf(interp)) importer->Finalize();
          },
      .clear_interpreter =
          [](void*, Interpreter& interp) {
            const Ref<Object> state = interp.set_table(Interpreter::Table::kImporter, nullptr);
          },
      .before_fork = [](void*, Interpreter& interp) { ImporterOf(interp)->BeforeForkTakeImportLock(); },
      .before_fork_stopped = [](void*, Interpreter& interp) { ImporterOf(interp)->BeforeForkStopped(); },
      .after_fork_in_parent = [](void*, Interpreter& interp) { ImporterOf(interp)->AfterForkInParent(); },
      .after_fork_in_child = [](void*, Interpreter& interp) { ImporterOf(interp)->AfterForkInChild(); },
  };
}

}  // namespace pyrt::inline PYRT_VARIANT
