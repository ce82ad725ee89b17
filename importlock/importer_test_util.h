// An interpreter for the importer's tests: a finder over C++ lambdas, a GIL, a reclaimer, a host that records.

#ifndef PYRT_IMPORTLOCK_IMPORTER_TEST_UTIL_H_
#define PYRT_IMPORTLOCK_IMPORTER_TEST_UTIL_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyrt/importlock/import_lock_test_util.h"
#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/qsbr_reclaimer.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/tstate/qsbr.h"

namespace pyrt::inline PYRT_VARIANT {

// Modules whose bodies are functions. Fill before the first import.
class ScriptFinder final : public Finder {
 public:
  using Body = std::function<absl::Status(const Ref<Object>& module)>;
  struct Script {
    Body body;
    bool is_package = false;
    Atomic<int>* runs = nullptr;
  };

  void Add(const std::string& name, Body body = nullptr, bool is_package = false) {
    scripts_[name] = {std::move(body), is_package};
  }
  void AddPackage(const std::string& name, Body body = nullptr) { Add(name, std::move(body), true); }

  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                           const Object*) override {
    const auto found = scripts_.find(std::string(name));
    if (found == scripts_.end()) return Ref<ModuleSpec>();
    ModuleSpec::Options options;
    options.loader = MakeRef<ScriptLoader>(found->second.body);
    options.is_package = found->second.is_package;
    if (options.is_package) options.search_path = {"/" + found->first};
    return ModuleSpec::New(name, std::move(options));
  }

 private:
  class ScriptLoader final : public Loader {
   public:
    explicit ScriptLoader(Body body) : body_(std::move(body)) {}
    absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>& module) override {
      return body_ ? body_(module) : absl::OkStatus();
    }

   private:
    const Body body_;
  };

  std::map<std::string, Script> scripts_;
};

class RecordingHost : public ImportHost {
 public:
  explicit RecordingHost(TestGil& gil) : gil_(gil) {}

  const WaitHooks* Hooks() override { return gil_.hooks(); }
  absl::Status AuditImport(Args arguments) override {
    if (!record) return absl::OkStatus();
    std::string text;
    for (const Ref<Object>& argument : arguments) {
      if (!text.empty()) text += " ";
      const String* const string = As<String>(argument);
      text += string != nullptr ? string->value() : argument->TypeName();
    }
    audited.push_back(text);
    return veto.empty() || text.find(veto) != 0 ? absl::OkStatus()
                                                : Raise(ErrorType::RuntimeError(), "vetoed %s", veto.c_str());
  }
  absl::Status Warn(const ErrorType& category, const std::string& message) override {
    warnings.push_back(category.name() + ": " + message);
    return absl::OkStatus();
  }
  bool IsMainInterpreter() override { return is_main; }
  bool ChecksMultiInterpExtensions() override { return checks_extensions; }
  bool OwnsGil() override { return owns_gil; }
  absl::Status RunInMainInterpreter(const std::function<absl::Status()>& body) override {
    ++runs_in_main;
    const bool before = std::exchange(is_main, true);
    absl::Status status = body();
    is_main = before;
    return status;
  }
  bool EnableGilForImport() override {
    gil_events += "+";
    return gil_may_be_enabled;
  }
  bool KeepGilEnabled() override {
    gil_events += "!";
    return !std::exchange(gil_is_permanent, true);
  }
  Ref<Object> SysValue(std::string_view name) override {
    const auto found = sys.find(std::string(name));
    return found == sys.end() ? nullptr : found->second;
  }
  Ref<Object> CoreModule(std::string_view name) override {
    const auto found = core.find(std::string(name));
    return found == core.end() ? nullptr : found->second;
  }
  void CollectGarbage() override { ++collections; }
  void DisableGilAfterImport() override { gil_events += "-"; }

  bool record = true;  // off for tests with several threads
  std::string veto;
  std::vector<std::string> audited;
  std::vector<std::string> warnings;
  bool is_main = true;
  bool checks_extensions = false;
  bool owns_gil = false;
  bool gil_may_be_enabled = true;
  bool gil_is_permanent = false;
  std::map<std::string, Ref<Object>> sys;
  std::map<std::string, Ref<Object>> core;
  int collections = 0;
  int runs_in_main = 0;
  std::string gil_events;

 private:
  TestGil& gil_;
};

// One interpreter. Threads attach with InterpreterAttached.
struct TestInterpreter {
  TestInterpreter() : finder(MakeRef<ScriptFinder>()), importer(MakeRef<Importer>(host, ReclaimerFor())) {
    importer->set_meta_path(List::Of({finder}));
  }
  ~TestInterpreter() {
    importer->Finalize();
    importer.reset();
  }

  Reclaimer& ReclaimerFor() {
    if constexpr (kGilEnabled) return immediate;
    return delayed;
  }

  TestGil gil;
  Qsbr qsbr;
  ImmediateReclaimer immediate;
  QsbrReclaimer delayed{qsbr};
  RecordingHost host{gil};
  Ref<ScriptFinder> finder;
  Ref<Importer> importer;
};

// Attaches the calling thread for a scope: the GIL, or a place in the Qsbr.
class InterpreterAttached {
 public:
  explicit InterpreterAttached(TestInterpreter& interpreter)
      : interpreter_(interpreter), slot_(kGilEnabled ? nullptr : interpreter.qsbr.Reserve()) {
    interpreter_.gil.Attach();
    if (slot_ != nullptr) {
      interpreter_.qsbr.Online(*slot_);
      online_.exchange(1, kSeqCst);
      AsymmetricFence::Light();
    }
  }
  ~InterpreterAttached() {
    if (slot_ != nullptr) {
      interpreter_.qsbr.Offline(*slot_);
      interpreter_.qsbr.Release(slot_);
    }
    interpreter_.gil.Detach();
  }
  InterpreterAttached(const InterpreterAttached&) = delete;
  InterpreterAttached& operator=(const InterpreterAttached&) = delete;

  // Holds no pointer into a table now.
  void Quiescent() {
    if (slot_ != nullptr) interpreter_.qsbr.Quiescent(*slot_);
  }

 private:
  TestInterpreter& interpreter_;
  QsbrSlot* const slot_;
  Atomic<int> online_{0};
};

inline std::string MessageOf(const absl::Status& status) {
  const Ref<Error> error = ErrorFromStatus(status);
  return error ? error->type().name() + ": " + error->Message() : "OK";
}
template <typename T>
std::string MessageOf(const absl::StatusOr<T>& result) {
  return MessageOf(result.status());
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_IMPORTER_TEST_UTIL_H_
