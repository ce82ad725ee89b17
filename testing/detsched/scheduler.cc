#include "pyrt/testing/detsched/scheduler.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/engine.h"

namespace pyrt::inline PYRT_VARIANT::detsched {

using internal::engine;
using internal::running;

FiberId Schedule::Spawn(const char* name, std::function<void()> body) {
  return engine->Spawn(name, std::move(body));
}
void Schedule::Run() { engine->Run(); }
void Schedule::Invariant(const char* name, std::function<bool()> holds) {
  engine->AddInvariant(name, std::move(holds));
}
void Schedule::OnEnd(std::function<void()> callback) { engine->AddOnEnd(std::move(callback)); }
int Schedule::Choose(int count) { return detsched::Choose(count); }
void Schedule::MayDie(FiberId fiber, Death death) {
  engine->fiber(fiber).may_die = true;
  engine->fiber(fiber).death = death;
}
void Schedule::MaySignal(FiberId fiber, std::function<void()> handler, int times) {
  engine->fiber(fiber).optional_handler = std::move(handler);
  engine->fiber(fiber).optional_signals = times;
}
int Schedule::hung() const { return engine->hung(); }
bool Schedule::forked() const { return engine->forked(); }

void Fail(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  if (engine == nullptr) Fatal("detsched", "outside of a schedule: %s", text);
  engine->FailWith(Failure::kCheck, text);
}

void Point(const char* label) {
  if (!running) return;
  engine->Point(internal::Effect::kGlobal);
  engine->Log(internal::Op::kPoint, nullptr, internal::Site{label, 0});
}

int Choose(int count) {
  PYRT_CHECK(engine != nullptr && count > 0 && count <= internal::kMaxAlternatives, "detsched::Choose",
             "needs a schedule and 1 to 64 alternatives, not %d", count);
  const int choice = engine->Choose(internal::ChoiceKind::kUser, count);
  internal::Step& step = engine->Log(internal::Op::kChoose, nullptr, internal::Site{});
  step.before = static_cast<uint64_t>(count);
  step.after = static_cast<uint64_t>(choice);
  return choice;
}

void AdvanceTime(int64_t nanoseconds) {
  PYRT_CHECK(engine != nullptr, "detsched::AdvanceTime", "outside of a schedule");
  engine->AdvanceTime(nanoseconds);
}

FiberId CurrentFiber() { return engine != nullptr && engine->OnFiber() ? engine->current() : -1; }

bool Running() { return running; }

void SendSignal(FiberId fiber, std::function<void()> handler) {
  PYRT_CHECK(engine != nullptr, "detsched::SendSignal", "outside of a schedule");
  engine->SendSignal(fiber, std::move(handler));
}

void Kill(FiberId fiber, Death death) {
  PYRT_CHECK(engine != nullptr, "detsched::Kill", "outside of a schedule");
  engine->Kill(fiber, death);
}

AccessCounts AccessesBy(FiberId fiber, const void* address, size_t size) {
  AccessCounts counts;
  if (engine == nullptr) return counts;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  for (const internal::Step& step : engine->log()) {
    const auto at = reinterpret_cast<uintptr_t>(step.address);
    if (step.fiber != fiber || at < begin || at >= begin + size) continue;
    switch (step.op) {
      case internal::Op::kLoad:
        ++counts.loads;
        break;
      case internal::Op::kStore:
        ++counts.stores;
        break;
      case internal::Op::kRmw:
      case internal::Op::kCompareExchange:
      case internal::Op::kCompareFailed:
        ++counts.updates;
        break;
      default:
        break;
    }
  }
  return counts;
}

int PausesOf(FiberId fiber) {
  if (engine == nullptr) return 0;
  return static_cast<int>(std::ranges::count_if(engine->log(), [fiber](const internal::Step& step) {
    return step.fiber == fiber && (step.op == internal::Op::kRelax || step.op == internal::Op::kYield);
  }));
}

void NameRange(const void* address, size_t size, const char* name, int index) {
  if (engine != nullptr) engine->AddName(address, size, name, index);
}

// Both are steps that concern everybody: the order of a Waiting and another's Entered is what is counted.
void BypassMonitor::Waiting() {
  const FiberId fiber = CurrentFiber();
  if (fiber < 0) return;
  Point("waits");
  waiting_[fiber] = true;
  bypassed_[fiber] = 0;
}

void BypassMonitor::Entered() {
  const FiberId fiber = CurrentFiber();
  if (fiber < 0) return;
  Point("entered");
  waiting_[fiber] = false;
  for (int i = 0; i < kFibers; ++i) {
    if (waiting_[i] && ++bypassed_[i] > bound_)
      Fail("starvation: fiber %d was bypassed more than %d times", i, bound_);
  }
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched
