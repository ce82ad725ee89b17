// Explores the schedules of code that is written against runtime/sync/platform.h.
//
//   TEST(MailboxTest, DeliversExactlyOnce) {
//     const auto result = detsched::Explore(detsched::Options::Exhaustive(2), [](detsched::Schedule& s) {
//       Mailbox box;                                       // fresh state for each schedule
//       detsched::Name(&box, "box");
//       s.Spawn("sender", [&] { box.Put(7); });
//       s.Spawn("receiver", [&] { DETSCHED_CHECK(box.Take() == 7); });
//       s.Run();                                           // until all fibers have ended
//       DETSCHED_CHECK(box.empty());
//     });
//     EXPECT_TRUE(result.ok()) << result.report;
//   }
//
// The body is called once for each schedule. Before and after Run() it is a single thread and its accesses
// are plain memory; between, the fibers take turns at their atomic accesses, futex calls, fences, clock
// reads, starts and ends. Code between two such points is one step. A fiber fails the schedule through
// DETSCHED_CHECK, Fail(), PYRT_CHECK, Fatal(), an exception that leaves it, a data race on Plain<T>, a
// deadlock (nobody can run, no timer), or a livelock (Options::max_steps).
//
// A failed schedule is abandoned where it stands: nothing is unwound, no destructor runs, what it allocated
// stays. Globals of the code under test are then in disorder: see Options::isolate.
//
// See README.md for what is modelled, internal/memory.h for the memory model.

#ifndef PYRT_TESTING_DETSCHED_SCHEDULER_H_
#define PYRT_TESTING_DETSCHED_SCHEDULER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/mutants.h"  // IWYU pragma: export
#include "pyrt/testing/detsched/options.h"  // IWYU pragma: export

namespace pyrt::inline PYRT_VARIANT::detsched {

struct Result {
  Failure failure = Failure::kNone;
  bool ok() const { return failure == Failure::kNone; }

  uint64_t schedules = 0;  // explored, without those that shrinking tried
  uint64_t pruned = 0;     // of these, cut short because sleep sets knew them to be redundant
  uint64_t steps = 0;      // of all
  bool complete = false;   // exhaustive: nothing is left within the bounds
  bool deepened =
      false;  // exhaustive: the environment asked for more preemptions than the test; may have run out of time
  std::string rest;       // exhaustive: what `max_schedules` has left, for Options::resume
  uint64_t diverged = 0;  // exhaustive: schedules that did not repeat; the body depends on more than choices
  double seconds = 0;
  // Of the schedule with the most: fibers, and (pct) turns, at each of which another fiber may be chosen. PCT's n and k.
  int fibers = 0;
  uint64_t turns = 0;
  // Pct: with what probability these schedules would have found a bug of their depth, at least: 1 - (1 - p)^schedules, p =
  // 1 / (fibers x turns^(depth - 1)). A bug, that is, which needs neither an older value nor a mishap.
  double guaranteed = 0;

  std::string message;  // why it failed, one line
  std::string trace;    // the failing schedule (after shrinking), for Options::Replay
  uint64_t seed = 0;    // of the failing schedule: Options::Random(1, seed) repeats it
  std::string report;   // all of it, with the interleaving; for ok() a summary
};

// One schedule, as its body sees it.
class Schedule {
 public:
  // A fiber that starts with Run(). `name` must outlive the schedule.
  FiberId Spawn(const char* name, std::function<void()> body);

  // Runs the fibers until all have ended, or hang. Does not return if the schedule fails. May be called again
  // after further Spawn()s.
  void Run();

  // Checked after every step of Run(). Reads the newest value of each atomic; must not write.
  void Invariant(const char* name, std::function<bool()> holds);
  // Called at the end of each Run(), in order.
  void OnEnd(std::function<void()> callback);

  // A number below `count`, all of them explored.
  int Choose(int count);

  // The fiber may die at any of its scheduling points, once.
  void MayDie(FiberId fiber, Death death);
  // The fiber may be interrupted at any of its scheduling points to run `handler`, up to `times` times.
  void MaySignal(FiberId fiber, std::function<void()> handler, int times = 1);

  // Fibers that hang, in HangForever() or killed.
  int hung() const;
  // Whether Run() ended in the child of a ForkProcess().
  bool forked() const;
};

Result Explore(const Options& options, const std::function<void(Schedule&)>& body);

// For code on a fiber.

// Fails the schedule.
[[noreturn]] void Fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
#define DETSCHED_CHECK(condition) \
  (static_cast<bool>(condition)   \
       ? static_cast<void>(0)     \
       : ::pyrt::detsched::Fail("%s:%d: DETSCHED_CHECK(%s)", __FILE__, __LINE__, #condition))

// A scheduling point that does nothing, shown as `label` in the interleaving.
void Point(const char* label = "point");
// As Schedule::Choose.
int Choose(int count);
// Lets virtual time pass for everybody.
void AdvanceTime(int64_t nanoseconds);
// The running fiber, -1 outside.
FiberId CurrentFiber();
// Whether accesses are scheduling points now.
bool Running();
// The fiber runs `handler` at one of its next scheduling points; a FutexWait is interrupted by it. Every
// signal is delivered before the fiber ends or sleeps for ever.
void SendSignal(FiberId fiber, std::function<void()> handler);
// The fiber (possibly the caller) dies where it stands.
void Kill(FiberId fiber, Death death);

// What a fiber has done in this schedule so far: for tests of what a thread costs those beside it, where no clock can be
// asked.
struct AccessCounts {  // of Atomics
  int loads = 0;
  int stores = 0;
  int updates = 0;  // read-modify-writes, and compare-exchanges whether they succeeded or not
};
AccessCounts AccessesBy(FiberId fiber, const void* address, size_t size);
template <typename T>
AccessCounts AccessesBy(FiberId fiber, const T* object) {
  return AccessesBy(fiber, object, sizeof(T));
}
// Turns of spinning loops: its CpuRelax() and YieldCpu().
int PausesOf(FiberId fiber);

// Names an object, and with +offset what lies in it, for the report. `name` must outlive the schedule.
void NameRange(const void* address, size_t size, const char* name, int index = -1);
template <typename T>
void Name(const T* object, const char* name, int index = -1) {
  NameRange(object, sizeof(T), name, index);
}

// Fails the schedule when a waiting fiber is bypassed more often than `bound` times: call Waiting() when the
// fiber has made its wish known, Entered() when a fiber gets what both wish for.
class BypassMonitor {
 public:
  explicit BypassMonitor(int bound) : bound_(bound) {}
  void Waiting();
  void Entered();

 private:
  static constexpr int kFibers = 16;
  int bound_;
  int bypassed_[kFibers] = {};
  bool waiting_[kFibers] = {};
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched

#endif  // PYRT_TESTING_DETSCHED_SCHEDULER_H_
