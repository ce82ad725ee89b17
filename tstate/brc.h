// Brc: references that threads give up to objects which another thread owns (biased reference counting).
//
// An object belongs to the thread that made it, and only that thread counts its references without atomics. A
// thread that has one reference too many of somebody else's queues the object for the owner, which merges its
// count into the shared one at a poll. What an object is, and its two counts, are the host's.
//
//   Queue(owner, object)   the owner is registered     put on its queue; its ExplicitMerge bit is set
//                          nobody of that ident is     merged here and now
//   MergeOwn               the owner, at the bit       merges what was queued
//   Unregister             the owner's state goes      merges until the queue is empty, and leaves the table
//
// The table has 257 buckets, keyed by the ident of the OS thread. Idents are used again; therefore a merge for an
// owner that is gone is made under the lock of its bucket: a new thread of that ident cannot register, and begin to
// count for itself, meanwhile.
//
// GIL-disabled build. One per interpreter.
//
// CPython counterpart: struct _brc_state, _Py_brc_queue_object, _Py_brc_merge_refcounts, _Py_brc_init_thread,
// _Py_brc_remove_thread, _Py_brc_after_fork.

#ifndef PYRT_TSTATE_BRC_H_
#define PYRT_TSTATE_BRC_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/lock_rank.h"

namespace pyrt::inline PYRT_VARIANT {

struct BrcHooks {
  void* context = nullptr;
  // Adds the owner's count to the shared one, gives up the one reference that was queued, and leaves the object
  // without an owner. True if no reference is left. By the owner, or while it can touch no object; maybe under a
  // lock of the runtime: it must not block, allocate, free or call back.
  bool (*merge)(void* context, void* object) = nullptr;
  // Frees an object of which `merge` has said so. Attached, no lock held: anything.
  void (*destroy)(void* context, void* object) = nullptr;
};

class Brc;

// A thread state's place in the table.
class BrcThread {
 public:
  constexpr BrcThread() = default;
  BrcThread(const BrcThread&) = delete;
  BrcThread& operator=(const BrcThread&) = delete;

  bool registered() const { return breaker_ != nullptr; }  // the thread itself, or whoever excludes it

 private:
  friend class Brc;
  struct Entry {
    Entry* next;
    void* object;
  };

  // Guarded by the bucket's lock.
  uint64_t ident_ = 0;
  EvalBreaker* breaker_ = nullptr;
  BrcThread* next_ = nullptr;
  Entry* queue_ = nullptr;
};

class Brc {
 public:
  static constexpr size_t kBuckets = 257;
  enum class QueueResult : uint8_t {
    kQueued,    // the owner will merge
    kMerged,    // there is no owner; done
    kNoMemory,  // nothing has happened: stop the world and MergeStopped (BR-3)
  };

  explicit Brc(const BrcHooks& hooks) : hooks_(hooks) {}
  ~Brc();  // nobody is registered
  Brc(const Brc&) = delete;
  Brc& operator=(const Brc&) = delete;

  // Enters the thread, from now on owner of what `ident` owns. On that OS thread. Several states of one OS thread
  // may be in the table; any of them merges for all. Sets the ExplicitMerge bit if something is queued for
  // another one. CPython: _Py_brc_init_thread.
  void Register(BrcThread& thread, uint64_t ident, EvalBreaker& breaker);
  // Merges what is queued, or leaves it to another state of the same OS thread, whose ExplicitMerge bit it
  // sets, and takes the thread out; nothing can be queued for it afterwards (BR-4). Attached; on that thread,
  // or on one that excludes it. Runs destructors; does nothing if it is not registered. CPython:
  // _Py_brc_remove_thread.
  void Unregister(BrcThread& thread);

  // Gives up one reference to `object`, whose owner is `owner`. Attached; may run the object's destructor.
  // CPython: _Py_brc_queue_object.
  QueueResult Queue(uint64_t owner, void* object);
  // Merges what is queued for this thread; runs destructors. On the thread, attached. How many it merged. CPython:
  // _Py_brc_merge_refcounts.
  size_t MergeOwn(BrcThread& thread);

  // Merges what is queued for any state of thread `ident`, which can touch no object meanwhile, by whichever
  // of them: a stopped world (BR-5). It may register a state meanwhile, as Bind is not stopped. Destroy,
  // later and where destructors may run, frees those that had no reference left.
  void* MergeStopped(uint64_t ident);
  void Destroy(void* dead);

  // In a forked child: no bucket is locked (BR-6). The parent's threads stay registered until they are cleared,
  // which merges what was queued for them.
  void ReinitAfterFork();

  const BrcHooks& hooks() const { return hooks_; }

 private:
  using Entry = BrcThread::Entry;
  static constexpr LockRank kRank = LockRank::kRefcountQueue;
  struct Bucket {
    RankedMutex<kRank> lock;
    BrcThread* first = nullptr;
  };

  Bucket& BucketOf(uint64_t ident) { return buckets_[ident % kBuckets]; }
  Entry* TakeAll(uint64_t ident);
  size_t Merge(Entry* entries);

  const BrcHooks hooks_;
  Bucket buckets_[kBuckets];
  bool forked_ = false;  // threads of the parent that nobody could find may be left
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_BRC_H_
