#include "pyrt/tstate/brc.h"

#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// A host's object: the owner's references are counted in `local`, without atomics.
struct Counted {
  uint64_t owner = 0;
  int local = 0;
  Atomic<int> shared{0};
  Atomic<int> destroyed{0};
};

bool MergeCounts(void*, void* object) {
  Counted& counted = *static_cast<Counted*>(object);
  const int local = counted.owner == 0 ? 0 : counted.local;
  counted.owner = 0;
  counted.local = 0;
  return counted.shared.fetch_add(local - 1, kAcqRel) + local - 1 == 0;
}

void DestroyCounted(void*, void* object) { static_cast<Counted*>(object)->destroyed.fetch_add(1, kRelaxed); }

constexpr BrcHooks kHooks{.context = nullptr, .merge = &MergeCounts, .destroy = &DestroyCounted};

struct Thread {
  Thread(Brc& brc, uint64_t ident) { brc.Register(node, ident, breaker); }
  EvalBreaker breaker;
  BrcThread node;
};

TEST(BrcTest, BR2_QueueingSetsTheOwnersBitAndTheOwnerMerges) {
  Brc brc(kHooks);
  Thread owner(brc, 1);
  Thread neighbour(brc, 1 + Brc::kBuckets);  // of the same bucket
  Counted object{.owner = 1, .local = 1, .shared = {}, .destroyed = {}};
  EXPECT_EQ(brc.Queue(1, &object), Brc::QueueResult::kQueued);
  EXPECT_TRUE(owner.breaker.IsSet(BreakerEvent::kExplicitMerge));
  EXPECT_FALSE(neighbour.breaker.IsSet(BreakerEvent::kExplicitMerge));
  EXPECT_EQ(object.local, 1) << "not touched by anybody but the owner";
  EXPECT_EQ(brc.MergeOwn(neighbour.node), 0u);
  EXPECT_EQ(brc.MergeOwn(owner.node), 1u);
  EXPECT_EQ(object.destroyed.load(kRelaxed), 1);
  EXPECT_EQ(brc.MergeOwn(owner.node), 0u);
  brc.Unregister(owner.node);
  brc.Unregister(neighbour.node);
}

TEST(BrcTest, BR2_WithoutAnOwnerItIsMergedAtOnce) {
  Brc brc(kHooks);
  Counted object{.owner = 7, .local = 2, .shared = {}, .destroyed = {}};
  EXPECT_EQ(brc.Queue(7, &object), Brc::QueueResult::kMerged);
  EXPECT_EQ(object.shared.load(kRelaxed), 1);
  EXPECT_EQ(object.destroyed.load(kRelaxed), 0);
  EXPECT_EQ(brc.Queue(7, &object), Brc::QueueResult::kMerged)
      << "merged before: only the shared count is left";
  EXPECT_EQ(object.destroyed.load(kRelaxed), 1);
}

TEST(BrcTest, AnyStateOfAThreadMergesForAll) {
  Brc brc(kHooks);
  Thread first(brc, 3);
  Thread second(brc, 3);
  Counted object{.owner = 3, .local = 1, .shared = {}, .destroyed = {}};
  EXPECT_EQ(brc.Queue(3, &object), Brc::QueueResult::kQueued);
  EXPECT_TRUE(first.breaker.IsSet(BreakerEvent::kExplicitMerge));
  EXPECT_TRUE(second.breaker.IsSet(BreakerEvent::kExplicitMerge)) << "whichever is attached next";
  EXPECT_EQ(brc.MergeOwn(first.node), 1u);
  EXPECT_EQ(object.destroyed.load(kRelaxed), 1);
  brc.Unregister(first.node);
  brc.Unregister(second.node);
}

TEST(BrcTest, BR2_AStateThatIsRegisteredLaterIsToldOfWhatWaits) {
  Brc brc(kHooks);
  Thread first(brc, 3);
  Counted object{.owner = 3, .local = 1, .shared = {}, .destroyed = {}};
  EXPECT_EQ(brc.Queue(3, &object), Brc::QueueResult::kQueued);
  Thread neighbour(brc, 3 + Brc::kBuckets);
  EXPECT_FALSE(neighbour.breaker.IsSet(BreakerEvent::kExplicitMerge));
  Thread second(brc, 3);
  EXPECT_TRUE(second.breaker.IsSet(BreakerEvent::kExplicitMerge))
      << "the first one may never be attached again";
  EXPECT_EQ(brc.MergeOwn(second.node), 1u);
  EXPECT_EQ(object.destroyed.load(kRelaxed), 1);
  Thread third(brc, 3);
  EXPECT_FALSE(third.breaker.IsSet(BreakerEvent::kExplicitMerge)) << "nothing waits";
  for (Thread* const thread : {&first, &second, &third, &neighbour}) brc.Unregister(thread->node);
}

TEST(BrcTest, BR4_WhoInheritsAQueueIsToldOfIt) {
  Brc brc(kHooks);
  Thread heir(brc, 3);
  Thread leaves(brc, 3);
  Counted object{.owner = 3, .local = 1, .shared = {}, .destroyed = {}};
  EXPECT_EQ(brc.Queue(3, &object), Brc::QueueResult::kQueued);
  heir.breaker.Clear(BreakerEvent::kExplicitMerge);
  brc.Unregister(leaves.node);
  EXPECT_TRUE(heir.breaker.IsSet(BreakerEvent::kExplicitMerge));
  EXPECT_EQ(object.destroyed.load(kRelaxed), 0) << "the heir's to merge";
  EXPECT_EQ(brc.MergeOwn(heir.node), 1u);
  EXPECT_EQ(object.destroyed.load(kRelaxed), 1);
  brc.Unregister(heir.node);
}

// An object whose destructor gives up a reference to another one of the same owner.
TEST(BrcTest, BR4_LeavingMergesAlsoWhatIsQueuedMeanwhile) {
  static Brc* brc;
  static Counted last{.owner = 5, .local = 1, .shared = {}, .destroyed = {}};
  static Counted first{.owner = 5, .local = 1, .shared = {}, .destroyed = {}};
  Brc queues({.context = nullptr, .merge = &MergeCounts, .destroy = [](void*, void* object) {
                DestroyCounted(nullptr, object);
                if (object == &first) {
                  EXPECT_EQ(brc->Queue(5, &last), Brc::QueueResult::kQueued) << "it is still registered";
                }
              }});
  brc = &queues;
  Thread owner(queues, 5);
  queues.Queue(5, &first);
  queues.Unregister(owner.node);
  EXPECT_FALSE(owner.node.registered());
  EXPECT_EQ(first.destroyed.load(kRelaxed), 1);
  EXPECT_EQ(last.destroyed.load(kRelaxed), 1);
}

TEST(BrcTest, BR5_MergedInAStoppedWorldAndDestroyedLater) {
  Brc brc(kHooks);
  Thread owner(brc, 9);
  Counted dies{.owner = 9, .local = 1, .shared = {}, .destroyed = {}};
  Counted lives{.owner = 9, .local = 2, .shared = {}, .destroyed = {}};
  brc.Queue(9, &dies);
  brc.Queue(9, &lives);
  void* const dead = brc.MergeStopped(9);
  EXPECT_EQ(dies.owner, 0u);
  EXPECT_EQ(dies.destroyed.load(kRelaxed), 0);
  brc.Destroy(dead);
  EXPECT_EQ(dies.destroyed.load(kRelaxed), 1);
  EXPECT_EQ(lives.destroyed.load(kRelaxed), 0);
  brc.Unregister(owner.node);
}

TEST(BrcTest, BR5_InAStoppedWorldAllStatesOfTheThreadAreMergedFor) {
  Brc brc(kHooks);
  Thread older(brc, 9);
  Counted first{.owner = 9, .local = 1, .shared = {}, .destroyed = {}};
  brc.Queue(9, &first);
  Thread newer(brc, 9);
  Thread neighbour(brc, 9 + Brc::kBuckets);
  Counted second{.owner = 9, .local = 1, .shared = {}, .destroyed = {}};
  Counted other{.owner = 9 + Brc::kBuckets, .local = 1, .shared = {}, .destroyed = {}};
  brc.Queue(9, &second);
  brc.Queue(9 + Brc::kBuckets, &other);
  brc.Destroy(brc.MergeStopped(9));
  EXPECT_EQ(first.destroyed.load(kRelaxed), 1);
  EXPECT_EQ(second.destroyed.load(kRelaxed), 1);
  EXPECT_EQ(other.destroyed.load(kRelaxed), 0);
  EXPECT_EQ(brc.MergeStopped(10), nullptr) << "nobody is registered";
  for (Thread* const thread : {&older, &newer, &neighbour}) brc.Unregister(thread->node);
}

TEST(BrcTest, TS33_AStateIsRegisteredFromBindToClear) {
  Brc brc(kHooks);
  TestInterpreter interpreter;
  interpreter.threads.link().brc = &brc;
  Counted object{.owner = CurrentThreadIdent(), .local = 1, .shared = {}, .destroyed = {}};
  {
    TestThread thread(interpreter);
    EXPECT_TRUE(thread->data().brc.registered());
    EXPECT_EQ(brc.Queue(CurrentThreadIdent(), &object), Brc::QueueResult::kQueued);
  }
  EXPECT_EQ(object.destroyed.load(kRelaxed), 1) << "merged when the state was cleared";
  EXPECT_EQ(brc.Queue(CurrentThreadIdent(), &object), Brc::QueueResult::kMerged);
}

TEST(BrcTest, BR6_AChildOfAForkFindsNoBucketLocked) {
  if constexpr (kTsan) GTEST_SKIP() << "ThreadSanitizer's own record of who holds what survives the fork";
  Brc brc(kHooks);
  Thread owner(brc, 11);
  Atomic<bool> stop{false};
  std::vector<Counted> objects(1);
  objects[0].shared.store(1 << 30, kRelaxed);
  std::jthread queues([&] {
    while (!stop.load(kRelaxed)) {
      brc.Queue(11, objects.data());
      brc.MergeOwn(owner.node);
    }
  });
  for (int i = 0; i < 50; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      brc.ReinitAfterFork();
      Counted object{.owner = 12, .local = 1, .shared = {}, .destroyed = {}};
      // The bucket that the other thread may have had.
      ::_exit(brc.Queue(11 + Brc::kBuckets, &object) == Brc::QueueResult::kMerged ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  stop.store(true, kRelaxed);
  queues.join();
  brc.Unregister(owner.node);
}

// Threads come and go, and give up references to each other's objects: each object dies once, none is left.
TEST(BrcTest, StressConservesReferences) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 300;
  constexpr int kObjects = 64;
  Brc brc(kHooks);
  Atomic<int> destroyed{0};
  std::vector<std::unique_ptr<Counted>> objects;
  for (int i = 0; i < kObjects; ++i) objects.push_back(std::make_unique<Counted>());
  for (int round = 0; round < kRounds; ++round) {
    // Each thread owns some objects, of which every thread has one reference (counted by the owner).
    for (int i = 0; i < kObjects; ++i) {
      objects[i]->owner = static_cast<uint64_t>(i % kThreads + 1);
      objects[i]->local = kThreads;
      objects[i]->shared.store(0, kRelaxed);
      objects[i]->destroyed.store(0, kRelaxed);
    }
    std::vector<std::jthread> threads;
    for (int who = 0; who < kThreads; ++who) {
      threads.emplace_back([&, who] {
        Thread self(brc, static_cast<uint64_t>(who + 1));
        for (int i = 0; i < kObjects; ++i) {
          brc.Queue(static_cast<uint64_t>(i % kThreads + 1), objects[i].get());
          if (self.breaker.IsSet(BreakerEvent::kExplicitMerge)) {
            self.breaker.Clear(BreakerEvent::kExplicitMerge);
            brc.MergeOwn(self.node);
          }
        }
        brc.Unregister(self.node);
      });
    }
    threads.clear();
    for (const auto& object : objects) {
      ASSERT_EQ(object->destroyed.load(kRelaxed), 1);
      ASSERT_EQ(object->shared.load(kRelaxed), 0);
      destroyed.fetch_add(1, kRelaxed);
    }
  }
  EXPECT_EQ(destroyed.load(kRelaxed), kRounds * kObjects);
}

TEST(BrcDeathTest, NobodyIsLeftInTheTable) {
  BrcThread node;
  EvalBreaker breaker;
  EXPECT_DEATH(
      {
        Brc brc(kHooks);
        brc.Register(node, 1, breaker);
      },
      "a thread is still registered");
  Brc brc(kHooks);
  brc.Register(node, 1, breaker);
  EXPECT_DEATH(brc.Register(node, 1, breaker), "registered already");
  brc.Unregister(node);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
