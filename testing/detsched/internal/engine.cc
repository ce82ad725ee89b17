#include "pyrt/testing/detsched/internal/engine.h"

#include <cxxabi.h>

#include <bit>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <exception>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/fiber_local.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

constinit bool running = false;
constinit Engine* engine = nullptr;

namespace {

constexpr uint64_t kFirstNativeId = 1'000;

uint32_t Bit(int fiber) { return uint32_t{1} << fiber; }

bool IsBlocked(const Fiber& fiber) {
  return fiber.state == FiberState::kFutex || fiber.state == FiberState::kJoining;
}

}  // namespace

// Entry of every fiber.
void FiberMain() {
  Context::Entered();
  Engine& e = *engine;
#if defined(__cpp_exceptions)
  try {
    e.RunHandler();
    e.self().body();
  } catch (const std::exception& error) {
    e.FailWith(Failure::kException, std::string("an exception left the fiber: ") + error.what());
  } catch (...) {
    e.FailWith(Failure::kException, "an exception left the fiber");
  }
#else
  e.RunHandler();
  e.self().body();
#endif
  e.self().body = nullptr;
  if (e.self().joinable) e.Point(Effect::kGlobal);
  e.DeliverSignals();
  e.Log(Op::kExit, nullptr, Site{});
  e.EndFiber(e.current_, FiberState::kExited);
  e.Reschedule();
  PYRT_UNREACHABLE("a fiber went on after its end");
}

// Entry of the schedule's body.
void BodyMain() {
  Context::Entered();
  Engine& e = *engine;
#if defined(__cpp_exceptions)
  try {
    (*e.body_)();
  } catch (const std::exception& error) {
    e.FailWith(Failure::kException, std::string("an exception left the body: ") + error.what());
  } catch (...) {
    e.FailWith(Failure::kException, "an exception left the body");
  }
#else
  (*e.body_)();
#endif
  if (e.spawned_) {
    e.FailWith(Failure::kUsage, "the body spawned fibers and returned without Schedule::Run()");
  }
  e.body_ended_ = true;
  e.SwitchTo(kCaller);
  PYRT_UNREACHABLE("the body of a schedule went on after its end");
}

void Engine::Reset() {
  for (int i = 0; i < kContexts; ++i) {
    Fiber& fiber = fibers_[i];
    if (i < kMaxFibers && (used_fibers_ & Bit(i)) == 0) continue;
    if (i != kCaller) ResetFiberLocals(&fiber.locals);
    fiber.state = FiberState::kUnused;
    fiber.reusable = fiber.interrupted = fiber.may_die = false;
    fiber.generation = 0;
    fiber.body = nullptr;
    fiber.handler = fiber.optional_handler = nullptr;
    fiber.optional_signals = 0;
    fiber.signals.clear();
    fiber.saved_errno = 0;
    fiber.exceptions = {};
  }
  fibers_[kBody].name = "body";
  fibers_[kBody].native_id = fibers_[kBody].cached_native_id = kFirstNativeId;
  fibers_[kBody].memory.Reset();
  memory_.Clear();
  invariants_.clear();
  on_end_.clear();
  names_.clear();
  log_.clear();
  choices_.clear();
  decisions_.clear();
  used_fibers_ = yielded_ = spinning_ = eager_ = 0;
  turn_ = -1;
  idle_rounds_ = 0;
  arrivals_ = steps_ = last_covered_ = 0;
  last_covered_fiber_ = -1;
  now_ = kStartOfTime;
  spurious_wakeups_ = early_timeouts_ = weak_cas_failures_ = clock_jumps_ = start_failures_ = 0;
  next_pid_ = kFirstNativeId + 1'000;
  forked_ = body_ended_ = spawned_ = false;
  failure_ = Failure::kNone;
  message_.clear();
}

bool Engine::RunSchedule(const std::function<void()>& body, Chooser* chooser) {
  Reset();
  chooser_ = chooser;
  body_ = &body;
  chooser->BeginSchedule();
  fibers_[kBody].context.Prepare(&BodyMain);
  Engine* const outer = std::exchange(engine, this);
  SwitchTo(kBody);
  running = false;
  engine = outer;
  return failure_ == Failure::kNone;
}

void Engine::FailWith(Failure failure, std::string message) {
  running = false;
  if (current_ == kCaller) Fatal("detsched", "outside of a schedule: %s", message.c_str());
  failure_ = failure;
  message_ = std::move(message);
  SwitchTo(kCaller);
  PYRT_UNREACHABLE("a failed schedule went on");
}

void Engine::SwitchTo(int id) {
  const int from = current_;
  Fiber& old = fibers_[from];
  Fiber& next = fibers_[id];
  old.saved_errno = errno;
  auto* globals = reinterpret_cast<decltype(&old.exceptions)>(abi::__cxa_get_globals());
  old.exceptions = *globals;
  *globals = next.exceptions;
  SwapFiberLocals(&old.locals, &next.locals);
  current_ = id;
  Context::Switch(old.context, next.context);
  errno = fibers_[from].saved_errno;
}

int Engine::NewFiber(const char* name, std::function<void()> body) {
  int id = -1;
  for (int i = 0; i < kMaxFibers && id < 0; ++i) {
    if ((used_fibers_ & Bit(i)) == 0) id = i;
  }
  for (int i = 0; i < kMaxFibers && id < 0; ++i) {
    if (fibers_[i].state == FiberState::kExited && fibers_[i].reusable) id = i;
  }
  if (id < 0) return -1;
  Fiber& fiber = fibers_[id];
  uint32_t events = 0;
  if ((used_fibers_ & Bit(id)) != 0) {
    // The new thread's events go on where the old one's ended.
    events = fiber.memory.known.before.at[id];
    ++fiber.generation;
    ResetFiberLocals(&fiber.locals);
    fiber.saved_errno = 0;
    fiber.exceptions = {};
    fiber.may_die = false;
    fiber.optional_signals = 0;
    fiber.signals.clear();
  } else if (fiber.locals.empty()) {
    ResetFiberLocals(&fiber.locals);
  }
  used_fibers_ |= Bit(id);
  fiber.state = FiberState::kReady;
  fiber.reusable = fiber.interrupted = fiber.joinable = false;
  eager_ |= Bit(id);
  fiber.name = name;
  fiber.body = std::move(body);
  fiber.pending = Pending{};
  fiber.memory.Reset();
  fiber.memory.known = self().memory.known;
  if (events != 0) fiber.memory.known.before.at[id] = fiber.memory.known.seen.at[id] = events;
  fiber.native_id = fiber.cached_native_id = ++next_pid_;
  fiber.context.Prepare(&FiberMain);
  return id;
}

int Engine::Spawn(const char* name, std::function<void()> body) {
  const int id = NewFiber(name, std::move(body));
  if (id < 0) FailWith(Failure::kUsage, "more than 16 fibers");
  spawned_ = true;
  return id;
}

void Engine::Run() {
  if (current_ != kBody) FailWith(Failure::kUsage, "Schedule::Run() outside of the body");
  spawned_ = false;
  memory_.Clear();  // what the body did since the last run is known to everybody
  turn_ = -1;
  running = true;
  const int next = PickNext();
  if (next != kBody) SwitchTo(next);
  CheckInvariants();
  running = false;
  for (const auto& callback : on_end_) callback();
}

void Engine::AddInvariant(const char* name, std::function<bool()> holds) {
  invariants_.push_back({name, std::move(holds)});
}

void Engine::CheckInvariants() {
  if (invariants_.empty()) return;
  running = false;
  for (const NamedInvariant& invariant : invariants_) {
    if (!invariant.holds()) {
      FailWith(Failure::kInvariant,
               std::string("invariant does not hold after the last step: ") + invariant.name);
    }
  }
  running = true;
}

Fiber& Engine::fiber(int id) {
  if (id < 0 || id >= kMaxFibers || (used_fibers_ & Bit(id)) == 0) {
    FailWith(Failure::kUsage, "no such fiber: " + std::to_string(id));
  }
  return fibers_[id];
}

int Engine::hung() const {
  int count = 0;
  for (int i = 0; i < kMaxFibers; ++i) {
    count += (used_fibers_ & Bit(i)) != 0 && fibers_[i].state == FiberState::kHung;
  }
  return count;
}

int Engine::Choose(ChoiceKind kind, int count) {
  if (count <= 1) return 0;
  const int choice = chooser_->Choose(ChoicePoint{.kind = kind, .count = count});
  choices_.push_back(static_cast<uint8_t>(choice));
  decisions_.push_back({kind, static_cast<uint8_t>(current_), Turn::kRun, static_cast<uint8_t>(choice)});
  return choice;
}

bool Engine::Fault(int* used, int budget) {
  if (budget != Options::kUnlimited && *used >= budget) return false;
  if (Choose(ChoiceKind::kFault, 2) == 0) return false;
  ++*used;
  return true;
}

// ---- Turns

void Engine::Point(Pending pending) {
  self().pending = pending;
  Reschedule();
  if (options_.coverage != nullptr) Cover(pending);
  if (pending.effect >= Effect::kWrite || (spinning_ & Bit(current_)) == 0) Progress();
}

// Counts the pair of this step and the last one, if they are of different fibers: what a fuzzer is to vary.
void Engine::Cover(const Pending& pending) {
  const uint64_t here = reinterpret_cast<uintptr_t>(pending.address) * 0x9E3779B97F4A7C15u +
                        static_cast<uint64_t>(current_) * 4 + static_cast<uint64_t>(pending.effect);
  if (last_covered_fiber_ != current_) {
    const uint64_t pair = (last_covered_ * 31 + here) * 0xBF58476D1CE4E5B9u;
    uint8_t& counter = options_.coverage[(pair >> 40) & (options_.coverage_size - 1)];
    if (counter < 255) ++counter;
  }
  last_covered_ = here;
  last_covered_fiber_ = current_;
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
  // Only time can help. Nobody's turn is a matter of choice here: they go round.
  if (++idle_rounds_ < 3 || !AdvanceToNextDeadline()) now_ += kNanosPerMicro;
  int next = turn_;
  do {
    next = (next + 1) % kMaxFibers;
  } while ((ready & Bit(next)) == 0);
  yielded_ = ready & ~Bit(next);
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
