#include "pyrt/runtime/sync/rw_mutex.h"

#include <cinttypes>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// Announces a sleeper and sleeps until the word changes. Returns the word. The announcement is relaxed: the
// unlock that must see it is a read-modify-write of the same word, and both sides then meet under the
// bucket's lock.
uint64_t RwMutex::Sleep(uint64_t bits, const WaitHooks* hooks) {
  if ((bits & kHasParked) == 0) {
    if (!bits_.compare_exchange_weak(bits, bits | kHasParked, kRelaxed, kRelaxed)) return bits;
    bits |= kHasParked;
  }
  static_cast<void>(ParkingLot::Park(bits_, bits, kNoDeadline, nullptr, hooks));
  return bits_.load(kRelaxed);
}

void RwMutex::ReadLockSlow(const WaitHooks* hooks) {
  uint64_t bits = bits_.load(kRelaxed);
  for (;;) {
    const uint64_t blocked_by = PYRT_MUTANT(rw_reader_ignores_writer)     ? kHasParked
                                : PYRT_MUTANT(rw_reader_ignores_sleepers) ? kWriteLocked
                                                                          : kWriteLocked | kHasParked;
    if ((bits & blocked_by) != 0) {
      bits = Sleep(bits, hooks);
    } else if (bits_.compare_exchange_weak(bits, bits + kReader, kAcquire, kRelaxed)) {
      return;
    }
  }
}

void RwMutex::WriteLockSlow(const WaitHooks* hooks) {
  uint64_t bits = bits_.load(kRelaxed);
  for (;;) {
    if ((bits & ~kHasParked) != 0) {
      bits = Sleep(bits, hooks);
      continue;
    }
    // Keeps HAS_PARKED: readers may sleep behind this writer, and its unlock must wake them.
    const uint64_t desired = PYRT_MUTANT(rw_writer_clears_has_parked) ? kWriteLocked : bits | kWriteLocked;
    if (bits_.compare_exchange_weak(bits, desired, kAcquire, kRelaxed)) return;
  }
}

void RwMutex::LastReaderOut(uint64_t before) {
  PYRT_CHECK(before >= kReader, "RwMutex::ReadUnlock",
             "unlocking a mutex that has no reader (word %" PRIu64 ")", before);
  // HAS_PARKED stays set, so that no reader slips in before the writer that sleeps.
  if ((before & kHasParked) != 0 && !PYRT_MUTANT(rw_last_reader_forgets_wake)) ParkingLot::UnparkAll(&bits_);
}

void RwMutex::WriteUnlockSlow(uint64_t before) {
  PYRT_CHECK((before & kWriteLocked) != 0, "RwMutex::WriteUnlock",
             "unlocking a mutex that is not write-locked (word %" PRIu64 ")", before);
  if (!PYRT_MUTANT(rw_write_unlock_forgets_wake)) ParkingLot::UnparkAll(&bits_);
}

}  // namespace pyrt::inline PYRT_VARIANT
