#include "pyrt/sys/monitoring.h"

#include <cstdint>
#include <iterator>
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

constexpr const char* kEventNames[] = {"PY_START",
                                       "PY_RESUME",
                                       "PY_RETURN",
                                       "PY_YIELD",
                                       "CALL",
                                       "LINE",
                                       "INSTRUCTION",
                                       "JUMP",
                                       "BRANCH_LEFT",
                                       "BRANCH_RIGHT",
                                       "STOP_ITERATION",
                                       "RAISE",
                                       "EXCEPTION_HANDLED",
                                       "PY_UNWIND",
                                       "PY_THROW",
                                       "RERAISE",
                                       "C_RETURN",
                                       "C_RAISE",
                                       "BRANCH"};
static_assert(std::size(kEventNames) == Monitoring::kEvents);

constexpr uint32_t kCall = 1u << 4;
constexpr uint32_t kBranchBoth = 1u << 8 | 1u << 9;
constexpr uint32_t kCReturns = 1u << 16 | 1u << 17;
constexpr uint32_t kBranch = 1u << 18;

}  // namespace

const char* Monitoring::EventName(int64_t event) { return kEventNames[static_cast<size_t>(event)]; }

absl::Status Monitoring::CheckTool(int64_t tool) {
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

absl::Status Monitoring::FreeTool(int64_t tool) { return Forget(tool, /*keep_name=*/false); }

absl::Status Monitoring::ClearTool(int64_t tool) { return Forget(tool, /*keep_name=*/true); }

absl::Status Monitoring::Forget(int64_t tool, bool keep_name) {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  Tool freed;  // destructors run after the lock
  bool changed = false;
  {
    MutexLock lock(mutex_);
    Tool& slot = tools_[static_cast<size_t>(tool)];
    if (!slot.name) return absl::OkStatus();
    std::swap(freed, slot);
    if (keep_name) swap(slot.name, freed.name);
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
    // A negative one as the C int that it is for CPython.
    const uint64_t shown = events < 0 ? static_cast<uint32_t>(events) : static_cast<uint64_t>(events);
    return Raise(ErrorType::ValueError(), "invalid event set 0x%llx", static_cast<unsigned long long>(shown));
  }
  auto mask = static_cast<uint32_t>(events);
  if ((mask & kCReturns) != 0 && (mask & (kCReturns | kCall)) != (kCReturns | kCall)) {
    return Raise(ErrorType::ValueError(), "cannot set C_RETURN or C_RAISE events independently");
  }
  // As CPython keeps them: CALL stands for what its call returns, BRANCH for both directions.
  mask &= ~kCReturns;
  if ((mask & kBranch) != 0) mask = (mask & ~kBranch) | kBranchBoth;
  bool changed = false;
  {
    MutexLock lock(mutex_);
    Tool& slot = tools_[static_cast<size_t>(tool)];
    if (!slot.name) return NotInUse(tool);
    changed = slot.events != mask;
    slot.events = mask;
    active_.store(UnionLocked(), kRelaxed);
  }
  return changed ? interp_.BumpInstrumentationVersion() : absl::OkStatus();
}

absl::StatusOr<uint32_t> Monitoring::GetEvents(int64_t tool) const {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  MutexLock lock(mutex_);
  return tools_[static_cast<size_t>(tool)].events;
}

absl::Status Monitoring::CheckCallback(int64_t tool, int64_t event) {
  absl::Status valid = CheckTool(tool);
  if (!valid.ok()) return valid;
  const auto bits = static_cast<uint64_t>(event);
  if (event <= 0 || (bits & (bits - 1)) != 0) {
    return Raise(ErrorType::ValueError(), "The callback can only be set for one event at a time");
  }
  if ((bits & ~uint64_t{kAllEvents}) != 0) {
    return Raise(ErrorType::ValueError(), "invalid event %lld", static_cast<long long>(event));
  }
  return absl::OkStatus();
}

absl::StatusOr<Ref<Object>> Monitoring::RegisterCallback(int64_t tool, int64_t event, Ref<Object> callback) {
  absl::Status valid = CheckCallback(tool, event);
  if (!valid.ok()) return valid;
  const auto bits = static_cast<uint64_t>(event);
  if (callback && IsNone(callback)) callback = nullptr;
  MutexLock lock(mutex_);
  swap(tools_[static_cast<size_t>(tool)].callbacks[static_cast<size_t>(__builtin_ctzll(bits))], callback);
  return callback ? callback : None();
}

Ref<Object> Monitoring::Callback(int64_t tool, int event_index) const {
  MutexLock lock(mutex_);
  return tools_[static_cast<size_t>(tool)].callbacks[static_cast<size_t>(event_index)];
}

int64_t Monitoring::ToolsWatching(int64_t event) const {
  int64_t bits = 0;
  MutexLock lock(mutex_);
  for (size_t tool = 0; tool < tools_.size(); ++tool) {
    if ((tools_[tool].events >> event & 1) != 0) bits |= int64_t{1} << tool;
  }
  return bits;
}

void Monitoring::Clear() {
  std::array<Tool, kTools> old;
  MutexLock lock(mutex_);
  std::swap(old, tools_);
  active_.store(0, kRelaxed);
}

}  // namespace pyrt::inline PYRT_VARIANT
