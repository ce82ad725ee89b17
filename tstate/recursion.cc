#include "pyrt/tstate/recursion.h"

#include <pthread.h>

#include <algorithm>

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct Bounds {
  uintptr_t top = 0;
  size_t size = 0;
};

Bounds StackOfThisThread() {
  Bounds bounds;
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return bounds;
  void* lowest = nullptr;
  size_t size = 0;
  if (::pthread_attr_getstack(&attributes, &lowest, &size) == 0) {
    bounds.top = reinterpret_cast<uintptr_t>(lowest) + size;
    bounds.size = size;
  }
  ::pthread_attr_destroy(&attributes);
  return bounds;
}

}  // namespace

absl::Status RecursionCounter::Overflow(const char* where) {
  if (in_headroom()) {
    PYRT_CHECK(remaining_ >= -kHeadroom, "_Py_CheckRecursiveCall", "Cannot recover from stack overflow.");
    return absl::OkStatus();
  }
  ++remaining_;  // the call does not happen
  BeginHeadroom();
  absl::Status error = Raise(ErrorType::RecursionError(), "maximum recursion depth exceeded%s", where);
  EndHeadroom();
  return error;
}

void RecursionCounter::SetStackBounds(uintptr_t top, size_t size) {
  // A stack smaller than the margins keeps half of itself.
  const size_t margin = std::min(kSoftMargin, size / 2);
  top_ = top;
  soft_limit_ = top - size + margin;
  hard_limit_ = top - size + margin / 2;
}

absl::Status RecursionCounter::NativeOverflow(uintptr_t here, const char* where) {
  if (top_ == 0) {
    const Bounds bounds = StackOfThisThread();
    if (bounds.size == 0 || here >= bounds.top || here < bounds.top - bounds.size) {
      // Not on the thread's own stack: a fiber of the host, or an alternate signal stack. Nothing is known.
      soft_limit_ = 0;
    } else {
      SetStackBounds(bounds.top, bounds.size);
    }
    if (here >= soft_limit_) return absl::OkStatus();
  }
  const int used = static_cast<int>((top_ - here) / 1024);
  PYRT_CHECK(here >= hard_limit_ && here < top_, "_Py_CheckRecursiveCall",
             "Unrecoverable stack overflow (used %d kB)%s", used, where);
  if (in_headroom()) return absl::OkStatus();
  return Raise(ErrorType::RecursionError(), "Stack overflow (used %d kB)%s", used, where);
}

}  // namespace pyrt::inline PYRT_VARIANT
