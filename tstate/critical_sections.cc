// The critical sections of a thread (critical_section.h), which attach and detach resume and suspend.

#include <errno.h>

#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// The section goes on the stack before its mutexes are waited for, so that the outer ones are suspended if
// the wait detaches (CS-2).
void ThreadState::BeginCriticalSectionSlow(CriticalSectionNode& node, Mutex* first,
                                           Mutex* second) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  critical_sections_ = reinterpret_cast<uintptr_t>(&node);
  LockCriticalSection(node, first, second);
}

void ThreadState::LockCriticalSection(CriticalSectionNode& node, Mutex* first,
                                      Mutex* second) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  const WaitHooks* const hooks = DetachWhileWaiting();
  // While we wait the node holds nothing, so that suspending and resuming it around the wait does nothing.
  // That goes for the first mutex too while the second is waited for: a detach there keeps it, which cannot
  // deadlock, because addresses order them.
  if (first != nullptr) first->Lock(hooks);
  if (second != nullptr) second->Lock(hooks);
  node.first = first;
  node.second = second;
}

void ThreadState::EndCriticalSection(CriticalSectionNode& node) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  // A suspended one has given its mutexes up: they may be somebody else's.
  PYRT_CHECK(critical_sections_ == reinterpret_cast<uintptr_t>(&node) && Current() == this,
             "PyCriticalSection_End",
             "critical sections end in the reverse order, attached to the state that began them (%s; %s)",
             ToString().c_str(), Here().c_str());
  if (node.second != nullptr) node.second->Unlock();
  if (node.first != nullptr) node.first->Unlock();
  critical_sections_ = node.previous;
  if ((critical_sections_ & CriticalSectionNode::kInactive) != 0) ResumeCriticalSection();
}

void ThreadState::SuspendCriticalSections() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  const int saved_errno = errno;  // Detach keeps it
  for (uintptr_t* tagged = &critical_sections_; CriticalSectionNode::IsActive(*tagged);) {
    CriticalSectionNode& node = *CriticalSectionNode::From(*tagged);
    if (node.second != nullptr) node.second->Unlock();
    if (node.first != nullptr) node.first->Unlock();
    *tagged |= CriticalSectionNode::kInactive;
    tagged = &node.previous;
  }
  errno = saved_errno;
}

void ThreadState::ResumeCriticalSection() {
  if (CriticalSectionNode::IsActive(critical_sections_)) return;
  const int saved_errno = errno;  // Attach keeps it
  CriticalSectionNode& node = *CriticalSectionNode::From(critical_sections_);
  // The wait below may detach and attach, and so come back here: it then finds nothing to lock.
  Mutex* const first = std::exchange(node.first, nullptr);
  Mutex* const second = std::exchange(node.second, nullptr);
  LockCriticalSection(node, first, second);
  critical_sections_ &= ~CriticalSectionNode::kInactive;
  errno = saved_errno;
}

}  // namespace pyrt::inline PYRT_VARIANT
