// What a thread state links its critical sections by. See critical_section.h.

#ifndef PYRT_TSTATE_INTERNAL_CRITICAL_SECTION_NODE_H_
#define PYRT_TSTATE_INTERNAL_CRITICAL_SECTION_NODE_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"

namespace pyrt::inline PYRT_VARIANT {

// A section on its thread's stack, of one mutex or two. A reference to it is its address with two tags.
struct alignas(8) CriticalSectionNode {
  static constexpr uintptr_t kInactive = 1;  // suspended: its mutexes are not held

  static CriticalSectionNode* From(uintptr_t tagged) {
    return reinterpret_cast<CriticalSectionNode*>(tagged & ~kInactive);
  }
  static bool IsActive(uintptr_t tagged) { return tagged != 0 && (tagged & kInactive) == 0; }
  bool Holds(const Mutex* mutex) const { return first == mutex || second == mutex; }

  Mutex* first = nullptr;  // null while it is being waited for
  Mutex* second = nullptr;
  uintptr_t previous = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_CRITICAL_SECTION_NODE_H_
