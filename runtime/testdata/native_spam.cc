// Multi-phase, for every interpreter, with state.

#include "pyrt/importlock/module_def.h"

namespace {

int states_cleared = 0;

struct SpamState {
  int64_t executions;
};

absl::Status Fill(const pyrt::Ref<pyrt::Object>& module) {
  auto* const state = static_cast<SpamState*>(pyrt::AsModule(module)->state());
  if (absl::Status status = module->SetAttr("executions", pyrt::Int::Of(++state->executions)); !status.ok()) {
    return status;
  }
  return module->SetAttr("states_cleared", pyrt::Int::Of(states_cleared));
}

constexpr pyrt::ModuleSlot kSlots[] = {
    pyrt::ModuleSlot::Exec(&Fill),
    pyrt::ModuleSlot::Interpreters(pyrt::MultipleInterpreters::kPerInterpreterGilSupported),
    pyrt::ModuleSlot::Gil(pyrt::GilUse::kNotUsed)};
constexpr pyrt::ModuleDef kSpam = {"native_spam", sizeof(SpamState), [](void*) { ++states_cleared; }, kSlots};

}  // namespace

PYRT_MODULE_INIT([](pyrt::ModuleInit& init) { init.Return(kSpam); })
