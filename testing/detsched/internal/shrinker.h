// Simplifies a failing schedule.
//
// A list of choices is a poor thing to edit: each choice is relative to the one before it. The shrinker works
// on a script instead, which names the fiber of each turn: the segments that each fiber runs, in order, and
// each fiber's other choices. It joins two segments of a fiber into one, by doing the later one earlier or
// the earlier one later, leaves segments and mishaps out, lets loads return newest values, and keeps what is
// simpler and still fails in the same way.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_SHRINKER_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_SHRINKER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/testing/detsched/internal/choice.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

struct Script {
  struct Segment {
    uint8_t fiber;
    Turn turn;
    uint32_t turns;
  };
  std::vector<Segment> segments;
  std::vector<std::vector<uint8_t>> others;  // by fiber, in its order
};

Script ToScript(const std::vector<Decision>& decisions);

// Follows a script as far as it can, and then, or where it cannot, takes choice 0.
class ScriptChooser final : public Chooser {
 public:
  // `current` tells which context makes a choice that is not a turn's.
  ScriptChooser(Script script, std::function<int()> current);
  void BeginSchedule() override;
  int Choose(const ChoicePoint& point) override;
  bool Next(uint64_t /*steps*/) override { return false; }

 private:
  int ChooseTurn(const ChoicePoint& point);

  Script script_;
  std::function<int()> current_;
  size_t segment_ = 0;
  uint32_t done_ = 0;  // turns of the segment
  std::vector<size_t> position_;
};

// Calls `try_script` with simpler and simpler scripts. It returns true if the schedule still failed in the
// same way and was simpler than the best so far; `script` is then what was really played.
void Shrink(Script script, int runs, const std::function<bool(Script* script)>& try_script);

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_SHRINKER_H_
