// A sequence lock: readers write nothing and retry when a writer was there.
//
//   reader                                      writer
//     do                                          lock.WriteLock();
//       s = lock.BeginRead();                     cell.Write(...);  ...
//       a = cell.Read();  ...                     lock.WriteUnlock();
//     while (!lock.EndRead(s));
//
// The data stand in SeqLockCell<T>s, and that is where the ordering is, because there is no stand-alone fence
// here (ThreadSanitizer cannot see one, and gh-121368 is what a missing one does):
//
//   torn read   A reader that got a value which a writer stored after its WriteLock got it with an acquire
//   load from a
//               release store. So the writer's odd number happened before, and the reader's later EndRead,
//               although relaxed, may not read an older number than that: it differs from the one at
//               BeginRead.
//   stale read  BeginRead's acquire pairs with the release of WriteUnlock, so that the reader sees at least
//   the data
//               of the version whose number it got.
//
// On x86 and with RCpc loads on arm64 the acquire of each cell costs nothing over a relaxed load.
//
// CPython counterpart: _PySeqLock (data in relaxed accesses, order from two fences).

#ifndef PYRT_RUNTIME_SYNC_SEQ_LOCK_H_
#define PYRT_RUNTIME_SYNC_SEQ_LOCK_H_

#include <cstdint>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// One datum that a SeqLock protects. T is what fits an atomic.
template <typename T>
class SeqLockCell {
 public:
  constexpr SeqLockCell() = default;
  constexpr explicit SeqLockCell(T value) : value_(value) {}

  // Between BeginRead and EndRead; the value counts only if EndRead returns true.
  T Read() const { return value_.load(PYRT_MUTANT(gh_121368_relaxed_read) ? kRelaxed : kAcquire); }

  // Between WriteLock and WriteUnlock.
  void Write(T value) { value_.store(value, PYRT_MUTANT(gh_121368_relaxed_write) ? kRelaxed : kRelease); }

 private:
  Atomic<T> value_{};
};

class SeqLock {
 public:
  constexpr SeqLock() = default;
  SeqLock(const SeqLock&) = delete;
  SeqLock& operator=(const SeqLock&) = delete;

  // Blocks while another writer is in, yielding the CPU: writers should be rare and quick, and may not sleep.
  void WriteLock() {
    uint32_t sequence = sequence_.load(kRelaxed);
    // Acquire: a writer sees the data of the one before.
    while ((sequence & kWriting) != 0 ||
           !sequence_.compare_exchange_weak(sequence, sequence + 1, kAcquire, kRelaxed)) {
      if ((sequence & kWriting) != 0) {
        YieldCpu();
        sequence = sequence_.load(kRelaxed);
      }
    }
  }

  // Ends a write: readers that began earlier retry.
  void WriteUnlock() {
    sequence_.store(Writing("SeqLock::WriteUnlock") + 1,
                    PYRT_MUTANT(seq_unlock_is_relaxed) ? kRelaxed : kRelease);
  }

  // Ends a write that wrote nothing: readers that began earlier stay valid.
  void WriteAbandon() { sequence_.store(Writing("SeqLock::WriteAbandon") - 1, kRelease); }

  // The number of the version to read. Yields while a writer is in.
  uint32_t BeginRead() const {
    for (;;) {
      const uint32_t sequence = sequence_.load(PYRT_MUTANT(seq_begin_is_relaxed) ? kRelaxed : kAcquire);
      if ((sequence & kWriting) == 0 || PYRT_MUTANT(seq_begin_ignores_writer)) return sequence;
      YieldCpu();
    }
  }

  // True if what was read since BeginRead returned `begin` is one version.
  bool EndRead(uint32_t begin) const { return sequence_.load(kRelaxed) == begin; }

  // In a forked child. True if a writer was in: the data may be half written, and the caller must discard
  // them.
  [[nodiscard]] bool ReinitAfterFork() {
    if ((sequence_.load(kRelaxed) & kWriting) == 0) return false;
    sequence_.store(0, kRelaxed);
    return true;
  }

  // For tests and state dumps.
  uint32_t sequence() const { return sequence_.load(kRelaxed); }

 private:
  static constexpr uint32_t kWriting = 1;

  uint32_t Writing(const char* function) const {
    const uint32_t sequence = sequence_.load(kRelaxed);
    PYRT_CHECK((sequence & kWriting) != 0, function, "no write in progress (sequence %u)", sequence);
    return sequence;
  }

  Atomic<uint32_t> sequence_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_SEQ_LOCK_H_
