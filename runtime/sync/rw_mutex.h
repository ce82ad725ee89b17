// Many readers or one writer, in one word. Writers go first: nobody starts reading while somebody sleeps.
//
//   word  bit 0 WRITE_LOCKED   bit 1 HAS_PARKED   from bit 2 on: number of readers
//
//                0 free   8 two readers   10 and a sleeper   1 writer   3 and a sleeper   2 about to be taken
//   ReadLock     4        12              sleeps             3, sleeps  sleeps            sleeps
//   WriteLock    1        10, sleeps      sleeps             3, sleeps  sleeps            3
//   ReadUnlock   fatal    4               6; the last one 2, and wakes all
//   WriteUnlock  fatal    fatal           fatal              0          0, wakes all      fatal
//
// State 2 always has a writer on its way that was woken by the last reader: only a writer makes readers set
// or meet HAS_PARKED, and it cannot leave its wait without the lock. (But for a writer whose after_park does not return,
// because its thread hangs: then readers wait for it until another writer comes.)
//
// Unlocks synchronise with later locks. Not recursive, not fair among writers, no time-outs.
//
// CPython counterpart: _PyRWMutex.

#ifndef PYRT_RUNTIME_SYNC_RW_MUTEX_H_
#define PYRT_RUNTIME_SYNC_RW_MUTEX_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/internal/tsan_mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

class PYRT_CAPABILITY("rw mutex") RwMutex : private TsanMutex {
 public:
  constexpr RwMutex() = default;
  RwMutex(const RwMutex&) = delete;
  RwMutex& operator=(const RwMutex&) = delete;

  // Blocks while there is a writer or somebody sleeps. Of `hooks` only before_park and after_park are used.
  void ReadLock(const WaitHooks* hooks = nullptr) PYRT_ACQUIRE_SHARED() {
    uint64_t bits = bits_.load(kRelaxed);
    if ((bits & (kWriteLocked | kHasParked)) != 0 ||
        !bits_.compare_exchange_strong(bits, bits + kReader, kAcquire, kRelaxed)) [[unlikely]] {
      ReadLockSlow(hooks);
    }
    hooks == nullptr ? TsanReadLocked() : TsanTryReadLocked();
  }

  // Never blocks. Fatal if there is no reader.
  void ReadUnlock() PYRT_RELEASE_SHARED() {
    TsanReadUnlocking();
    // Release: the next writer's acquire must see our reads done. Decrements of other readers are
    // read-modify-writes, so they carry our release on to the writer.
    const uint64_t before =
        bits_.fetch_sub(kReader, PYRT_MUTANT(rw_read_unlock_is_relaxed) ? kRelaxed : kRelease);
    if (before < 2 * kReader && before != kReader) [[unlikely]] {
      LastReaderOut(before);
    }
  }

  // Blocks while there is a reader or a writer. Of `hooks` only before_park and after_park are used.
  void WriteLock(const WaitHooks* hooks = nullptr) PYRT_ACQUIRE() {
    uint64_t expected = 0;
    if (!bits_.compare_exchange_strong(expected, kWriteLocked, kAcquire, kRelaxed)) [[unlikely]] {
      WriteLockSlow(hooks);
    }
    hooks == nullptr ? TsanLocked() : TsanTryLocked();
  }

  // Never blocks. Fatal if there is no writer.
  void WriteUnlock() PYRT_RELEASE() {
    TsanUnlocking();
    const uint64_t before = bits_.exchange(0, kRelease);
    if (before != kWriteLocked) [[unlikely]] {
      WriteUnlockSlow(before);
    }
  }

  // In a forked child, after ParkingLot::AfterForkInChild: free, whoever held it in the parent.
  void ReinitAfterFork() { bits_.store(0, kRelaxed); }

  // The word, for tests and state dumps.
  uint64_t bits() const { return bits_.load(kRelaxed); }

 private:
  static constexpr uint64_t kWriteLocked = 1;
  static constexpr uint64_t kHasParked = 2;
  static constexpr uint64_t kReader = 4;

  void ReadLockSlow(const WaitHooks* hooks);
  void WriteLockSlow(const WaitHooks* hooks);
  uint64_t Sleep(uint64_t bits, const WaitHooks* hooks);
  void LastReaderOut(uint64_t before);
  void WriteUnlockSlow(uint64_t before);

  Atomic<uint64_t> bits_{0};
};

class PYRT_SCOPED_CAPABILITY ReaderLock {
 public:
  explicit ReaderLock(RwMutex& mutex, const WaitHooks* hooks = nullptr) PYRT_ACQUIRE_SHARED(mutex)
      : mutex_(mutex) {
    mutex_.ReadLock(hooks);
  }
  ~ReaderLock() PYRT_RELEASE() { mutex_.ReadUnlock(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  RwMutex& mutex_;
};

class PYRT_SCOPED_CAPABILITY WriterLock {
 public:
  explicit WriterLock(RwMutex& mutex, const WaitHooks* hooks = nullptr) PYRT_ACQUIRE(mutex) : mutex_(mutex) {
    mutex_.WriteLock(hooks);
  }
  ~WriterLock() PYRT_RELEASE() { mutex_.WriteUnlock(); }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  RwMutex& mutex_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_RW_MUTEX_H_
