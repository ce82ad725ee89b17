// Quiescent-state-based reclamation: memory that lock-free readers may still look at is freed once every
// thread has been seen outside of them.
//
//   wr_seq   odd, advances by 2: the clock of retirements
//   slot     one per thread: 0 while the thread is offline (detached), else the clock as it was when
//            the thread last said that it holds no reference to shared memory
//   rd_seq   a lower bound of all online slots, cached
//
//   writer: unlink the object; goal = Advance(); ... later ... if Poll(goal), free it
//   reader: attached threads read as they like, and keep no pointer across a poll, a detach or anything that
//           may do either
//
// Happens-before: a read made before a thread's Quiescent() or Offline() happens before Poll() of a goal that
// was handed out earlier returns true.
//
// Slots live in chunks that never move, so growth needs neither a stopped world nor a second look at a
// pointer (gh-129732, gh-157666). In the GIL-enabled build readers cannot be interrupted by a writer, frees
// are immediate and all of this is idle.
//
// CPython counterpart: struct _qsbr_shared, struct _qsbr_thread_state, _Py_qsbr_*.

#ifndef PYRT_TSTATE_QSBR_H_
#define PYRT_TSTATE_QSBR_H_

#include <cstddef>
#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

// A thread's place in a Qsbr. A cache line of its own: the thread writes it, pollers read it.
struct alignas(64) QsbrSlot {
  Atomic<uint64_t> seq{0};
  // Guarded by the Qsbr's lock.
  QsbrSlot* next_free = nullptr;
  bool reserved = false;
};

struct DelayedFree;

class Qsbr {
 public:
  static constexpr uint64_t kOffline = 0;
  static constexpr uint64_t kInitial = 1;
  static constexpr uint64_t kStep = 2;
  static constexpr size_t kFirstChunk = 8;

  // Wrap-safe a < b and a <= b.
  static bool Before(uint64_t a, uint64_t b) { return static_cast<int64_t>(a - b) < 0; }
  static bool AtMost(uint64_t a, uint64_t b) { return static_cast<int64_t>(a - b) <= 0; }

  constexpr Qsbr() = default;
  Qsbr(const Qsbr&) = delete;
  Qsbr& operator=(const Qsbr&) = delete;
  ~Qsbr();

  // Asks the online threads to report soon: called by a Poll that some thread holds up, once for each goal, with no lock
  // held. A thread that only computes and polls its breaker reports nothing by itself (EB-8: it costs what the poll may
  // not). Before threads run.
  void SetAsk(void (*ask)(void* context), void* context) {
    ask_ = ask;
    ask_context_ = context;
  }

  // A slot for a new thread, offline; null when memory is short. Allocates, with no lock held. Any thread.
  QsbrSlot* Reserve();
  // Gives a slot back; its thread is offline. Any thread. Must not be called with the head lock held (LK-2).
  void Release(QsbrSlot* slot);

  // The thread of `slot`. Online() is complete only after a read-modify-write and a Light() of the caller,
  // which attach does anyway: they pair with the Heavy() in Poll. Release: a poller that sees this and not the
  // Offline() before it must still find the reads before that one done.
  void Online(QsbrSlot& slot) {
    slot.seq.store(wr_seq_.load(kAcquire), PYRT_MUTANT(qsbr_online_is_relaxed) ? kRelaxed : kRelease);
  }
  // Release: reads before it happen before the reclamation that it permits.
  void Offline(QsbrSlot& slot) {
    slot.seq.store(kOffline, PYRT_MUTANT(qsbr_offline_is_relaxed) ? kRelaxed : kRelease);
  }
  // The thread holds no reference to shared memory now. Acquire: what was unlinked before the clock reached
  // this value is not found again.
  void Quiescent(QsbrSlot& slot) {
    const uint64_t now = wr_seq_.load(kAcquire);
    if (slot.seq.load(kRelaxed) != now) slot.seq.store(now, kRelease);
  }

  // The goal for what was unlinked before the call.
  uint64_t Advance() { return wr_seq_.fetch_add(kStep, kAcqRel) + kStep; }
  // The same without moving the clock: a goal that some later Advance() reaches. A read-modify-write all the
  // same: who moves the clock on then publishes our unlinking too (the release sequence goes on); a plain
  // load would let a reader pass the goal with the old pointer in hand.
  uint64_t SharedNext() {
    if (PYRT_MUTANT(qsbr_shared_next_only_loads)) return wr_seq_.load(kAcquire) + kStep;
    return wr_seq_.fetch_add(0, kAcqRel) + kStep;
  }
  // Moves the clock to `goal` if no Advance() has.
  void AdvanceTo(uint64_t goal);

  // Whether every thread has been quiescent or offline since `goal` was handed out. True once means true
  // later. `self` (may be null) is the caller's own slot, which is quiescent by the call. One membarrier per
  // step forward; a false answer costs none. Never blocks.
  bool Poll(uint64_t goal, QsbrSlot* self = nullptr);

  // Delayed frees that threads have left behind when they ended, as a list. Any thread; the taker frees them
  // when their goals are reached.
  void AddOrphans(DelayedFree* first, DelayedFree* last);
  DelayedFree* TakeOrphans() { return orphans_.load(kRelaxed) == nullptr ? nullptr : TakeOrphansSlow(); }

  uint64_t wr_seq() const { return wr_seq_.load(kRelaxed); }
  uint64_t rd_seq() const { return rd_seq_.load(kRelaxed); }
  size_t capacity() const;

  // In a forked child: nobody holds the lock. The slots of threads that are gone are given back with their
  // states (Release), offline.
  void ReinitLockAfterFork() { lock_.ReinitAfterFork(); }
  // The same, and gives back every slot but `survivor`'s (may be null).
  void ReinitAfterFork(QsbrSlot* survivor);

 private:
  static constexpr int kMaxChunks = 24;  // 8 * 2^24 threads

  static constexpr size_t ChunkSize(int chunk) { return kFirstChunk << chunk; }
  QsbrSlot* TakeFree() PYRT_REQUIRES(lock_);
  uint64_t Scan() const;
  void AskToReport(uint64_t goal);
  DelayedFree* TakeOrphansSlow();

  alignas(64) Atomic<uint64_t> wr_seq_{kInitial};
  Atomic<uint64_t> rd_seq_{kInitial};
  void (*ask_)(void* context) = nullptr;
  void* ask_context_ = nullptr;
  Atomic<uint64_t> asked_{kInitial};  // the goal that was last asked for
  Atomic<int> chunk_count_{0};
  Atomic<DelayedFree*> orphans_{nullptr};  // written under lock_
  Atomic<QsbrSlot*> chunks_[kMaxChunks]{};
  RankedMutex<LockRank::kQsbr> lock_;
  QsbrSlot* free_ PYRT_GUARDED_BY(lock_) = nullptr;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_QSBR_H_
