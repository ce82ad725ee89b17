// Single-phase: makes its module itself, once in the process.

#include "pyrt/importlock/module_def.h"

namespace {
int runs = 0;
}

PYRT_MODULE_INIT([](pyrt::ModuleInit& init) {
  const pyrt::Ref<pyrt::Module> module = pyrt::Module::New(init.name(), init.spec());
  module->dict()->Set("runs", pyrt::Int::Of(++runs));
  init.Return(pyrt::Ref<pyrt::Object>(module), pyrt::GilUse::kNotUsed);
})
