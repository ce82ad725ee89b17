#include "pyrt/runtime/sync/recursive_mutex.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

void RecursiveMutex::UnlockedByStranger() const {
  Fatal("_PyRecursiveMutex_Unlock", "unlocking a recursive mutex that is not owned by the current thread");
}

void RecursiveMutex::ReinitAfterFork(bool owned) {
  if (owned) {
    mutex_.ReinitAfterForkLocked();
    owner_.store(CurrentThreadIdent(), kRelaxed);
  } else {
    if (PYRT_MUTANT(recursive_mutex_survives_fork)) return;
    mutex_.ReinitAfterFork();
    owner_.store(0, kRelaxed);
    if (!PYRT_MUTANT(recursive_mutex_level_survives_fork)) level_ = 0;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
