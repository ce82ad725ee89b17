// Monitoring: which tools watch which events of an interpreter (sys.monitoring), as far as the runtime knows it: tools,
// names, event masks, callbacks. Instrumented code is the host's; a change bumps the instrumentation version that every
// thread's eval breaker carries, which makes the host look.
//
// Attached; any thread. Changes stop the world in the GIL-disabled build (through Interpreter), never under the lock.
//
// CPython counterpart: Python/instrumentation.c, interp->monitors, interp->monitoring_callables.

#ifndef PYRT_SYS_MONITORING_H_
#define PYRT_SYS_MONITORING_H_

#include <array>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class Monitoring {
 public:
  static constexpr int64_t kTools = 6;    // that users may take; 6 and 7 are settrace's and setprofile's
  static constexpr int64_t kEvents = 19;  // PY_START ... STOP_ITERATION
  static constexpr uint32_t kAllEvents = (1u << kEvents) - 1;
  // "PY_START"; the number is the bit's.
  static const char* EventName(int64_t event);

  explicit Monitoring(Interpreter& interp) : interp_(interp) {}
  Monitoring(const Monitoring&) = delete;
  Monitoring& operator=(const Monitoring&) = delete;

  // ValueError "tool N is already in use", "invalid tool N (must be between 0 and 5)".
  absl::Status UseTool(int64_t tool, Ref<Object> name);
  // Forgets name, events and callbacks. Free already: does nothing, and callbacks that are registered stay.
  absl::Status FreeTool(int64_t tool);
  // Forgets events and callbacks, and stays in use. Free: as above.
  absl::Status ClearTool(int64_t tool);
  // The tool's name; None if it is free.
  absl::StatusOr<Ref<Object>> GetTool(int64_t tool) const;

  // BRANCH is BRANCH_LEFT and BRANCH_RIGHT; C_RETURN and C_RAISE come with CALL, or not at all. ValueError "tool N is
  // not in use", "invalid event set 0x...", "cannot set C_RETURN or C_RAISE events independently". OverflowError when
  // the version is used up.
  absl::Status SetEvents(int64_t tool, int64_t events);
  // Of a free tool none.
  absl::StatusOr<uint32_t> GetEvents(int64_t tool) const;
  // The tools that watch the event, as bits.
  int64_t ToolsWatching(int64_t event) const;
  // Everything that any tool watches; one relaxed load, for the host's instrumentation.
  uint32_t active_events() const { return active_.load(kRelaxed); }
  // DISABLEd places report again: bumps the version.
  absl::Status RestartEvents() { return interp_.BumpInstrumentationVersion(); }

  // `event` is a single bit. None unregisters. Returns what was registered before, None for nothing. A free tool may have
  // callbacks.
  absl::StatusOr<Ref<Object>> RegisterCallback(int64_t tool, int64_t event, Ref<Object> callback);
  // What RegisterCallback checks: ValueError "The callback can only be set for one event at a time", "invalid event N".
  static absl::Status CheckCallback(int64_t tool, int64_t event);
  // Null for nothing.
  Ref<Object> Callback(int64_t tool, int event_index) const;

  void Clear();
  void ReinitAfterFork() { mutex_.ReinitAfterFork(); }

 private:
  struct Tool {
    Ref<Object> name;  // null: free
    uint32_t events = 0;
    std::array<Ref<Object>, kEvents> callbacks;
  };
  static absl::Status CheckTool(int64_t tool);
  absl::Status Forget(int64_t tool, bool keep_name);
  uint32_t UnionLocked() const PYRT_REQUIRES(mutex_);

  Interpreter& interp_;
  mutable Mutex mutex_;
  std::array<Tool, kTools> tools_ PYRT_GUARDED_BY(mutex_);
  Atomic<uint32_t> active_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_MONITORING_H_
