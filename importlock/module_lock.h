// Module locks: one per module that is being imported, held while its body runs, with deadlock detection.
//
//   ModuleLockRegistry locks;                       // one per interpreter
//   ModuleLock lock(locks, "a.b");                  // on the stack of the importing frame
//   switch (lock.Acquire(hooks)) {
//     case ModuleLockStatus::kAcquired: ...         // nobody else runs a.b's body now
//     case ModuleLockStatus::kDeadlock: ...         // waiting would never end: take the half-made module
//   }
//
// A lock exists while somebody uses it: the first ModuleLock of a name makes the entry, the last one takes it
// away, both under the lock of the entry's shard. There is nothing to leak and no weak reference that could
// remove a successor (bpo-31070, gh-106176).
//
// The wait-for graph has an edge per *blocked frame*, not per thread: a signal handler or destructor that
// runs inside a wait may import and block again (gh-106176, gh-91351). A thread that is about to block adds
// its edge and looks for a way back to itself, both under the one graph lock:
//
//   this frame -> the lock that it wants -> that lock's owner -> each of its blocked frames -> ...
//
// A cycle comes into being when the last of its threads blocks (a thread that takes a free lock is not
// blocked), and that thread has the graph lock after all others, so it sees all edges: no deadlock among
// module locks is missed. Waits for anything else (a join, a queue) are not in the graph (IL-31).
//
// Place in the lock order: ImportLock -> shard or graph lock (leaves, never both but for fork). A thread may
// own any number of module locks; none of them is a runtime lock.
//
// CPython counterpart: importlib._bootstrap._ModuleLock, _get_module_lock, _blocking_on, _has_deadlocked.

#ifndef PYRT_IMPORTLOCK_MODULE_LOCK_H_
#define PYRT_IMPORTLOCK_MODULE_LOCK_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/importlock/internal/module_lock_entry.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

class ModuleLock;

enum class ModuleLockStatus : uint8_t {
  kAcquired,
  kDeadlock,     // its owner waits, by way of module locks, for this thread
  kFailure,      // hooks->must_fail said so, or the time is up
  kInterrupted,  // hooks->interrupted said so
};

class ModuleLockRegistry {
 public:
  ModuleLockRegistry() = default;
  ModuleLockRegistry(const ModuleLockRegistry&) = delete;
  ModuleLockRegistry& operator=(const ModuleLockRegistry&) = delete;
  ~ModuleLockRegistry();  // whoever still uses a lock hangs

  // How many names have users. Consistent only while nobody imports. For tests and state dumps.
  size_t size() const;
  // Whether anybody owns the lock of `name` at this moment. CPython: _ModuleLock.locked.
  bool Locked(std::string_view name) const;
  // How often a ModuleLock took a shard's lock so far: a finished module's import must take none (B107).
  uint64_t lock_operations() const;

  // Brackets a fork, inside the import lock's bracket. In the child every lock of another thread is free, its
  // users are gone, and the names that such a thread owned are returned: they may have half-made modules,
  // which nobody will ever complete. CPython keeps them owned for ever and hangs (FK-7). In the child call
  // ParkingLot::AfterForkInChild first.
  void BeforeFork();
  void AfterForkInParent();
  std::vector<std::string> AfterForkInChild();

 private:
  friend class ModuleLock;

  internal::ModuleLockShard& ShardOf(uint64_t hash) { return shards_[hash >> 60]; }
  const internal::ModuleLockShard& ShardOf(uint64_t hash) const { return shards_[hash >> 60]; }

  internal::ModuleLockShard shards_[16];
  internal::WaitForGraph graph_;
};

// One frame's use of the lock of one module: acquires at most once, and gives it back when it dies. Belongs
// to its thread. `name` must outlive it.
class ModuleLock {
 public:
  ModuleLock(ModuleLockRegistry& registry, std::string_view name);
  ~ModuleLock();
  ModuleLock(const ModuleLock&) = delete;
  ModuleLock& operator=(const ModuleLock&) = delete;

  // Owns the module for this frame; at once if nobody or the calling thread does (another ModuleLock further
  // up its stack: a circular import never blocks). Otherwise waits, detached by hooks->before_park, for up to
  // `timeout` nanoseconds. hooks->interrupted and must_fail end the wait; all hooks may import. Call once.
  ModuleLockStatus Acquire(const WaitHooks* hooks = nullptr, Timeout timeout = kForever);

  // Gives back what Acquire got; at the last of the thread's frames the module is free and a waiter wakes.
  // RuntimeError "cannot release un-acquired lock" if this frame has not acquired it, and then nothing
  // changes. Never blocks for long.
  absl::Status Release();

  bool acquired() const { return acquired_; }
  std::string_view name() const { return name_; }

  // The error of kDeadlock: DeadlockError "deadlock detected by _ModuleLock('a.b') at 140...".
  absl::Status DeadlockError() const;

 private:
  ModuleLockStatus Wait(const WaitHooks* hooks, Timeout timeout);
  void Leave();

  ModuleLockRegistry& registry_;
  const std::string_view name_;
  const uint64_t hash_;
  internal::ModuleLockUse use_;
  bool acquired_ = false;
  uint64_t identity_ = 0;  // of the entry, for the error text
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_MODULE_LOCK_H_
