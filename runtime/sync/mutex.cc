#include "pyrt/runtime/sync/mutex.h"

#include "pyrt/runtime/sync/internal/mutex_slow.h"

namespace pyrt::inline PYRT_VARIANT {

template class BasicMutex<DefaultMutexPolicy>;

}  // namespace pyrt::inline PYRT_VARIANT
