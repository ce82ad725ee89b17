#include "pyrt/sys/monitoring.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

absl::Status NotInUse(int64_t tool) {
  return Raise(ErrorType::ValueError(), "tool %lld is not in use", static_cast<long long>(tool));
}

}  // namespace

absl::Status Monitoring::CheckTool(int64_t tool) const {
  if (tool >= 0 && tool < kTools) return absl::OkStatus();
  return Raise(ErrorType::ValueError(), "invalid tool %lld (must be between 0 and 5)",
               static_cast<long long>(tool));
}

uint32_t Monitoring::UnionLocked() const {
  uint32_t all = 0;
  for (const Tool& tool : tools_) all |= tool.events;
  return all;
}

absl::Status Monitoring::UseTool(int64_t tool, Ref<Object> name) {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  MutexLock lock(mutex_);
  Tool& slot = tools_[static_cast<size_t>(tool)];
  if (slot.name) {
    return Raise(ErrorType::ValueError(), "tool %lld is already in use", static_cast<long long>(tool));
  }
  slot.name = std::move(name);
  return absl::OkStatus();
}

absl::Status Monitoring::FreeTool(int64_t tool) {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  Tool freed;  // destructors run after the lock
  bool changed = false;
  {
    MutexLock lock(mutex_);
    std::swap(freed, tools_[static_cast<size_t>(tool)]);
    const uint32_t now = UnionLocked();
    changed = active_.exchange(now, kRelaxed) != now;
  }
  return changed ? interp_.BumpInstrumentationVersion() : absl::OkStatus();
}

absl::StatusOr<Ref<Object>> Monitoring::GetTool(int64_t tool) const {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  MutexLock lock(mutex_);
  const Ref<Object>& name = tools_[static_cast<size_t>(tool)].name;
  return name ? name : None();
}

absl::Status Monitoring::SetEvents(int64_t tool, int64_t events) {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  if (events < 0 || (static_cast<uint64_t>(events) & ~uint64_t{kAllEvents}) != 0) {
    return Raise(ErrorType::ValueError(), "invalid event set 0x%llx",
                 static_cast<unsigned long long>(events));
  }
  bool changed = false;
  {
    MutexLock lock(mutex_);
    Tool& slot = tools_[static_cast<size_t>(tool)];
    if (!slot.name) return NotInUse(tool);
    changed = slot.events != static_cast<uint32_t>(events);
    slot.events = static_cast<uint32_t>(events);
    active_.store(UnionLocked(), kRelaxed);
  }
  return changed ? interp_.BumpInstrumentationVersion() : absl::OkStatus();
}

absl::StatusOr<uint32_t> Monitoring::GetEvents(int64_t tool) const {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  MutexLock lock(mutex_);
  const Tool& slot = tools_[static_cast<size_t>(tool)];
  if (!slot.name) return NotInUse(tool);
  return slot.events;
}

absl::StatusOr<Ref<Object>> Monitoring::RegisterCallback(int64_t tool, int64_t event, Ref<Object> callback) {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  const auto bits = static_cast<uint64_t>(event);
  if (event <= 0 || (bits & (bits - 1)) != 0) {
    return Raise(ErrorType::ValueError(), "The callback can only be set for one event at a time");
  }
  if ((bits & ~uint64_t{kAllEvents}) != 0) {
    return Raise(ErrorType::ValueError(), "invalid event %lld", static_cast<long long>(event));
  }
  if (callback && IsNone(callback)) callback = nullptr;
  MutexLock lock(mutex_);
  swap(tools_[static_cast<size_t>(tool)].callbacks[static_cast<size_t>(__builtin_ctzll(bits))], callback);
  return callback ? callback : None();
}

Ref<Object> Monitoring::Callback(int64_t tool, int event_index) const {
  MutexLock lock(mutex_);
  return tools_[static_cast<size_t>(tool)].callbacks[static_cast<size_t>(event_index)];
}

void Monitoring::Clear() {
  std::array<Tool, kTools> old;
  MutexLock lock(mutex_);
  std::swap(old, tools_);
  active_.store(0, kRelaxed);
}

}  // namespace pyrt::inline PYRT_VARIANT
