// GcSchedule: when an interpreter's garbage collector should run. The collector itself is the host's.
//
//   the host allocates an object it tracks     CountAllocation: count[0] + 1; past the threshold: GcScheduled
//   the thread polls                           Run: chooses a generation, calls the collector
//
// Nothing is collected inside an allocation: that is no point at which arbitrary code may run (EB-49).
//
// Three generations with CPython's thresholds (2000, 10, 10) and rules: generation i is due when count[i] is
// greater than its threshold; the oldest one that is due is collected, with all younger ones; the oldest
// generation only if the objects that have survived since its last collection are more than a quarter of
// those that survived that one. The GIL-disabled build has one generation: it collects everything when
// count[0] is due and, unless threshold[1] is 0, greater than a quarter of what survived last.
//
// In the GIL-disabled build threads count into a local number (GcLocalCount) and touch the shared one every
// 512 allocations.
//
// CPython counterpart: struct _gc_runtime_state, _PyObject_GC_Link, gc.get_threshold, _Py_RunGC.

#ifndef PYRT_INTERP_GC_SCHEDULE_H_
#define PYRT_INTERP_GC_SCHEDULE_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// A thread's own share of the count. Belongs to the thread.
struct GcLocalCount {
  int32_t count = 0;
};

class GcSchedule {
 public:
  static constexpr int kGenerations = 3;
  static constexpr std::array<int32_t, kGenerations> kDefaultThresholds = {2000, 10, 10};
  static constexpr int32_t kLocalBuffer = 512;

  // The host's collector: collects `generation` and all younger ones, on an attached thread, outside any
  // lock; returns how many objects of it are left alive. Runs destructors; may fail only by its own reports.
  struct Collector {
    int64_t (*collect)(void* context, int generation) = nullptr;
    void* context = nullptr;
  };

  GcSchedule() = default;
  GcSchedule(const GcSchedule&) = delete;
  GcSchedule& operator=(const GcSchedule&) = delete;

  // Without one nothing is ever scheduled. Before threads run, or with the world stopped.
  void SetCollector(const Collector& collector) { collector_ = collector; }
  bool has_collector() const { return collector_.collect != nullptr; }
  // What follows each collection on its thread, which may hang in it: the collection is over. Before threads run.
  void SetAfterwards(void (*afterwards)(void* context), void* context) {
    afterwards_ = afterwards;
    afterwards_context_ = context;
  }

  // The host has allocated or freed an object that its collector tracks. `self` is the calling thread's word;
  // `raising`: an exception is being raised on it, and a collection would disturb it (EB-49). Attached.
  void CountAllocation(EvalBreaker& self, GcLocalCount& local, bool raising) {
    if constexpr (kGilEnabled) {
      const int32_t count = counts_[0].load(kRelaxed) + 1;
      counts_[0].store(count, kRelaxed);  // not a read-modify-write: the GIL is held
      if (count > thresholds_[0].load(kRelaxed)) [[unlikely]]
        ScheduleIfDue(self, raising);
    } else {
      if (++local.count >= kLocalBuffer) [[unlikely]]
        FlushLocal(self, local, raising);
    }
  }
  void CountDeallocation(GcLocalCount& local) {
    if constexpr (kGilEnabled) {
      const int32_t count = counts_[0].load(kRelaxed);
      if (count > 0) counts_[0].store(count - 1, kRelaxed);
    } else {
      if (--local.count <= -kLocalBuffer) [[unlikely]] {
        AddToYoungest(local.count);
        local.count = 0;
      }
    }
  }

  // The GcScheduled event: collects the oldest generation that is due. Does nothing if the collector was
  // disabled, or started, in the meantime (EB-20). Attached; runs the host's code. CPython: _Py_RunGC.
  void Run();

  // gc.collect(generation): collects it whether it is due or not and whether enabled or not. InvalidArgument
  // "invalid generation" for a generation that does not exist. Returns the number of survivors; nothing if a
  // collection is already running.
  absl::Status Collect(int generation, std::optional<int64_t>* survivors = nullptr);

  // gc.enable, gc.disable, gc.isenabled. Any thread.
  void Enable() { enabled_.store(true, kRelaxed); }
  void Disable() { enabled_.store(false, kRelaxed); }
  bool enabled() const { return enabled_.load(kRelaxed); }
  bool collecting() const { return collecting_.load(kRelaxed); }

  // gc.set_threshold: missing ones stay (IN-36). A first threshold of 0 turns automatic collection off.
  void SetThresholds(int32_t first, std::optional<int32_t> second = {}, std::optional<int32_t> third = {});
  int32_t threshold(int generation) const {
    return thresholds_[static_cast<size_t>(generation)].load(kRelaxed);
  }
  int32_t count(int generation) const { return counts_[static_cast<size_t>(generation)].load(kRelaxed); }

  // In a forked child: a collection of a thread that is gone is over.
  void AfterForkInChild() { collecting_.store(false, kRelaxed); }

 private:
  void ScheduleIfDue(EvalBreaker& self, bool raising) __attribute__((cold));
  void FlushLocal(EvalBreaker& self, GcLocalCount& local, bool raising) __attribute__((cold));
  void AddToYoungest(int32_t number);
  bool IsDue(int generation) const { return count(generation) > threshold(generation); }
  std::optional<int> ChooseGeneration() const;
  int64_t CollectNow(int generation);

  Collector collector_;
  void (*afterwards_)(void* context) = nullptr;
  void* afterwards_context_ = nullptr;
  std::array<Atomic<int32_t>, kGenerations> counts_;
  std::array<Atomic<int32_t>, kGenerations> thresholds_{Atomic<int32_t>(kDefaultThresholds[0]),
                                                        Atomic<int32_t>(kDefaultThresholds[1]),
                                                        Atomic<int32_t>(kDefaultThresholds[2])};
  Atomic<bool> enabled_{true};
  Atomic<bool> collecting_{false};
  // Of the last full collection, and of those of the middle generation since then.
  Atomic<int64_t> long_lived_total_{0};
  Atomic<int64_t> long_lived_pending_{0};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_INTERP_GC_SCHEDULE_H_
