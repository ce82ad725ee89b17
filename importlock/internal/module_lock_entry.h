// What module_lock.h is made of: entries in shards, and the wait-for graph. Include module_lock.h instead.

#ifndef PYRT_IMPORTLOCK_INTERNAL_MODULE_LOCK_ENTRY_H_
#define PYRT_IMPORTLOCK_INTERNAL_MODULE_LOCK_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT::internal {

struct ModuleLockEntry;

// A frame that uses an entry, on that frame's stack. Guarded by the shard's lock.
struct ModuleLockUse {
  ModuleLockEntry* entry = nullptr;
  uint64_t thread = 0;
  bool waits = false;  // counted in entry->waiters
  ModuleLockUse* next = nullptr;
  ModuleLockUse* previous = nullptr;
};

// The lock of one module. Guarded by its shard's lock, but for loads of `owner`.
struct ModuleLockEntry {
  // Also read by the wait-for graph and by the parking lot's validation. Writers hold the shard's lock.
  Atomic<uint64_t> owner{0};
  uint64_t hash = 0;
  ModuleLockEntry* next = nullptr;  // in the chain, or in the free list
  ModuleLockUse* users = nullptr;
  uint32_t depth = 0;    // how often the owner's frames have acquired it
  uint32_t waiters = 0;  // frames between "owned by another" and their return
  std::string name;

  void AddUser(ModuleLockUse& use, uint64_t thread) {
    use.entry = this;
    use.thread = thread;
    use.previous = nullptr;
    use.next = users;
    if (users != nullptr) users->previous = &use;
    users = &use;
  }
  void RemoveUser(ModuleLockUse& use) {
    (use.previous == nullptr ? users : use.previous->next) = use.next;
    if (use.next != nullptr) use.next->previous = use.previous;
    use.entry = nullptr;
  }
};

// A sixteenth of the registry: 32 chains. Few locks exist at a time (one per module that is being imported),
// so that chains are short and the size is fixed.
class alignas(64) ModuleLockShard {
 public:
  static constexpr size_t kChains = 32;
  static constexpr size_t kMaxFree = 4;
  // Names up to here fit an entry without allocating.
  static constexpr size_t kNameCapacity = 47;

  ModuleLockShard() = default;
  ModuleLockShard(const ModuleLockShard&) = delete;
  ModuleLockShard& operator=(const ModuleLockShard&) = delete;
  ~ModuleLockShard();

  // An entry with room for `name`, made without any lock.
  static ModuleLockEntry* NewEntry(std::string_view name);

  ModuleLockEntry* Find(uint64_t hash, std::string_view name) const PYRT_REQUIRES(mutex) {
    for (ModuleLockEntry* entry = ChainOf(hash); entry != nullptr; entry = entry->next) {
      if (entry->hash == hash && entry->name == name) return entry;
    }
    return nullptr;
  }
  // An entry of the free list with room for `name`, or null.
  ModuleLockEntry* TakeFree(std::string_view name) PYRT_REQUIRES(mutex);
  void Insert(ModuleLockEntry& entry, uint64_t hash, std::string_view name) PYRT_REQUIRES(mutex);
  // Takes an entry without users out. Returns it if the caller must delete it, after unlocking.
  [[nodiscard]] ModuleLockEntry* Remove(ModuleLockEntry& entry) PYRT_REQUIRES(mutex);

  ModuleLockEntry*& ChainOf(uint64_t hash) PYRT_REQUIRES(mutex) { return chains_[hash % kChains]; }
  ModuleLockEntry* ChainOf(uint64_t hash) const PYRT_REQUIRES(mutex) { return chains_[hash % kChains]; }

  mutable Mutex mutex;
  size_t size PYRT_GUARDED_BY(mutex) = 0;
  uint64_t operations PYRT_GUARDED_BY(mutex) = 0;

 private:
  ModuleLockEntry* chains_[kChains] PYRT_GUARDED_BY(mutex) = {};
  ModuleLockEntry* free_ PYRT_GUARDED_BY(mutex) = nullptr;
  size_t free_count_ PYRT_GUARDED_BY(mutex) = 0;
};

// An edge: this frame of `thread` waits for `wanted`. On the frame's stack; guarded by the graph's lock.
// `wanted` lives, because the frame is one of its users.
struct BlockedFrame {
  BlockedFrame(uint64_t the_thread, const ModuleLockEntry* the_wanted)
      : thread(the_thread), wanted(the_wanted) {}

  const uint64_t thread;
  const ModuleLockEntry* const wanted;
  BlockedFrame* next = nullptr;
  BlockedFrame* previous = nullptr;
  BlockedFrame* to_visit = nullptr;
  uint64_t visited = 0;  // number of the last search that came here
};

class WaitForGraph {
 public:
  // Adds the edge and returns true, or returns false if it would close a cycle. Linear in the edges that can
  // be reached; allocates nothing.
  [[nodiscard]] bool Add(BlockedFrame& frame);
  void Remove(BlockedFrame& frame);

  size_t size() const;

  Mutex& mutex() PYRT_RETURN_CAPABILITY(mutex_) { return mutex_; }
  // In a forked child: only the frames of `survivor` are left.
  void ReinitAfterFork(uint64_t survivor);

 private:
  static constexpr size_t kBuckets = 64;

  bool Reaches(uint64_t from, uint64_t target) PYRT_REQUIRES(mutex_);
  void Link(BlockedFrame& frame) PYRT_REQUIRES(mutex_);
  void Unlink(BlockedFrame& frame) PYRT_REQUIRES(mutex_);
  // Thread identifiers are addresses of thread control blocks: their low bits are equal.
  static size_t BucketOf(uint64_t thread) { return thread * 0x9e3779b97f4a7c15 >> 58; }

  mutable Mutex mutex_;
  BlockedFrame* frames_[kBuckets] PYRT_GUARDED_BY(mutex_) = {};
  uint64_t search_ PYRT_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT::internal

#endif  // PYRT_IMPORTLOCK_INTERNAL_MODULE_LOCK_ENTRY_H_
