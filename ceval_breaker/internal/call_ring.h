// The ring of a PendingCalls queue: any number of producers, one consumer at a time, no lock.
//
//   tail_   the position that the next producer claims; the top bit closes the ring
//   head_   the position that the consumer takes next
//   slot    position p lies in slot p & mask; sequence p + 1 says that its call is complete
//
//   Push   claim: CAS tail_ p -> p + 1, if p - head_ < max       Pop   sequence is head_ + 1 ?
//          write the call                                              read the call
//          publish: sequence = p + 1 (release)                         head_ += 1 (release)
//
// Lock-free for producers: one that is preempted, or interrupted by a signal handler that pushes as well,
// between claim and publication delays the consumer, never another producer. The consumer then sees "nothing
// yet"; the late producer raises the consumer's flag after it has published, so the calls behind it are not
// forgotten either.
//
// Positions are 63 bits and never repeat, so there is no ABA; a slot is written again only after head_ has
// passed it.

#ifndef PYRT_CEVAL_BREAKER_INTERNAL_CALL_RING_H_
#define PYRT_CEVAL_BREAKER_INTERNAL_CALL_RING_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// Call is copied in and out and must be default-constructible: the default is "no call" and is skipped.
template <typename Call>
class CallRing {
 public:
  enum class PushResult : uint8_t { kPushed, kFull, kClosed };
  enum class PopResult : uint8_t {
    kPopped,
    kNothingYet,  // empty, or the next producer has not published: it will raise the flag
  };

  explicit CallRing(uint32_t max)
      : max_(max), mask_(std::bit_ceil(max) - 1), slots_(std::make_unique<Slot[]>(mask_ + 1)) {}

  // Any thread, also from a signal handler.
  PushResult Push(const Call& call) {
    uint64_t tail = tail_.load(kRelaxed);
    for (;;) {
      if ((tail & kClosed) != 0) return PushResult::kClosed;
      // Acquire pairs with Pop's release: what was in the slot has been read before it is overwritten.
      // Signed, because head_ may be newer than `tail`; the exchange below then fails and brings a newer
      // tail. The answer "full" can rest on old values of both, but not on values older than what happened
      // before this call: a thread that has seen a call run sees the room that it left.
      const uint64_t head = head_.load(kAcquire);
      if (static_cast<int64_t>(tail - head) >= static_cast<int64_t>(max_)) return PushResult::kFull;
      // Relaxed: the claim transfers nothing. The call travels by `sequence`, the slot by head_.
      if (tail_.compare_exchange_weak(tail, tail + 1, kRelaxed, kRelaxed)) break;
    }
    Slot& slot = slots_[tail & mask_];
    slot.call.Set(call);
    // Pairs with the acquire of Pop.
    slot.sequence.store(tail + 1, PYRT_MUTANT(call_ring_publish_is_relaxed) ? kRelaxed : kRelease);
    return PushResult::kPushed;
  }

  // One thread at a time; consecutive consumers must be ordered by something (PendingCallHandler's guard).
  PopResult Pop(Call* call) {
    const uint64_t head = head_.load(kRelaxed);
    Slot& slot = slots_[head & mask_];
    if (slot.sequence.load(kAcquire) != head + 1) return PopResult::kNothingYet;
    *call = slot.call.Get();
    head_.store(head + 1, PYRT_MUTANT(call_ring_free_slot_is_relaxed) ? kRelaxed : kRelease);
    return PopResult::kPopped;
  }

  // Whether nobody has claimed a position that has not been popped. Outdated when it returns.
  bool IsEmpty() const { return head_.load(kRelaxed) == (tail_.load(kRelaxed) & ~kClosed); }

  uint32_t size() const {
    // Tail first: head_ only grows, so a difference below zero means "popped meanwhile".
    const uint64_t tail = tail_.load(kAcquire) & ~kClosed;
    const uint64_t head = head_.load(kRelaxed);
    return head >= tail ? 0 : static_cast<uint32_t>(tail - head);
  }

  // By the consumer: closes the ring in the moment in which it is empty, or returns false. A Push is either
  // before it (and the ring was not empty) or fails with kClosed: none is accepted and forgotten (EB-34).
  bool CloseIfEmpty() {
    uint64_t tail = head_.load(kRelaxed);
    return tail_.compare_exchange_strong(tail, tail | kClosed, kSeqCst, kRelaxed);
  }
  void Reopen() { tail_.fetch_and(~kClosed, kRelaxed); }

  // In a forked child: producers that stood between claim and publication are gone, and what they may have
  // written is not to be trusted. Their positions become "no call".
  void AfterForkInChild() {
    const uint64_t tail = tail_.load(kRelaxed) & ~kClosed;
    for (uint64_t position = head_.load(kRelaxed); position != tail; ++position) {
      Slot& slot = slots_[position & mask_];
      if (slot.sequence.load(kAcquire) == position + 1) continue;
      slot.call.Set(Call{});
      slot.sequence.store(position + 1, kRelease);
    }
  }

  uint32_t max() const { return max_; }

 private:
  static constexpr uint64_t kClosed = uint64_t{1} << 63;

  struct Slot {
    Atomic<uint64_t> sequence{0};
    Plain<Call> call;
  };

  const uint32_t max_;
  const uint32_t mask_;
  const std::unique_ptr<Slot[]> slots_;
  Atomic<uint64_t> tail_{0};
  Atomic<uint64_t> head_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_CEVAL_BREAKER_INTERNAL_CALL_RING_H_
