// The memory of a schedule: for every atomic its recent stores in modification order and who knows of them,
// for every Plain its last accesses. Answers which values a load may return, and whether an access races.
//
// What is modelled, against C++20 [intro.races] and [atomics.order]:
//
//  * Modification order is the order in which the stores are executed. A load may return any of the last
//    kHistory stores which coherence allows: none that is older than a store or a read of the same location
//    which the thread knows of.
//  * Release stores carry what the thread knows; an acquire load of them, or of a read-modify-write in their
//    release sequence, joins it. A relaxed load joins it at the thread's next full fence.
//  * Read-modify-writes read the newest store. A compare-exchange that fails is a load: it may do so because it reads an
//    older store of another value, also where the newest one is what it expects.
//  * Stores arrive in finite time: when the clock moves on, because nobody can run or everybody spins, all are seen.
//  * seq_cst operations are totally ordered as they are executed. A seq_cst load returns nothing older than
//    the last seq_cst store of its location, nor than what a seq_cst load before it has read there or a full fence
//    executed before had seen. A seq_cst access is not a fence: it orders nothing else.
//  * Asymmetric fences (P1202): each pair of a heavy and a light fence, or of two heavy ones, is ordered as
//    two seq_cst fences are. Two light fences are not ordered. A heavy fence is also an acquire and release
//    fence; a light one is not, so a Plain may not be handed over by a light fence and a relaxed store.
//
// Not modelled: load buffering and out-of-thin-air values (a load never returns a store that is executed
// later), modification orders other than the order of execution (2+2W), consume (treated as acquire),
// mixed-size accesses. These are behaviours that a schedule cannot show; what it shows, C++ allows.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_MEMORY_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/internal/access.h"
#include "pyrt/testing/detsched/internal/clock.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// Stores of one location that loads may still return.
inline constexpr int kHistory = 8;

// What one thread's half of the model keeps.
struct ThreadMemory {
  Knowledge known;
  Knowledge loaded;    // what relaxed loads have met, joined by the next full fence
  Knowledge released;  // what the last full fence published, carried by relaxed stores after it
  bool has_loaded;
  bool has_released;

  void Reset() {
    known.Reset();
    has_loaded = has_released = false;
  }
  // The time of a new event of thread `self`.
  uint32_t Tick(int self) {
    const uint32_t time = ++known.before.at[self];
    known.seen.at[self] = time;
    return time;
  }
};

struct Store {
  uint64_t value;
  uint32_t sc;        // position among the seq_cst operations of itself or of the first load of it, 0 if none
  bool has_released;  // `released` is valid
  Knowledge released;
  Clock first_seen;  // by thread: the event that read or wrote this store first, kNever if none
};
inline constexpr uint32_t kNever = UINT32_MAX;

struct AtomicLocation {
  uint32_t newest;  // stores are numbered from 0 within a schedule; store n is at [n % kHistory]
  uint32_t oldest;
  uint8_t creator;  // the constructor's event: it must happen before every access
  uint32_t created;
  Site created_at;
  Store stores[kHistory];
};

struct PlainLocation {
  int8_t writer;
  uint32_t written;
  Site written_at;
  Clock read;
  Site read_at[kMaxFibers];
};

// A race found: the earlier access.
struct Race {
  bool found = false;
  int fiber = 0;
  const char* what = nullptr;
  Site site{};
};

// Objects of type T by address, all forgotten in O(1) by Clear().
template <typename T>
class AddressTable {
 public:
  T* Find(const void* address);
  // The object of `address`; `*added` says that it is new and uninitialised.
  T* FindOrAdd(const void* address, bool* added);
  void Clear() {
    ++generation_;
    used_ = 0;
  }

 private:
  struct Slot {
    const void* address = nullptr;
    uint32_t generation = 0;
    uint32_t index = 0;
  };
  static constexpr uint32_t kChunk = 64;
  size_t Bucket(const void* address) const {
    return static_cast<size_t>((reinterpret_cast<uintptr_t>(address) * 0x9E3779B97F4A7C15u) >> 20) &
           (slots_.size() - 1);
  }
  T* At(uint32_t index) { return &chunks_[index / kChunk][index % kChunk]; }
  void Grow();

  std::vector<Slot> slots_ = std::vector<Slot>(256);
  std::vector<std::unique_ptr<T[]>> chunks_;
  uint32_t used_ = 0;
  uint32_t generation_ = 1;
};

class Memory {
 public:
  void Clear();

  // An atomic object or a Plain begins its life at `address` by an event of thread `self`.
  void ConstructAtomic(int self, ThreadMemory& thread, const void* address, size_t size, Site site);
  void ConstructPlain(int self, ThreadMemory& thread, const void* address, Site site);

  // The location of an atomic access; its first one in this schedule takes the value in memory as a store
  // that everybody knows. `race` is set when the construction does not happen before the access.
  AtomicLocation& Locate(int self, ThreadMemory& thread, const void* address, size_t size, Race* race);

  // How many stores, the newest first, a load may return.
  int Candidates(const ThreadMemory& thread, const AtomicLocation& location, std::memory_order order) const;

  static uint64_t Value(const AtomicLocation& location, int age) {
    return location.stores[(location.newest - static_cast<uint32_t>(age)) % kHistory].value;
  }

  // Performs the load of the `age`-th newest store.
  uint64_t Load(int self, ThreadMemory& thread, AtomicLocation& location, int age, std::memory_order order);

  // Appends a store. For a read-modify-write, `rmw`, the newest store's release sequence goes on.
  void AppendStore(int self, ThreadMemory& thread, AtomicLocation& location, uint64_t value,
                   std::memory_order order, bool rmw);

  void LightFence(int self, ThreadMemory& thread);
  void HeavyFence(int self, ThreadMemory& thread);

  // `gone`: the threads (a mask) that were left behind by a fork. They access nothing any more, so a write may
  // follow what they did; but a read of what they wrote races.
  Race ReadPlain(int self, ThreadMemory& thread, const void* address, Site site);
  Race WritePlain(int self, ThreadMemory& thread, const void* address, Site site, uint32_t gone);

  // `thread` does not see older values of what `other` has stored: in the child of a fork, which finds all that in memory, and
  // when time passes. That orders nothing: what `other` was in the middle of stays a race.
  void SeeAllOf(int other, const ThreadMemory& other_thread, ThreadMemory& thread);

 private:
  AddressTable<AtomicLocation> atomics_;
  AddressTable<PlainLocation> plains_;
  Knowledge light_;  // what light fences have published to heavy ones
  Knowledge heavy_;  // what heavy fences have published to all
  uint32_t sc_ = 0;
};

inline bool IsAcquire(std::memory_order order) {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}
inline bool IsRelease(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_MEMORY_H_
