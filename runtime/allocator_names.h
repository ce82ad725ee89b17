// The allocators by the names of PYTHONMALLOC (PyPreConfig.allocator).
//
//   default, mimalloc    mimalloc
//   malloc               the C library's
//   debug                what is in use, with debug hooks
//   mimalloc_debug, malloc_debug
//
// There is no pymalloc here: it is refused as any unknown name.
//
// CPython counterpart: _PyMem_GetAllocatorName, _PyMem_SetupAllocators, _PyMem_GetCurrentAllocatorName.

#ifndef PYRT_RUNTIME_ALLOCATOR_NAMES_H_
#define PYRT_RUNTIME_ALLOCATOR_NAMES_H_

#include <string_view>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

// Sets all three domains, which must have no live blocks: before the first Initialize. InvalidArgument
// "PYTHONMALLOC: unknown allocator", and then nothing has changed. Any thread.
absl::Status SetAllocatorsByName(std::string_view name);

// "mimalloc", "malloc_debug", ...; empty if the domains are not all served by one of those. Any thread.
std::string_view CurrentAllocatorName();

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_ALLOCATOR_NAMES_H_
