#include "pyrt/runtime/object/containers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Uses its container from the destructor: deadlocks if that runs under the container's lock.
class Reentrant final : public Object {
 public:
  Reentrant(Dict* dict, List* list) : dict_(dict), list_(list) {}
  ~Reentrant() override {
    if (dict_ != nullptr) dict_->Set("seen", True());
    if (list_ != nullptr) list_->Append(True());
  }
  const char* TypeName() const override { return "Reentrant"; }

 private:
  Dict* const dict_;
  List* const list_;
};

TEST(ListTest, KeepsItemsInOrder) {
  Ref<List> list = List::OfStrings({"b", "c"});
  list->Insert(0, String::Of("a"));
  list->Insert(99, String::Of("d"));
  list->Append(Int::Of(5));
  EXPECT_EQ(list->Repr().value(), "['a', 'b', 'c', 'd', 5]");
  EXPECT_EQ(list->Get(4), Int::Of(5));
  EXPECT_EQ(list->Get(5), nullptr);
  EXPECT_FALSE(List::Of()->IsTrue().value());
}

TEST(ListTest, ReplacedItemsAreReleasedOutsideTheLock) {
  Ref<List> list = List::Of();
  list->Append(MakeRef<Reentrant>(nullptr, list.get()));
  list->Assign({});
  EXPECT_EQ(list->size(), 1u) << "the destructor appended to the new content";
}

TEST(DictTest, KeepsInsertionOrderThroughReplacementAndRemoval) {
  Ref<Dict> dict = Dict::New();
  dict->Set("b", Int::Of(1));
  dict->Set("a", Int::Of(2));
  dict->Set("c", Int::Of(3));
  dict->Set("b", Int::Of(4));
  EXPECT_EQ(dict->Repr().value(), "{'b': 4, 'a': 2, 'c': 3}");
  EXPECT_EQ(dict->Pop("a"), Int::Of(2));
  EXPECT_EQ(dict->Pop("a"), nullptr);
  dict->Set("a", Int::Of(5));
  EXPECT_EQ(dict->Repr().value(), "{'b': 4, 'c': 3, 'a': 5}");
  EXPECT_EQ(dict->SetDefault("a", None()), Int::Of(5));
  EXPECT_EQ(dict->SetDefault("d", Int::Of(6)), Int::Of(6));
  EXPECT_EQ(dict->size(), 4u);
}

TEST(DictTest, ManyRemovalsCompactWithoutLosingOrder) {
  Ref<Dict> dict = Dict::New();
  for (int i = 0; i < 200; ++i) dict->Set(std::to_string(i), Int::Of(i));
  for (int i = 0; i < 200; ++i) {
    if (i % 10 != 0) {
      EXPECT_TRUE(dict->Pop(std::to_string(i)));
    }
  }
  EXPECT_EQ(dict->size(), 20u);
  int expected = 0;
  for (const auto& [key, value] : dict->Snapshot()) {
    EXPECT_EQ(key, std::to_string(expected));
    EXPECT_EQ(dict->Get(key), Int::Of(expected));
    expected += 10;
  }
}

// Small dictionaries have no index: against a model, at sizes around the one where it comes and goes.
TEST(DictTest, AgreesWithAModelWhileItGrowsAndShrinks) {
  Ref<Dict> dict = Dict::New();
  std::vector<std::pair<std::string, int>> model;
  uint32_t random = 1;
  for (int i = 0; i < 20'000; ++i) {
    random = random * 1664525 + 1013904223;
    const std::string key = "name" + std::to_string(random >> 16 & 15);
    const bool grows = (i / 200) % 2 == 0;
    const auto at =
        std::find_if(model.begin(), model.end(), [&](const auto& item) { return item.first == key; });
    if ((random >> 24 & 3) == 0 ? grows : !grows) {
      const Ref<Object> popped = dict->Pop(key);
      ASSERT_EQ(popped == nullptr, at == model.end()) << i;
      if (popped) {
        ASSERT_EQ(As<Int>(popped)->value(), at->second) << i;
      }
      if (at != model.end()) model.erase(at);
    } else {
      dict->Set(key, Int::Of(i));
      if (at == model.end()) {
        model.emplace_back(key, i);
      } else {
        at->second = i;
      }
    }
    ASSERT_EQ(dict->size(), model.size());
    const std::vector<Dict::Item> items = dict->Snapshot();
    ASSERT_EQ(items.size(), model.size());
    for (size_t n = 0; n < items.size(); ++n) {
      ASSERT_EQ(items[n].first, model[n].first) << i;
      ASSERT_EQ(As<Int>(items[n].second)->value(), model[n].second) << i;
      ASSERT_EQ(dict->Get(items[n].first), items[n].second) << i;
    }
  }
}

TEST(DictTest, ReplacedValuesAreReleasedOutsideTheLock) {
  Ref<Dict> dict = Dict::New();
  dict->Set("x", MakeRef<Reentrant>(dict.get(), nullptr));
  dict->Set("x", None());
  EXPECT_EQ(dict->Get("seen"), True());
  dict->Pop("seen");
  dict->Set("x", MakeRef<Reentrant>(dict.get(), nullptr));
  dict->Pop("x");
  EXPECT_EQ(dict->Get("seen"), True());
  dict->Set("y", MakeRef<Reentrant>(dict.get(), nullptr));
  dict->Clear();
  EXPECT_EQ(dict->size(), 1u) << "the destructor put one back";
}

TEST(DictDeathTest, NullValueIsMisuse) {
  EXPECT_DEATH(Dict::New()->Set("k", nullptr), "the value for \"k\" is null");
}

TEST(ContainersTest, ReprOfACycleEnds) {
  Ref<List> list = List::Of();
  Ref<Dict> dict = Dict::New();
  list->Append(dict);
  dict->Set("list", list);
  EXPECT_EQ(list->Repr().value(), "[{'list': [...]}]");
  EXPECT_EQ(dict->Repr().value(), "{'list': [{...}]}");
  list->Assign({});  // break the cycle
}

// Under the GIL attached threads take turns and reference counts are plain; here threads run at once.
TEST(ContainersTest, ConcurrentUseConservesItemsWithoutGil) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "objects belong to one interpreter's attached threads";
  constexpr int kThreads = 4;
  constexpr int kRounds = 2000;
  Ref<List> list = List::Of();
  Ref<Dict> dict = Dict::New();
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        list->Append(Int::Of(1000 + i));
        dict->Set(std::to_string(t) + "." + std::to_string(i % 50), Int::Of(1000 + i));
        if (i % 3 == 0) dict->Pop(std::to_string((t + 1) % kThreads) + "." + std::to_string(i % 50));
        if (i % 500 == 0) (void)dict->Snapshot();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(list->size(), static_cast<size_t>(kThreads * kRounds));
  EXPECT_LE(dict->size(), static_cast<size_t>(kThreads * 50));
  for (const auto& [key, value] : dict->Snapshot()) EXPECT_EQ(dict->Get(key), value) << key;
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
