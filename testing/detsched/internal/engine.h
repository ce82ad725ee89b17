// The engine: fibers, who may run, futex queues, virtual time, the log of steps. One schedule at a time.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_ENGINE_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_ENGINE_H_

#include <bit>
#include <cstdarg>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform_types.h"
#include "pyrt/testing/detsched/internal/access.h"
#include "pyrt/testing/detsched/internal/choice.h"
#include "pyrt/testing/detsched/internal/clock.h"
#include "pyrt/testing/detsched/internal/context.h"
#include "pyrt/testing/detsched/internal/log.h"
#include "pyrt/testing/detsched/internal/memory.h"
#include "pyrt/testing/detsched/options.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// Fibers 0..kMaxFibers-1 are threads; the body of the schedule and the caller of Explore have contexts too.
inline constexpr int kBody = kMaxFibers;
inline constexpr int kCaller = kMaxFibers + 1;
inline constexpr int kContexts = kMaxFibers + 2;

enum class FiberState : uint8_t {
  kUnused,
  kReady,
  kFutex,    // sleeps on `futex`
  kJoining,  // waits for `joined`
  kExited,
  kHung,
  kVanished,  // was in the parent of a fork
};

struct Fiber {
  Context context;
  FiberState state = FiberState::kUnused;
  bool reusable = false;     // joined or detached: when exited, another thread may take its place
  bool joinable = false;     // an OsThread: its end is a step that others may wait for
  bool interrupted = false;  // was blocked when its signal came
  uint8_t generation = 0;
  const char* name = "";
  std::function<void()> body;
  ThreadMemory memory;
  Pending pending;

  const void* futex = nullptr;
  Deadline deadline = kNoDeadline;
  uint64_t asleep_since = 0;  // order of arrival
  FutexResult wake = FutexResult::kWoken;
  int joined = -1;

  std::vector<std::function<void()>> signals;  // sent, not yet taken
  std::function<void()> handler;               // taken, runs when the fiber does
  std::function<void()> optional_handler;
  int optional_signals = 0;
  bool may_die = false;
  Death death = Death::kHang;

  uint64_t native_id = 0;
  uint64_t cached_native_id = 0;  // what the platform remembers, wrong in a forked child

  // What the OS thread holds for whoever runs on it.
  int saved_errno = 0;
  struct {
    void* caught;
    unsigned uncaught;
  } exceptions{};
  std::vector<char> locals;
};

class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set_options(const Options& options) { options_ = options; }

  // Runs one schedule to its end. Returns false if it failed.
  bool RunSchedule(const std::function<void()>& body, Chooser* chooser);

  const Options& options() const { return options_; }
  Failure failure() const { return failure_; }
  const std::string& message() const { return message_; }
  const std::vector<uint8_t>& choices() const { return choices_; }
  const std::vector<Decision>& decisions() const { return decisions_; }
  uint64_t steps() const { return steps_; }
  int fibers() const { return std::popcount(used_fibers_); }
  bool has_invariants() const { return !invariants_.empty(); }
  const std::vector<Step>& log() const { return log_; }
  // One line per step, or of the last `limit` steps.
  std::string Interleaving(size_t limit) const;
  std::string FiberStates() const;

  // Of the body.
  int Spawn(const char* name, std::function<void()> body);
  void Run();
  void AddInvariant(const char* name, std::function<bool()> holds);
  void AddOnEnd(std::function<void()> callback) { on_end_.push_back(std::move(callback)); }
  Fiber& fiber(int id);
  bool OnFiber() const { return current_ < kMaxFibers; }
  bool InSchedule() const { return current_ != kCaller; }
  int current() const { return current_; }
  int hung() const;
  bool forked() const { return forked_; }

  // Of the fibers.
  int Choose(ChoiceKind kind, int count);
  // Reaches a scheduling point before a step with this effect; returns when the fiber is to take it.
  void Point(Pending pending);
  void Point(Effect effect, const void* address = nullptr) { Point(Pending{address, effect}); }
  Step& Log(Op op, const void* address, Site site);
  [[noreturn]] void FailWith(Failure failure, std::string message);

  uint64_t AtomicLoad(const void* address, size_t size, std::memory_order order, Site site);
  void AtomicStore(void* address, size_t size, uint64_t value, std::memory_order order, Site site);
  uint64_t AtomicRmw(void* address, size_t size, Rmw operation, uint64_t operand, std::memory_order order,
                     Site site);
  bool AtomicCompareExchange(void* address, size_t size, uint64_t* expected, uint64_t desired,
                             std::memory_order success, std::memory_order failure, bool weak, Site site);
  void PlainRead(const void* address, Site site);
  void PlainWrite(const void* address, Site site);
  void ConstructAtomic(const void* address, size_t size, Site site);
  void ConstructPlain(const void* address, Site site);
  void Fence(bool heavy, Site site);
  void Relax(bool yield, Site site);
  FutexResult FutexWait(const void* word, uint32_t expected, Deadline deadline, Site site);
  int FutexWake(const void* word, int count, Site site);
  int64_t MonotonicNow();
  void AdvanceTime(int64_t nanoseconds);
  int64_t now() const { return now_; }

  // Returns the fiber, or -1 where thread creation fails.
  int StartThread(std::function<void()> body);
  void JoinThread(int id, uint8_t generation);
  void DetachThread(int id, uint8_t generation);
  [[noreturn]] void Hang();
  int Fork();
  void SendSignal(int id, std::function<void()> handler);
  void Kill(int id, Death death);
  uint64_t NativeId();
  void ForgetNativeId();
  void AddName(const void* address, size_t size, const char* name, int index) {
    names_.push_back({address, size, name, index});
  }

 private:
  static constexpr int64_t kStartOfTime = 1'000 * kNanosPerSecond;
  friend void FiberMain();
  friend void BodyMain();

  void Reset();
  int NewFiber(const char* name, std::function<void()> body);
  // Gives the turn to somebody; returns when it is the caller's again.
  void Reschedule();
  // Decides who takes the next turn and prepares it. kBody when the run is over.
  int PickNext();
  int EagerFiber();
  void CollectAlternatives();
  void AddAlternative(int id, Turn turn, bool preempts);
  void ApplyTurn(const Alternative& alternative);
  bool AdvanceToNextDeadline();
  int ChooseFailure(const ThreadMemory& thread, const AtomicLocation& location, uint64_t expected,
                    std::memory_order failure);
  void StoresArrive();
  void EverybodySpins(uint32_t ready);
  void Wake(Fiber& fiber, FutexResult result);
  void Die(int id, Death death);
  void EndFiber(int id, FiberState state);
  void CheckInvariants();
  // Runs the handler of the signal that the running fiber has just taken, if it has.
  void RunHandler();
  // Takes all signals that were sent to the running fiber.
  void DeliverSignals();
  void Cover(const Pending& pending);
  uint64_t CoverageId(const void* address);
  void SwitchTo(int id);
  void Progress();
  void CheckConstruction(const Race& race, const void* address, Site site);
  void ReportRace(const Race& race, const char* what, const void* address, Site site);
  bool Fault(int* used, int budget);
  Fiber& self() { return fibers_[current_]; }
  std::string NameOf(const void* address) const;

  Options options_;
  Fiber fibers_[kContexts];
  int current_ = kCaller;
  Memory memory_;
  Chooser* chooser_ = nullptr;
  const std::function<void()>* body_ = nullptr;

  struct NamedInvariant {
    const char* name;
    std::function<bool()> holds;
  };
  std::vector<NamedInvariant> invariants_;
  std::vector<std::function<void()>> on_end_;
  std::vector<NamedRange> names_;
  std::vector<Step> log_;
  std::vector<uint8_t> choices_;     // of the points with more than one alternative
  std::vector<Decision> decisions_;  // the same, and the turns that nobody had to choose

  Alternative alternatives_[kMaxAlternatives];
  int alternative_count_ = 0;
  int regular_count_ = 0;

  int turn_ = -1;             // whose turn it is, for what counts as a preemption; -1 before the first
  uint32_t used_fibers_ = 0;  // mask
  uint32_t eager_ = 0;        // mask: on the way to their next scheduling point
  uint32_t yielded_ = 0;      // mask: stand back until somebody else has made progress
  uint32_t spinning_ = 0;     // mask: has only looked since its last turn of a spinning loop
  int idle_rounds_ = 0;
  uint64_t arrivals_ = 0;
  int64_t now_ = kStartOfTime;
  uint64_t steps_ = 0;
  uint64_t last_covered_ = 0;
  int last_covered_fiber_ = -1;
  AddressTable<uint64_t> covered_;  // CoverageId
  uint64_t covered_count_ = 0;      // of those without a name
  int spurious_wakeups_ = 0;
  int early_timeouts_ = 0;
  int weak_cas_failures_ = 0;
  int clock_jumps_ = 0;
  int start_failures_ = 0;
  uint64_t next_pid_ = 0;
  bool forked_ = false;
  uint32_t vanished_ = 0;  // mask: was there at the last fork
  bool spawned_ = false;

  Failure failure_ = Failure::kNone;
  std::string message_;
};

// The engine that the calling code runs on; null outside Explore().
extern Engine* engine;

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_ENGINE_H_
