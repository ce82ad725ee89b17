// The raw domain for what the runtime allocates for itself.
//
//   Runtime::Initialize({.state_allocator = &RawDomainForStates()});
//
// Thread states, interpreters, thread handles and boot records then come from AllocatorDomain::kRaw, as in
// CPython: they are made and freed without a thread state, and hooks on the domain see them. It is a choice of
// the host, because it brings in mimalloc, whose shared library (Debian's for one) takes the place of malloc in
// the whole process; without it they come from operator new.
//
// The domain must not change while a runtime lives, nor afterwards if daemon threads may still hold states.
//
// CPython counterpart: PyMem_RawMalloc in alloc_interpreter, alloc_threadstate, ThreadHandle_new.

#ifndef PYRT_RUNTIME_STATE_ALLOCATOR_H_
#define PYRT_RUNTIME_STATE_ALLOCATOR_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/tstate/thread_registry.h"

namespace pyrt::inline PYRT_VARIANT {

// Lives for ever. Any thread.
const ThreadRegistry::Allocator& RawDomainForStates();

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_STATE_ALLOCATOR_H_
