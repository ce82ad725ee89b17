// Audit hooks: those of the process, which see every interpreter's events, and those of one interpreter.
//
//   auditor.Audit("open", "sii", path, mode, flags)
//     no hook anywhere       one branch on two loads; the arguments are not looked at (SY-38)
//     else                   the argument tuple is built; native hooks in order of registration, then the
//                            interpreter's in theirs; the first failure ends it and is returned
//
// Hooks cannot be removed. The native ones die when the runtime has finalized everything else, after the
// event cpython._PySys_ClearAuditHooks; an interpreter's die with it. Both lists are append-only: an element
// is published with release after it is complete, and traversed with acquire and no lock (SY-50, gh-154431:
// CPython's free-threaded build published with plain stores). A hook that is appended while an event is being
// delivered sees that event (SY-41).
//
// While a hook of an interpreter runs, tracing is off for its thread unless the hook has a true __cantrace__
// (SY-42). An exception that is pending when an event is raised is put back if the hooks agree and dropped if
// one does not (SY-43).
//
// Attached, any thread; a hook may do anything, so no lock may be held. On a detached thread an event is
// dropped (RT-28).
//
// CPython counterpart: PySys_Audit, PySys_AuditTuple, PySys_AddAuditHook, sys.addaudithook,
// _PySys_ClearAuditHooks.

#ifndef PYRT_SYS_AUDIT_H_
#define PYRT_SYS_AUDIT_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/lock_rank.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/sys/audit_format.h"

namespace pyrt::inline PYRT_VARIANT {

// A hook in C++. A failure ends the event and is what Audit returns.
using NativeAuditHook = absl::Status (*)(std::string_view event, const Ref<Tuple>& arguments, void* data);

class Auditor;

namespace internal {

// One hook: native or an object.
struct AuditHook {
  NativeAuditHook native = nullptr;
  void* data = nullptr;
  Ref<Object> object;
  Atomic<AuditHook*> next{nullptr};
};

class AuditHookList {
 public:
  AuditHookList() = default;
  AuditHookList(const AuditHookList&) = delete;
  AuditHookList& operator=(const AuditHookList&) = delete;
  ~AuditHookList() { Clear(); }

  // Relaxed: who only wants to know whether there is something to do looks again with acquire.
  bool empty() const { return first_.load(kRelaxed) == nullptr; }
  // Acquire: pairs with Append's release.
  AuditHook* first() const { return first_.load(kAcquire); }
  size_t size() const;

  void Append(AuditHook* hook);
  // Nobody delivers through the list any more; who still appends is before this or after it.
  void Clear();
  void ReinitAfterFork() { lock_.ReinitAfterFork(); }

 private:
  Atomic<AuditHook*> first_{nullptr};
  RankedMutex<LockRank::kAudit> lock_;
};

}  // namespace internal

// The hooks of the process. One object, the runtime's; usable before the runtime is initialized.
class NativeAuditHooks {
 public:
  // Adds a hook. `current` is the auditor of the interpreter that the calling thread is attached to, null
  // before initialization or when detached: with it, the event "sys.addaudithook" is raised first.
  // RuntimeError from an existing hook means no: the hook is not added and false is returned; another
  // exception is returned as it is (RT-24).
  absl::StatusOr<bool> Add(NativeAuditHook hook, void* data, Auditor* current);

  // The end of the runtime, on the finalizing thread, the last one: raises "cpython._PySys_ClearAuditHooks",
  // whose failure means nothing, and removes all.
  void Clear(Auditor* current);

  bool empty() const { return hooks_.empty(); }
  size_t size() const { return hooks_.size(); }
  void ReinitAfterFork() { hooks_.ReinitAfterFork(); }

 private:
  friend class Auditor;
  friend class AuditTestPeer;
  internal::AuditHookList hooks_;
};

// Where one interpreter's events go: owned by it, with its own hooks.
class Auditor {
 public:
  explicit Auditor(NativeAuditHooks& native) : native_(native) {}
  Auditor(const Auditor&) = delete;
  Auditor& operator=(const Auditor&) = delete;

  // Whether an event would reach anybody. For callers whose arguments cost something.
  bool ShouldAudit() const { return !native_.empty() || !own_.empty(); }

  // Raises `event` with the arguments that `format` describes (audit_format.h); a null format is none.
  template <typename... Arguments>
  absl::Status Audit(const char* event, const char* format = nullptr, const Arguments&... arguments) {
    if (!ShouldAudit()) [[likely]]
      return absl::OkStatus();
    // One more than needed: an array may not be empty.
    const AuditArgument list[] = {AuditArgument(arguments)..., AuditArgument(nullptr)};
    // Where both are literals, their lengths are constants here.
    return AuditSlow(event, format == nullptr ? std::string_view() : std::string_view(format),
                     AuditArguments(list, sizeof...(arguments)));
  }

  // Null arguments are an empty tuple; TypeError "args must be tuple, got ..." for another object, also if
  // there is no hook.
  absl::Status AuditTuple(std::string_view event, const Ref<Object>& arguments);

  // sys.addaudithook(hook): the event first. Any Exception from an existing hook means no, silently (SY-44);
  // what is no Exception is returned.
  absl::StatusOr<bool> AddHook(Ref<Object> hook);

  // With the interpreter, after its modules.
  void Clear() { own_.Clear(); }

  size_t own_hooks() const { return own_.size(); }
  void ReinitAfterFork() { own_.ReinitAfterFork(); }

 private:
  friend class AuditTestPeer;
  [[gnu::cold]] absl::Status AuditSlow(std::string_view event, std::string_view format,
                                       AuditArguments arguments);
  absl::Status Deliver(std::string_view event, const Ref<Tuple>& arguments);

  NativeAuditHooks& native_;
  internal::AuditHookList own_;
};

// The events of interpreters' lives, raised by whoever creates and clears them (RT-29).
inline constexpr char kAuditInterpreterNew[] = "cpython.PyInterpreterState_New";
inline constexpr char kAuditInterpreterClear[] = "cpython.PyInterpreterState_Clear";
inline constexpr char kAuditClearAuditHooks[] = "cpython._PySys_ClearAuditHooks";

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_AUDIT_H_
