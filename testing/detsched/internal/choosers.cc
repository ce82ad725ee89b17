#include "pyrt/testing/detsched/internal/choosers.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <string>
#include <type_traits>

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

// Out of 16: how often an optional mishap happens when it may.
constexpr int kInjectionWeight = 2;
// Out of 4: how often a load returns an older value when it may.
constexpr int kStaleWeight = 1;

uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

uint64_t BitOf(int index) { return uint64_t{1} << index; }

}  // namespace

void RandomBits::Seed(uint64_t seed) { state_ = Mix(seed) | 1; }

uint64_t RandomBits::Next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545F4914F6CDD1Du;
}

int SeededChooser::Choose(const ChoicePoint& point) {
  switch (point.kind) {
    case ChoiceKind::kFiber:
      if (point.regular < point.count && random_.Below(16) < kInjectionWeight) {
        return point.regular + random_.Below(point.count - point.regular);
      }
      return ChooseFiber(point);
    case ChoiceKind::kLoad:
      if (stale_bound_ >= 0 && stale_reads_ >= stale_bound_) return 0;
      if (random_.Below(4) >= kStaleWeight) return 0;
      ++stale_reads_;
      return random_.Below(point.count);
    case ChoiceKind::kFault:
      return random_.Below(16) < kInjectionWeight;
    case ChoiceKind::kFork:
    case ChoiceKind::kUser:
      return random_.Below(point.count);
  }
  return 0;
}

bool SeededChooser::Next(uint64_t /*steps*/) {
  seed_ = Mix(seed_);
  return true;
}

void RandomChooser::BeginSchedule() {
  SeededChooser::BeginSchedule();
  static constexpr int kStay[] = {0, 4, 8, 13};
  stay_ = kStay[random_.Below(4)];
}

int RandomChooser::ChooseFiber(const ChoicePoint& point) {
  if (point.regular == 1) return 0;
  if (point.alternatives[0].fiber == point.current && random_.Below(16) < stay_) return 0;
  return random_.Below(point.regular);
}

PctChooser::PctChooser(const Options& options)
    : SeededChooser(options), changes_(std::max(options.pct_depth, 1) - 1) {}

void PctChooser::BeginSchedule() {
  SeededChooser::BeginSchedule();
  for (int64_t& priority : priority_) priority = static_cast<int64_t>(random_.Next() >> 2) + 1;
  change_at_.clear();
  for (int i = 0; i < changes_; ++i) change_at_.push_back(random_.Next() % length_);
  step_ = 0;
  lowest_ = 0;
}

void PctChooser::FiberYields(int fiber) { priority_[fiber] = --lowest_; }

int PctChooser::ChooseFiber(const ChoicePoint& point) {
  if (point.current >= 0 && std::find(change_at_.begin(), change_at_.end(), step_) != change_at_.end()) {
    priority_[point.current] = --lowest_;
  }
  ++step_;
  int best = 0;
  for (int i = 1; i < point.regular; ++i) {
    if (priority_[point.alternatives[i].fiber] > priority_[point.alternatives[best].fiber]) best = i;
  }
  return best;
}

bool PctChooser::Next(uint64_t steps) {
  length_ = std::max(length_ == 64 ? 0 : length_, step_);
  length_ = std::max<uint64_t>(length_, 1);
  return SeededChooser::Next(steps);
}

int ReplayChooser::Choose(const ChoicePoint& point) {
  if (point.count == 1) return 0;
  const int choice = position_ < choices_.size() ? choices_[position_] : 0;
  ++position_;
  return choice < point.count ? choice : 0;
}

int BytesChooser::Choose(const ChoicePoint& point) {
  if (point.count == 1 || position_ >= size_) return 0;
  return bytes_[position_++] % point.count;
}

ExhaustiveChooser::ExhaustiveChooser(const Options& options)
    : bound_(options.preemption_bound), stale_bound_(options.stale_reads), sleep_sets_(options.sleep_sets) {}

void ExhaustiveChooser::BeginSchedule() {
  depth_ = 0;
  preemptions_ = stale_reads_ = 0;
  asleep_ = 0;
  redundant_ = false;
}

uint64_t ExhaustiveChooser::Allowed(const ChoicePoint& point) const {
  if (point.kind == ChoiceKind::kLoad && stale_bound_ >= 0 && stale_reads_ >= stale_bound_) return 1;
  uint64_t allowed = 0;
  for (int i = 0; i < point.count; ++i) {
    if (point.kind == ChoiceKind::kFiber) {
      const Alternative& alternative = point.alternatives[i];
      if (alternative.preempts && bound_ >= 0 && preemptions_ >= bound_) continue;
      if (alternative.turn == Turn::kRun && (asleep_ >> alternative.fiber & 1) != 0) continue;
    }
    allowed |= BitOf(i);
  }
  return allowed;
}

int ExhaustiveChooser::Choose(const ChoicePoint& point) {
  if (redundant_) return 0;
  if (point.count > 1 && depth_ < nodes_.size()) {
    const Node node = nodes_[depth_];
    if (node.count == point.count) {
      ++depth_;
      Descend(point, node.chosen, node.allowed);
      return node.chosen;
    }
    // The body does not repeat. Forget what was below here, and say so in the result.
    ++diverged_;
    nodes_.resize(depth_);
  }
  const uint64_t allowed = Allowed(point);
  if (allowed == 0) {
    // Whatever happens from here is equivalent to something explored. The schedule goes on to its end by the
    // shortest way, so that the body's destructors run.
    redundant_ = true;
    return 0;
  }
  const int choice = std::countr_zero(allowed);
  if (point.count > 1) {
    nodes_.push_back({static_cast<uint8_t>(point.count), static_cast<uint8_t>(choice), allowed});
    ++depth_;
  }
  Descend(point, choice, allowed);
  return choice;
}

void ExhaustiveChooser::Descend(const ChoicePoint& point, int choice, uint64_t allowed) {
  if (point.kind == ChoiceKind::kLoad) stale_reads_ += choice != 0;
  if (point.kind != ChoiceKind::kFiber) return;
  const Alternative& taken = point.alternatives[choice];
  preemptions_ += taken.preempts;
  if (!sleep_sets_) return;
  if (taken.turn != Turn::kRun) {
    asleep_ = 0;
    return;
  }
  // The steps that were explored before from here fall asleep: to take one of them later, after only steps
  // that are independent of it, ends where an explored schedule ended. Within a preemption bound this holds
  // for the step of the fiber that was running only. Moving its step t forward, from after the steps p of
  // others to before them, turns the schedule f | p | t r into f t | p | r, which has no more preemptions;
  // for another fiber's step it may cost one more, which the bound may have left out.
  if (!point.yielding) {
    for (int i = 0; i < choice; ++i) {
      const Alternative& earlier = point.alternatives[i];
      if ((allowed & BitOf(i)) == 0 || earlier.turn != Turn::kRun) continue;
      if (bound_ < 0 || earlier.fiber == point.current) asleep_ |= uint32_t{1} << earlier.fiber;
    }
  }
  asleep_ &= ~(uint32_t{1} << taken.fiber);
  if (asleep_ == 0) return;
  uint32_t independent = 0;
  for (int i = 0; i < point.regular; ++i) {
    const Alternative& other = point.alternatives[i];
    if (other.turn == Turn::kRun && Independent(other.pending, taken.pending)) {
      independent |= uint32_t{1} << other.fiber;
    }
  }
  asleep_ &= independent;
}

bool ExhaustiveChooser::Next(uint64_t /*steps*/) {
  if (depth_ < nodes_.size()) {
    ++diverged_;
    nodes_.resize(depth_);
  }
  while (!nodes_.empty()) {
    Node& node = nodes_.back();
    const uint64_t left = node.chosen == 63 ? 0 : node.allowed & ~(BitOf(node.chosen + 1) - 1);
    if (left != 0) {
      node.chosen = static_cast<uint8_t>(std::countr_zero(left));
      return true;
    }
    nodes_.pop_back();
  }
  return false;
}

std::string ExhaustiveChooser::Position() const {
  return {reinterpret_cast<const char*>(nodes_.data()), nodes_.size() * sizeof(Node)};
}

void ExhaustiveChooser::GoTo(const std::string& position) {
  static_assert(std::is_trivially_copyable_v<Node>);
  nodes_.resize(position.size() / sizeof(Node));
  std::memcpy(nodes_.data(), position.data(), nodes_.size() * sizeof(Node));
}

std::string EncodeTrace(const std::vector<uint8_t>& choices) {
  std::string trace;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == 0) continue;
    if (!trace.empty()) trace += ',';
    trace += std::to_string(i) + ':' + std::to_string(choices[i]);
  }
  return trace.empty() ? "0:0" : trace;
}

bool DecodeTrace(const std::string& trace, std::vector<uint8_t>* choices) {
  choices->clear();
  const char* at = trace.data();
  const char* const end = at + trace.size();
  while (at < end) {
    size_t position = 0;
    unsigned choice = 0;
    auto parsed = std::from_chars(at, end, position);
    if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != ':' || position > 10'000'000)
      return false;
    parsed = std::from_chars(parsed.ptr + 1, end, choice);
    if (parsed.ec != std::errc() || choice > 255) return false;
    if (choices->size() <= position) choices->resize(position + 1);
    (*choices)[position] = static_cast<uint8_t>(choice);
    at = parsed.ptr;
    if (at < end && *at++ != ',') return false;
  }
  return true;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
