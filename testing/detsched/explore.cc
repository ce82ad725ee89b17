// Explore(): schedule after schedule until one fails, then a simpler one that fails too, then the report.

#include <alloca.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <compare>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/choosers.h"
#include "pyrt/testing/detsched/internal/engine.h"
#include "pyrt/testing/detsched/internal/isolation.h"
#include "pyrt/testing/detsched/internal/shrinker.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

using internal::Chooser;
using internal::Engine;

constexpr int kExhaustiveStaleReads = 2;
constexpr int kShrinkRuns = 1000;
constexpr size_t kReportedSteps = 400;

const char* StrategyName(Strategy strategy) {
  switch (strategy) {
    case Strategy::kRandom:
      return "random";
    case Strategy::kPct:
      return "pct";
    case Strategy::kExhaustive:
      return "exhaustive";
    case Strategy::kReplay:
      return "replay";
    case Strategy::kBytes:
      return "bytes";
  }
  return "?";
}

const char* FailureName(Failure failure) {
  switch (failure) {
    case Failure::kNone:
      return "none";
    case Failure::kCheck:
      return "check";
    case Failure::kFatal:
      return "fatal error";
    case Failure::kRace:
      return "data race";
    case Failure::kDeadlock:
      return "deadlock";
    case Failure::kLivelock:
      return "livelock";
    case Failure::kInvariant:
      return "invariant";
    case Failure::kException:
      return "exception";
    case Failure::kUsage:
      return "wrong use of detsched";
    case Failure::kCrash:
      return "crash";
  }
  return "?";
}

void InterceptFatal(const char* line) {
  Engine* engine = internal::engine;
  if (engine == nullptr || !engine->InSchedule()) return;
  std::string message = line;
  while (!message.empty() && message.back() == '\n') message.pop_back();
  if (engine->options().catch_fatal) engine->FailWith(Failure::kFatal, message);
}

uint64_t NumberOf(const char* variable, uint64_t otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? std::strtoull(value, nullptr, 0) : otherwise;
}

Options WithEnvironment(Options options) {
  const bool seeded = options.strategy == Strategy::kRandom || options.strategy == Strategy::kPct;
  const double seconds = NumberOf("PYRT_DETSCHED_SECONDS", 0);
  if (const char* trace = std::getenv("PYRT_DETSCHED_REPLAY"); trace != nullptr && *trace != '\0') {
    options.strategy = Strategy::kReplay;
    options.trace = trace;
    options.max_schedules = 1;
    options.shrink = false;
  } else if (seeded) {
    options.seed = NumberOf("PYRT_DETSCHED_SEED", options.seed);
    options.max_schedules *= std::max<uint64_t>(1, NumberOf("PYRT_DETSCHED_SCHEDULES", 1));
    if (const uint64_t percent = NumberOf("PYRT_DETSCHED_GUARANTEE", 0);
        percent != 0 && options.pct_depth > 1) {
      options.pct_guarantee = static_cast<double>(percent) / 100;
      options.max_seconds = seconds;
    }
  } else if (options.strategy == Strategy::kExhaustive && options.preemption_bound != Options::kUnlimited &&
             !options.bound_is_claim) {
    const int bound = static_cast<int>(NumberOf("PYRT_DETSCHED_PREEMPTIONS", 0));
    if (bound > options.preemption_bound) {
      options.preemption_bound = bound;
      options.max_schedules = std::numeric_limits<uint64_t>::max();
      options.max_seconds = seconds;
    }
  }
  if (options.stale_reads == Options::kStrategyDefault) {
    options.stale_reads =
        options.strategy == Strategy::kExhaustive ? kExhaustiveStaleReads : Options::kUnlimited;
  }
  return options;
}

std::unique_ptr<Chooser> MakeChooser(const Options& options) {
  switch (options.strategy) {
    case Strategy::kRandom:
      return std::make_unique<internal::RandomChooser>(options);
    case Strategy::kPct:
      return std::make_unique<internal::PctChooser>(options);
    case Strategy::kExhaustive:
      return std::make_unique<internal::ExhaustiveChooser>(options);
    case Strategy::kBytes:
      return std::make_unique<internal::BytesChooser>(options.bytes, options.bytes_size);
    case Strategy::kReplay:
      break;
  }
  std::vector<uint8_t> choices;
  PYRT_CHECK(internal::DecodeTrace(options.trace, &choices), "detsched::Explore", "'%s' is not a trace",
             options.trace.c_str());
  return std::make_unique<internal::ReplayChooser>(std::move(choices));
}

std::string Summary(const Options& options, const Result& result) {
  char text[256];
  std::snprintf(text, sizeof(text),
                "detsched: %s: %" PRIu64 " schedules (%" PRIu64 " cut short), %" PRIu64
                " steps, %.3f s, %.0f schedules/s%s%s",
                StrategyName(options.strategy), result.schedules, result.pruned, result.steps, result.seconds,
                static_cast<double>(result.schedules) / std::max(result.seconds, 1e-9),
                result.complete ? ", complete" : "", result.diverged != 0 ? ", DIVERGED" : "");
  std::string summary = text;
  if (options.strategy == Strategy::kPct) {
    std::snprintf(text, sizeof(text),
                  "; %d fibers, %" PRIu64 " turns: a bug of depth %d is found with %.1f %%", result.fibers,
                  result.turns, options.pct_depth, 100 * result.guaranteed);
    summary += text;
  }
  return summary;
}

class Exploration {
 public:
  Exploration(Engine* engine, const Options& options, bool stop_at_divergence,
              const std::function<void(Schedule&)>& body)
      : engine_(*engine), options_(options), stop_at_divergence_(stop_at_divergence), body_([&body] {
          Schedule schedule;
          body(schedule);
        }) {}

  // `died` is told what is known when the process crashes in a schedule.
  Result Run(const std::function<void(const Result&)>& died) {
    internal::CrashHandler on_crash([&] {
      if (result_.ok()) {
        result_.failure = Failure::kCrash;
        result_.message = "the process died in this schedule";
        choices_ = engine_.choices();
        Trim(&choices_);
        Report();
      }
      died(result_);
    });
    Search();
    result_.seconds = Seconds();
    if (options_.strategy == Strategy::kPct) result_.guaranteed = Guaranteed();
    if (result_.ok()) {
      result_.report = Summary(options_, result_);
    } else {
      if (options_.shrink && result_.failure != Failure::kUsage) {
        internal::Shrink(internal::ToScript(engine_.decisions()), kShrinkRuns,
                         [this](internal::Script* script) { return Try(script); });
      }
    }
    if (options_.reset) options_.reset();
    return std::move(result_);
  }

 private:
  bool RunOne(Chooser* chooser) {
    if (options_.reset) options_.reset();
    return engine_.RunSchedule(body_, chooser);
  }

  void Search() {
    const std::unique_ptr<Chooser> chooser = MakeChooser(options_);
    auto* exhaustive = options_.strategy == Strategy::kExhaustive
                           ? static_cast<internal::ExhaustiveChooser*>(chooser.get())
                           : nullptr;
    auto* pct =
        options_.strategy == Strategy::kPct ? static_cast<internal::PctChooser*>(chooser.get()) : nullptr;
    if (exhaustive != nullptr) {
      // One schedule ahead: it initialises what the code under test initialises once, so that the others are
      // alike, and shows whether there is an invariant.
      internal::ReplayChooser first({});
      if (!RunOne(&first)) return TakeFailure(0);
      if (engine_.has_invariants()) exhaustive->DisableSleepSets();
      if (!options_.resume.empty()) exhaustive->GoTo(options_.resume);
    }
    for (;;) {
      const bool passed = RunOne(chooser.get());
      ++result_.schedules;
      result_.steps += engine_.steps();
      result_.fibers = std::max(result_.fibers, engine_.fibers());
      if (exhaustive != nullptr) result_.pruned += exhaustive->redundant();
      if (!passed) {
        const bool seeded = options_.strategy == Strategy::kRandom || options_.strategy == Strategy::kPct;
        return TakeFailure(seeded ? static_cast<internal::SeededChooser*>(chooser.get())->seed() : 0);
      }
      const bool more = chooser->Next(engine_.steps());
      if (pct != nullptr) result_.turns = pct->length();
      if (exhaustive != nullptr) result_.diverged = exhaustive->diverged();
      if (!more) {
        result_.complete = exhaustive != nullptr && result_.diverged == 0;
        return;
      }
      if (Enough()) {
        if (exhaustive != nullptr) result_.rest = exhaustive->Position();
        return;
      }
      if (stop_at_divergence_ && result_.diverged != 0) return;
    }
  }

  bool Enough() {
    const bool late =
        options_.max_seconds != 0 && result_.schedules % 64 == 0 && Seconds() >= options_.max_seconds;
    const bool many = result_.schedules >= options_.max_schedules;
    if (options_.strategy != Strategy::kPct || options_.pct_guarantee == 0) return many || late;
    return many && (late || Guaranteed() >= options_.pct_guarantee);
  }

  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  void TakeFailure(uint64_t seed) {
    result_.failure = engine_.failure();
    result_.message = engine_.message();
    result_.seed = seed;
    choices_ = engine_.choices();
    Trim(&choices_);
    best_ = found_ = Measured();
    Report();
  }

  static void Trim(std::vector<uint8_t>* choices) {
    while (!choices->empty() && choices->back() == 0) choices->pop_back();
  }

  // Fewer turns of fibers and mishaps, then fewer choices that are not 0, then a shorter schedule.
  struct Measure {
    size_t events = 0;
    size_t choices = 0;
    uint64_t steps = 0;
    auto operator<=>(const Measure&) const = default;
  };
  Measure Measured() const {
    const internal::Script script = internal::ToScript(engine_.decisions());
    Measure measure{script.segments.size(), NonZero(engine_.choices()), engine_.steps()};
    for (const std::vector<uint8_t>& others : script.others) measure.events += NonZero(others);
    return measure;
  }
  static size_t NonZero(const std::vector<uint8_t>& choices) {
    return static_cast<size_t>(
        std::count_if(choices.begin(), choices.end(), [](uint8_t c) { return c != 0; }));
  }

  // Plays the script, and adopts what happens if it fails in the same way and is simpler.
  bool Try(internal::Script* script) {
    ++shrink_runs_;
    internal::ScriptChooser chooser(*script, [this] { return engine_.current(); });
    if (RunOne(&chooser) || engine_.failure() != result_.failure) return false;
    const Measure measure = Measured();
    if (measure >= best_) return false;
    best_ = measure;
    choices_ = engine_.choices();
    Trim(&choices_);
    *script = internal::ToScript(engine_.decisions());
    result_.message = engine_.message();
    Report();
    return true;
  }

  double Guaranteed() const {
    const double turns = static_cast<double>(std::max<uint64_t>(result_.turns, 1));
    const double once =
        1 / (std::max(result_.fibers, 1) * std::pow(turns, std::max(options_.pct_depth, 1) - 1));
    return -std::expm1(static_cast<double>(result_.schedules) * std::log1p(-std::min(once, 1 - 1e-9)));
  }

  // Of the failed schedule that the engine holds.
  void Report() {
    result_.trace = internal::EncodeTrace(choices_);
    char text[256];
    std::string& report = result_.report;
    report = std::string("detsched: ") + FailureName(result_.failure) + ": " + result_.message + "\n";
    std::snprintf(text, sizeof(text), "found by %s in schedule %" PRIu64, StrategyName(options_.strategy),
                  result_.schedules);
    report += text;
    if (result_.seed != 0) {
      std::snprintf(text, sizeof(text), ", seed 0x%" PRIx64, result_.seed);
      report += text;
    }
    if (shrink_runs_ != 0) {
      std::snprintf(text, sizeof(text), "; %zu turns and mishaps shrunk to %zu in %d runs", found_.events,
                    best_.events, shrink_runs_);
      report += text;
    }
    report += "\nfibers: " + engine_.FiberStates() + "\n";
    report += engine_.Interleaving(kReportedSteps);
    report += "replay: Options::Replay(\"" + result_.trace + "\"), or PYRT_DETSCHED_REPLAY=" + result_.trace +
              " in the environment\n";
  }

  Engine& engine_;
  const Options& options_;
  const bool stop_at_divergence_;
  const std::function<void()> body_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  Result result_;
  std::vector<uint8_t> choices_;
  Measure best_{};
  Measure found_{};
  int shrink_runs_ = 0;
};

Result ExploreHere(const Options& options, bool stop_at_divergence,
                   const std::function<void(Schedule&)>& body,
                   const std::function<void(const Result&)>& died) {
  // The engine stays for the next exploration, with its stacks and tables.
  static Engine* const engine = new Engine;
  engine->set_options(options);
  const FatalInterceptor previous = SetFatalInterceptor(&InterceptFatal);
  Result result = Exploration(engine, options, stop_at_divergence, body).Run(died);
  SetFatalInterceptor(previous);
  return result;
}

// What the process has explored and found to be right, printed at its end: `tools/campaign counts` adds it up.
struct Totals {
  ~Totals() {
    if (explorations == 0) return;
    std::printf("detsched: total %" PRIu64 " schedules, %" PRIu64 " steps, %" PRIu64 " explorations, %" PRIu64
                " complete\n",
                schedules, steps, explorations, complete);
    if (deepened != 0) {
      std::printf("detsched: deepened %" PRIu64 " explorations, %" PRIu64 " complete\n", deepened,
                  deepened_complete);
    }
    for (int depth = 1; depth < kDepths; ++depth) {
      const Depth& walks = depths[depth];
      if (walks.count == 0) continue;
      std::printf("detsched: pct depth %d, %" PRIu64 " walks: %.1f %% guaranteed in the worst, %" PRIu64
                  " of at least 95 %%\n",
                  depth, walks.count, 100 * walks.least, walks.sure);
    }
  }
  void Add(const Options& options, const Result& result) {
    if (!result.ok()) return;
    schedules += result.schedules;
    steps += result.steps;
    ++explorations;
    complete += result.complete;
    deepened += result.deepened;
    deepened_complete += result.deepened && result.complete;
    if (options.strategy != Strategy::kPct) return;
    Depth& walks = depths[std::clamp(options.pct_depth, 1, kDepths - 1)];
    ++walks.count;
    walks.least = std::min(walks.least, result.guaranteed);
    walks.sure += result.guaranteed >= 0.95;
  }
  uint64_t schedules = 0, steps = 0, explorations = 0, complete = 0, deepened = 0, deepened_complete = 0;
  // Walks of PCT by what they guarantee (Result::guaranteed).
  static constexpr int kDepths = 5;
  struct Depth {
    uint64_t count = 0, sure = 0;
    double least = 1;
  } depths[kDepths];
};

Result ExploreHereOrIsolated(const Options& options, bool stop_at_divergence,
                             const std::function<void(Schedule&)>& body) {
  if (!options.isolate) {
    return ExploreHere(options, stop_at_divergence, body,
                       [](const Result& result) { std::fputs(result.report.c_str(), stderr); });
  }
  const auto explore = [&](const Options& part) {
    return internal::RunIsolated([&](const std::function<void(const Result&)>& report) {
      report(ExploreHere(part, stop_at_divergence, body, report));
    });
  };
  if (options.strategy != Strategy::kExhaustive || options.schedules_per_process == 0)
    return explore(options);
  Options part = options;
  Result all;
  for (;;) {
    part.max_schedules = std::min(options.schedules_per_process, options.max_schedules - all.schedules);
    Result result = explore(part);
    result.schedules += all.schedules;
    result.pruned += all.pruned;
    result.steps += all.steps;
    result.fibers = std::max(result.fibers, all.fibers);
    result.diverged += all.diverged;
    result.seconds += all.seconds;
    result.complete = result.complete && result.diverged == 0;
    if (!result.ok() && all.schedules != 0) {
      result.report =
          "after " + std::to_string(all.schedules) + " schedules of other processes:\n" + result.report;
    }
    all = std::move(result);
    if (all.ok()) all.report = Summary(options, all);
    if (!all.ok() || all.rest.empty() || all.schedules >= options.max_schedules) return all;
    if (options.max_seconds != 0 && all.seconds >= options.max_seconds) return all;
    if (stop_at_divergence && all.diverged != 0) return all;
    part.resume = all.rest;
  }
}

// Fibers sleep at addresses, on the heap often, that are others in each schedule. Where two share a bucket of the parking
// lot in some schedules only, the same choices do not lead to the same steps, and nothing is complete. Elsewhere in memory
// they have buckets of their own: an exhaustive search that meets this begins again with stack and heap displaced.
constexpr int kPlaces = 5;

__attribute__((noinline)) Result ExploreAt(int place, const Options& options,
                                           const std::function<void(Schedule&)>& body) {
  const size_t bytes = static_cast<size_t>(place) * 208;
  std::memset(alloca(bytes + 1), 0, bytes + 1);
  std::vector<std::unique_ptr<char[]>> kept;
  for (size_t i = 0; i < static_cast<size_t>(place) * 512; ++i) {
    kept.push_back(std::make_unique<char[]>(16 + i % 64 * 16));
  }
  const bool last = options.strategy != Strategy::kExhaustive || place + 1 == kPlaces;
  return ExploreHereOrIsolated(options, /*stop_at_divergence=*/!last, body);
}

}  // namespace

Result Explore(const Options& options, const std::function<void(Schedule&)>& body) {
  PYRT_CHECK(internal::engine == nullptr, "detsched::Explore", "called from within a schedule");
  static Totals totals;
  const Options effective = WithEnvironment(options);
  Result result;
  for (int place = 0; place < kPlaces; ++place) {
    result = ExploreAt(place, effective, body);
    if (!result.ok() || result.diverged == 0) break;
  }
  result.deepened = effective.preemption_bound != options.preemption_bound;
  totals.Add(effective, result);
  return result;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched
