#include "pyrt/interp/gc_schedule.h"

#include <string>

namespace pyrt::inline PYRT_VARIANT {

void GcSchedule::ScheduleIfDue(EvalBreaker& self, bool raising) {
  if (threshold(0) == 0 || !enabled() || collecting() || raising || collector_.collect == nullptr) return;
  if (!kGilEnabled && !ChooseGeneration().has_value()) return;
  // On this thread only (IN-33).
  if (!self.IsSet(BreakerEvent::kGcScheduled)) self.Set(BreakerEvent::kGcScheduled);
}

void GcSchedule::AddToYoungest(int32_t number) {
  // Relaxed: a count, which orders nothing. It may pass through values below zero when other threads free
  // what this one has allocated; CPython clamps each addition, which needs a loop.
  int32_t before = counts_[0].load(kRelaxed);
  int32_t after;
  do {
    after = before + number > 0 ? before + number : 0;
  } while (!counts_[0].compare_exchange_weak(before, after, kRelaxed, kRelaxed));
}

void GcSchedule::FlushLocal(EvalBreaker& self, GcLocalCount& local, bool raising) {
  AddToYoungest(local.count);
  local.count = 0;
  if (IsDue(0)) ScheduleIfDue(self, raising);
}

std::optional<int> GcSchedule::ChooseGeneration() const {
  if constexpr (!kGilEnabled) {
    if (!IsDue(0)) return std::nullopt;
    if (threshold(1) != 0 && count(0) <= long_lived_total_.load(kRelaxed) / 4) return std::nullopt;
    return kGenerations - 1;
  }
  for (int generation = kGenerations - 1; generation >= 0; --generation) {
    if (!IsDue(generation)) continue;
    // A full collection costs as much as there are objects: only after a quarter more have come to stay.
    if (generation == kGenerations - 1 &&
        long_lived_pending_.load(kRelaxed) < long_lived_total_.load(kRelaxed) / 4) {
      continue;
    }
    return generation;
  }
  return std::nullopt;
}

// The caller has set `collecting_`. What follows comes when the collection is over: the thread may hang in it.
int64_t GcSchedule::CollectNow(int generation) {
  for (int i = 0; i <= generation; ++i) counts_[static_cast<size_t>(i)].store(0, kRelaxed);
  if (generation + 1 < kGenerations) {
    Atomic<int32_t>& next = counts_[static_cast<size_t>(generation) + 1];
    next.store(next.load(kRelaxed) + 1, kRelaxed);  // one collection at a time
  }
  const int64_t survivors = collector_.collect(collector_.context, generation);
  if (generation == kGenerations - 1) {
    long_lived_total_.store(survivors, kRelaxed);
    long_lived_pending_.store(0, kRelaxed);
  } else if (generation == kGenerations - 2) {
    long_lived_pending_.store(long_lived_pending_.load(kRelaxed) + survivors, kRelaxed);
  }
  collecting_.store(false, kRelease);
  if (afterwards_ != nullptr) afterwards_(afterwards_context_);
  return survivors;
}

void GcSchedule::Run() {
  if (!enabled() || threshold(0) == 0 || collector_.collect == nullptr) return;
  // One at a time, also between the threads of a GIL-disabled build and against a collection that allocates.
  // Acquire and release: the collections of an interpreter are ordered.
  bool expected = false;
  if (!collecting_.compare_exchange_strong(expected, true, kAcquire, kRelaxed)) return;
  if (const std::optional<int> generation = ChooseGeneration()) {
    CollectNow(*generation);
  } else {
    collecting_.store(false, kRelease);
  }
}

absl::Status GcSchedule::Collect(int generation, std::optional<int64_t>* survivors) {
  if (generation < 0 || generation >= kGenerations) {
    return absl::InvalidArgumentError("invalid generation " + std::to_string(generation) + "; use 0, 1 or 2");
  }
  if (collector_.collect == nullptr) {
    return absl::FailedPreconditionError("the host has set no collector (GcSchedule::SetCollector)");
  }
  bool expected = false;
  if (!collecting_.compare_exchange_strong(expected, true, kAcquire, kRelaxed)) return absl::OkStatus();
  const int64_t left = CollectNow(generation);
  if (survivors != nullptr) *survivors = left;
  return absl::OkStatus();
}

void GcSchedule::SetThresholds(int32_t first, std::optional<int32_t> second, std::optional<int32_t> third) {
  thresholds_[0].store(first, kRelaxed);
  if (second.has_value()) thresholds_[1].store(*second, kRelaxed);
  if (third.has_value()) thresholds_[2].store(*third, kRelaxed);
}

}  // namespace pyrt::inline PYRT_VARIANT
