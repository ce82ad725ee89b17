// A main interpreter with a sys module and an attached thread, for tests.

#ifndef PYRT_SYS_SYS_TEST_WORLD_H_
#define PYRT_SYS_SYS_TEST_WORLD_H_

#include <string>
#include <utility>
#include <vector>

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/sys_module.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

class SysTestWorld {
 public:
  explicit SysTestWorld(RuntimeConfig config = {}, SysHost* host = nullptr, int stderr_fd = 2) {
    registry_.Enable();
    interp_ = registry_.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime).value();
    thread_ = interp_->threads().NewBound(Whence::kInit);
    registry_.SetMainThreadState(thread_);
    thread_->Attach();
    interp_->set_table(Interpreter::Table::kBuiltins, Dict::New());
    SysModule::Options options;
    options.config = std::move(config);
    options.native_hooks = &native_;
    options.host = host;
    options.stderr_fd = stderr_fd;
    sys_ = SysModule::Create(*interp_, std::move(options)).value();
  }
  ~SysTestWorld() {
    sys_->Clear();
    sys_ = nullptr;
    registry_.SetMainThreadState(nullptr);
    interp_->SetFinalizing(*thread_);
    interp_->Clear(*thread_);
    registry_.Delete(interp_);
    native_.Clear(nullptr);
  }

  InterpreterRegistry& registry() { return registry_; }
  Interpreter& interp() { return *interp_; }
  ThreadState& thread() { return *thread_; }
  NativeAuditHooks& native() { return native_; }
  SysModule& sys() { return *sys_; }
  SysDict& dict() { return sys_->dict(); }

  // sys.name(*args).
  absl::StatusOr<Ref<Object>> Call(const char* name, std::vector<Ref<Object>> args = {}) {
    Ref<Object> function = dict().Find(name);
    PYRT_CHECK(function, "SysTestWorld::Call", "no sys.%s", name);
    return function->Call(args);
  }
  // The repr of the result, or "Type: text".
  std::string Shown(const char* name, std::vector<Ref<Object>> args = {}) {
    return Shown(Call(name, std::move(args)));
  }
  static std::string Shown(const absl::StatusOr<Ref<Object>>& result) {
    if (result.ok()) return (*result)->Repr().value();
    Ref<Error> error = ErrorFromStatus(result.status());
    return error->type().name() + ": " + error->Message();
  }

 private:
  NativeAuditHooks native_;
  InterpreterRegistry registry_;
  Interpreter* interp_ = nullptr;
  ThreadState* thread_ = nullptr;
  Ref<SysModule> sys_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_SYS_TEST_WORLD_H_
