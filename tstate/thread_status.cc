#include "pyrt/tstate/thread_status.h"

#include <string>

namespace pyrt::inline PYRT_VARIANT {

const char* WhenceName(Whence whence) {
  switch (whence) {
    case Whence::kNotSet:
      return "notset";
    case Whence::kUnknown:
      return "unknown";
    case Whence::kInit:
      return "init";
    case Whence::kFini:
      return "fini";
    case Whence::kThreading:
      return "threading";
    case Whence::kCApi:
      return "c_api";
    case Whence::kExec:
      return "exec";
    case Whence::kThreadingDaemon:
      return "threading_daemon";
  }
  return "corrupt";
}

std::string ThreadStatus::ToString() const {
  std::string result;
  const auto add = [&](bool set, const char* name) {
    if (!set) return;
    if (!result.empty()) result += '|';
    result += name;
  };
  add(initialized, "initialized");
  add(bound, "bound");
  add(unbound, "unbound");
  add(bound_gilstate, "bound_gilstate");
  add(active, "active");
  add(holds_gil, "holds_gil");
  add(finalizing, "finalizing");
  add(cleared, "cleared");
  add(finalized, "finalized");
  return result.empty() ? "none" : result;
}

}  // namespace pyrt::inline PYRT_VARIANT
