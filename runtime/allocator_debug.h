// Debug hooks: every block of the three domains between two fences, filled when it comes and when it goes.
//
//   8 bytes    the requested size
//   1 byte     the domain: 'r', 'm' or 'o'; 0xdd once freed
//   7 bytes    0xfd
//   n bytes    the block; 0xcd when new, 0xdd once freed
//   8 bytes    0xfd
//   8 bytes    the number of the allocation
//
// What ends the process, with a dump of the block on stderr and CPython's message:
//
//   freed or grown by another domain, or twice    "bad ID: Allocated using API 'm', verified using API 'o'"
//   written in front of                           "bad leading pad byte"
//   written behind                                "bad trailing pad byte"
//   written after it was freed                    "freed block was written to"; CPython has no such check
//   kMem, kObject without an attached thread      "Python memory allocator called without ..."
//
// Freed blocks are kept back for a while (the newest 64 of a domain, up to 4 KiB each), so that the last two
// kinds of mistake meet bytes that nobody else owns; they are looked at when they leave.
//
// CPython counterpart: PyMem_SetupDebugHooks, _PyMem_DebugRawMalloc and relatives, PYMEM_DEADBYTE and its
// siblings.

#ifndef PYRT_RUNTIME_ALLOCATOR_DEBUG_H_
#define PYRT_RUNTIME_ALLOCATOR_DEBUG_H_

#include <cstddef>

#include "pyrt/runtime/allocator.h"
#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {

inline constexpr unsigned char kCleanByte = 0xCD;
inline constexpr unsigned char kDeadByte = 0xDD;
inline constexpr unsigned char kForbiddenByte = 0xFD;

// Puts the checks in front of whatever serves each domain now; a domain that has them already is left alone.
// SetAllocator takes them away again: call this after it. The domains must have no live blocks. Any thread.
// CPython: PyMem_SetupDebugHooks.
void SetupDebugHooks();

// Whether the domain has them. Any thread.
bool HasDebugHooks(AllocatorDomain domain);

// What serves the domain, below the hooks if it has them. Any thread.
Allocator AllocatorUnderDebugHooks(AllocatorDomain domain);

// Blocks that have been handed out under the hooks and have not come back. Any thread.
size_t DebugLiveBlocks(AllocatorDomain domain);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_ALLOCATOR_DEBUG_H_
