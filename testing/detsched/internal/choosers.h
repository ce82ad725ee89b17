// The strategies.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_CHOOSERS_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_CHOOSERS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/internal/choice.h"
#include "pyrt/testing/detsched/internal/clock.h"
#include "pyrt/testing/detsched/options.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// xorshift64*: a state per schedule, so that one number repeats a schedule.
class RandomBits {
 public:
  void Seed(uint64_t seed);
  uint64_t Next();
  int Below(int bound) { return static_cast<int>((Next() >> 33) % static_cast<uint64_t>(bound)); }

 private:
  uint64_t state_ = 1;
};

// Common to kRandom and kPct: seeds, and everything but who runs next.
class SeededChooser : public Chooser {
 public:
  explicit SeededChooser(const Options& options) : seed_(options.seed), stale_bound_(options.stale_reads) {}
  void BeginSchedule() override {
    random_.Seed(seed_);
    stale_reads_ = 0;
  }
  int Choose(const ChoicePoint& point) final;
  bool Next(uint64_t steps) override;
  uint64_t seed() const { return seed_; }

 protected:
  virtual int ChooseFiber(const ChoicePoint& point) = 0;
  RandomBits random_;

 private:
  uint64_t seed_;
  int stale_bound_;
  int stale_reads_ = 0;
};

class RandomChooser final : public SeededChooser {
 public:
  using SeededChooser::SeededChooser;
  void BeginSchedule() override;

 private:
  int ChooseFiber(const ChoicePoint& point) override;
  int stay_ = 0;  // of 16 points, how many go on with the same fiber
};

// Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs": the fiber of the
// highest priority runs; at depth - 1 random steps the running fiber's priority drops below all others. A
// fiber that spins drops too.
class PctChooser final : public SeededChooser {
 public:
  explicit PctChooser(const Options& options);
  void BeginSchedule() override;
  void FiberYields(int fiber) override;
  bool Next(uint64_t steps) override;
  // Turns of the longest schedule so far.
  uint64_t length() const { return length_; }

 private:
  int ChooseFiber(const ChoicePoint& point) override;
  int changes_;
  uint64_t length_ = 64;
  uint64_t step_ = 0;
  int64_t lowest_ = 0;
  int64_t priority_[kMaxFibers] = {};
  std::vector<uint64_t> change_at_;
};

// The choices of a trace, then 0.
class ReplayChooser final : public Chooser {
 public:
  explicit ReplayChooser(std::vector<uint8_t> choices) : choices_(std::move(choices)) {}
  void BeginSchedule() override { position_ = 0; }
  int Choose(const ChoicePoint& point) override;
  bool Next(uint64_t /*steps*/) override { return false; }

 private:
  std::vector<uint8_t> choices_;
  size_t position_ = 0;
};

class BytesChooser final : public Chooser {
 public:
  BytesChooser(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size) {}
  void BeginSchedule() override { position_ = 0; }
  int Choose(const ChoicePoint& point) override;
  bool Next(uint64_t /*steps*/) override { return false; }

 private:
  const uint8_t* bytes_;
  size_t size_;
  size_t position_ = 0;
};

// Depth-first search without stored states: each schedule repeats the choices up to the last one that has an
// alternative left, takes that, and goes on with the first of everything.
class ExhaustiveChooser final : public Chooser {
 public:
  explicit ExhaustiveChooser(const Options& options);
  void BeginSchedule() override;
  int Choose(const ChoicePoint& point) override;
  // Who stands back for whom is no matter of single steps.
  void FiberYields(int /*fiber*/) override { asleep_ = 0; }
  bool Next(uint64_t steps) override;

  // Where the search is, between two schedules: an opaque text, from which another chooser of the same options goes on.
  std::string Position() const;
  void GoTo(const std::string& position);

  // Sleep sets miss what only the order of independent steps shows.
  void DisableSleepSets() { sleep_sets_ = false; }
  // The schedule that ran was found to be equivalent to an earlier one.
  bool redundant() const { return redundant_; }
  uint64_t diverged() const { return diverged_; }

 private:
  struct Node {
    uint8_t count;
    uint8_t chosen;
    uint64_t allowed;  // alternatives to explore
  };
  uint64_t Allowed(const ChoicePoint& point) const;
  void Descend(const ChoicePoint& point, int choice, uint64_t allowed);

  int bound_;
  int stale_bound_;
  bool sleep_sets_;
  std::vector<Node> nodes_;
  // Of the schedule that runs.
  size_t depth_ = 0;
  int preemptions_ = 0;
  int stale_reads_ = 0;
  uint32_t asleep_ = 0;  // fibers whose next step was explored before, here or above
  bool redundant_ = false;
  uint64_t diverged_ = 0;
};

// "12:1,40:2": the choices that are not 0, by position. Empty vector on a malformed text.
std::string EncodeTrace(const std::vector<uint8_t>& choices);
bool DecodeTrace(const std::string& trace, std::vector<uint8_t>* choices);

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_CHOOSERS_H_
