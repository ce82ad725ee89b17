// Thread heaps made by mimalloc. See thread_heaps.h.

#ifndef PYRT_TSTATE_MIMALLOC_HEAPS_H_
#define PYRT_TSTATE_MIMALLOC_HEAPS_H_

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// Makes mimalloc the provider of every ThreadHeaps. Call once, before the first thread state is made.
void InstallMimallocHeaps();

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_MIMALLOC_HEAPS_H_
