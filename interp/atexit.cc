#include "pyrt/interp/atexit.h"

#include <iterator>
#include <list>
#include <memory>
#include <utility>

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {

AtExit::~AtExit() = default;

absl::Status AtExit::Register(Ref<Object> callback, std::vector<Ref<Object>> args) {
  if (callback == nullptr || !callback->IsCallable()) {
    return Raise(ErrorType::TypeError(), "the first argument must be callable");
  }
  Callbacks fresh;
  fresh.push_back(std::make_shared<Callback>(Callback{std::move(callback), std::move(args)}));
  BasicMutexLock lock(mutex_);
  fresh.front()->id = next_id_++;
  callbacks_.splice(callbacks_.end(), fresh);
  return absl::OkStatus();
}

uint64_t AtExit::next_id() {
  BasicMutexLock lock(mutex_);
  return next_id_;
}

std::shared_ptr<AtExit::Callback> AtExit::Before(uint64_t id) {
  BasicMutexLock lock(mutex_);
  for (auto entry = callbacks_.rbegin(); entry != callbacks_.rend(); ++entry) {
    if ((*entry)->id < id) return *entry;
  }
  return nullptr;
}

void AtExit::Unregister(const Ref<Object>& callback,
                        const std::function<bool(const Ref<Object>& registered)>& is_same) {
  // By id, because `is_same` may come back here and change the list under us: what is there now, newest first, as
  // CPython's list is walked.
  uint64_t before = next_id();
  while (const std::shared_ptr<Callback> candidate = Before(before)) {
    before = candidate->id;
    if (!(is_same ? is_same(candidate->callable) : candidate->callable == callback)) continue;
    Callbacks removed;  // released below, after the lock
    BasicMutexLock lock(mutex_);
    for (auto entry = callbacks_.begin(); entry != callbacks_.end(); ++entry) {
      if (*entry != candidate) continue;
      removed.splice(removed.end(), callbacks_, entry);
      break;
    }
  }
}

void AtExit::Clear() {
  Callbacks removed;  // released after the lock
  BasicMutexLock lock(mutex_);
  removed.swap(callbacks_);
}

size_t AtExit::size() const {
  BasicMutexLock lock(mutex_);
  return callbacks_.size();
}

void AtExit::Run(const ReportFailure& report) {
  // From the end of what is there now towards the beginning, by id, because a callback may unregister others
  // and itself (bpo-46025): each is looked up when its turn comes, and kept alive while it runs.
  uint64_t before = next_id();
  while (const std::shared_ptr<Callback> next = Before(before)) {
    before = next->id;
    const auto result = next->callable->Call(next->args);
    if (!result.ok() && report) report(result.status(), next->callable);
  }
  Clear();  // also what was registered meanwhile (IN-39)
}

void AtExit::RegisterLowLevel(LowLevelFunction function, void* data) {
  std::list<LowLevel> fresh{{function, data}};
  BasicMutexLock lock(mutex_);
  low_level_.splice(low_level_.end(), fresh);
}

void AtExit::RunLowLevel() {
  for (;;) {
    std::list<LowLevel> next;
    {
      BasicMutexLock lock(mutex_);
      if (low_level_.empty()) return;
      next.splice(next.end(), low_level_, std::prev(low_level_.end()));
    }
    next.front().function(next.front().data);
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
