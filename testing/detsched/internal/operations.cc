// What a fiber does in its turn: the engine's half of platform.h.

#include <bit>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/engine.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

void WriteMemory(void* address, size_t size, uint64_t value) { std::memcpy(address, &value, size); }

uint64_t Truncate(uint64_t value, size_t size) {
  return size == 8 ? value : value & ((uint64_t{1} << (8 * size)) - 1);
}

uint64_t Apply(Rmw operation, uint64_t value, uint64_t operand) {
  switch (operation) {
    case Rmw::kExchange:
      return operand;
    case Rmw::kAdd:
      return value + operand;
    case Rmw::kSub:
      return value - operand;
    case Rmw::kOr:
      return value | operand;
    case Rmw::kAnd:
      return value & operand;
  }
  return value;
}

uint64_t Newest(const AtomicLocation& location) { return Memory::Value(location, 0); }

constexpr const char* kThreadNames[kMaxFibers] = {
    "thread 0", "thread 1", "thread 2",  "thread 3",  "thread 4",  "thread 5",  "thread 6",  "thread 7",
    "thread 8", "thread 9", "thread 10", "thread 11", "thread 12", "thread 13", "thread 14", "thread 15"};

}  // namespace

Step& Engine::Log(Op op, const void* address, Site site) {
  log_.push_back({op, static_cast<uint8_t>(current_), 0, std::memory_order_relaxed, site.line, site.file,
                  address, 0, 0});
  return log_.back();
}

// ---- Memory

void Engine::ReportRace(const Race& race, const char* what, const void* address, Site site) {
  FailWith(Failure::kRace, "data race on " + NameOf(address) + ": " + what + " by " + self().name + " at " +
                               ToString(site) + " is not ordered after " + race.what + " by " +
                               fibers_[race.fiber].name + " at " + ToString(race.site));
}

uint64_t Engine::AtomicLoad(const void* address, size_t size, std::memory_order order, Site site) {
  Point(order == std::memory_order_seq_cst ? Effect::kReadSc : Effect::kRead, address);
  ThreadMemory& thread = self().memory;
  Race race;
  AtomicLocation& location = memory_.Locate(current_, thread, address, size, &race);
  const int candidates = options_.weak_memory ? memory_.Candidates(thread, location, order) : 1;
  const int age = Choose(ChoiceKind::kLoad, candidates);
  const uint64_t value = memory_.Load(current_, thread, location, age, order);
  Step& step = Log(Op::kLoad, address, site);
  step.order = order;
  step.detail = static_cast<uint8_t>(age);
  step.before = value;
  step.after = Newest(location);
  if (race.found) ReportRace(race, "load", address, site);
  return value;
}

void Engine::AtomicStore(void* address, size_t size, uint64_t value, std::memory_order order, Site site) {
  Point(Effect::kWrite, address);
  Race race;
  AtomicLocation& location = memory_.Locate(current_, self().memory, address, size, &race);
  Step& step = Log(Op::kStore, address, site);
  step.order = order;
  step.before = Newest(location);
  step.after = value;
  if (race.found) ReportRace(race, "store", address, site);
  memory_.AppendStore(current_, self().memory, location, value, order, /*rmw=*/false);
  WriteMemory(address, size, value);
}

uint64_t Engine::AtomicRmw(void* address, size_t size, Rmw operation, uint64_t operand,
                           std::memory_order order, Site site) {
  Point(Effect::kWrite, address);
  ThreadMemory& thread = self().memory;
  Race race;
  AtomicLocation& location = memory_.Locate(current_, thread, address, size, &race);
  const uint64_t before = memory_.Load(current_, thread, location, 0, order);
  const uint64_t after = Truncate(Apply(operation, before, operand), size);
  Step& step = Log(Op::kRmw, address, site);
  step.detail = static_cast<uint8_t>(operation);
  step.order = order;
  step.before = before;
  step.after = after;
  if (race.found) ReportRace(race, "read-modify-write", address, site);
  memory_.AppendStore(current_, thread, location, after, order, /*rmw=*/true);
  WriteMemory(address, size, after);
  return before;
}

bool Engine::AtomicCompareExchange(void* address, size_t size, uint64_t* expected, uint64_t desired,
                                   std::memory_order success, std::memory_order failure, bool weak,
                                   Site site) {
  Point(Effect::kCompareExchange, address);
  ThreadMemory& thread = self().memory;
  Race race;
  AtomicLocation& location = memory_.Locate(current_, thread, address, size, &race);
  const int age = ChooseFailure(thread, location, *expected, failure);
  const bool equal = age == 0 && Newest(location) == *expected;
  const bool spurious = equal && weak && Fault(&weak_cas_failures_, options_.weak_cas_failures);
  const bool done = equal && !spurious;
  const uint64_t met = memory_.Load(current_, thread, location, age, done ? success : failure);
  Step& step = Log(done ? Op::kCompareExchange : Op::kCompareFailed, address, site);
  step.order = done ? success : failure;
  step.detail = static_cast<uint8_t>(spurious ? kSpurious : age);
  step.before = met;
  step.after = done ? desired : *expected;
  if (race.found) ReportRace(race, "compare-exchange", address, site);
  if (!done) {
    *expected = met;
    return false;
  }
  Progress();
  memory_.AppendStore(current_, thread, location, desired, success, /*rmw=*/true);
  WriteMemory(address, size, desired);
  return true;
}

// The age of the store that a compare-exchange reads. 0, the newest, is what it succeeds with if it does. One that fails is
// a load and may read an older store, though not one of the value that it was looking for.
int Engine::ChooseFailure(const ThreadMemory& thread, const AtomicLocation& location, uint64_t expected,
                          std::memory_order failure) {
  const int candidates = options_.weak_memory ? memory_.Candidates(thread, location, failure) : 1;
  int ages[kHistory] = {0};
  int count = 1;
  for (int age = 1; age < candidates; ++age) {
    if (memory_.Value(location, age) != expected) ages[count++] = age;
  }
  return ages[Choose(ChoiceKind::kLoad, count)];
}

void Engine::PlainRead(const void* address, Site site) {
  const Race race = memory_.ReadPlain(current_, self().memory, address, site);
  Log(Op::kPlainRead, address, site);
  if (race.found) ReportRace(race, "read", address, site);
}

void Engine::PlainWrite(const void* address, Site site) {
  const Race race = memory_.WritePlain(current_, self().memory, address, site, vanished_);
  Log(Op::kPlainWrite, address, site);
  if (race.found) ReportRace(race, "write", address, site);
}

void Engine::ConstructAtomic(const void* address, size_t size, Site site) {
  memory_.ConstructAtomic(current_, self().memory, address, size, site);
}

void Engine::ConstructPlain(const void* address, Site site) {
  memory_.ConstructPlain(current_, self().memory, address, site);
}

void Engine::Fence(bool heavy, Site site) {
  Point(Effect::kGlobal);
  Log(heavy ? Op::kHeavyFence : Op::kLightFence, nullptr, site);
  if (heavy || !options_.membarrier) {
    memory_.HeavyFence(current_, self().memory);
  } else {
    memory_.LightFence(current_, self().memory);
  }
}

// ---- Waiting

void Engine::Relax(bool yield, Site site) {
  Log(yield ? Op::kYield : Op::kRelax, nullptr, site);
  chooser_->FiberYields(current_);
  yielded_ |= uint32_t{1} << current_;
  spinning_ |= uint32_t{1} << current_;
  self().pending = Pending{};
  Reschedule();
}

FutexResult Engine::FutexWait(const void* word, uint32_t expected, Deadline deadline, Site site) {
  Point(Effect::kWrite, word);
  Race race;
  AtomicLocation& location = memory_.Locate(current_, self().memory, word, sizeof(uint32_t), &race);
  // The kernel reads the newest value; the thread has then seen it, but acquires nothing.
  const uint64_t value = memory_.Load(current_, self().memory, location, 0, std::memory_order_relaxed);
  Step& step = Log(Op::kFutexWait, word, site);
  step.before = value;
  step.after = expected;
  if (race.found) ReportRace(race, "futex wait", word, site);
  if (value != expected) return FutexResult::kChanged;
  FutexResult result = FutexResult::kTimedOut;
  if (deadline > now_) {
    Fiber& fiber = self();
    fiber.state = FiberState::kFutex;
    fiber.futex = word;
    fiber.deadline = deadline;
    fiber.asleep_since = ++arrivals_;
    fiber.pending = Pending{};
    spinning_ &= ~(uint32_t{1} << current_);
    Reschedule();
    result = fiber.wake;
  }
  Log(Op::kFutexReturn, word, site).detail = static_cast<uint8_t>(result);
  return result;
}

int Engine::FutexWake(const void* word, int count, Site site) {
  Point(Effect::kWrite, word);
  int woken = 0;
  while (woken < count) {
    Fiber* first = nullptr;
    for (uint32_t left = used_fibers_; left != 0; left &= left - 1) {
      Fiber& fiber = fibers_[std::countr_zero(left)];
      if (fiber.state != FiberState::kFutex || fiber.futex != word) continue;
      if (first == nullptr || fiber.asleep_since < first->asleep_since) first = &fiber;
    }
    if (first == nullptr) break;
    Wake(*first, FutexResult::kWoken);
    eager_ |= uint32_t{1} << (first - fibers_);
    ++woken;
  }
  Step& step = Log(Op::kFutexWake, word, site);
  step.before = static_cast<uint64_t>(count);
  step.after = static_cast<uint64_t>(woken);
  return woken;
}

int64_t Engine::MonotonicNow() {
  Point(options_.clock_jumps == 0 ? Effect::kNone : Effect::kGlobal);
  if (Fault(&clock_jumps_, options_.clock_jumps)) now_ += options_.clock_jump;
  Log(Op::kClock, nullptr, Site{}).after = static_cast<uint64_t>(now_ - kStartOfTime);
  return now_;
}

void Engine::AdvanceTime(int64_t nanoseconds) {
  if (running) Point(Effect::kGlobal);
  now_ += nanoseconds;
  Log(Op::kTimePasses, nullptr, Site{}).after = static_cast<uint64_t>(now_ - kStartOfTime);
}

// ---- Threads

int Engine::StartThread(std::function<void()> body) {
  if (!running) {
    const int id = Spawn("thread", std::move(body));
    fibers_[id].name = kThreadNames[id];
    fibers_[id].joinable = true;
    return id;
  }
  Point(Effect::kGlobal);
  self().memory.Tick(current_);
  int id = -1;
  if (!Fault(&start_failures_, options_.thread_start_failures)) {
    id = NewFiber("thread", std::move(body));
    if (id < 0) FailWith(Failure::kUsage, "more than 16 fibers");
    fibers_[id].name = kThreadNames[id];
    fibers_[id].joinable = true;
  }
  Log(id < 0 ? Op::kStartFailed : Op::kStart, nullptr, Site{}).detail = static_cast<uint8_t>(id);
  return id;
}

void Engine::JoinThread(int id, uint8_t generation) {
  Fiber& target = fiber(id);
  if (!running) {
    if (target.state != FiberState::kExited)
      FailWith(Failure::kUsage, "OsThread::Join() before Schedule::Run()");
    return;
  }
  Point(Effect::kGlobal);
  if (target.generation != generation || target.reusable)
    FailWith(Failure::kUsage, "a thread is joined twice");
  while (target.state != FiberState::kExited) {
    self().state = FiberState::kJoining;
    self().joined = id;
    self().pending = Pending{};
    Reschedule();
  }
  self().memory.Tick(current_);
  self().memory.known.Join(target.memory.known);
  target.reusable = true;
  Log(Op::kJoin, nullptr, Site{}).detail = static_cast<uint8_t>(id);
}

void Engine::DetachThread(int id, uint8_t generation) {
  if (running) Point(Effect::kGlobal);
  if (fiber(id).generation == generation) fiber(id).reusable = true;
}

void Engine::Hang() {
  if (!running) FailWith(Failure::kUsage, "HangForever() outside of Schedule::Run()");
  Point(Effect::kGlobal);
  Log(Op::kHang, nullptr, Site{});
  EndFiber(current_, FiberState::kHung);
  Reschedule();
  PYRT_UNREACHABLE("a fiber that hangs went on");
}

int Engine::Fork() {
  if (running) Point(Effect::kGlobal);
  const bool child = options_.fork == ForkSide::kChild ||
                     (options_.fork == ForkSide::kEither && Choose(ChoiceKind::kFork, 2) == 0);
  if (running) Log(Op::kFork, nullptr, Site{}).detail = child;
  const uint64_t pid = ++next_pid_;
  if (!child) return static_cast<int>(pid);
  ThreadMemory& thread = self().memory;
  for (uint32_t left = used_fibers_; left != 0; left &= left - 1) {
    const int i = std::countr_zero(left);
    if (i == current_) continue;
    memory_.SeeAllOf(i, fibers_[i].memory, thread);
    if (fibers_[i].state != FiberState::kExited) EndFiber(i, FiberState::kVanished);
    vanished_ |= uint32_t{1} << i;
  }
  forked_ = true;
  self().native_id = pid;
  return 0;
}

void Engine::DeliverSignals() {
  while (!self().signals.empty()) {
    self().handler = std::move(self().signals.front());
    self().signals.erase(self().signals.begin());
    RunHandler();
  }
}

void Engine::SendSignal(int id, std::function<void()> handler) {
  Fiber& target = fiber(id);
  if (running) {
    Point(Effect::kGlobal);
    Log(Op::kSendSignal, nullptr, Site{}).detail = static_cast<uint8_t>(id);
  }
  target.signals.push_back(std::move(handler));
  if (running && id == current_) DeliverSignals();
}

void Engine::Kill(int id, Death death) {
  if (!running) FailWith(Failure::kUsage, "Kill() outside of Schedule::Run()");
  Fiber& target = fiber(id);
  Point(Effect::kGlobal);
  if (target.state == FiberState::kExited || target.state == FiberState::kHung) return;
  Die(id, death);
  if (id == current_) {
    Reschedule();
    PYRT_UNREACHABLE("a dead fiber went on");
  }
}

uint64_t Engine::NativeId() {
  if (self().cached_native_id == 0) self().cached_native_id = self().native_id;
  return self().cached_native_id;
}

void Engine::ForgetNativeId() { self().cached_native_id = 0; }

std::string Engine::NameOf(const void* address) const { return internal::NameOf(names_, address); }

// ---- What platform.h calls

uint64_t AtomicLoad(const void* address, size_t size, std::memory_order order, Site site) {
  return engine->AtomicLoad(address, size, order, site);
}
void AtomicStore(void* address, size_t size, uint64_t value, std::memory_order order, Site site) {
  engine->AtomicStore(address, size, value, order, site);
}
uint64_t AtomicRmw(void* address, size_t size, Rmw operation, uint64_t operand, std::memory_order order,
                   Site site) {
  return engine->AtomicRmw(address, size, operation, operand, order, site);
}
bool AtomicCompareExchange(void* address, size_t size, uint64_t* expected, uint64_t desired,
                           std::memory_order success, std::memory_order failure, bool weak, Site site) {
  return engine->AtomicCompareExchange(address, size, expected, desired, success, failure, weak, site);
}
void PlainRead(const void* address, Site site) { engine->PlainRead(address, site); }
void PlainWrite(const void* address, Site site) { engine->PlainWrite(address, site); }
void ConstructAtomic(const void* address, size_t size, Site site) {
  engine->ConstructAtomic(address, size, site);
}
void ConstructPlain(const void* address, Site site) { engine->ConstructPlain(address, site); }
void LightFence(Site site) {
  if (running) engine->Fence(/*heavy=*/false, site);
}
void HeavyFence(Site site) {
  if (running) engine->Fence(/*heavy=*/true, site);
}
void Relax(bool yield, Site site) { engine->Relax(yield, site); }

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
