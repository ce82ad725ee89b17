#include "pyrt/interp/atexit.h"

#include <optional>
#include <utility>

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {

AtExit::~AtExit() = default;

absl::Status AtExit::Register(Ref<Object> callback, std::vector<Ref<Object>> args) {
  if (callback == nullptr || !callback->IsCallable()) {
    return Raise(ErrorType::TypeError(), "the first argument must be callable");
  }
  MutexLock lock(mutex_);
  callbacks_.push_back({std::move(callback), std::move(args), next_id_++});
  return absl::OkStatus();
}

void AtExit::Unregister(const Ref<Object>& callback,
                        const std::function<bool(const Ref<Object>& registered)>& is_same) {
  // Compares snapshots: `is_same` may come back here and change the list under us. Identity of a registration
  // is its id; newest first, as CPython's list is walked.
  std::vector<Callback> snapshot;
  {
    MutexLock lock(mutex_);
    snapshot = callbacks_;
  }
  for (auto it = snapshot.rbegin(); it != snapshot.rend(); ++it) {
    if (!(is_same ? is_same(it->callable) : it->callable == callback)) continue;
    Callback removed;  // released below, after the lock
    MutexLock lock(mutex_);
    for (auto entry = callbacks_.begin(); entry != callbacks_.end(); ++entry) {
      if (entry->id != it->id) continue;
      removed = std::move(*entry);
      callbacks_.erase(entry);
      break;
    }
  }
}

std::vector<AtExit::Callback> AtExit::Take() {
  MutexLock lock(mutex_);
  return std::exchange(callbacks_, {});
}

void AtExit::Clear() { static_cast<void>(Take()); }

size_t AtExit::size() const {
  MutexLock lock(mutex_);
  return callbacks_.size();
}

void AtExit::Run(const ReportFailure& report) {
  // From the end of what is there now towards the beginning, by id, because a callback may unregister others
  // and itself (bpo-46025): each is looked up when its turn comes, and kept alive by a copy while it runs.
  std::optional<uint64_t> before;
  for (;;) {
    Callback next;
    {
      MutexLock lock(mutex_);
      if (!before.has_value()) before = next_id_;
      auto entry = callbacks_.rbegin();
      while (entry != callbacks_.rend() && entry->id >= *before) ++entry;
      if (entry == callbacks_.rend()) break;
      next = *entry;
    }
    before = next.id;
    const auto result = next.callable->Call(next.args);
    if (!result.ok() && report) report(result.status(), next.callable);
  }
  Clear();  // also what was registered meanwhile (IN-39)
}

void AtExit::RegisterLowLevel(LowLevelFunction function, void* data) {
  MutexLock lock(mutex_);
  low_level_.push_back({function, data});
}

void AtExit::RunLowLevel() {
  for (;;) {
    LowLevel next;
    {
      MutexLock lock(mutex_);
      if (low_level_.empty()) return;
      next = low_level_.back();
      low_level_.pop_back();
    }
    next.function(next.data);
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
