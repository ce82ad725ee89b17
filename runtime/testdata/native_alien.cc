// Compiled against the other build: must be refused before anything of it runs.

#include <cstdlib>

#include "pyrt/importlock/module_def.h"

extern "C" {
extern const pyrt::ModuleAbi PyrtModuleAbi;
const pyrt::ModuleAbi PyrtModuleAbi = {pyrt::kModuleAbi.version, !pyrt::kModuleAbi.gil_enabled};

void PyrtModuleInit(pyrt::ModuleInit&) { std::abort(); }
}
