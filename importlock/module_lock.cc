#include "pyrt/importlock/module_lock.h"

#include <cinttypes>
#include <memory>

#include "pyrt/importlock/internal/name_hash.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/sync/parking_lot.h"

namespace pyrt::inline PYRT_VARIANT {
namespace internal {

ModuleLockEntry* ModuleLockShard::NewEntry(std::string_view name) {
  auto entry = std::make_unique<ModuleLockEntry>();
  entry->name.reserve(name.size() > kNameCapacity ? name.size() : kNameCapacity);
  return entry.release();
}

ModuleLockEntry* ModuleLockShard::TakeFree(std::string_view name) {
  if (free_ == nullptr || name.size() > kNameCapacity) return nullptr;
  ModuleLockEntry* const entry = free_;
  free_ = entry->next;
  --free_count_;
  return entry;
}

void ModuleLockShard::Insert(ModuleLockEntry& entry, uint64_t hash, std::string_view name) {
  entry.hash = hash;
  entry.name.assign(name.data(), name.size());  // within its capacity
  ModuleLockEntry*& chain = ChainOf(hash);
  entry.next = chain;
  chain = &entry;
  ++size;
}

ModuleLockEntry* ModuleLockShard::Remove(ModuleLockEntry& entry) {
  ModuleLockEntry** link = &ChainOf(entry.hash);
  while (*link != &entry) link = &(*link)->next;
  *link = entry.next;
  --size;
  if (free_count_ == kMaxFree || entry.name.capacity() < kNameCapacity ||
      entry.name.capacity() > 4 * kNameCapacity) {
    return &entry;
  }
  entry.next = free_;
  free_ = &entry;
  ++free_count_;
  return nullptr;
}

ModuleLockShard::~ModuleLockShard() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  while (free_ != nullptr) {
    ModuleLockEntry* const entry = free_;
    free_ = entry->next;
    delete entry;
  }
}

}  // namespace internal

using internal::BlockedFrame;
using internal::ModuleLockEntry;
using internal::ModuleLockShard;
using internal::ModuleLockUse;

ModuleLock::ModuleLock(ModuleLockRegistry& registry, std::string_view name)
    : registry_(registry), name_(name), hash_(internal::HashName(name)) {}

ModuleLock::~ModuleLock() {
  if (acquired_) Leave();
}

ModuleLockStatus ModuleLock::Acquire(const WaitHooks* hooks, Timeout timeout) {
  PYRT_CHECK(!acquired_, "ModuleLock::Acquire", "this frame already owns module '%.*s'",
             static_cast<int>(name_.size()), name_.data());
  const uint64_t self = CurrentThreadIdent();
  ModuleLockShard& shard = registry_.ShardOf(hash_);
  ModuleLockEntry* fresh = nullptr;
  ModuleLockEntry* spare = nullptr;
  for (;;) {
    shard.mutex.Lock();
    ++shard.operations;
    ModuleLockEntry* entry = shard.Find(hash_, name_);
    if (entry == nullptr) {
      entry = fresh != nullptr ? fresh : shard.TakeFree(name_);
      if (entry == nullptr) {  // allocates, and never under the lock
        shard.mutex.Unlock();
        fresh = ModuleLockShard::NewEntry(name_);
        continue;
      }
      shard.Insert(*entry, hash_, name_);
      fresh = nullptr;
    }
    spare = fresh;
    entry->AddUser(use_, self);
    identity_ = reinterpret_cast<uint64_t>(entry);
    // Relaxed: all writers hold the shard's lock.
    const uint64_t owner = entry->owner.load(kRelaxed);
    acquired_ = owner == 0 || owner == self ||
                (entry->waiters != 0 && PYRT_MUTANT(module_lock_barges_in_on_an_owner));
    if (acquired_) {
      entry->owner.store(self, kRelaxed);
      ++entry->depth;
    } else if (!PYRT_MUTANT(module_lock_waiter_is_not_counted)) {
      ++entry->waiters;
    }
    use_.waits = !acquired_;
    shard.mutex.Unlock();
    break;
  }
  delete spare;  // somebody else made the entry meanwhile
  return acquired_ ? ModuleLockStatus::kAcquired : Wait(hooks, timeout);
}

// Counted among the waiters and the users of the entry. The edge stays in the graph while hooks run: a search
// from their imports then over-estimates, as CPython's does (IL-25).
__attribute__((noinline, cold)) ModuleLockStatus ModuleLock::Wait(const WaitHooks* hooks, Timeout timeout) {
  const uint64_t self = use_.thread;
  ModuleLockShard& shard = registry_.ShardOf(hash_);
  ModuleLockEntry& entry = *use_.entry;
  const Deadline deadline = DeadlineAfter(timeout);
  BlockedFrame frame(self, &entry);
  ModuleLockStatus status = ModuleLockStatus::kAcquired;
  const bool linked = registry_.graph_.Add(frame);
  if (!linked) status = ModuleLockStatus::kDeadlock;
  // However this ends, be it that a hook throws or ends its thread.
  struct Leaving {
    ~Leaving() {
      // Before the frame stops being a user: the graph must not lead to an entry that is gone.
      if (linked) lock.registry_.graph_.Remove(frame);
      ModuleLockEntry* dead = nullptr;
      {
        const MutexLock guard(shard.mutex);
        --entry.waiters;
        lock.use_.waits = false;
        if (PYRT_MUTANT(module_lock_waiter_is_not_counted)) ++entry.waiters;
        if (!lock.acquired_ && !PYRT_MUTANT(gh_106176_a_wait_leaves_its_trace)) {
          entry.RemoveUser(lock.use_);
          if (entry.users == nullptr) dead = shard.Remove(entry);
        }
      }
      delete dead;
    }

    ModuleLock& lock;
    ModuleLockShard& shard;
    ModuleLockEntry& entry;
    BlockedFrame& frame;
    const bool linked;
  };
  const Leaving leaving{*this, shard, entry, frame, linked};

  bool timed_out = false;
  while (status == ModuleLockStatus::kAcquired) {
    shard.mutex.Lock();
    const uint64_t owner = entry.owner.load(kRelaxed);
    // The owner may be this thread: a hook of this wait imported the module and is still at it further up.
    acquired_ = owner == 0 || owner == self;
    if (acquired_) {
      entry.owner.store(self, kRelaxed);
      ++entry.depth;
    }
    shard.mutex.Unlock();
    if (acquired_) break;
    if (timed_out || (hooks != nullptr && hooks->must_fail != nullptr && hooks->must_fail(hooks->context))) {
      status = ModuleLockStatus::kFailure;
      break;
    }
    // Relaxed: whoever frees it stores under the shard's lock and then locks the bucket, as this does.
    const ParkResult woken = ParkingLot::ParkIf(
        &entry,
        [](const void* address, const void*) {
          return static_cast<const ModuleLockEntry*>(address)->owner.load(kRelaxed) != 0;
        },
        nullptr, deadline, nullptr, hooks);
    timed_out = woken == ParkResult::kTimeout;
    if (woken == ParkResult::kInterrupted && hooks != nullptr && hooks->interrupted != nullptr &&
        hooks->interrupted(hooks->context)) {
      status = ModuleLockStatus::kInterrupted;
    }
  }
  return status;
}

absl::Status ModuleLock::Release() {
  if (!acquired_) return Raise(ErrorType::RuntimeError(), "cannot release un-acquired lock");
  Leave();
  return absl::OkStatus();
}

void ModuleLock::Leave() {
  ModuleLockShard& shard = registry_.ShardOf(hash_);
  ModuleLockEntry& entry = *use_.entry;
  PYRT_CHECK(use_.thread == CurrentThreadIdent(), "ModuleLock::Release",
             "module '%.*s' was acquired by thread %" PRIu64 " and is released by thread %" PRIu64,
             static_cast<int>(name_.size()), name_.data(), use_.thread, CurrentThreadIdent());
  shard.mutex.Lock();
  ++shard.operations;
  bool wake = false;
  const bool free = --entry.depth == 0;
  if (free) {
    entry.owner.store(0, kRelaxed);
    wake = entry.waiters != 0;
  }
  entry.RemoveUser(use_);
  // With its last user, not with its owner: who waits for it would meet whoever makes a new one (bpo-31070).
  const bool last = entry.users == nullptr || (PYRT_MUTANT(bpo_31070_goes_with_its_owner) && free);
  ModuleLockEntry* const dead = last ? shard.Remove(entry) : nullptr;
  acquired_ = false;
  shard.mutex.Unlock();
  // All of them: the module is complete as a rule, and each goes on at once; and one that never comes back (a
  // daemon thread at shutdown) takes no wake-up with it. Only the address counts: a waiter may have found the
  // lock free by itself and be gone, and the entry with it.
  if (wake) ParkingLot::UnparkAll(&entry);
  delete dead;
}

absl::Status ModuleLock::DeadlockError() const {
  return Raise(ErrorType::DeadlockError(), "deadlock detected by _ModuleLock('%.*s') at %" PRIu64,
               static_cast<int>(name_.size()), name_.data(), identity_);
}

// What is left belongs to daemon threads that hang in the middle of an import. They never come back to it, and their
// entries stay with them.
ModuleLockRegistry::~ModuleLockRegistry() = default;

size_t ModuleLockRegistry::size() const {
  size_t sum = 0;
  for (const ModuleLockShard& shard : shards_) {
    const MutexLock lock(shard.mutex);
    sum += shard.size;
  }
  return sum;
}

bool ModuleLockRegistry::Locked(std::string_view name) const {
  const uint64_t hash = internal::HashName(name);
  const ModuleLockShard& shard = ShardOf(hash);
  const MutexLock lock(shard.mutex);
  const ModuleLockEntry* const entry = shard.Find(hash, name);
  return entry != nullptr && entry->owner.load(kRelaxed) != 0;
}

uint64_t ModuleLockRegistry::lock_operations() const {
  uint64_t sum = 0;
  for (const ModuleLockShard& shard : shards_) {
    const MutexLock lock(shard.mutex);
    sum += shard.operations;
  }
  return sum;
}

void ModuleLockRegistry::BeforeFork() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  graph_.mutex().Lock();
  for (ModuleLockShard& shard : shards_) shard.mutex.Lock();
}

void ModuleLockRegistry::AfterForkInParent() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  for (ModuleLockShard& shard : shards_) shard.mutex.Unlock();
  graph_.mutex().Unlock();
}

std::vector<std::string> ModuleLockRegistry::AfterForkInChild() PYRT_NO_THREAD_SAFETY_ANALYSIS {
  const uint64_t self = CurrentThreadIdent();
  graph_.ReinitAfterFork(self);
  std::vector<std::string> abandoned;
  for (ModuleLockShard& shard : shards_) {
    shard.mutex.ReinitAfterFork();
    for (size_t chain = 0; chain < ModuleLockShard::kChains; ++chain) {
      for (ModuleLockEntry* entry = shard.ChainOf(chain); entry != nullptr;) {
        ModuleLockEntry* const next = entry->next;
        const uint64_t owner = entry->owner.load(kRelaxed);
        if (owner != 0 && owner != self && !PYRT_MUTANT(fk_7_locks_of_the_gone_stay)) {
          abandoned.push_back(entry->name);
          entry->owner.store(0, kRelaxed);
          entry->depth = 0;
        }
        // The stacks of the other threads are still mapped, but nobody will ever come back to these frames.
        entry->waiters = 0;
        for (ModuleLockUse* use = entry->users; use != nullptr;) {
          ModuleLockUse* const following = use->next;
          if (use->thread != self && !PYRT_MUTANT(fk_7_frames_of_the_gone_stay)) {
            entry->RemoveUser(*use);
          } else if (use->waits) {  // the fork came from a hook of this wait
            ++entry->waiters;
          }
          use = following;
        }
        if (entry->users == nullptr) delete shard.Remove(*entry);
        entry = next;
      }
    }
  }
  return abandoned;
}

}  // namespace pyrt::inline PYRT_VARIANT
