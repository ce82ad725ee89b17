#include "pyrt/runtime/exit_functions.h"

#include <cstdio>

namespace pyrt::inline PYRT_VARIANT {

void ExitFunctions::Run() {
  for (;;) {
    Function function;
    {
      BasicMutexLock lock(mutex_);
      if (count_ == 0) break;
      function = functions_[static_cast<size_t>(--count_)];
    }
    function();
  }
  std::fflush(stdout);
  std::fflush(stderr);
}

}  // namespace pyrt::inline PYRT_VARIANT
