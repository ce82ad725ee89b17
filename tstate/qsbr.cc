#include "pyrt/tstate/qsbr.h"

#include <new>

#include "pyrt/runtime/config/check.h"
#include "pyrt/tstate/delayed_free.h"

namespace pyrt::inline PYRT_VARIANT {

Qsbr::~Qsbr() {
  DelayedFree* item = orphans_.load(kRelaxed);
  while (item != nullptr) {
    DelayedFree* const next = item->next;
    item->free(item);
    item = next;
  }
  for (int chunk = 0; chunk < chunk_count_.load(kRelaxed); ++chunk) delete[] chunks_[chunk].load(kRelaxed);
}

QsbrSlot* Qsbr::TakeFree() {
  QsbrSlot* const slot = free_;
  if (slot == nullptr) return nullptr;
  free_ = slot->next_free;
  slot->next_free = nullptr;
  slot->reserved = true;
  return slot;
}

QsbrSlot* Qsbr::Reserve() {
  for (;;) {
    lock_.Lock();
    QsbrSlot* const slot = TakeFree();
    const int count = chunk_count_.load(kRelaxed);
    lock_.Unlock();
    if (slot != nullptr || count == kMaxChunks) return slot;

    // Allocation under the lock could come back here through a tracing allocator (gh-96071).
    auto* const chunk = new (std::nothrow) QsbrSlot[ChunkSize(count)];
    if (chunk == nullptr) return nullptr;
    QsbrSlot* const last = chunk + ChunkSize(count) - 1;
    for (QsbrSlot* one = chunk; one != last; ++one) one->next_free = one + 1;
    lock_.Lock();
    const bool still_needed = chunk_count_.load(kRelaxed) == count;
    if (still_needed) {
      chunks_[count].store(chunk, kRelaxed);
      // Release: a scan that counts the chunk finds its pointer and its slots constructed.
      chunk_count_.store(count + 1, kRelease);
      // Last, and all at once: a fork may fall anywhere here, as a thread without a state is not stopped, and
      // its child must not hand out a slot that no scan visits.
      last->next_free = free_;
      free_ = chunk;
    }
    lock_.Unlock();
    if (!still_needed) delete[] chunk;
  }
}

void Qsbr::Release(QsbrSlot* slot) {
  lock_.Lock();
  PYRT_CHECK(slot->reserved, "Qsbr::Release", "slot %p is not reserved: released twice?",
             static_cast<void*>(slot));
  PYRT_CHECK(slot->seq.load(kRelaxed) == kOffline, "Qsbr::Release", "the thread of slot %p is still attached",
             static_cast<void*>(slot));
  slot->reserved = false;
  slot->next_free = free_;
  free_ = slot;
  lock_.Unlock();
}

void Qsbr::AdvanceTo(uint64_t goal) {
  uint64_t now = wr_seq_.load(kRelaxed);
  while (Before(now, goal) && !wr_seq_.compare_exchange_weak(now, goal, kAcqRel, kRelaxed)) {
  }
}

// The smallest clock among the threads that are online, or the clock itself.
uint64_t Qsbr::Scan() const {
  uint64_t smallest = wr_seq_.load(kAcquire);
  const int count = chunk_count_.load(kAcquire);
  for (int chunk = 0; chunk < count; ++chunk) {
    const QsbrSlot* const slots = chunks_[chunk].load(kRelaxed);
    for (size_t i = 0; i < ChunkSize(chunk); ++i) {
      // Acquire: pairs with the release in Quiescent and Offline.
      const uint64_t seq = slots[i].seq.load(kAcquire);
      const bool counts = seq != kOffline || PYRT_MUTANT(qsbr_offline_holds_up);
      if (counts && Before(seq, smallest)) smallest = seq;
    }
  }
  return smallest;
}

bool Qsbr::Poll(uint64_t goal, QsbrSlot* self) {
  // Acquire: somebody else's Poll has seen the threads, and we its conclusion.
  if (AtMost(goal, rd_seq_.load(kAcquire))) return true;
  if (self != nullptr && self->seq.load(kRelaxed) != kOffline) Quiescent(*self);
  if (Before(Scan(), goal)) {
    AskToReport(goal);
    return false;
  }
  // A thread that we saw offline may have come online just now and be reading what we want to free. After
  // this fence its slot shows it, or its reads find that the object was unlinked.
  if (!PYRT_MUTANT(qsbr_poll_without_fence)) AsymmetricFence::Heavy();
  const uint64_t reached = Scan();
  uint64_t before = rd_seq_.load(kRelaxed);
  while (Before(before, reached) && !rd_seq_.compare_exchange_weak(before, reached, kAcqRel, kAcquire)) {
  }
  return AtMost(goal, reached);
}

void Qsbr::AskToReport(uint64_t goal) {
  if (ask_ == nullptr || !Before(asked_.load(kRelaxed), goal)) return;
  asked_.store(goal, kRelaxed);  // two that meet here ask twice
  ask_(ask_context_);
}

void Qsbr::AddOrphans(DelayedFree* first, DelayedFree* last) {
  lock_.Lock();
  last->next = orphans_.load(kRelaxed);
  orphans_.store(first, kRelaxed);
  lock_.Unlock();
}

DelayedFree* Qsbr::TakeOrphansSlow() {
  lock_.Lock();
  DelayedFree* const orphans = orphans_.load(kRelaxed);
  orphans_.store(nullptr, kRelaxed);
  lock_.Unlock();
  return orphans;
}

size_t Qsbr::capacity() const {
  size_t total = 0;
  for (int chunk = 0; chunk < chunk_count_.load(kAcquire); ++chunk) total += ChunkSize(chunk);
  return total;
}

void Qsbr::ReinitAfterFork(QsbrSlot* survivor) PYRT_NO_THREAD_SAFETY_ANALYSIS {
  lock_.ReinitAfterFork();
  free_ = nullptr;
  for (int chunk = chunk_count_.load(kRelaxed) - 1; chunk >= 0; --chunk) {
    QsbrSlot* const slots = chunks_[chunk].load(kRelaxed);
    for (size_t i = ChunkSize(chunk); i-- > 0;) {
      if (&slots[i] == survivor) continue;
      slots[i].seq.store(kOffline, kRelaxed);
      slots[i].reserved = false;
      slots[i].next_free = free_;
      free_ = &slots[i];
    }
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
