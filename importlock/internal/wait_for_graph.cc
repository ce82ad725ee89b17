#include "pyrt/importlock/internal/module_lock_entry.h"

namespace pyrt::inline PYRT_VARIANT::internal {

void WaitForGraph::Link(BlockedFrame& frame) {
  BlockedFrame*& head = frames_[BucketOf(frame.thread)];
  frame.previous = nullptr;
  frame.next = head;
  if (head != nullptr) head->previous = &frame;
  head = &frame;
}

void WaitForGraph::Unlink(BlockedFrame& frame) {
  (frame.previous == nullptr ? frames_[BucketOf(frame.thread)] : frame.previous->next) = frame.next;
  if (frame.next != nullptr) frame.next->previous = frame.previous;
}

bool WaitForGraph::Add(BlockedFrame& frame) {
  if (PYRT_MUTANT(module_lock_checks_apart_from_adding)) {
    {
      const MutexLock lock(mutex_);
      if (Reaches(frame.wanted->owner.load(kRelaxed), frame.thread)) return false;
    }
    const MutexLock lock(mutex_);
    Link(frame);
    return true;
  }
  const MutexLock lock(mutex_);
  // Relaxed: an owner that is part of a cycle blocked before us, took the lock before it did, and its Add
  // released mutex_. An owner that is not may be read too old; then it does not block, or comes after us and
  // sees our edge.
  if (Reaches(frame.wanted->owner.load(kRelaxed), frame.thread)) return false;
  Link(frame);
  return true;
}

void WaitForGraph::Remove(BlockedFrame& frame) {
  const MutexLock lock(mutex_);
  Unlink(frame);
}

// Depth first over frames, each once: a cycle without `target` in it ends the search (bpo-38091).
bool WaitForGraph::Reaches(uint64_t from, uint64_t target) {
  ++search_;
  BlockedFrame* to_visit = nullptr;
  for (uint64_t thread = from;;) {
    // Free, or its own (it has the lock and has not yet removed its edge): that thread will go on.
    if (thread == target) return true;
    if (thread != 0) {
      for (BlockedFrame* frame = frames_[BucketOf(thread)]; frame != nullptr; frame = frame->next) {
        if (frame->thread != thread) continue;
        if (PYRT_MUTANT(b103_an_owner_that_waits_is_a_deadlock)) return true;
        if (frame->visited == search_ && !PYRT_MUTANT(bpo_38091_visits_twice)) continue;
        frame->visited = search_;
        frame->to_visit = to_visit;
        to_visit = frame;
        if (PYRT_MUTANT(gh_91351_one_wait_per_thread)) break;  // the newest
      }
    }
    for (thread = 0; thread == 0;) {
      if (to_visit == nullptr) return false;
      BlockedFrame& frame = *to_visit;
      to_visit = frame.to_visit;
      thread = frame.wanted->owner.load(kRelaxed);
      if (thread == frame.thread && !PYRT_MUTANT(bpo_38091_visits_twice)) thread = 0;
    }
  }
}

size_t WaitForGraph::size() const {
  const MutexLock lock(mutex_);
  size_t count = 0;
  for (const BlockedFrame* frame : frames_) {
    for (; frame != nullptr; frame = frame->next) ++count;
  }
  return count;
}

void WaitForGraph::ReinitAfterFork(uint64_t survivor) {
  mutex_.ReinitAfterFork();
  const MutexLock lock(mutex_);
  for (BlockedFrame*& head : frames_) {
    for (BlockedFrame* frame = head; frame != nullptr;) {
      BlockedFrame* const next = frame->next;
      if (frame->thread != survivor) Unlink(*frame);
      frame = next;
    }
  }
}

}  // namespace pyrt::inline PYRT_VARIANT::internal
