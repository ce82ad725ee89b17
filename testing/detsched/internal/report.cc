// How the engine shows the schedule that it holds.

#include <cstdio>
#include <string>

#include "pyrt/testing/detsched/internal/engine.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

std::string Engine::FiberStates() const {
  std::string text;
  for (int i = 0; i < kMaxFibers; ++i) {
    const Fiber& fiber = fibers_[i];
    if ((used_fibers_ >> i & 1) == 0) continue;
    if (!text.empty()) text += "; ";
    text += fiber.name;
    switch (fiber.state) {
      case FiberState::kUnused:
        break;
      case FiberState::kReady:
        text += (yielded_ >> i & 1) != 0 ? " spins" : " can run";
        break;
      case FiberState::kFutex:
        text += " sleeps on " + NameOf(fiber.futex);
        if (fiber.deadline != kNoDeadline) text += " with a deadline";
        break;
      case FiberState::kJoining:
        text += std::string(" joins ") + fibers_[fiber.joined].name;
        break;
      case FiberState::kExited:
        text += " has ended";
        break;
      case FiberState::kHung:
        text += " hangs";
        break;
      case FiberState::kVanished:
        text += " is in the parent of the fork";
        break;
    }
  }
  return text;
}

std::string Engine::Interleaving(size_t limit) const {
  const char* names[kContexts];
  size_t width = 4;
  for (int i = 0; i < kContexts; ++i) {
    names[i] = fibers_[i].name;
    if (i < kMaxFibers && (used_fibers_ >> i & 1) != 0) width = std::max(width, std::string(names[i]).size());
  }
  std::string text;
  const size_t first = log_.size() > limit ? log_.size() - limit : 0;
  if (first != 0) text += "  (" + std::to_string(first) + " steps before)\n";
  for (size_t i = first; i < log_.size(); ++i) {
    char head[128];
    std::snprintf(head, sizeof(head), "%5zu  %-*s  ", i + 1, static_cast<int>(width), names[log_[i].fiber]);
    text += head + ToString(log_[i], names_, names) + "\n";
  }
  return text;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
