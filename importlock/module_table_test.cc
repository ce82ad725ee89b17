#include "pyrt/importlock/module_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> NamesOf(const ModuleTable& table) {
  std::vector<std::string> names;
  for (const ModuleTable::Item& item : table.Snapshot()) names.push_back(item.first);
  return names;
}

class ModuleTableTest : public ::testing::Test {
 protected:
  ImmediateReclaimer reclaimer;
  ModuleTable table{reclaimer};
};

TEST_F(ModuleTableTest, SetGetRemove) {
  EXPECT_FALSE(table.Get("m"));
  const Ref<Object> module = Module::New("m");
  table.Set("m", module);
  EXPECT_EQ(table.Get("m"), module);
  EXPECT_EQ(table.Peek("m"), module.get());
  EXPECT_FALSE(table.Get("m2"));
  EXPECT_FALSE(table.Get(""));
  const Ref<Object> other = Module::New("m");
  table.Set("m", other);
  EXPECT_EQ(table.Get("m"), other);
  EXPECT_EQ(table.size(), 1u);
  EXPECT_FALSE(table.RemoveIf("m", module.get()));
  EXPECT_TRUE(table.RemoveIf("m", other.get()));
  EXPECT_FALSE(table.Remove("m"));
  table.Set("m", module);
  EXPECT_EQ(table.Remove("m"), module);
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(module->RefCount(), 1);
}

TEST_F(ModuleTableTest, B111_OrderIsOfCompletion) {
  for (const char* name : {"a", "b", "c"}) table.Set(name, Module::New(name));
  table.Set("a", Module::New("a"));
  EXPECT_THAT(NamesOf(table), ElementsAre("a", "b", "c")) << "replacing keeps the place";
  EXPECT_TRUE(table.MoveToEnd("a"));
  EXPECT_FALSE(table.MoveToEnd("x"));
  EXPECT_THAT(NamesOf(table), ElementsAre("b", "c", "a"));
  EXPECT_TRUE(table.MoveToEnd("a"));
  table.Remove("c");
  EXPECT_THAT(NamesOf(table), ElementsAre("b", "a"));
}

TEST_F(ModuleTableTest, gh137422_SetDefaultGivesEverybodyTheSame) {
  const Ref<Object> first = table.SetDefault("m", Module::New("m"));
  EXPECT_EQ(table.SetDefault("m", Module::New("m")), first);
  EXPECT_EQ(table.size(), 1u);
}

TEST_F(ModuleTableTest, FinishedMeansPresentNotNoneAndNotInitializing) {
  EXPECT_FALSE(table.GetFinished("m"));
  const Ref<ModuleSpec> spec = ModuleSpec::New("m", {});
  spec->set_initializing(true);
  table.Set("m", Module::New("m", spec));
  EXPECT_FALSE(table.GetFinished("m"));
  EXPECT_TRUE(table.Look("m").initializing());
  spec->set_initializing(false);
  EXPECT_TRUE(table.GetFinished("m"));
  table.Set("none", None());
  EXPECT_FALSE(table.GetFinished("none"));
  table.Set("any", Int::Of(1));
  EXPECT_TRUE(table.GetFinished("any")) << "no spec counts as finished (IL-32)";
}

TEST_F(ModuleTableTest, GrowsAndReusesSlotsOfRemovedNames) {
  constexpr int kNames = 20'000;
  for (int i = 0; i < kNames; ++i) table.Set("m" + std::to_string(i), Int::Of(i));
  EXPECT_EQ(table.size(), size_t{kNames});
  for (int i = 0; i < kNames; ++i) {
    const Ref<Object> found = table.Get("m" + std::to_string(i));
    ASSERT_TRUE(found);
    ASSERT_EQ(As<Int>(found)->value(), i);
  }
  const size_t memory = table.MemoryUsage();
  EXPECT_LT(memory / kNames, 200u) << "bytes per module";
  for (int round = 0; round < 100'000; ++round) {  // churn does not grow it
    table.Set("x", Int::Of(round));
    table.Remove("x");
  }
  EXPECT_EQ(table.MemoryUsage(), memory);
  for (int i = 0; i < kNames; ++i) ASSERT_TRUE(table.Remove("m" + std::to_string(i)));
  EXPECT_THAT(NamesOf(table), IsEmpty());
}

TEST_F(ModuleTableTest, DestructorsMayComeBack) {
  class Reentrant final : public Object {
   public:
    explicit Reentrant(ModuleTable& table) : table_(table) {}
    const char* TypeName() const override { return "Reentrant"; }

   private:
    ~Reentrant() override {
      table_.Set("from the destructor", Int::Of(1));
      static_cast<void>(table_.Snapshot());
    }
    ModuleTable& table_;
  };
  table.Set("m", MakeRef<Reentrant>(table));
  table.Set("m", Int::Of(2));
  EXPECT_TRUE(table.Get("from the destructor"));
}

TEST_F(ModuleTableTest, IterationIsSafeAgainstAnyChange) {
  for (int i = 0; i < 100; ++i) table.Set("m" + std::to_string(i), Int::Of(i));
  int seen = 0;
  for (const ModuleTable::Item& item : table.Snapshot()) {
    table.Remove(item.first);
    table.Set("new" + std::to_string(seen), None());
    EXPECT_EQ(As<Int>(item.second)->value(), seen++);
  }
  EXPECT_EQ(seen, 100);
}

// Readers run against writers that replace, remove and grow; everything they find is alive and right.
TEST(ModuleTableStressTest, ReadersAlwaysFindWholeModules) {
  TestInterpreter interpreter;
  interpreter.host.record = false;
  ModuleTable& table = interpreter.importer->modules();
  constexpr int kStable = 50;
  {
    const InterpreterAttached attached(interpreter);
    for (int i = 0; i < kStable; ++i) {
      const std::string name = "stable" + std::to_string(i);
      table.Set(name, Module::New(name));
    }
  }
  Atomic<bool> stop{false};
  Atomic<int64_t> lookups{0};
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&] {
      int64_t count = 0;
      while (!stop.load(kRelaxed)) {
        InterpreterAttached attached(interpreter);
        for (int round = 0; round < 20; ++round) {
          for (int i = 0; i < kStable; ++i) {
            const std::string name = "stable" + std::to_string(i);
            const Ref<Object> found = table.GetFinished(name);
            ASSERT_TRUE(found) << name;
            ASSERT_EQ(AsModule(found)->name(), name);
            const Ref<Object> volatile_one = table.Get("volatile" + std::to_string(i));
            if (volatile_one) {
              ASSERT_EQ(AsModule(volatile_one)->name(), "volatile" + std::to_string(i));
            }
            ++count;
          }
          attached.Quiescent();
        }
      }
      lookups.fetch_add(count, kRelaxed);
    });
  }
  for (int round = 0; round < 60; ++round) {
    InterpreterAttached attached(interpreter);
    for (int i = 0; i < kStable; ++i) {
      const std::string name = "volatile" + std::to_string(i);
      table.Set(name, Module::New(name));
      table.Set("stable" + std::to_string(i), Module::New("stable" + std::to_string(i)));
      table.Set("filler" + std::to_string(round * kStable + i), None());
    }
    attached.Quiescent();
    for (int i = 0; i < kStable; ++i) table.Remove("volatile" + std::to_string(i));
  }
  stop.store(true, kRelaxed);
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(lookups.load(kRelaxed), 0);
  if constexpr (!kGilEnabled) {
    interpreter.delayed.Collect();
    EXPECT_EQ(interpreter.delayed.waiting(), 0u) << "nobody reads: everything can go";
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
