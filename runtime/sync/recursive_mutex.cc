#include "pyrt/runtime/sync/recursive_mutex.h"

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

void RecursiveMutex::UnlockedByStranger() const {
  Fatal("_PyRecursiveMutex_Unlock", "unlocking a recursive mutex that is not owned by the current thread");
}

void RecursiveMutex::ReinitAfterFork(bool owned) {
  if (owned) {
    mutex_.ReinitAfterForkLocked();
    owner_.store(CurrentThreadIdent(), kRelaxed);
  } else {
    mutex_.ReinitAfterFork();
    owner_.store(0, kRelaxed);
    level_ = 0;
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
