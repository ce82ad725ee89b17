// Slots alone (PEP 793): its init is data. Does not say that it can do without the GIL.

#include "pyrt/importlock/module_def.h"

namespace {

absl::Status Fill(const pyrt::Ref<pyrt::Object>& module) {
  auto* const state = static_cast<int64_t*>(pyrt::AsModule(module)->state());
  *state += 7;
  return module->SetAttr("value", pyrt::Int::Of(*state));
}

constexpr pyrt::ModuleSlot kSlots[] = {
    pyrt::ModuleSlot::Name("slots"), pyrt::ModuleSlot::StateSize(sizeof(int64_t)),
    pyrt::ModuleSlot::Exec(&Fill), pyrt::ModuleSlot::Interpreters(pyrt::MultipleInterpreters::kSupported),
    pyrt::ModuleSlot::End()};

}  // namespace

PYRT_MODULE_EXPORT(kSlots)
