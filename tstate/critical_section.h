// CriticalSection: in the GIL-disabled build, what the GIL gave for nothing: nobody else is in the code that
// locks the same object, until this thread blocks or detaches.
//
//   { CriticalSection section(list->mutex); ... }
//
// The sections of a thread form a stack. A thread that detaches, to wait for a mutex or for anything else,
// first unlocks all its sections (they are *suspended*), so two threads that lock in different orders do not
// deadlock; when it attaches again, the innermost section is locked again, the others as it gets back to
// them. Hence only the innermost section is certain, and only between two points that may block (CS-5).
//
// A section on a mutex that the innermost one holds already is empty, and so is every section on a thread
// that has stopped the world: nobody else runs, and a mutex may have been handed to a thread that is
// suspended (gh-144513, gh-133130).
//
// Attached; may detach. In the GIL-enabled build everything here is empty.
//
// CPython counterpart: Py_BEGIN_CRITICAL_SECTION, PyCriticalSection, PyCriticalSection2.

#ifndef PYRT_TSTATE_CRITICAL_SECTION_H_
#define PYRT_TSTATE_CRITICAL_SECTION_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/tstate/internal/critical_section_node.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

class CriticalSection {
 public:
  explicit CriticalSection(Mutex& mutex) {
    if constexpr (!kGilEnabled) Begin(&mutex, nullptr);
  }
  // Two mutexes, locked in the order of their addresses; the same one twice counts once (CS-6).
  CriticalSection(Mutex& a, Mutex& b) {
    if constexpr (!kGilEnabled) {
      if (&a == &b) {
        Begin(&a, nullptr);
      } else {
        Begin(&a < &b ? &a : &b, &a < &b ? &b : &a);
      }
    }
  }
  ~CriticalSection() {
    if constexpr (!kGilEnabled) End();
  }
  CriticalSection(const CriticalSection&) = delete;
  CriticalSection& operator=(const CriticalSection&) = delete;

  // Whether this section locks anything: false for an empty one.
  bool begun() const { return thread_ != nullptr; }

 private:
  void Begin(Mutex* first, Mutex* second) PYRT_NO_THREAD_SAFETY_ANALYSIS {
    ThreadState& thread = ThreadState::Get("PyCriticalSection_Begin");
    const uintptr_t top = thread.critical_sections_;
    if (internal::world_stops_held != 0 && !PYRT_MUTANT(gh_148953_a_section_in_a_stop_locks)) return;
    if (CriticalSectionNode::IsActive(top)) {
      const CriticalSectionNode& outer = *CriticalSectionNode::From(top);
      if (outer.Holds(first) && (second == nullptr || outer.Holds(second))) return;
    }
    thread_ = &thread;
    node_.previous = top;
    if (second == nullptr && first->TryLock()) [[likely]] {
      node_.first = first;
      thread.critical_sections_ = reinterpret_cast<uintptr_t>(&node_);
      return;
    }
    thread.BeginCriticalSectionSlow(node_, first, second);
  }

  void End() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (thread_ == nullptr) return;
    thread_->EndCriticalSection(node_);
  }

  CriticalSectionNode node_;
  ThreadState* thread_ = nullptr;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_CRITICAL_SECTION_H_
