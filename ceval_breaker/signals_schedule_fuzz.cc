// Signals that come on any thread and interrupt the main one, against a main thread that polls, changes handlers, the
// wake-up descriptor and its own word, and forks, in a schedule that the bytes choose. Each signal that has come is
// handled at least once afterwards, because of a bit; whoever reads the wake-up byte finds the flag; errno stays; and a
// word that is the main thread's no more is not touched (EB-41).

#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <variant>

#include "absl/status/status.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/signals.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/testing/fuzz/operations.h"
#include "pyrt/testing/fuzz/scheduled.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// The last one is none.
constexpr int kNumbers[] = {1, 2, Signals::kCount - 1, Signals::kCount};

enum class Does : uint8_t { kIgnores, kNothing, kFails, kTripsAgain };
constexpr const char* kDoes[] = {"kIgnores", "kNothing", "kFails", "kTripsAgain"};

enum class Pipe : uint8_t { kEmpty, kFull, kInterrupted, kClosed };
constexpr const char* kPipes[] = {"kEmpty", "kFull", "kInterrupted", "kClosed"};

struct World;
World* current_world = nullptr;  // write(2) has no context

struct Handler {
  World* world = nullptr;
  Does does = Does::kNothing;
  SignalHandler handler{&Call, this};
  static absl::Status Call(void* context, int number);
};

// Thread 0 is the main thread, in a child the one that forked.
struct World {
  // Setup: two handlers; a wake-up descriptor, whether it reports that it is full, and how it is; how often the main
  // thread may be interrupted.
  World(uint8_t setup, const detsched::Options& /*options*/)
      : signals({.ignored = &Ignored, .wakeup_failed = &WakeupFailed, .context = this, .write = &Write}),
        interruptions(setup >> 3 & 3),
        reports_full((setup & 4) != 0),
        pipe(static_cast<Pipe>(setup >> 5 & 3)) {
    detsched::Name(&signals, "signals");
    for (int i = 0; i < 2; ++i) detsched::Name(&words[i], "word", i);
    for (size_t i = 0; i < std::size(handlers); ++i) {
      handlers[i].world = this;
      handlers[i].does = static_cast<Does>(i);
    }
    current_world = this;
    signals.SetMainThread(&words[home]);
    if ((setup & 1) != 0) {
      SetHandler(1, Does::kNothing);
      SetHandler(2, Does::kNothing);
    }
    SetWakeupFd((setup & 2) != 0);
  }
  static void Reset() {}
  void Prepare(detsched::Schedule& schedule) {
    schedule.MaySignal(
        0, [this] { Trip(2); }, interruptions);
  }

  void Enter(int self) { errno = 1000 + self; }
  void Leave(int self) { DETSCHED_CHECK(errno == 1000 + self); }

  // The operations.

  void Trip(int number) {
    const int before = errno;
    // Where an interrupted trip goes on.
    Call& call = calls[Self()];
    const Call outer = call;
    call = {number, ++clock};
    Begin(number);
    signals.Trip(number);
    --inside;
    call = outer;
    DETSCHED_CHECK(errno == before);
  }

  // Not every thread knows of a handler that was set a moment ago.
  void SetInterrupt(int self, int number) {
    const bool valid = number < Signals::kCount;
    Call& call = calls[self];
    const Call outer = call;
    call = {number, ++clock};
    if (self == main_thread && valid && table[number] != nullptr) {
      Begin(number);
    } else {
      ++inside;
      if (valid) ++begun[number];
    }
    DETSCHED_CHECK(signals.SetInterrupt(number) == (valid ? 0 : -1));
    --inside;
    call = outer;
  }

  void Poll() {
    if (!words[home].AnyPending()) return;
    ++inside;
    polling = true;
    last = 0;
    failed = false;
    words[home].Clear(BreakerEvent::kCallsToDo);
    words[home].Clear(BreakerEvent::kSignalsPending);
    const absl::Status status = signals.Run(words[home]);
    DETSCHED_CHECK(status.ok() == !failed);
    // The rest waits, and who polls next is to know.
    if (failed) DETSCHED_CHECK(signals.IsTripped() && words[home].IsSet(BreakerEvent::kSignalsPending));
    polling = false;
    --inside;
  }

  void SetHandler(int number, Does does) {
    if (number >= Signals::kCount) return;
    Handler* const next = does == Does::kIgnores ? nullptr : &handlers[static_cast<size_t>(does)];
    const SignalHandler* const old =
        signals.SetHandler(number, next == nullptr ? Signals::kIgnore : &next->handler);
    DETSCHED_CHECK(table[number] != nullptr ? old == &table[number]->handler
                                            : old == Signals::kDefault || old == Signals::kIgnore);
    table[number] = next;
  }

  void SetWakeupFd(bool on) {
    const int next = on ? ++last_fd : -1;
    const int old = signals.SetWakeupFd(next, reports_full);
    DETSCHED_CHECK(old == fd);
    fd = next;
  }

  // To another word, as when the main thread's state is replaced.
  void Move() {
    ++inside;
    moving = true;
    home = 1 - home;
    words[home].Clear(BreakerEvent::kCallsToDo);
    signals.SetMainThread(&words[home]);
    // As good as freed.
    left_behind = words[1 - home].Load();
    moving = false;
    --inside;
  }

  // Goes on in the child: the parent is as if nobody had forked. What came before is the parent's.
  void Fork(int self) {
    if (ForkProcess() != 0) return;
    PlatformAfterForkInChild();
    main_thread = self;
    inside = 1;
    polling = false;
    owes_report = false;
    forgetting = true;
    moving = true;
    for (int number = 1; number < Signals::kCount; ++number) {
      waits[number] = false;
      begun[number] = handled[number] = 0;
    }
    signals.AfterForkInChild(&words[home]);
    left_behind = words[1 - home].Load();
    moving = false;
    // Nothing is left, but for what has come meanwhile.
    const bool told = signals.IsTripped() || words[home].IsSet(BreakerEvent::kSignalsPending);
    const auto is_begun = [](int times) { return times != 0; };
    DETSCHED_CHECK(!told || std::any_of(std::begin(begun), std::end(begun), is_begun));
    forgetting = false;
    --inside;
  }

  // What the component calls.

  void Handled(int number, const Handler* by) {
    DETSCHED_CHECK(polling && Self() == main_thread);
    DETSCHED_CHECK(!failed && number > last);  // ascending, each once, none after a failure
    DETSCHED_CHECK(by == table[number]);
    DETSCHED_CHECK(++handled[number] <= begun[number]);
    last = number;
    waits[number] = false;
    handled_at[number] = ++clock;
  }
  static void Ignored(void* context, int number) { static_cast<World*>(context)->Handled(number, nullptr); }

  static ssize_t Write(int fd, const void* data, size_t size) {
    World& world = *current_world;
    Call& call = world.calls[world.Self()];
    DETSCHED_CHECK(size == 1 && *static_cast<const uint8_t*>(data) == call.number);
    DETSCHED_CHECK(fd > kFirstFd && fd <= world.last_fd);
    // bpo-30038: a reader finds the flag, unless the signal has been handled or a scan is on its way to it.
    DETSCHED_CHECK(world.signals.IsTripped() || world.polling || world.forgetting ||
                   world.handled_at[call.number] > call.began);
    switch (world.pipe) {
      case Pipe::kEmpty:
        break;
      case Pipe::kFull:
        world.owes_report |= world.reports_full && !world.forgetting;
        errno = EAGAIN;
        return -1;
      case Pipe::kInterrupted:
        if (call.interrupted) break;
        call.interrupted = true;
        errno = EINTR;
        return -1;
      case Pipe::kClosed:
        world.owes_report |= !world.forgetting;
        errno = EBADF;
        return -1;
    }
    return 1;
  }
  static void WakeupFailed(void* context, int error) {
    World& world = *static_cast<World*>(context);
    DETSCHED_CHECK(world.polling && world.Self() == world.main_thread);
    DETSCHED_CHECK(error == EBADF || (error == EAGAIN && world.reports_full));
    world.owes_report = false;
  }

  // Nobody writes to a word that the main thread has left. And while nobody trips, polls, moves or is put in order, the
  // main thread has its bit if there is something to do.
  bool Holds() const {
    if (!moving && words[1 - home].Load() != left_behind) return false;
    if (inside != 0) return true;
    bool any = owes_report;
    for (const int number : kNumbers) any |= number < Signals::kCount && waits[number];
    return !any || (signals.IsTripped() && words[home].IsSet(BreakerEvent::kSignalsPending));
  }
  void CheckEnd(detsched::Schedule& /*schedule*/) {
    // Each round handles something, but for the last one and those that find only what was handled already.
    for (int rounds = 0; words[home].AnyPending(); ++rounds) {
      DETSCHED_CHECK(rounds < 40);
      Poll();
    }
    for (const int number : kNumbers) DETSCHED_CHECK(number >= Signals::kCount || !waits[number]);
    DETSCHED_CHECK(!owes_report && !signals.IsTripped());
    signals.SetMainThread(nullptr);
    current_world = nullptr;
  }

  void Begin(int number) {
    ++inside;
    if (number >= Signals::kCount) return;
    ++begun[number];
    // AfterForkInChild forgets what comes while it runs, or does not; so in Write.
    if (!forgetting) waits[number] = true;
  }
  int Self() const { return detsched::CurrentFiber() < 0 ? main_thread : detsched::CurrentFiber(); }

  static constexpr int kFirstFd = 1000;

  EvalBreaker words[2];
  Signals signals;
  Handler handlers[4];
  // Model:
  struct Call {
    int number = 0;
    int began = 0;
    bool interrupted = false;
  };
  const int interruptions;
  const bool reports_full;
  Pipe pipe;
  int main_thread = 0;
  int home = 0;  // which word is the main thread's
  uintptr_t left_behind = 0;
  int fd = -1;
  int last_fd = kFirstFd;
  int clock = 0;
  int inside = 0;  // threads that trip, poll, move, or put a child in order
  bool polling = false;
  bool moving = false;
  bool forgetting = false;
  bool owes_report = false;
  bool failed = false;  // of this poll
  int last = 0;         // of this poll
  int again = 3;
  Call calls[kMostThreads];
  const Handler* table[Signals::kCount] = {};
  bool waits[Signals::kCount] = {};
  int begun[Signals::kCount] = {};
  int handled[Signals::kCount] = {};
  int handled_at[Signals::kCount] = {};
};

absl::Status Handler::Call(void* context, int number) {
  const Handler& self = *static_cast<Handler*>(context);
  World& world = *self.world;
  world.Handled(number, &self);
  if (self.does == Does::kTripsAgain && world.again > 0) {
    --world.again;
    world.Trip(number);
  }
  world.failed = self.does == Does::kFails;
  return world.failed ? absl::InternalError("") : absl::OkStatus();
}

struct Trip {
  int number;
  std::string ToString() const { return "Trip{" + std::to_string(number) + "}"; }
  void Perform(World& world, int /*self*/) const { world.Trip(number); }
};

struct SetInterrupt {
  int number;
  std::string ToString() const { return "SetInterrupt{" + std::to_string(number) + "}"; }
  void Perform(World& world, int self) const { world.SetInterrupt(self, number); }
};

// For the queue of calls that only the main thread runs: one that has moved meanwhile looks there itself.
struct Raise {
  std::string ToString() const { return "Raise{}"; }
  void Perform(World& world, int /*self*/) const {
    world.signals.RaiseOnMainThread(BreakerEvent::kCallsToDo);
  }
};

struct Poll {
  std::string ToString() const { return "Poll{}"; }
  void Perform(World& world, int self) const {
    if (self == world.main_thread) world.Poll();
  }
};

struct SetHandler {
  int number;
  Does does;
  std::string ToString() const {
    return "SetHandler{" + std::to_string(number) + ", Does::" + kDoes[static_cast<int>(does)] + "}";
  }
  void Perform(World& world, int self) const {
    if (self == world.main_thread) world.SetHandler(number, does);
  }
};

struct SetWakeupFd {
  bool on;
  std::string ToString() const { return on ? "SetWakeupFd{true}" : "SetWakeupFd{false}"; }
  void Perform(World& world, int self) const {
    if (self == world.main_thread) world.SetWakeupFd(on);
  }
};

// The reader of the bytes.
struct SetPipe {
  Pipe pipe;
  std::string ToString() const {
    return std::string("SetPipe{Pipe::") + kPipes[static_cast<int>(pipe)] + "}";
  }
  void Perform(World& world, int /*self*/) const { world.pipe = pipe; }
};

struct Move {
  std::string ToString() const { return "Move{}"; }
  void Perform(World& world, int self) const {
    if (self == world.main_thread) world.Move();
  }
};

struct Fork {
  std::string ToString() const { return "Fork{}"; }
  void Perform(World& world, int self) const { world.Fork(self); }
};

using Operation = std::variant<Trip, SetInterrupt, Raise, Poll, SetHandler, SetWakeupFd, SetPipe, Move, Fork>;

Operation NextOperation(FuzzInput& input) {
  const uint8_t byte = input.Byte();
  const int number = kNumbers[byte >> 4 & 3];
  switch (byte & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
      return Trip{number};
    case 4:
      return SetInterrupt{number};
    case 5:
      return Raise{};
    case 6:
    case 7:
      return SetHandler{number, static_cast<Does>(byte >> 6 & 3)};
    case 8:
      return SetWakeupFd{(byte & 16) != 0};
    case 9:
      return SetPipe{static_cast<Pipe>(byte >> 4 & 3)};
    case 10:
    case 11:
      return Move{};
    case 12:
      if ((byte & 0xc0) == 0xc0) return Fork{};
      return Poll{};
    default:
      return Poll{};
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return pyrt::RunScheduled<pyrt::World>(data, size, &pyrt::NextOperation);
}
