#include "pyrt/sys/audit.h"

#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/sys/audit_format.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using internal::AuditHook;

// hook.__cantrace__, looked up at every call; a hook without it may not be traced.
absl::StatusOr<bool> CanTrace(Object& hook) {
  absl::StatusOr<Ref<Object>> attribute = hook.GetAttr("__cantrace__");
  if (attribute.ok()) return (*attribute)->IsTrue();
  if (IsError(attribute.status(), ErrorType::AttributeError())) return false;
  return attribute.status();
}

// Tracing is off while hooks of the interpreter run.
class UntracedScope {
 public:
  explicit UntracedScope(ThreadState& thread) : thread_(thread) { ++thread_.data().tracing; }
  ~UntracedScope() { --thread_.data().tracing; }

 private:
  ThreadState& thread_;
};
class TracedScope {
 public:
  TracedScope(ThreadState& thread, bool traced) : thread_(thread), change_(traced ? 1 : 0) {
    thread_.data().tracing -= change_;
  }
  ~TracedScope() { thread_.data().tracing += change_; }

 private:
  ThreadState& thread_;
  const int change_;
};

}  // namespace

namespace internal {

size_t AuditHookList::size() const {
  size_t count = 0;
  for (const AuditHook* hook = first(); hook != nullptr; hook = hook->next.load(kAcquire)) ++count;
  return count;
}

void AuditHookList::Append(AuditHook* hook) {
  BasicMutexLock lock(lock_);
  Atomic<AuditHook*>* last = &first_;
  while (AuditHook* existing = last->load(kRelaxed)) last = &existing->next;
  // Release: a traversal that sees the element sees its content.
  last->store(hook, PYRT_MUTANT(audit_list_published_relaxed) ? kRelaxed : kRelease);
}

void AuditHookList::Clear() {
  AuditHook* hook = nullptr;
  {
    // Append goes along the elements. Relaxed: the lock orders what it wrote.
    BasicMutexLock lock(lock_);
    hook = first_.exchange(nullptr, kRelaxed);
  }
  while (hook != nullptr) {
    AuditHook* const next = hook->next.load(kRelaxed);
    delete hook;
    hook = next;
  }
}

}  // namespace internal

absl::StatusOr<bool> NativeAuditHooks::Add(NativeAuditHook hook, void* data, Auditor* current) {
  if (current != nullptr) {
    absl::Status status = current->Audit("sys.addaudithook");
    const bool any = PYRT_MUTANT(gh_152912_any_veto_is_swallowed);
    if (IsError(status, any ? ErrorType::Exception() : ErrorType::RuntimeError())) return false;
    if (!status.ok()) return status;
  }
  auto* const element = new AuditHook;
  element->native = hook;
  element->data = data;
  hooks_.Append(element);
  return true;
}

void NativeAuditHooks::Clear(Auditor* current) {
  if (current != nullptr) (void)current->Audit(kAuditClearAuditHooks);
  hooks_.Clear();
}

absl::Status Auditor::AuditSlow(std::string_view event, std::string_view format, AuditArguments arguments) {
  if (ThreadState::Current() == nullptr) return absl::OkStatus();
  absl::StatusOr<Ref<Tuple>> tuple = BuildAuditArguments(format, arguments);
  if (!tuple.ok()) [[unlikely]] {
    // As when a hook fails (SY-43).
    const Ref<Error> dropped = std::exchange(ThreadState::Current()->data().current_exception, nullptr);
    return tuple.status();
  }
  return Deliver(event, *tuple);
}

absl::Status Auditor::AuditTuple(std::string_view event, const Ref<Object>& arguments) {
  // Whether or not anybody listens.
  if (arguments && As<Tuple>(arguments) == nullptr) {
    return Raise(ErrorType::TypeError(), "args must be tuple, got %s", arguments->TypeName());
  }
  if (!ShouldAudit() || ThreadState::Current() == nullptr) return absl::OkStatus();
  if (!arguments) return Deliver(event, Tuple::Empty());
  return Deliver(event, StaticRefCast<Tuple>(arguments));
}

absl::Status Auditor::Deliver(std::string_view event, const Ref<Tuple>& arguments) {
  ThreadState& thread = *ThreadState::Current();
  // A hook is called as if nothing had been raised.
  Ref<Error> pending = std::exchange(thread.data().current_exception, nullptr);
  for (AuditHook* hook = native_.hooks_.first(); hook != nullptr; hook = hook->next.load(kAcquire)) {
    absl::Status status = hook->native(event, arguments, hook->data);
    if (!status.ok()) return status;
  }
  if (!own_.empty()) {
    const std::vector<Ref<Object>> call{String::Of(event), arguments};
    UntracedScope untraced(thread);
    for (AuditHook* hook = own_.first(); hook != nullptr; hook = hook->next.load(kAcquire)) {
      absl::StatusOr<bool> can_trace = CanTrace(*hook->object);
      if (!can_trace.ok()) return can_trace.status();
      TracedScope traced(thread, *can_trace);
      absl::StatusOr<Ref<Object>> result = hook->object->Call(call);
      if (!result.ok()) return result.status();
    }
  }
  thread.data().current_exception = std::move(pending);
  return absl::OkStatus();
}

absl::StatusOr<bool> Auditor::AddHook(Ref<Object> hook) {
  absl::Status status = Audit("sys.addaudithook");
  if (IsError(status, ErrorType::Exception())) return false;
  if (!status.ok()) return status;
  auto* const element = new AuditHook;
  element->object = std::move(hook);
  own_.Append(element);
  return true;
}

}  // namespace pyrt::inline PYRT_VARIANT
