// What the tests of the gil have in common: a thread with a holder and a word to poll.

#ifndef PYRT_GIL_GIL_TEST_UTIL_H_
#define PYRT_GIL_GIL_TEST_UTIL_H_

#include <chrono>
#include <functional>
#include <thread>

#include "pyrt/gil/gil.h"

namespace pyrt::inline PYRT_VARIANT {

struct TestThread {
  static constexpr uintptr_t kDropBit = 1;
  Atomic<uintptr_t> word{0};
  GilHolder holder{&word, kDropBit};

  bool asked() const { return (word.load(kRelaxed) & kDropBit) != 0; }
};

// Waits until `condition` holds; false if it has not after ten seconds.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

// A Gil that is on in both builds.
inline constexpr bool kOn = true;

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_GIL_TEST_UTIL_H_
