// Importer and module table on the deterministic scheduler, with the mistakes of CPython's history.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Schedule;

constexpr const char* kThreads[] = {"a", "b", "c", "d"};

Options Isolated(Options options) {
  options.isolate = true;
  return options;
}

// Made on first use, and a fiber may not be switched in the middle of that.
void MakeSingletons() {
  static_cast<void>(None());
  static_cast<void>(Raise(ErrorType::ValueError(), "no").ok());
  static_cast<void>(Int::Of(1));
}

struct World {
  World() {
    MakeSingletons();
    interpreter.host.record = false;
  }

  void Thread(const std::vector<std::string>& names) {
    const InterpreterAttached attached(interpreter);
    for (const std::string& name : names) {
      const auto module = importer.Import(name);
      DETSCHED_CHECK(module.ok());
    }
  }
  void Pause() {
    interpreter.gil.Detach();
    interpreter.gil.Attach();
  }

  TestInterpreter interpreter;
  ScriptFinder& finder = *interpreter.finder;
  Importer& importer = *interpreter.importer;
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
void ParentAndChild(Schedule& s) {
  World world;
  Plain<int> a{0}, b{0};
  world.finder.AddPackage("a", Counting(world, a, "a.b"));
  world.finder.Add("a.b", Counting(world, b));
  s.Spawn("a", [&] { world.Thread({"a"}); });
  s.Spawn("b", [&] { world.Thread({"a.b"}); });
  s.Run();
  DETSCHED_CHECK(a.Get() == 1 && b.Get() == 1);
  DETSCHED_CHECK(world.importer.module_locks().size() == 0);
}

TEST(ImporterScheduleTest, B109_gh83065_ParentAndChild) {
  const auto result = Explore(Isolated(Options::Exhaustive(1)), ParentAndChild);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete);
  const auto random = Explore(Isolated(Options::Pct(3, 3000)), ParentAndChild);
  EXPECT_TRUE(random.ok()) << random.report;
}

void Circle(Schedule& s) {
  World world;
  Plain<int> a{0}, b{0};
  world.finder.Add("a", Counting(world, a, "b"));
  world.finder.Add("b", Counting(world, b, "a"));
  s.Spawn("a", [&] { world.Thread({"a", "b"}); });
  s.Spawn("b", [&] { world.Thread({"b", "a"}); });
  s.Run();
  DETSCHED_CHECK(a.Get() == 1 && b.Get() == 1);
  DETSCHED_CHECK(world.importer.modules().GetFinished("a") && world.importer.modules().GetFinished("b"));
}

TEST(ImporterScheduleTest, CircleAcrossThreads) {
  const auto result = Explore(Isolated(Options::Exhaustive(1)), Circle);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete);
  const auto random = Explore(Isolated(Options::Pct(3, 3000)), Circle);
  EXPECT_TRUE(random.ok()) << random.report;
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
  const auto result = Explore(Isolated(Options::Exhaustive(1)), FailBesideRead);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete);
  const auto random = Explore(Isolated(Options::Pct(3, 5000)), FailBesideRead);
  EXPECT_TRUE(random.ok()) << random.report;
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
  const auto result = Explore(Isolated(Options::Exhaustive(1)), FailBesideGetModule);
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete);
  const auto random = Explore(Isolated(Options::Pct(3, 5000)), FailBesideGetModule);
  EXPECT_TRUE(random.ok()) << random.report;
}

// A reader against a writer that replaces and removes: what it finds is whole and alive.
void ReadBesideWrite(Schedule& s) {
  World world;
  ModuleTable& table = world.importer.modules();
  table.Set("m", Module::New("m"));
  s.Spawn("reader", [&] {
    for (int i = 0; i < 2; ++i) {
      InterpreterAttached attached(world.interpreter);
      const Ref<Object> found = table.Get("m");
      DETSCHED_CHECK(!found || AsModule(found)->name() == "m");
      const Ref<Object> fresh = table.GetFinished("fresh");
      DETSCHED_CHECK(!fresh || AsModule(fresh)->name() == "fresh");
    }
  });
  s.Spawn("writer", [&] {
    const InterpreterAttached attached(world.interpreter);
    table.Set("m", Module::New("m"));
    table.Set("fresh", Module::New("fresh"));
    table.Remove("m");
    if constexpr (!kGilEnabled) world.interpreter.delayed.Collect();
  });
  s.Run();
  DETSCHED_CHECK(table.size() == 1);
}

TEST(ImporterScheduleTest, ReadersBesideAWriter) {
  const auto result = Explore(Isolated(Options::Pct(3, 5000)), ReadBesideWrite);
  EXPECT_TRUE(result.ok()) << result.report;
}

void ExpectKilled(const std::string& mutant, void (*body)(Schedule&), Options options,
                  const std::vector<Failure>& failures = {Failure::kCheck}) {
  const detsched::ScopedMutant active(mutant);
  options.shrink = false;
  const auto result = Explore(Isolated(options), body);
  EXPECT_THAT(failures, ::testing::Contains(result.failure)) << mutant << "\n" << result.report;
}

TEST(ImporterScheduleTest, MutantsAreKilled) {
  ExpectKilled("gh_83065_child_lock_before_parent", ParentAndChild, Options::Pct(3, 20'000));
  if constexpr (!kGilEnabled) {
    ExpectKilled("gh_143650_no_second_look", FailBesideRead, Options::Pct(3, 50'000));
    ExpectKilled("gh_143650_finished_before_removed", FailBesideRead, Options::Pct(3, 50'000));
    // What the reader gets may also be a module whose construction it does not see.
    const std::vector<Failure> unseen = {Failure::kCheck, Failure::kRace, Failure::kCrash};
    ExpectKilled("module_table_publishes_relaxed", ReadBesideWrite, Options::Pct(3, 20'000), unseen);
    ExpectKilled("module_table_reads_relaxed", ReadBesideWrite, Options::Pct(3, 20'000), unseen);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
