// Whose turn it is: the engine's scheduling points.

#include <bit>
#include <functional>
#include <string>
#include <utility>

#include "pyrt/testing/detsched/internal/engine.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

uint32_t Bit(int fiber) { return uint32_t{1} << fiber; }

bool IsBlocked(const Fiber& fiber) {
  return fiber.state == FiberState::kFutex || fiber.state == FiberState::kJoining;
}

}  // namespace

void Engine::Point(Pending pending) {
  self().pending = pending;
  Reschedule();
  if (options_.coverage != nullptr) Cover(pending);
  const bool looks_only = (spinning_ & Bit(current_)) != 0;
  if (pending.effect == Effect::kCompareExchange) {
    if (!looks_only) yielded_ = 0;  // Progress() when it has succeeded
  } else if (pending.effect >= Effect::kWrite || !looks_only) {
    Progress();
  }
}

// Counts the pair of this step and the last one, if they are of different fibers: what a fuzzer is to vary.
void Engine::Cover(const Pending& pending) {
  const uint64_t here = CoverageId(pending.address) * 0x9E3779B97F4A7C15u +
                        static_cast<uint64_t>(current_) * 8 + static_cast<uint64_t>(pending.effect);
  if (last_covered_fiber_ != current_) {
    const uint64_t pair = (last_covered_ * 31 + here) * 0xBF58476D1CE4E5B9u;
    uint8_t& counter = options_.coverage[(pair >> 40) & (options_.coverage_size - 1)];
    if (counter < 255) ++counter;
  }
  last_covered_ = here;
  last_covered_fiber_ = current_;
}

// An address as the next process would number it: by its name or, without one, by who is accessed first.
uint64_t Engine::CoverageId(const void* address) {
  if (address == nullptr) return 0;
  bool added = false;
  uint64_t* const id = covered_.FindOrAdd(address, &added);
  if (!added) return *id;
  const std::string name = NameOf(address);
  const bool has_name = !name.starts_with("0x");
  *id = has_name ? std::hash<std::string>()(name) : ++covered_count_;
  return *id;
}

// The running fiber does more than look: those who stood back for it may look again.
void Engine::Progress() {
  yielded_ = 0;
  if (self().pending.effect >= Effect::kWrite) {
    spinning_ &= ~Bit(current_);
    idle_rounds_ = 0;
  }
}

void Engine::Reschedule() {
  const int me = current_;
  for (;;) {
    const int next = PickNext();
    if (next != me) SwitchTo(next);
    if (!self().handler) return;
    const bool was_blocked = std::exchange(self().interrupted, false);
    const Pending pending = self().pending;
    const FutexResult wake = self().wake;
    RunHandler();
    self().pending = pending;
    self().wake = wake;
    if (was_blocked) return;
  }
}

void Engine::RunHandler() {
  if (!self().handler) return;
  const std::function<void()> handler = std::exchange(self().handler, nullptr);
  Log(Op::kSignal, nullptr, Site{});
  handler();
  Log(Op::kSignalReturn, nullptr, Site{});
}

int Engine::PickNext() {
  for (;;) {
    if (++steps_ > options_.max_steps) {
      FailWith(Failure::kLivelock, "no end after " + std::to_string(options_.max_steps) + " steps");
    }
    CheckInvariants();
    if (const int eager = EagerFiber(); eager >= 0) return eager;
    CollectAlternatives();
    if (regular_count_ == 0) {
      if (AdvanceToNextDeadline()) continue;
      for (int i = 0; i < kMaxFibers; ++i) {
        if ((used_fibers_ & Bit(i)) != 0 && IsBlocked(fibers_[i])) {
          FailWith(Failure::kDeadlock, "nobody can run, and nobody waits for a time");
        }
      }
      return kBody;
    }
    const ChoicePoint point{.kind = ChoiceKind::kFiber,
                            .count = alternative_count_,
                            .alternatives = alternatives_,
                            .regular = regular_count_,
                            .current = turn_,
                            .yielding = yielded_ != 0};
    const int choice = chooser_->Choose(point);
    if (alternative_count_ > 1) choices_.push_back(static_cast<uint8_t>(choice));
    const Alternative alternative = alternatives_[choice];
    decisions_.push_back(
        {ChoiceKind::kFiber, alternative.fiber, alternative.turn, static_cast<uint8_t>(choice)});
    ApplyTurn(alternative);
    if (alternative.turn == Turn::kDie) continue;
    turn_ = alternative.fiber;
    return turn_;
  }
}

// A fiber that starts, or returns from a sleep that somebody ended, touches nothing shared until its next
// scheduling point. It goes there at once, and nobody's turn ends by it: fewer schedules, none of them lost.
int Engine::EagerFiber() {
  for (uint32_t left = eager_; left != 0; left &= left - 1) {
    const int i = std::countr_zero(left);
    eager_ &= ~Bit(i);
    if (fibers_[i].state == FiberState::kReady) return i;
  }
  return -1;
}

void Engine::AddAlternative(int id, Turn turn, bool preempts) {
  if (alternative_count_ == kMaxAlternatives) FailWith(Failure::kUsage, "more than 64 ways to go on");
  alternatives_[alternative_count_++] = {static_cast<uint8_t>(id), turn, preempts, fibers_[id].pending};
}

void Engine::CollectAlternatives() {
  for (;;) {
    alternative_count_ = regular_count_ = 0;
    uint32_t ready = 0;
    uint32_t asleep = 0;
    uint32_t signalled = 0;
    for (uint32_t left = used_fibers_; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      const Fiber& fiber = fibers_[i];
      if (fiber.state == FiberState::kReady) ready |= Bit(i);
      if (fiber.state == FiberState::kFutex) asleep |= Bit(i);
      if (!fiber.signals.empty() && (fiber.state == FiberState::kReady || IsBlocked(fiber)))
        signalled |= Bit(i);
    }
    const uint32_t eligible = ready & ~yielded_;
    const bool goes_on = turn_ >= 0 && (eligible & Bit(turn_)) != 0;
    if (goes_on) AddAlternative(turn_, Turn::kRun, false);
    for (int n = 1; n <= kMaxFibers; ++n) {
      const int i = (turn_ + n) % kMaxFibers;
      if ((eligible & Bit(i)) != 0 && i != turn_) AddAlternative(i, Turn::kRun, goes_on);
    }
    for (uint32_t left = asleep; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      if (fibers_[i].deadline <= now_) AddAlternative(i, Turn::kTimeout, goes_on);
    }
    for (uint32_t left = signalled; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      AddAlternative(i, Turn::kSignal, goes_on && i != turn_);
    }
    regular_count_ = alternative_count_;
    if (regular_count_ == 0 && ready != 0) {
      EverybodySpins(ready);
      continue;
    }
    if (regular_count_ == 0) return;
    const bool spurious =
        options_.spurious_wakeups == Options::kUnlimited || spurious_wakeups_ < options_.spurious_wakeups;
    const bool early =
        options_.early_timeouts == Options::kUnlimited || early_timeouts_ < options_.early_timeouts;
    for (uint32_t left = asleep; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      if (early && fibers_[i].deadline > now_ && fibers_[i].deadline != kNoDeadline) {
        AddAlternative(i, Turn::kEarlyTimeout, false);
      }
      if (spurious) AddAlternative(i, Turn::kSpuriousWake, false);
    }
    for (uint32_t left = used_fibers_; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      const Fiber& fiber = fibers_[i];
      if (fiber.state != FiberState::kReady && !IsBlocked(fiber)) continue;
      if (fiber.optional_signals > 0) AddAlternative(i, Turn::kOptionalSignal, false);
      if (fiber.may_die) AddAlternative(i, Turn::kDie, false);
    }
    return;
  }
}

void Engine::EverybodySpins(uint32_t ready) {
  StoresArrive();
  // Only time can help. Nobody's turn is a matter of choice here: they go round.
  if (++idle_rounds_ < 3 || !AdvanceToNextDeadline()) now_ += kNanosPerMicro;
  int next = turn_;
  do {
    next = (next + 1) % kMaxFibers;
  } while ((ready & Bit(next)) == 0);
  yielded_ = ready & ~Bit(next);
}

// A store reaches everybody in finite time, which is less than any timeout: nobody goes on seeing older values.
void Engine::StoresArrive() {
  for (uint32_t readers = used_fibers_; readers != 0; readers &= readers - 1) {
    ThreadMemory& reader = fibers_[std::countr_zero(readers)].memory;
    for (uint32_t left = used_fibers_; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      memory_.SeeAllOf(i, fibers_[i].memory, reader);
    }
  }
}

void Engine::ApplyTurn(const Alternative& alternative) {
  Fiber& fiber = fibers_[alternative.fiber];
  switch (alternative.turn) {
    case Turn::kRun:
      break;
    case Turn::kEarlyTimeout:
      ++early_timeouts_;
      now_ = fiber.deadline;
      [[fallthrough]];
    case Turn::kTimeout:
      Wake(fiber, FutexResult::kTimedOut);
      break;
    case Turn::kSpuriousWake:
      ++spurious_wakeups_;
      Wake(fiber, FutexResult::kWoken);
      break;
    case Turn::kOptionalSignal:
      --fiber.optional_signals;
      fiber.handler = fiber.optional_handler;
      break;
    case Turn::kSignal:
      fiber.handler = std::move(fiber.signals.front());
      fiber.signals.erase(fiber.signals.begin());
      break;
    case Turn::kDie:
      fiber.may_die = false;
      Die(alternative.fiber, fiber.death);
      return;
  }
  if (fiber.handler && IsBlocked(fiber)) {
    fiber.interrupted = true;
    Wake(fiber, FutexResult::kInterrupted);
  }
}

bool Engine::AdvanceToNextDeadline() {
  Deadline next = kNoDeadline;
  for (uint32_t left = used_fibers_; left != 0; left &= left - 1) {
    const Fiber& fiber = fibers_[std::countr_zero(left)];
    if (fiber.state == FiberState::kFutex && fiber.deadline < next) next = fiber.deadline;
  }
  if (next == kNoDeadline) return false;
  if (next > now_) {
    StoresArrive();
    now_ = next;
    Log(Op::kTimePasses, nullptr, Site{}).after = static_cast<uint64_t>(now_ - kStartOfTime);
  }
  return true;
}

void Engine::Wake(Fiber& fiber, FutexResult result) {
  fiber.state = FiberState::kReady;
  fiber.wake = result;
  fiber.pending = Pending{};
}

void Engine::EndFiber(int id, FiberState state) {
  fibers_[id].state = state;
  yielded_ &= ~Bit(id);
  spinning_ &= ~Bit(id);
  if (state != FiberState::kExited) return;
  for (int i = 0; i < kMaxFibers; ++i) {
    if (fibers_[i].state != FiberState::kJoining || fibers_[i].joined != id) continue;
    Wake(fibers_[i], FutexResult::kWoken);
    eager_ |= Bit(i);
  }
}

void Engine::Die(int id, Death death) {
  Step& step = Log(Op::kDie, nullptr, Site{});
  step.fiber = static_cast<uint8_t>(id);
  EndFiber(id, death == Death::kHang ? FiberState::kHung : FiberState::kExited);
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
