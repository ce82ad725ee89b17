// Its init function raises.

#include "pyrt/importlock/module_def.h"
#include "pyrt/runtime/object/error.h"

PYRT_MODULE_INIT([](pyrt::ModuleInit& init) {
  init.Fail(pyrt::Raise(pyrt::ErrorType::ValueError(), "%s will not", init.name().c_str()));
})
