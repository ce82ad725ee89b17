// Stand-ins for thread states: what attaching means to importlock's own tests, which lie below tstate's
// users.

#ifndef PYRT_IMPORTLOCK_IMPORT_LOCK_TEST_UTIL_H_
#define PYRT_IMPORTLOCK_IMPORT_LOCK_TEST_UTIL_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

// One interpreter's GIL: a mutex in the GIL-enabled build, nothing in the other. Counts how often a waiting
// thread detached.
class TestGil {
 public:
  TestGil() {
    hooks_.context = this;
    hooks_.before_park = [](void* self) {
      static_cast<TestGil*>(self)->detached_.fetch_add(1, kRelease);
      static_cast<TestGil*>(self)->Detach();
    };
    hooks_.after_park = [](void* self) { static_cast<TestGil*>(self)->Attach(); };
  }

  void Attach() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if constexpr (kGilEnabled) mutex_.Lock();
  }
  void Detach() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if constexpr (kGilEnabled) mutex_.Unlock();
  }

  // What a runtime passes: detach for the time of the sleep.
  const WaitHooks* hooks() const { return &hooks_; }
  uint32_t times_detached() const { return detached_.load(kAcquire); }

 private:
  Mutex mutex_;
  Atomic<uint32_t> detached_{0};
  WaitHooks hooks_;
};

class TestAttached {
 public:
  explicit TestAttached(TestGil& gil) : gil_(gil) { gil_.Attach(); }
  ~TestAttached() { gil_.Detach(); }
  TestAttached(const TestAttached&) = delete;
  TestAttached& operator=(const TestAttached&) = delete;

 private:
  TestGil& gil_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_IMPORT_LOCK_TEST_UTIL_H_
