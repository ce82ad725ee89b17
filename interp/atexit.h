// AtExit: what an interpreter runs when it ends.
//
//   callbacks       objects, called with arguments at the start of finalization, everything still works
//                   (Python's atexit module)
//   low-level ones  C functions, called when the interpreter is cleared: thread states are gone, a current
//                   one is left (PyUnstable_AtExit)
//
// Both run last in, first out. A callback that fails is reported and the rest still run, whatever it failed
// with (also SystemExit). A callback that is registered while the callbacks run is dropped with the list when
// they have run (IN-39); one that is registered after that runs in the next round.
//
// Callbacks are called, compared and released with no lock held: they may register, unregister and run
// anything (gh-126907, gh-112127, gh-142881). In the GIL-disabled build all of this is safe from any thread
// of the interpreter.
//
// CPython counterpart: Modules/atexitmodule.c, PyUnstable_AtExit, _PyAtExit_Call.

#ifndef PYRT_INTERP_ATEXIT_H_
#define PYRT_INTERP_ATEXIT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "absl/status/status.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class AtExit {
 public:
  // Told of a callback's failure: "Exception ignored in atexit callback %R" in sys.unraisablehook.
  using ReportFailure = std::function<void(const absl::Status& error, const Ref<Object>& callback)>;
  using LowLevelFunction = void (*)(void* data);

  AtExit() = default;
  ~AtExit();  // releases what is left without calling it
  AtExit(const AtExit&) = delete;
  AtExit& operator=(const AtExit&) = delete;

  // `callback(*args)` will be called. TypeError "the first argument must be callable". Attached; does not run
  // code. CPython: atexit.register.
  absl::Status Register(Ref<Object> callback, std::vector<Ref<Object>> args = {});

  // Forgets every registration that `is_same` says is `callback`'s; identity if it is empty. `is_same` may
  // run anything, also Unregister. Attached. CPython: atexit.unregister, which compares by equality.
  void Unregister(const Ref<Object>& callback,
                  const std::function<bool(const Ref<Object>& registered)>& is_same = {});

  // Forgets all. CPython: atexit._clear.
  void Clear();

  // Registrations; those that are running count until all have run. CPython: atexit._ncallbacks.
  size_t size() const;
  bool empty() const { return size() == 0; }

  // Calls all, newest first, and forgets them. On the finalizing thread, attached. CPython: _PyAtExit_Call.
  void Run(const ReportFailure& report);

  // Low-level functions: any number. Attached to the interpreter; does not block on anything that runs code.
  // CPython: PyUnstable_AtExit.
  void RegisterLowLevel(LowLevelFunction function, void* data);
  // Calls them, newest first, each once; what they register meanwhile is called as well. Inside the
  // interpreter's clear (IN-42).
  void RunLowLevel();

  // In a forked child: the lock is free. The registrations stay.
  void AfterForkInChild() { mutex_.ReinitAfterFork(); }

 private:
  struct Callback {
    Ref<Object> callable;
    std::vector<Ref<Object>> args;
    uint64_t id = 0;
  };
  struct LowLevel {
    LowLevelFunction function;
    void* data;
  };

  // Shared with who runs or compares it, without the lock.
  using Callbacks = std::list<std::shared_ptr<Callback>>;

  // The newest one whose id is below `id`, null if there is none.
  std::shared_ptr<Callback> Before(uint64_t id) PYRT_EXCLUDES(mutex_);
  uint64_t next_id() PYRT_EXCLUDES(mutex_);

  // Held for a few instructions, across nothing that runs code or allocates (gh-96071): nodes are made before and
  // freed after, and spliced in and out under it.
  RankedMutex<LockRank::kAtExit> mutable mutex_;
  Callbacks callbacks_ PYRT_GUARDED_BY(mutex_);
  std::list<LowLevel> low_level_ PYRT_GUARDED_BY(mutex_);
  uint64_t next_id_ PYRT_GUARDED_BY(mutex_) = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_INTERP_ATEXIT_H_
