// ObjectMemory: the object domain as each interpreter sees it.
//
//   use_main_obmalloc     Allocate and Free are AllocatorDomain::kObject's, as the main interpreter's are
//   without (isolated)    the interpreter has an allocator of its own, which begins as a copy of kObject's table,
//                         may be replaced without the others noticing, and whose blocks are counted
//
// A block belongs to the interpreter that was current when it was made (or to all that share the main one's), and
// goes back while such a one is current. What an interpreter has not given back when it is cleared is lost with it,
// and counted in Leaked(): whoever replaced its allocator may now free all of it at once.
//
//   Runtime::AddSubsystem(ObjectMemory::AsSubsystem());     // once, before Initialize
//
// CPython counterpart: PyInterpreterState.obmalloc, Py_RTFLAGS_USE_MAIN_OBMALLOC,
// _PyInterpreterState_GetAllocatedBlocks, _PyInterpreterState_FinalizeAllocatedBlocks.

#ifndef PYRT_RUNTIME_OBJECT_MEMORY_H_
#define PYRT_RUNTIME_OBJECT_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/allocator.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/subsystem.h"

namespace pyrt::inline PYRT_VARIANT {

class ObjectMemory {
 public:
  static Subsystem AsSubsystem();

  // For the current interpreter. Attached, which is checked. Null when memory is short.
  static void* Allocate(size_t size);
  static void* Reallocate(void* block, size_t size);
  static void Free(void* block);

  // Whether `interp` has an allocator of its own. Any thread.
  static bool IsOwn(const Interpreter& interp) { return interp.object_memory() != nullptr; }
  // Replaces the allocator of an interpreter that has its own; it must have no live blocks. FailedPrecondition
  // "interpreter 2 uses the main interpreter's object allocator". Attached to it.
  static absl::Status SetAllocator(Interpreter& interp, const Allocator& allocator);
  // The blocks of an interpreter that has its own allocator; 0 for others. Any thread.
  static int64_t Blocks(const Interpreter& interp);
  // What interpreters have lost with their own allocators since the process began. Any thread.
  static int64_t Leaked();
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_MEMORY_H_
