// Importer and module table on the deterministic scheduler, with the mistakes of CPython's history.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/importlock/schedule_test_util.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

constexpr const char* kThreads[] = {"a", "b", "c", "d"};

// An import is hundreds of steps, so not both at once: two preemptions, or older values.
void ExpectCompleteImports(void (*body)(Schedule&)) {
  ExpectComplete(Exhaustive(2, /*stale_reads=*/0), body);
  ExpectComplete(Exhaustive(1), body);
}

// Made on first use, and a fiber may not be switched in the middle of that.
void MakeSingletons() {
  static_cast<void>(None());
  static_cast<void>(Raise(ErrorType::ValueError(), "no").ok());
  static_cast<void>(Int::Of(1));
}

// Where threads come online for the Qsbr: a third of the steps of an import, which exhaustive exploration saves.
enum class Online : uint8_t { kByThemselves, kBeforehand };

struct World {
  explicit World(Online online = Online::kByThemselves) {
    MakeSingletons();
    interpreter.host.record = false;
    if (kGilEnabled || online == Online::kByThemselves) return;
    for (auto& one : beforehand) one.emplace(interpreter);
  }

  template <typename Body>
  void Attached(Body body) {
    std::optional<InterpreterAttached> attached;
    if (!beforehand[0].has_value()) attached.emplace(interpreter);
    body();
  }
  void Thread(const std::vector<std::string>& names) {
    Attached([&] {
      for (const std::string& name : names) {
        const auto module = importer.Import(name);
        DETSCHED_CHECK(module.ok());
      }
    });
  }
  void Pause() {
    interpreter.gil.Detach();
    interpreter.gil.Attach();
  }

  TestInterpreter interpreter;
  ScriptFinder& finder = *interpreter.finder;
  Importer& importer = *interpreter.importer;
  std::optional<InterpreterAttached> beforehand[2];
};

// The body counts itself: twice is a race on the Plain, or a wrong sum.
ScriptFinder::Body Counting(World& world, Plain<int>& runs, std::string then = "") {
  return [&world, &runs, then](const Ref<Object>&) {
    runs.Set(runs.Get() + 1);
    world.Pause();
    return then.empty() ? absl::OkStatus() : world.importer.Import(then).status();
  };
}

// B109: a/__init__ imports a.b, beside somebody who wants a.b.
void ParentAndChild(Schedule& s, int threads, Online online) {
  World world(online);
  Plain<int> a{0}, b{0};
  world.finder.AddPackage("a", Counting(world, a, "a.b"));
  world.finder.Add("a.b", Counting(world, b));
  for (int i = 0; i < threads; ++i) {
    s.Spawn(kThreads[i], [&world, i] { world.Thread({i % 2 == 0 ? "a" : "a.b"}); });
  }
  s.Run();
  DETSCHED_CHECK(a.Get() == 1 && b.Get() == 1);
  DETSCHED_CHECK(world.importer.module_locks().size() == 0);
}

void OneOfEach(Schedule& s) { ParentAndChild(s, 2, Online::kBeforehand); }
void TwoOfEach(Schedule& s) { ParentAndChild(s, 4, Online::kByThemselves); }

TEST(ImporterScheduleTest, B109_gh83065_ParentAndChild) {
  ExpectCompleteImports(OneOfEach);
  ExpectOkByPct(5000, TwoOfEach);
}

void Circle(Schedule& s, bool both, Online online) {
  World world(online);
  Plain<int> a{0}, b{0};
  world.finder.Add("a", Counting(world, a, "b"));
  world.finder.Add("b", Counting(world, b, "a"));
  s.Spawn("a", [&] { both ? world.Thread({"a", "b"}) : world.Thread({"a"}); });
  s.Spawn("b", [&] { both ? world.Thread({"b", "a"}) : world.Thread({"b"}); });
  s.Run();
  DETSCHED_CHECK(a.Get() == 1 && b.Get() == 1);
  DETSCHED_CHECK(world.importer.modules().GetFinished("a") && world.importer.modules().GetFinished("b"));
}

void CircleOnce(Schedule& s) { Circle(s, /*both=*/false, Online::kBeforehand); }
void CircleTwice(Schedule& s) { Circle(s, /*both=*/true, Online::kByThemselves); }

TEST(ImporterScheduleTest, CircleAcrossThreads) {
  ExpectCompleteImports(CircleOnce);
  ExpectOkByPct(5000, CircleTwice);
}

// gh-137422: threads that add the same module, or import it, get the same one, which is the one that stays.
enum class How : uint8_t { kAdd, kImport };

template <How kHow>
void SameModule(Schedule& s, int threads, Online online) {
  World world(online);
  Plain<int> runs{0};
  world.finder.Add("m", Counting(world, runs));
  ModuleTable& table = world.importer.modules();
  Ref<Object> got[std::size(kThreads)];
  for (int i = 0; i < threads; ++i) {
    s.Spawn(kThreads[i], [&, i] {
      world.Attached([&] {
        if (kHow == How::kAdd) {
          got[i] = world.importer.AddModule("m");
        } else {
          const auto module = world.importer.Import("m");
          DETSCHED_CHECK(module.ok());
          got[i] = *module;
        }
        DETSCHED_CHECK(got[i] && AsModule(got[i])->name() == "m");
        DETSCHED_CHECK(table.Peek("m") == got[i].get());
      });
    });
  }
  s.Run();
  DETSCHED_CHECK(table.size() == 1);
  for (int i = 1; i < threads; ++i) DETSCHED_CHECK(got[i].get() == got[0].get());
  DETSCHED_CHECK(runs.Get() == (kHow == How::kImport ? 1 : 0));
}

template <How kHow>
void SameModuleTwice(Schedule& s) {
  SameModule<kHow>(s, 2, Online::kBeforehand);
}

TEST(ImporterScheduleTest, gh137422_WhoAddsTheSameModuleGetsTheSame) {
  ExpectComplete(Exhaustive(2), SameModuleTwice<How::kAdd>);
  ExpectCompleteImports(SameModuleTwice<How::kImport>);
  ExpectOkByPct(5000, [](Schedule& s) { SameModule<How::kAdd>(s, 4, Online::kByThemselves); });
}

// gh-143650: an import that fails beside one that finds the module in the table. It must never get what failed:
// its own retry fails, too.
void FailBesideRead(Schedule& s) {
  World world;
  world.interpreter.host.record = true;
  Plain<int> runs{0};
  world.finder.Add("m", [&](const Ref<Object>&) -> absl::Status {
    runs.Set(runs.Get() + 1);
    world.Pause();
    return Raise(ErrorType::ValueError(), "no");
  });
  for (int i = 0; i < 2; ++i) {
    s.Spawn(kThreads[i], [&] {
      const InterpreterAttached attached(world.interpreter);
      DETSCHED_CHECK(!world.importer.Import("m").ok());
    });
  }
  s.Run();
  DETSCHED_CHECK(runs.Get() == 2);
  DETSCHED_CHECK(world.interpreter.host.audited.size() == 2);  // IL-50: each of them before it loads
  DETSCHED_CHECK(!world.importer.modules().Get("m"));
}

TEST(ImporterScheduleTest, gh143650_AFailedImportIsNeverHandedOut) {
  ExpectCompleteImports(FailBesideRead);
  ExpectOkByPct(5000, FailBesideRead);
}

// Nor does PyImport_GetModule, which waits for it.
void FailBesideGetModule(Schedule& s) {
  World world;
  world.finder.Add("m", [&](const Ref<Object>&) -> absl::Status {
    world.Pause();
    return Raise(ErrorType::ValueError(), "no");
  });
  s.Spawn("a", [&] {
    const InterpreterAttached attached(world.interpreter);
    DETSCHED_CHECK(!world.importer.Import("m").ok());
  });
  s.Spawn("b", [&] {
    const InterpreterAttached attached(world.interpreter);
    const auto found = world.importer.GetModule("m");
    DETSCHED_CHECK(found.ok() && !*found);
  });
  s.Run();
}

TEST(ImporterScheduleTest, IL33_GetModuleDoesNotGiveAFailedModule) {
  ExpectCompleteImports(FailBesideGetModule);
  ExpectOkByPct(5000, FailBesideGetModule);
}

// A reader against a writer that replaces and removes: what it finds is whole and alive, and what is only replaced is
// there all the time.
void ReadBesideWrite(Schedule& s, int reads, Watched watched, Online online) {
  World world(online);
  ModuleTable& table = world.importer.modules();
  table.Set("m", Module::New("m"));
  bool is_removed = false;  // or is about to be
  if (watched == Watched::kYes) {
    s.Invariant("a module that is replaced is never absent",
                [&] { return is_removed || table.Peek("m") != nullptr; });
  }
  s.Spawn("reader", [&] {
    for (int i = 0; i < reads; ++i) {
      world.Attached([&] {
        const Ref<Object> found = table.Get("m");
        DETSCHED_CHECK(found ? AsModule(found)->name() == "m" : is_removed);
        const Ref<Object> fresh = table.GetFinished("fresh");
        DETSCHED_CHECK(!fresh || AsModule(fresh)->name() == "fresh");
      });
    }
  });
  s.Spawn("writer", [&] {
    world.Attached([&] {
      table.Set("m", Module::New("m"));
      table.Set("fresh", Module::New("fresh"));
      is_removed = true;
      table.Remove("m");
      if constexpr (!kGilEnabled) world.interpreter.delayed.Collect();
    });
  });
  s.Run();
  DETSCHED_CHECK(table.size() == 1);
}

void ReadOnce(Schedule& s) { ReadBesideWrite(s, 1, Watched::kNo, Online::kByThemselves); }
void ReadOnceWatched(Schedule& s) { ReadBesideWrite(s, 1, Watched::kYes, Online::kByThemselves); }
void ReadTwice(Schedule& s) { ReadBesideWrite(s, 2, Watched::kYes, Online::kByThemselves); }

TEST(ImporterScheduleTest, ReadersBesideAWriter) {
  ExpectCompleteImports(ReadOnce);
  ExpectComplete(Exhaustive(1), ReadOnceWatched);
  ExpectOkByPct(20'000, ReadTwice);
}

void ExpectKilled(const std::string& mutant, void (*body)(Schedule&), Options options,
                  const std::vector<Failure>& failures = {Failure::kCheck}) {
  const detsched::ScopedMutant active(mutant);
  options.shrink = false;
  const auto result = Explore(Isolated(options), body);
  EXPECT_THAT(failures, ::testing::Contains(result.failure)) << mutant << "\n" << result.report;
}

TEST(ImporterScheduleTest, MutantsAreKilled) {
  ExpectKilled("gh_83065_child_lock_before_parent", OneOfEach, Options::Pct(3, 20'000));
  if constexpr (!kGilEnabled) {
    ExpectKilled("gh_143650_no_second_look", FailBesideRead, Options::Pct(3, 50'000));
    ExpectKilled("gh_143650_finished_before_removed", FailBesideRead, Options::Pct(3, 50'000));
    ExpectKilled("module_table_replaces_in_two_steps", ReadTwice, Options::Pct(3, 20'000),
                 {Failure::kInvariant});
    // What the reader gets may also be a module whose construction it does not see.
    const std::vector<Failure> unseen = {Failure::kCheck, Failure::kRace, Failure::kCrash};
    ExpectKilled("module_table_publishes_relaxed", ReadTwice, Options::Pct(3, 20'000), unseen);
    ExpectKilled("module_table_reads_relaxed", ReadTwice, Options::Pct(3, 20'000), unseen);
  }
}

// gh-134100: a body takes its own module out of the table, beside another thread that wants it. Neither gets it.
void BodyDeletesItself(Schedule& s) {
  World world;
  world.finder.Add("m", [&](const Ref<Object>&) {
    world.Pause();
    world.importer.modules().Remove("m");
    world.Pause();
    return absl::OkStatus();
  });
  for (int i = 0; i < 2; ++i) {
    s.Spawn(kThreads[i], [&] {
      const InterpreterAttached attached(world.interpreter);
      DETSCHED_CHECK(IsError(world.importer.Import("m").status(), ErrorType::KeyError()));
    });
  }
  s.Run();
  DETSCHED_CHECK(!world.importer.modules().Get("m"));
  DETSCHED_CHECK(world.importer.module_locks().size() == 0);
}

TEST(ImporterScheduleTest, gh134100_ABodyThatDeletesItsModule) { ExpectOkByPct(3000, BodyDeletesItself); }

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
