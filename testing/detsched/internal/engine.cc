#include "pyrt/testing/detsched/internal/engine.h"

#include <cxxabi.h>

#include <bit>
#include <cerrno>
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
  used_fibers_ = yielded_ = spinning_ = eager_ = vanished_ = 0;
  turn_ = -1;
  idle_rounds_ = 0;
  arrivals_ = steps_ = last_covered_ = 0;
  last_covered_fiber_ = -1;
  covered_.Clear();
  covered_count_ = 0;
  now_ = kStartOfTime;
  spurious_wakeups_ = early_timeouts_ = weak_cas_failures_ = clock_jumps_ = start_failures_ = 0;
  next_pid_ = kFirstNativeId + 1'000;
  forked_ = spawned_ = false;
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
    vanished_ &= ~Bit(id);
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

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
