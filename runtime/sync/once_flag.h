// One byte that makes a callback run once, and again only if it failed.
//
//   byte  0 not run   1 running   3 running, and somebody may sleep   4 done
//
//              0                  1                3        4
//   CallOnce   1, runs callback   3 and sleeps     sleeps   returns 0
//   success                       4                4, wakes all
//   failure                       0                0, wakes all, and one of them runs it
//
// What the callback did is visible to everybody for whom CallOnce returned 0. Not re-entrant: a callback that
// calls its own flag waits for itself.
//
// CPython counterpart: _PyOnceFlag, _PyOnceFlag_CallOnce, with its fatal text.

#ifndef PYRT_RUNTIME_SYNC_ONCE_FLAG_H_
#define PYRT_RUNTIME_SYNC_ONCE_FLAG_H_

#include <cstdint>
#include <type_traits>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/wait_hooks.h"

namespace pyrt::inline PYRT_VARIANT {

class OnceFlag {
 public:
  constexpr OnceFlag() = default;
  OnceFlag(const OnceFlag&) = delete;
  OnceFlag& operator=(const OnceFlag&) = delete;

  // Makes sure that `callback()`, which returns 0 for success and -1 for failure, has succeeded once. Returns
  // 0 when it has, here or earlier, and -1 if it ran here and failed; any other result of the callback is
  // fatal. Blocks while it runs elsewhere; of `hooks` only before_park and after_park are used. No lock is
  // held around the callback, which may do anything but throw or call this flag.
  template <typename Callback>
  int CallOnce(Callback&& callback, const WaitHooks* hooks = nullptr) {
    if (IsDone()) [[likely]] {
      return 0;
    }
    using Target = std::remove_reference_t<Callback>;
    return CallOnceSlow([](void* target) -> int { return (*static_cast<Target*>(target))(); },
                        const_cast<void*>(static_cast<const void*>(&callback)), hooks);
  }

  // Acquire pairs with the release that ends a successful callback.
  bool IsDone() const {
    return state_.load(PYRT_MUTANT(once_is_done_is_relaxed) ? kRelaxed : kAcquire) == kDone;
  }

  // In a forked child, after ParkingLot::AfterForkInChild: a callback that ran in another thread of the
  // parent never ends here, so it counts as not run. `running_here`: the thread that forked is in the
  // callback and will end it.
  void ReinitAfterFork(bool running_here = false);

  // The byte, for tests and state dumps.
  uint8_t state() const { return state_.load(kRelaxed); }

 private:
  static constexpr uint8_t kNotRun = 0;
  static constexpr uint8_t kRunning = 1;
  static constexpr uint8_t kHasParked = 2;
  static constexpr uint8_t kDone = 4;

  using Function = int (*)(void* target);
  int CallOnceSlow(Function function, void* target, const WaitHooks* hooks);
  void Finish(uint8_t result);

  Atomic<uint8_t> state_{kNotRun};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_SYNC_ONCE_FLAG_H_
