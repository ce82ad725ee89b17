#include "pyrt/testing/detsched/internal/shrinker.h"

#include <utility>

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

using Segments = std::vector<Script::Segment>;

void Append(Segments* segments, const Script::Segment& segment) {
  if (!segments->empty() && segment.turn == Turn::kRun && segments->back().turn == Turn::kRun &&
      segments->back().fiber == segment.fiber) {
    segments->back().turns += segment.turns;
  } else {
    segments->push_back(segment);
  }
}

// Takes segment `from` out and puts it in before what was segment `to`.
Segments Moved(const Segments& segments, size_t from, size_t to) {
  Segments moved;
  for (size_t i = 0; i <= segments.size(); ++i) {
    if (i == to) Append(&moved, segments[from]);
    if (i < segments.size() && i != from) Append(&moved, segments[i]);
  }
  return moved;
}

Segments Without(const Segments& segments, size_t index) {
  Segments rest;
  for (size_t i = 0; i < segments.size(); ++i) {
    if (i != index) Append(&rest, segments[i]);
  }
  return rest;
}

}  // namespace

Script ToScript(const std::vector<Decision>& decisions) {
  Script script;
  for (const Decision& decision : decisions) {
    if (decision.kind == ChoiceKind::kFiber) {
      Append(&script.segments, {decision.fiber, decision.turn, 1});
    } else {
      if (script.others.size() <= decision.fiber) script.others.resize(decision.fiber + size_t{1});
      script.others[decision.fiber].push_back(decision.choice);
    }
  }
  return script;
}

ScriptChooser::ScriptChooser(Script script, std::function<int()> current)
    : script_(std::move(script)), current_(std::move(current)) {}

void ScriptChooser::BeginSchedule() {
  segment_ = 0;
  done_ = 0;
  position_.assign(script_.others.size(), 0);
}

int ScriptChooser::Choose(const ChoicePoint& point) {
  if (point.kind == ChoiceKind::kFiber) return ChooseTurn(point);
  const auto fiber = static_cast<size_t>(current_());
  if (fiber >= position_.size() || position_[fiber] >= script_.others[fiber].size()) return 0;
  const int choice = script_.others[fiber][position_[fiber]++];
  return choice < point.count ? choice : 0;
}

int ScriptChooser::ChooseTurn(const ChoicePoint& point) {
  while (segment_ < script_.segments.size()) {
    const Script::Segment& segment = script_.segments[segment_];
    if (done_ < segment.turns) {
      for (int i = 0; i < point.count; ++i) {
        const Alternative& alternative = point.alternatives[i];
        if (alternative.fiber != segment.fiber || alternative.turn != segment.turn) continue;
        ++done_;
        return i;
      }
      if (point.count == 1) return 0;  // a turn that nobody had to ask for
    }
    ++segment_;
    done_ = 0;
  }
  return 0;
}

void Shrink(Script script, int runs, const std::function<bool(Script* script)>& try_script) {
  const auto attempt = [&](Script candidate) {
    if (--runs < 0 || !try_script(&candidate)) return false;
    script = std::move(candidate);
    return true;
  };
  bool improved = true;
  while (improved && runs > 0) {
    improved = false;
    for (size_t fiber = 0; fiber < script.others.size(); ++fiber) {
      for (size_t i = 0; fiber < script.others.size() && i < script.others[fiber].size(); ++i) {
        if (script.others[fiber][i] == 0) continue;
        Script candidate = script;
        candidate.others[fiber][i] = 0;
        improved |= attempt(std::move(candidate));
      }
    }
    for (size_t i = 0; i < script.segments.size(); ++i) {
      Script candidate = script;
      candidate.segments = Without(script.segments, i);
      improved |= attempt(std::move(candidate));
    }
    for (size_t i = 0; i < script.segments.size(); ++i) {
      size_t next = i + 1;
      while (next < script.segments.size() && script.segments[next].fiber != script.segments[i].fiber) ++next;
      if (next >= script.segments.size() || script.segments[next].turn != Turn::kRun) continue;
      Script candidate = script;
      candidate.segments = Moved(script.segments, next, i + 1);
      if (attempt(std::move(candidate))) {
        improved = true;
      } else if (script.segments[i].turn == Turn::kRun) {
        candidate = script;
        candidate.segments = Moved(script.segments, i, next);
        improved |= attempt(std::move(candidate));
      }
    }
  }
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
