#include "pyrt/testing/detsched/internal/log.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string Format(const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  return text;
}

// Small numbers as such, state words and pointers in hexadecimal.
std::string Value(uint64_t value) {
  return value < 1024 ? Format("%" PRIu64, value) : Format("0x%" PRIx64, value);
}

const char* OrderName(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed:
      return "relaxed";
    case std::memory_order_consume:
      return "consume";
    case std::memory_order_acquire:
      return "acquire";
    case std::memory_order_release:
      return "release";
    case std::memory_order_acq_rel:
      return "acq_rel";
    case std::memory_order_seq_cst:
      return "seq_cst";
  }
  return "?";
}

const char* RmwName(uint8_t rmw) {
  switch (static_cast<Rmw>(rmw)) {
    case Rmw::kExchange:
      return "exchange";
    case Rmw::kAdd:
      return "fetch_add";
    case Rmw::kSub:
      return "fetch_sub";
    case Rmw::kOr:
      return "fetch_or";
    case Rmw::kAnd:
      return "fetch_and";
  }
  return "?";
}

const char* FutexResultName(uint8_t result) {
  switch (static_cast<FutexResult>(result)) {
    case FutexResult::kWoken:
      return "woken";
    case FutexResult::kChanged:
      return "value changed";
    case FutexResult::kTimedOut:
      return "timed out";
    case FutexResult::kInterrupted:
      return "interrupted";
  }
  return "?";
}

std::string Access(const char* what, const std::string& object, const std::string& effect,
                   std::memory_order order) {
  return Format("%-11s %s %s (%s)", what, object.c_str(), effect.c_str(), OrderName(order));
}

std::string Describe(const Step& step, const std::vector<NamedRange>& names, const char* const* fibers) {
  const std::string object = NameOf(names, step.address);
  const std::string before = Value(step.before);
  const std::string after = Value(step.after);
  const bool older = step.detail != 0 && step.detail != kSpurious;
  switch (step.op) {
    case Op::kLoad:
      return Access("load", object,
                    step.detail == 0
                        ? "= " + before
                        : "= " + before + Format(" [%d older than the newest, ", step.detail) + after + "]",
                    step.order);
    case Op::kStore:
      return Access("store", object, before + " -> " + after, step.order);
    case Op::kRmw:
      return Access(RmwName(step.detail), object, before + " -> " + after, step.order);
    case Op::kCompareExchange:
      return Access("cas", object, before + " -> " + after, step.order);
    case Op::kCompareFailed:
      return Access("cas failed", object,
                    "= " + before + (older ? Format(" [%d older than the newest]", step.detail) : "") +
                        ", expected " + after + (step.detail == kSpurious ? ", spuriously" : ""),
                    step.order);
    case Op::kConstruct:
      return Format("%-11s %s", "construct", object.c_str());
    case Op::kPlainRead:
      return Format("%-11s %s", "read", object.c_str());
    case Op::kPlainWrite:
      return Format("%-11s %s", "write", object.c_str());
    case Op::kFutexWait:
      return Format("%-11s %s = %s, expected %s%s", "futex_wait", object.c_str(), before.c_str(),
                    after.c_str(), step.before == step.after ? ": sleeps" : "");
    case Op::kFutexReturn:
      return Format("%-11s %s: %s", "futex_wait", object.c_str(), FutexResultName(step.detail));
    case Op::kFutexWake:
      return Format("%-11s %s: wakes %s of at most %s", "futex_wake", object.c_str(), after.c_str(),
                    before.c_str());
    case Op::kClock:
      return Format("%-11s %.6f ms", "clock", static_cast<double>(step.after) / 1e6);
    case Op::kTimePasses:
      return Format("%-11s %.6f ms", "time passes", static_cast<double>(step.after) / 1e6);
    case Op::kLightFence:
      return "light fence";
    case Op::kHeavyFence:
      return "heavy fence";
    case Op::kRelax:
      return "relax";
    case Op::kYield:
      return "yield";
    case Op::kStart:
      return Format("%-11s %s", "start", fibers[step.detail]);
    case Op::kStartFailed:
      return Format("%-11s EAGAIN", "start");
    case Op::kExit:
      return "exit";
    case Op::kJoin:
      return Format("%-11s %s", "join", fibers[step.detail]);
    case Op::kHang:
      return "hangs for ever";
    case Op::kFork:
      return Format("%-11s in the %s", "fork", step.detail != 0 ? "child" : "parent");
    case Op::kSendSignal:
      return Format("%-11s to %s", "send signal", fibers[step.detail]);
    case Op::kSignal:
      return "takes a signal";
    case Op::kSignalReturn:
      return "returns from the signal handler";
    case Op::kDie:
      return "dies";
    case Op::kChoose:
      return Format("%-11s %s of %s", "choose", after.c_str(), before.c_str());
    case Op::kPoint:
      return step.file;
  }
  return "?";
}

}  // namespace

std::string NameOf(const std::vector<NamedRange>& names, const void* address) {
  // The smallest range that holds the address: a member's own name goes before its object's.
  const NamedRange* best = nullptr;
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const NamedRange& range : names) {
    const auto begin = reinterpret_cast<uintptr_t>(range.address);
    if (at < begin || at >= begin + range.size) continue;
    if (best == nullptr || range.size <= best->size) best = &range;
  }
  if (best == nullptr) return Format("%p", address);
  std::string name = best->name;
  if (best->index >= 0) name += Format("[%d]", best->index);
  const uintptr_t offset = at - reinterpret_cast<uintptr_t>(best->address);
  if (offset != 0) name += Format("+%zu", static_cast<size_t>(offset));
  return name;
}

std::string ToString(Site site) {
  if (site.file == nullptr) return "?";
  const char* slash = std::strrchr(site.file, '/');
  return Format("%s:%d", slash == nullptr ? site.file : slash + 1, site.line);
}

std::string ToString(const Step& step, const std::vector<NamedRange>& names, const char* const* fiber_names) {
  std::string text = Describe(step, names, fiber_names);
  if (step.op != Op::kPoint && step.file != nullptr) {
    if (text.size() < 52) text.resize(52, ' ');
    text += "  " + ToString(Site{step.file, step.line});
  }
  return text;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
