// Every nondeterministic decision of a schedule is a choice among `count` alternatives, of which number 0 is
// the dull one: go on with the same fiber, return the newest value, inject nothing. A schedule is therefore
// its list of choices, short to print (the few that are not 0) and easy to shrink (make more of them 0).

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_CHOICE_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_CHOICE_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// What the next step of a fiber touches, for the independence relation of sleep sets.
enum class Effect : uint8_t {
  kNone,             // only the fiber itself
  kRead,             // reads `address`
  kReadSc,           // reads `address` with a place in the order of all seq_cst operations
  kWrite,            // writes `address`, or its queue of sleepers
  kCompareExchange,  // the same, or only reads it
  kGlobal,           // may concern anybody: fences, start, exit, join, fork, signals
};

struct Pending {
  const void* address = nullptr;
  Effect effect = Effect::kNone;
};

inline bool Independent(const Pending& a, const Pending& b) {
  if (a.effect == Effect::kGlobal || b.effect == Effect::kGlobal) return false;
  if (a.effect == Effect::kNone || b.effect == Effect::kNone || a.address != b.address) return true;
  if (a.effect == Effect::kReadSc && b.effect == Effect::kReadSc) return false;
  return a.effect < Effect::kWrite && b.effect < Effect::kWrite;
}

enum class ChoiceKind : uint8_t {
  kFiber,  // who runs next, and how
  kLoad,   // which store a load, or a compare-exchange that fails, reads: 0 is the newest
  kFault,  // whether an optional mishap happens: a weak compare-exchange, a thread start, a clock jump
  kFork,   // which side of a fork
  kUser,   // Schedule::Choose, detsched::Choose
};

enum class Turn : uint8_t {
  kRun,      // goes on
  kTimeout,  // its futex deadline has passed
  kSignal,   // takes a signal that was sent to it
  // Injected: at most as often as the options allow, and never what saves a schedule from a deadlock.
  kEarlyTimeout,
  kSpuriousWake,
  kOptionalSignal,
  kDie,
};
inline bool IsInjected(Turn turn) { return turn >= Turn::kEarlyTimeout; }

struct Alternative {
  uint8_t fiber;
  Turn turn;
  bool preempts;  // the running fiber could go on and would not
  Pending pending;
};

inline constexpr int kMaxAlternatives = 64;

struct ChoicePoint {
  ChoiceKind kind;
  int count;
  // Of kFiber only. The regular alternatives come first, then the injected ones.
  const Alternative* alternatives = nullptr;
  int regular = 0;
  int current = -1;       // the fiber that reached the point, -1 if it ended
  bool yielding = false;  // some fiber is being held back because it spins
};

// What was decided in a schedule: `choice` of ChoiceKind `kind`, for a turn who got it.
struct Decision {
  ChoiceKind kind;
  uint8_t fiber;
  Turn turn;
  uint8_t choice;
};

// Decides. One object sees all schedules of one exploration.
class Chooser {
 public:
  virtual ~Chooser() = default;
  virtual void BeginSchedule() = 0;
  // Called for every choice with count > 1, and for each kFiber choice if WantsForcedTurns().
  virtual int Choose(const ChoicePoint& point) = 0;
  virtual void FiberYields(int /*fiber*/) {}
  // After a schedule of `steps` steps that did not fail: is there another one to try?
  virtual bool Next(uint64_t steps) = 0;
};

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_CHOICE_H_
