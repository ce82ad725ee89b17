// The memory model, litmus test by litmus test: which outcomes exist, by exhaustive search of all of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT::detsched {
namespace {

using ::testing::Contains;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

// Two variables and four registers, x and y 0 at the start.
struct Litmus {
  Atomic<uint32_t> x{0};
  Atomic<uint32_t> y{0};
  Plain<int> data{0};
  uint32_t r[4] = {9, 9, 9, 9};
};
using Thread = std::function<void(Litmus&)>;

Options AllOutcomes() {
  Options options = Options::Exhaustive(Options::kUnlimited);
  options.stale_reads = Options::kUnlimited;
  return options;
}

// The values of the first `registers` registers at the end of each schedule: "01", ...
std::set<std::string> Outcomes(int registers, const std::vector<Thread>& threads,
                               Options options = AllOutcomes()) {
  static constexpr const char* kNames[] = {"T0", "T1", "T2", "T3"};
  std::set<std::string> outcomes;
  const Result result = Explore(options, [&](Schedule& s) {
    Litmus litmus;
    for (size_t i = 0; i < threads.size(); ++i) {
      s.Spawn(kNames[i], [&, i] { threads[i](litmus); });
    }
    s.Run();
    std::string outcome;
    for (int i = 0; i < registers; ++i) outcome += std::to_string(litmus.r[i]);
    outcomes.insert(outcome);
  });
  EXPECT_TRUE(result.ok()) << result.report;
  EXPECT_TRUE(result.complete);
  return outcomes;
}

// Store buffering: may both threads miss the other's store?
std::set<std::string> StoreBuffering(std::memory_order store, std::memory_order load, void (*fence0)(),
                                     void (*fence1)(), Options options = AllOutcomes()) {
  return Outcomes(2,
                  {[=](Litmus& m) {
                     m.x.store(1, store);
                     fence0();
                     m.r[0] = m.y.load(load);
                   },
                   [=](Litmus& m) {
                     m.y.store(1, store);
                     fence1();
                     m.r[1] = m.x.load(load);
                   }},
                  options);
}
void NoFence() {}
void Light() { AsymmetricFence::Light(); }
void Heavy() { AsymmetricFence::Heavy(); }

TEST(LitmusScheduleTest, StoreBufferingNeedsSeqCst) {
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, NoFence, NoFence),
              UnorderedElementsAre("00", "01", "10", "11"));
  EXPECT_THAT(StoreBuffering(kRelease, kAcquire, NoFence, NoFence),
              UnorderedElementsAre("00", "01", "10", "11"));
  EXPECT_THAT(StoreBuffering(kSeqCst, kSeqCst, NoFence, NoFence), UnorderedElementsAre("01", "10", "11"));
  EXPECT_THAT(StoreBuffering(kSeqCst, kRelaxed, NoFence, NoFence), Contains("00"))
      << "a seq_cst store is no fence for a relaxed load after it";
}

TEST(LitmusScheduleTest, WithoutWeakMemoryOnlyInterleavingsAreLeft) {
  Options options = AllOutcomes();
  options.weak_memory = false;
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, NoFence, NoFence, options),
              UnorderedElementsAre("01", "10", "11"));
}

TEST(LitmusScheduleTest, AsymmetricFencesOrderALightWithAHeavySide) {
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, Light, Heavy), UnorderedElementsAre("01", "10", "11"));
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, Heavy, Heavy), UnorderedElementsAre("01", "10", "11"));
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, Light, Light), Contains("00"));
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, NoFence, Heavy), Contains("00"))
      << "without Light() the compiler may exchange the store and the load";
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, Light, NoFence), Contains("00"));
}

TEST(LitmusScheduleTest, ACompareExchangeThatFailsMayReadAnOlderStore) {
  const auto outcomes = [](std::memory_order store, std::memory_order load, uint32_t expected) {
    return Outcomes(3, {[=](Litmus& m) {
                          m.x.store(1, kRelaxed);
                          m.y.store(1, store);
                        },
                        [=](Litmus& m) {
                          m.r[0] = m.y.load(load);
                          m.r[2] = expected;
                          m.r[1] = m.x.compare_exchange_strong(m.r[2], 2, kRelaxed, kRelaxed);
                        }});
  };
  EXPECT_THAT(outcomes(kRelaxed, kRelaxed, 1), UnorderedElementsAre("000", "011", "100", "111"));
  EXPECT_THAT(outcomes(kRelease, kAcquire, 1), UnorderedElementsAre("000", "011", "111"));
  // Message passing by what a failure acquires, and a failure that has a place among the seq_cst operations.
  const auto failing = [](std::memory_order store, std::memory_order failure) {
    return Outcomes(2, {[=](Litmus& m) {
                          m.y.store(1, kRelaxed);
                          m.x.store(1, store);
                        },
                        [=](Litmus& m) {
                          m.r[0] = 7;
                          m.x.compare_exchange_strong(m.r[0], 8, kSeqCst, failure);
                          m.r[1] = m.y.load(kRelaxed);
                        }});
  };
  EXPECT_THAT(failing(kRelease, kRelaxed), UnorderedElementsAre("00", "01", "10", "11"));
  EXPECT_THAT(failing(kRelease, kAcquire), UnorderedElementsAre("00", "01", "11"));
  const auto buffering = [](std::memory_order failure) {
    const auto side = [failure](Atomic<uint32_t>& own, Atomic<uint32_t>& other, uint32_t* read) {
      own.store(1, kSeqCst);
      *read = 7;
      other.compare_exchange_strong(*read, 8, kSeqCst, failure);
    };
    return Outcomes(
        2, {[=](Litmus& m) { side(m.x, m.y, &m.r[0]); }, [=](Litmus& m) { side(m.y, m.x, &m.r[1]); }});
  };
  EXPECT_THAT(buffering(kAcquire), UnorderedElementsAre("00", "01", "10", "11"));
  EXPECT_THAT(buffering(kSeqCst), UnorderedElementsAre("01", "10", "11"));
  // Not one of the value that it expects: then it would have to be the newest, and succeed.
  EXPECT_THAT(outcomes(kRelaxed, kRelaxed, 0), UnorderedElementsAre("010", "001", "101"));
}

TEST(LitmusScheduleTest, WithoutMembarrierALightFenceIsAFullOne) {
  Options options = AllOutcomes();
  options.membarrier = false;
  EXPECT_THAT(StoreBuffering(kRelaxed, kRelaxed, Light, Light, options),
              UnorderedElementsAre("01", "10", "11"));
}

TEST(LitmusScheduleTest, ReadModifyWritesAreNoFencesEither) {
  const auto outcomes = Outcomes(2, {[](Litmus& m) {
                                       m.x.fetch_add(1, kSeqCst);
                                       m.r[0] = m.y.load(kRelaxed);
                                     },
                                     [](Litmus& m) {
                                       m.y.fetch_add(1, kSeqCst);
                                       m.r[1] = m.x.load(kRelaxed);
                                     }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("00", "01", "10", "11"));
}

// Message passing: the flag seen, is the message?
std::set<std::string> MessagePassing(std::memory_order store, std::memory_order load) {
  return Outcomes(2, {[=](Litmus& m) {
                        m.x.store(1, kRelaxed);
                        m.y.store(1, store);
                      },
                      [=](Litmus& m) {
                        m.r[0] = m.y.load(load);
                        m.r[1] = m.x.load(kRelaxed);
                      }});
}

TEST(LitmusScheduleTest, MessagePassingNeedsReleaseAndAcquire) {
  EXPECT_THAT(MessagePassing(kRelease, kAcquire), UnorderedElementsAre("00", "01", "11"));
  EXPECT_THAT(MessagePassing(kRelaxed, kAcquire), Contains("10"));
  EXPECT_THAT(MessagePassing(kRelease, kRelaxed), Contains("10"));
}

TEST(LitmusScheduleTest, AHeavyFenceReleasesAndAcquiresWhatRelaxedAccessesCarry) {
  const auto outcomes = Outcomes(2, {[](Litmus& m) {
                                       m.x.store(1, kRelaxed);
                                       Heavy();
                                       m.y.store(1, kRelaxed);
                                     },
                                     [](Litmus& m) {
                                       m.r[0] = m.y.load(kRelaxed);
                                       Heavy();
                                       m.r[1] = m.x.load(kRelaxed);
                                     }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("00", "01", "11"));
}

TEST(LitmusScheduleTest, OneThreadReadsOneLocationInModificationOrder) {
  const auto outcomes = Outcomes(2, {[](Litmus& m) {
                                       m.x.store(1, kRelaxed);
                                       m.x.store(2, kRelaxed);
                                     },
                                     [](Litmus& m) {
                                       m.r[0] = m.x.load(kRelaxed);
                                       m.r[1] = m.x.load(kRelaxed);
                                     }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("00", "01", "02", "11", "12", "22"));
}

TEST(LitmusScheduleTest, CoherenceReachesThroughHappensBefore) {
  // What one thread has read, a thread that is ordered after the read may not miss.
  const auto outcomes = Outcomes(3, {[](Litmus& m) { m.x.store(1, kRelaxed); },
                                     [](Litmus& m) {
                                       m.r[0] = m.x.load(kRelaxed);
                                       m.y.store(1, kRelease);
                                     },
                                     [](Litmus& m) {
                                       m.r[1] = m.y.load(kAcquire);
                                       m.r[2] = m.x.load(kRelaxed);
                                     }});
  EXPECT_THAT(outcomes, Not(Contains("110")));
  EXPECT_THAT(outcomes, Contains("100"));
  EXPECT_THAT(outcomes, Contains("011"));
}

TEST(LitmusScheduleTest, AThreadSeesItsOwnStores) {
  const auto outcomes = Outcomes(1, {[](Litmus& m) {
                                       m.x.store(1, kRelaxed);
                                       m.r[0] = m.x.load(kRelaxed);
                                     },
                                     [](Litmus& m) { m.x.store(2, kRelaxed); }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("1", "2"));
}

// A seq_cst load has its place in the total order also where the store has none.
TEST(LitmusScheduleTest, SeqCstLoadsAloneDoNotOrderStores) {
  EXPECT_THAT(StoreBuffering(kRelease, kSeqCst, NoFence, NoFence),
              UnorderedElementsAre("00", "01", "10", "11"));
}

// Independent reads of independent writes: may two threads see two stores in different orders?
std::set<std::string> IndependentReads(std::memory_order store, std::memory_order load) {
  return Outcomes(4, {[=](Litmus& m) { m.x.store(1, store); }, [=](Litmus& m) { m.y.store(1, store); },
                      [=](Litmus& m) {
                        m.r[0] = m.x.load(load);
                        m.r[1] = m.y.load(load);
                      },
                      [=](Litmus& m) {
                        m.r[2] = m.y.load(load);
                        m.r[3] = m.x.load(load);
                      }});
}

TEST(LitmusScheduleTest, IndependentReadsOfIndependentWritesNeedSeqCst) {
  EXPECT_THAT(IndependentReads(kRelease, kAcquire), Contains("1010"));
  EXPECT_THAT(IndependentReads(kSeqCst, kSeqCst), Not(Contains("1010")));
  EXPECT_THAT(IndependentReads(kSeqCst, kSeqCst), Contains("1110"));
}

TEST(LitmusScheduleTest, LoadBufferingIsNotModelled) {
  // C++ allows 11 for relaxed accesses; here a load never returns what is stored later.
  const auto outcomes = Outcomes(2, {[](Litmus& m) {
                                       m.r[0] = m.x.load(kRelaxed);
                                       m.y.store(1, kRelaxed);
                                     },
                                     [](Litmus& m) {
                                       m.r[1] = m.y.load(kRelaxed);
                                       m.x.store(1, kRelaxed);
                                     }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("00", "01", "10"));
}

TEST(LitmusScheduleTest, AReleaseSequenceGoesOnThroughReadModifyWritesOnly) {
  const auto through = [](const Thread& between) {
    return Outcomes(2, {[](Litmus& m) {
                          m.x.store(1, kRelaxed);
                          m.y.store(1, kRelease);
                        },
                        between,
                        [](Litmus& m) {
                          m.r[0] = m.y.load(kAcquire);
                          m.r[1] = m.x.load(kRelaxed);
                        }});
  };
  const auto rmw = through([](Litmus& m) { m.y.fetch_add(1, kRelaxed); });
  EXPECT_THAT(rmw, Contains("21"));
  EXPECT_THAT(rmw, Not(Contains("20"))) << "the increment of the released 1 still carries its release";
  const auto store = through([](Litmus& m) {
    if (m.y.load(kRelaxed) == 1) m.y.store(2, kRelaxed);
  });
  EXPECT_THAT(store, Contains("20"));
}

TEST(LitmusScheduleTest, ReadModifyWritesTakeTheNewestValue) {
  const auto outcomes = Outcomes(2, {[](Litmus& m) { m.r[0] = m.x.fetch_add(1, kRelaxed); },
                                     [](Litmus& m) { m.r[1] = m.x.fetch_add(1, kRelaxed); }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("01", "10"));
}

TEST(LitmusScheduleTest, ASeqCstLoadSeesWhatAFullFenceHadSeen) {
  // [atomics.order] with the fence on one side only.
  const auto outcomes = [](std::memory_order load) {
    return Outcomes(2, {[](Litmus& m) {
                          m.x.store(1, kRelaxed);
                          Heavy();
                          m.r[0] = m.y.load(kRelaxed);
                        },
                        [=](Litmus& m) {
                          m.y.store(1, kSeqCst);
                          m.r[1] = m.x.load(load);
                        }});
  };
  EXPECT_THAT(outcomes(kSeqCst), Not(Contains("00")));
  EXPECT_THAT(outcomes(kRelaxed), Contains("00"));
}

TEST(LitmusScheduleTest, TheLastEightStoresAreKept) {
  const auto outcomes = Outcomes(1, {[](Litmus& m) {
                                       for (uint32_t i = 1; i <= 9; ++i) m.x.store(i, kRelaxed);
                                       m.y.store(1, kRelaxed);
                                     },
                                     [](Litmus& m) {
                                       if (m.y.load(kRelaxed) == 1) m.r[0] = m.x.load(kRelaxed);
                                     }});
  EXPECT_THAT(outcomes, UnorderedElementsAre("2", "3", "4", "5", "6", "7", "8", "9"));
}

// The race detector on the same patterns.
Failure Race(const Thread& a, const Thread& b) {
  const Result result = Explore(AllOutcomes(), [&](Schedule& s) {
    Litmus litmus;
    Name(&litmus.data, "data");
    s.Spawn("a", [&] { a(litmus); });
    s.Spawn("b", [&] { b(litmus); });
    s.Run();
  });
  if (result.failure == Failure::kRace) {
    EXPECT_THAT(result.message, ::testing::HasSubstr("data race on data"));
    EXPECT_THAT(result.message, ::testing::HasSubstr("litmus_schedule_test.cc:"));
  }
  return result.failure;
}

TEST(LitmusScheduleTest, PlainDataNeedsHappensBefore) {
  const auto send = [](std::memory_order order) {
    return [=](Litmus& m) {
      m.data.Set(1);
      m.y.store(1, order);
    };
  };
  const auto receive = [](std::memory_order order) {
    return [=](Litmus& m) {
      if (m.y.load(order) == 1) m.data.Get();
    };
  };
  EXPECT_EQ(Race(send(kRelease), receive(kAcquire)), Failure::kNone);
  EXPECT_EQ(Race(send(kRelaxed), receive(kAcquire)), Failure::kRace);
  EXPECT_EQ(Race(send(kRelease), receive(kRelaxed)), Failure::kRace);
  EXPECT_EQ(Race([](Litmus& m) { m.data.Get(); }, [](Litmus& m) { m.data.Get(); }), Failure::kNone);
  EXPECT_EQ(Race([](Litmus& m) { m.data.Get(); }, [](Litmus& m) { m.data.Set(1); }), Failure::kRace);
  EXPECT_EQ(Race([](Litmus& m) { m.data.Set(1); }, [](Litmus& m) { m.data.Set(1); }), Failure::kRace);
}

TEST(LitmusScheduleTest, LightFencesHandNoPlainDataOver) {
  const auto race = [](void (*fence_a)(), void (*fence_b)()) {
    return Race(
        [=](Litmus& m) {
          m.data.Set(1);
          fence_a();
          m.y.store(1, kRelaxed);
        },
        [=](Litmus& m) {
          if (m.y.load(kRelaxed) != 1) return;
          fence_b();
          m.data.Get();
        });
  };
  EXPECT_EQ(race(Heavy, Heavy), Failure::kNone);
  EXPECT_EQ(race(Light, Heavy), Failure::kRace);
  EXPECT_EQ(race(NoFence, NoFence), Failure::kRace);
}

TEST(LitmusScheduleTest, AnAtomicMayNotBeUsedBeforeItsConstructionIsPublished) {
  struct Node {
    Atomic<uint32_t> value{7};
  };
  for (const std::memory_order order : {kRelease, kRelaxed}) {
    const Result result = Explore(AllOutcomes(), [&](Schedule& s) {
      alignas(Node) static char storage[sizeof(Node)];
      Atomic<Node*> published{nullptr};
      s.Spawn("a", [&] { published.store(new (storage) Node, order); });
      s.Spawn("b", [&] {
        if (Node* node = published.load(kAcquire)) DETSCHED_CHECK(node->value.load(kRelaxed) == 7);
      });
      s.Run();
    });
    EXPECT_EQ(result.failure, order == kRelease ? Failure::kNone : Failure::kRace) << result.report;
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT::detsched
