#include "pyrt/tstate/brc.h"

#include <new>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

Brc::~Brc() {
  for (const Bucket& bucket : buckets_) {
    PYRT_CHECK(bucket.first == nullptr || forked_, "_Py_brc", "a thread is still registered");
  }
}

void Brc::Register(BrcThread& thread, uint64_t ident, EvalBreaker& breaker) {
  PYRT_CHECK(thread.breaker_ == nullptr, "_Py_brc_init_thread", "the thread is registered already");
  Bucket& bucket = BucketOf(ident);
  RankedMutexLock<kRank> guard(bucket.lock);
  // What waits for another state of the OS thread: this one may be the only one that polls from here on.
  for (const BrcThread* other = bucket.first; other != nullptr; other = other->next_) {
    if (other->ident_ == ident && other->queue_ != nullptr) breaker.Set(BreakerEvent::kExplicitMerge);
  }
  thread.ident_ = ident;
  thread.breaker_ = &breaker;
  thread.next_ = bucket.first;
  bucket.first =
      &thread;  // last: a fork may fall anywhere here, as a thread that is bound need not be attached
}

// What is queued for any state of the OS thread.
Brc::Entry* Brc::TakeAll(uint64_t ident) {
  Bucket& bucket = BucketOf(ident);
  RankedMutexLock<kRank> guard(bucket.lock);
  Entry* all = nullptr;
  for (BrcThread* thread = bucket.first; thread != nullptr; thread = thread->next_) {
    if (thread->ident_ != ident || thread->queue_ == nullptr) continue;
    Entry* last = thread->queue_;
    while (last->next != nullptr) last = last->next;
    last->next = all;
    all = std::exchange(thread->queue_, nullptr);
  }
  return all;
}

size_t Brc::Merge(Entry* entries) {
  size_t count = 0;
  while (entries != nullptr) {
    Entry* const entry = std::exchange(entries, entries->next);
    void* const object = entry->object;
    delete entry;
    ++count;
    // One by one: a destructor may queue more, and may look at objects that come later here.
    if (hooks_.merge(hooks_.context, object)) hooks_.destroy(hooks_.context, object);
  }
  return count;
}

size_t Brc::MergeOwn(BrcThread& thread) {
  if (!thread.registered()) return 0;
  return Merge(TakeAll(thread.ident_));
}

void Brc::Unregister(BrcThread& thread) {
  if (!thread.registered()) return;
  Bucket& bucket = BucketOf(thread.ident_);
  for (bool left = false; !left;) {
    Entry* queue;
    {
      RankedMutexLock<kRank> guard(bucket.lock);
      queue = std::exchange(thread.queue_, nullptr);
      // Another state of the same OS thread merges for all: it may be the one that is attached there now.
      BrcThread* other = bucket.first;
      while (other != nullptr && (other == &thread || other->ident_ != thread.ident_)) other = other->next_;
      if (other != nullptr && queue != nullptr) other->breaker_->Set(BreakerEvent::kExplicitMerge);
      while (other != nullptr && queue != nullptr) {
        Entry* const entry = std::exchange(queue, queue->next);
        entry->next = std::exchange(other->queue_, entry);
      }
      // Only with nothing left to merge, looked at again each time (BR-4): who finds no owner merges at once, and two
      // may not merge one object at the same time.
      left = queue == nullptr || PYRT_MUTANT(brc_leaves_before_it_has_merged);
      if (left) {
        BrcThread** link = &bucket.first;
        while (*link != nullptr && *link != &thread) link = &(*link)->next_;
        // Null: in the child of a fork that fell into its Register.
        if (*link != nullptr) *link = thread.next_;
        thread.next_ = nullptr;
        thread.breaker_ = nullptr;
      }
    }
    Merge(queue);
  }
}

Brc::QueueResult Brc::Queue(uint64_t owner, void* object) {
  // Before the lock. Merged at once it was for nothing, which is rare.
  Entry* const entry = new (std::nothrow) Entry{nullptr, object};
  if (entry == nullptr) return QueueResult::kNoMemory;
  bool dead;
  {
    Bucket& bucket = BucketOf(owner);
    RankedMutexLock<kRank> guard(bucket.lock);
    BrcThread* first = nullptr;
    for (BrcThread* thread = bucket.first; thread != nullptr; thread = thread->next_) {
      if (thread->ident_ != owner) continue;
      // All of them: who knows which of its states the thread attaches next.
      thread->breaker_->Set(BreakerEvent::kExplicitMerge);
      if (first == nullptr) first = thread;
    }
    if (first != nullptr) {
      // The owner clears its bit and then takes the queue, under this lock: it finds this entry now or at its next
      // poll.
      entry->next = first->queue_;
      first->queue_ = entry;
      return QueueResult::kQueued;
    }
    dead = hooks_.merge(hooks_.context, object);
  }
  delete entry;
  if (dead) hooks_.destroy(hooks_.context, object);
  return QueueResult::kMerged;
}

void* Brc::MergeStopped(uint64_t ident) {
  Entry* dead = nullptr;
  Entry* done = nullptr;
  for (Entry* entry = TakeAll(ident); entry != nullptr;) {
    Entry* const next = entry->next;
    Entry*& list = hooks_.merge(hooks_.context, entry->object) ? dead : done;
    entry->next = std::exchange(list, entry);
    entry = next;
  }
  // Freed by Destroy too: whatever frees memory may take locks that a stopped thread holds (gh-133130).
  while (done != nullptr) {
    Entry* const entry = std::exchange(done, done->next);
    entry->object = nullptr;
    entry->next = std::exchange(dead, entry);
  }
  return dead;
}

void Brc::Destroy(void* dead) {
  for (auto* entry = static_cast<Entry*>(dead); entry != nullptr;) {
    Entry* const gone = std::exchange(entry, entry->next);
    void* const object = gone->object;
    delete gone;
    if (object != nullptr) hooks_.destroy(hooks_.context, object);
  }
}

void Brc::ReinitAfterFork() {
  for (Bucket& bucket : buckets_) bucket.lock.ReinitAfterFork();
  forked_ = true;
}

}  // namespace pyrt::inline PYRT_VARIANT
