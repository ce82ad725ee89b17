#include "pyrt/ceval_breaker/pending_calls.h"

#include <cstdlib>
#include <functional>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using AddResult = PendingCalls::AddResult;

// Both queues of a main interpreter with one thread, whose word both raise.
struct OneThread {
  static void RaiseBit(void* breaker) { static_cast<EvalBreaker*>(breaker)->Set(BreakerEvent::kCallsToDo); }

  absl::Status Run(bool is_main_thread = true) { return handler.Run(breaker, is_main_thread); }
  bool bit() const { return breaker.IsSet(BreakerEvent::kCallsToDo); }

  EvalBreaker breaker;
  PendingCalls calls{{.limits = PendingCalls::kInterpreterLimits, .raise = &RaiseBit, .context = &breaker}};
  PendingCalls main_calls{
      {.limits = PendingCalls::kMainThreadLimits, .raise = &RaiseBit, .context = &breaker}};
  PendingCallHandler handler{&calls, &main_calls};
};

// A call that runs a std::function which outlives it.
absl::Status Invoke(void* argument) { return (*static_cast<std::function<absl::Status()>*>(argument))(); }

absl::Status Count(void* argument) {
  ++*static_cast<int*>(argument);
  return absl::OkStatus();
}

TEST(PendingCallsTest, B085_MainQueueHolds32InterpreterQueue300FullStillRaises) {
  OneThread thread;
  int ran = 0;
  for (int i = 0; i < 32; ++i) EXPECT_EQ(thread.main_calls.Add(&Count, &ran), AddResult::kAdded);
  for (int i = 0; i < 300; ++i) EXPECT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
  thread.breaker.Clear(BreakerEvent::kCallsToDo);
  EXPECT_EQ(thread.main_calls.Add(&Count, &ran), AddResult::kFull);
  EXPECT_TRUE(thread.bit());
  thread.breaker.Clear(BreakerEvent::kCallsToDo);
  EXPECT_EQ(thread.calls.Add(&Count, &ran), AddResult::kFull);
  EXPECT_TRUE(thread.bit());
  EXPECT_EQ(thread.main_calls.size(), 32u);
  EXPECT_EQ(thread.calls.size(), 300u);
  EXPECT_EQ(ran, 0);

  // And room comes back with every call that runs, for any number of laps around the ring.
  for (int lap = 0; lap < 50; ++lap) {
    while (thread.bit()) ASSERT_TRUE(thread.Run().ok());
    for (int i = 0; i < 300; ++i) ASSERT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
    ASSERT_EQ(thread.calls.Add(&Count, &ran), AddResult::kFull);
  }
  while (thread.bit()) ASSERT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 32 + 300 + 50 * 300);
}

TEST(PendingCallsTest, B086_APassRuns100AndRaisesAgain) {
  OneThread thread;
  int ran = 0;
  for (int i = 0; i < 250; ++i) ASSERT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 100);
  EXPECT_TRUE(thread.bit());
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 200);
  EXPECT_TRUE(thread.bit());
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 250);
  EXPECT_FALSE(thread.bit());
}

TEST(PendingCallsTest, B086_SelfAddingChainOf51OnTheMainQueueRuns32Then19) {
  OneThread thread;
  int ran = 0;
  std::function<absl::Status()> chain = [&] {
    if (++ran < 51) {
      EXPECT_EQ(thread.main_calls.Add(&Invoke, &chain), AddResult::kAdded);
    }
    return absl::OkStatus();
  };
  ASSERT_EQ(thread.main_calls.Add(&Invoke, &chain), AddResult::kAdded);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 32);
  EXPECT_TRUE(thread.bit());
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 51);
  EXPECT_TRUE(thread.main_calls.IsEmpty());
}

TEST(PendingCallsTest, B087_InterpreterQueueFirstFifoInside) {
  OneThread thread;
  std::vector<std::string> order;
  std::vector<std::function<absl::Status()>> bodies;
  bodies.reserve(6);
  const auto add = [&](PendingCalls& queue, std::string name) {
    bodies.emplace_back([&order, name] {
      order.push_back(name);
      return absl::OkStatus();
    });
    ASSERT_EQ(queue.Add(&Invoke, &bodies.back()), AddResult::kAdded);
  };
  add(thread.main_calls, "m1");
  add(thread.calls, "i1");
  add(thread.main_calls, "m2");
  add(thread.calls, "i2");
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_THAT(order, ElementsAre("i1", "i2", "m1", "m2"));
}

TEST(PendingCallsTest, B088_FailureIsConsumedTheRestStaysAndTheBitIsSetAgain) {
  OneThread thread;
  int before = 0;
  int after = 0;
  int main = 0;
  std::function<absl::Status()> fails = [] { return absl::InternalError("call failed"); };
  ASSERT_EQ(thread.calls.Add(&Count, &before), AddResult::kAdded);
  ASSERT_EQ(thread.calls.Add(&Invoke, &fails), AddResult::kAdded);
  ASSERT_EQ(thread.calls.Add(&Count, &after), AddResult::kAdded);
  ASSERT_EQ(thread.main_calls.Add(&Count, &main), AddResult::kAdded);

  EXPECT_EQ(thread.Run().message(), "call failed");
  EXPECT_EQ(before, 1);
  EXPECT_EQ(after, 0);
  EXPECT_EQ(main, 0) << "a failure in the interpreter's queue skips the main queue";
  EXPECT_TRUE(thread.bit());
  EXPECT_FALSE(thread.handler.HasHandler()) << "gh-138731";
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(before, 1);
  EXPECT_EQ(after, 1);
  EXPECT_EQ(main, 1);
}

TEST(PendingCallsTest, B088_TheBitIsSetAgainAlsoWhenTheFailureWasTheLastCall) {
  OneThread thread;
  std::function<absl::Status()> fails = [] { return absl::InternalError("call failed"); };
  ASSERT_EQ(thread.calls.Add(&Invoke, &fails), AddResult::kAdded);
  EXPECT_FALSE(thread.Run().ok());
  EXPECT_TRUE(thread.bit());
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_FALSE(thread.bit());
}

TEST(PendingCallsTest, B089_OneHandlerTheSecondThreadReturnsAtOnceAndTheHandlerLooksAgain) {
  OneThread first;
  EvalBreaker second;
  int added_later = 0;
  std::latch inside(1);
  std::latch leave(1);
  std::function<absl::Status()> blocks = [&] {
    inside.count_down();
    leave.wait();
    return absl::OkStatus();
  };
  ASSERT_EQ(first.calls.Add(&Invoke, &blocks), AddResult::kAdded);
  // 99 more fill the handler's pass, so that only the next pass can run what comes later.
  int fill = 0;
  for (int i = 0; i < 99; ++i) ASSERT_EQ(first.calls.Add(&Count, &fill), AddResult::kAdded);
  std::jthread handler([&] { EXPECT_TRUE(first.Run(/*is_main_thread=*/false).ok()); });
  inside.wait();
  ASSERT_TRUE(first.handler.IsHandling(first.breaker));

  ASSERT_EQ(first.calls.Add(&Count, &added_later), AddResult::kAdded);
  second.Set(BreakerEvent::kCallsToDo);
  EXPECT_TRUE(first.handler.Run(second, /*is_main_thread=*/true).ok()) << "at once, while the handler blocks";
  EXPECT_EQ(added_later, 0);
  EXPECT_FALSE(second.IsSet(BreakerEvent::kCallsToDo)) << "gh-118095: it must not come again at every poll";

  first.breaker.Clear(BreakerEvent::kCallsToDo);
  leave.count_down();
  handler.join();
  EXPECT_EQ(fill, 99);
  EXPECT_TRUE(first.bit()) << "the handler raises the bit for what it was told of";
  EXPECT_TRUE(first.Run().ok());
  EXPECT_EQ(added_later, 1);
}

TEST(PendingCallsTest, B090_NestedRunByTheHandlerReturnsOkAndRunsNothing) {
  OneThread thread;
  int inner = 0;
  int seen_inside = -1;
  std::function<absl::Status()> nests = [&] {
    EXPECT_EQ(thread.calls.Add(&Count, &inner), AddResult::kAdded);
    EXPECT_TRUE(thread.Run().ok());
    seen_inside = inner;
    return absl::OkStatus();
  };
  ASSERT_EQ(thread.calls.Add(&Invoke, &nests), AddResult::kAdded);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(seen_inside, 0);
  EXPECT_EQ(inner, 1) << "EB-29: in the same pass, after the call that added it";
}

TEST(PendingCallsTest, B091_NestedRunDoesNotClearMoreToDo) {
  OneThread thread;
  int later = 0;
  bool bit_after_nested = false;
  std::function<absl::Status()> nests = [&] {
    for (int i = 0; i < 150; ++i) EXPECT_EQ(thread.calls.Add(&Count, &later), AddResult::kAdded);
    EXPECT_TRUE(thread.Run().ok());
    bit_after_nested = thread.bit();
    return absl::OkStatus();
  };
  ASSERT_EQ(thread.calls.Add(&Invoke, &nests), AddResult::kAdded);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_TRUE(bit_after_nested);
  EXPECT_EQ(later, 99);
  EXPECT_TRUE(thread.bit());
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(later, 150);
}

TEST(PendingCallsTest, B092_MainQueueRunsOnTheMainThreadOnly) {
  OneThread thread;
  int main = 0;
  int any = 0;
  ASSERT_EQ(thread.main_calls.Add(&Count, &main), AddResult::kAdded);
  ASSERT_EQ(thread.calls.Add(&Count, &any), AddResult::kAdded);
  EvalBreaker worker;
  EXPECT_TRUE(thread.handler.HasWork(false));
  EXPECT_TRUE(thread.handler.Run(worker, /*is_main_thread=*/false).ok());
  EXPECT_EQ(any, 1);
  EXPECT_EQ(main, 0);
  EXPECT_FALSE(thread.handler.HasWork(false));
  EXPECT_TRUE(thread.handler.HasWork(true));
  EXPECT_TRUE(thread.bit()) << "EB-28: the worker that blocked the main thread's pass raises its bit again";
  // A subinterpreter's handler has no main queue, on whichever thread (EB-11).
  PendingCallHandler sub(&thread.calls, nullptr);
  EXPECT_TRUE(sub.Run(worker, /*is_main_thread=*/true).ok());
  EXPECT_EQ(main, 0);
  EXPECT_TRUE(thread.Run(/*is_main_thread=*/true).ok());
  EXPECT_EQ(main, 1);
}

TEST(PendingCallsTest, EB32_RunIgnoresWhetherTheBitIsSet) {
  OneThread thread;
  int ran = 0;
  ASSERT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
  thread.breaker.Clear(BreakerEvent::kCallsToDo);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 1);
}

TEST(PendingCallsTest, StaleBitIsClearedByAnEmptyPass) {
  OneThread thread;
  thread.breaker.Set(BreakerEvent::kCallsToDo);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_FALSE(thread.bit());
}

int freed = 0;
void CountFree(void* argument) {
  ++freed;
  std::free(argument);
}

TEST(PendingCallsTest, B095_ArgumentIsFreedOnSuccessOnFailureAndUnrun) {
  freed = 0;
  {
    EvalBreaker breaker;
    PendingCalls calls({.raise = &OneThread::RaiseBit, .context = &breaker, .free = &CountFree});
    PendingCallHandler handler(&calls, nullptr);
    constexpr auto kFails = [](void*) -> absl::Status { return absl::InternalError("failed"); };
    constexpr auto kSucceeds = [](void*) -> absl::Status { return absl::OkStatus(); };
    ASSERT_EQ(calls.Add(kSucceeds, std::malloc(8), PendingCalls::kFreeArgument), AddResult::kAdded);
    ASSERT_EQ(calls.Add(kFails, std::malloc(8), PendingCalls::kFreeArgument), AddResult::kAdded);
    ASSERT_EQ(calls.Add(kSucceeds, std::malloc(8), PendingCalls::kFreeArgument), AddResult::kAdded);
    EXPECT_FALSE(handler.Run(breaker, true).ok());
    EXPECT_EQ(freed, 2);
  }
  EXPECT_EQ(freed, 3) << "EB-36: what never ran does not leak";
}

TEST(PendingCallsTest, EB33_DropForgetsWhatWaits) {
  OneThread thread;
  int ran = 0;
  for (int i = 0; i < 5; ++i) ASSERT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(thread.main_calls.Add(&Count, &ran), AddResult::kAdded);
  thread.breaker.Clear(BreakerEvent::kCallsToDo);
  EXPECT_EQ(thread.handler.Drop(thread.breaker, /*is_main_thread=*/false), 5u);
  EXPECT_TRUE(thread.bit()) << "for the main thread's, which wait";
  EXPECT_EQ(thread.handler.Drop(thread.breaker, /*is_main_thread=*/true), 3u);
  EXPECT_FALSE(thread.handler.HasWork(true));
  EXPECT_FALSE(thread.handler.HasHandler());
  EXPECT_EQ(ran, 0);
}

TEST(PendingCallsTest, EB34_ClosedQueueRefusesAndAWaitingCallRefusesTheClose) {
  OneThread thread;
  int ran = 0;
  ASSERT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
  EXPECT_FALSE(thread.calls.CloseIfEmpty());
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_TRUE(thread.calls.CloseIfEmpty());
  EXPECT_EQ(thread.calls.Add(&Count, &ran), AddResult::kClosed);
  EXPECT_TRUE(thread.calls.IsEmpty());
  EXPECT_EQ(thread.calls.size(), 0u);
  thread.calls.Reopen();
  EXPECT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
  EXPECT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 2);
}

TEST(PendingCallsTest, EB35_TheGuardOfAThreadThatIsGoneIsReset) {
  OneThread survivor;
  EvalBreaker dead;
  int ran = 0;
  std::function<absl::Status()> forks = [&] {
    // What the child of a fork sees that another thread made while `dead` was the handler.
    EXPECT_TRUE(survivor.handler.IsHandling(dead));
    survivor.handler.AfterForkInChild(&survivor.breaker);
    EXPECT_FALSE(survivor.handler.HasHandler());
    EXPECT_EQ(survivor.calls.Add(&Count, &ran), AddResult::kAdded);
    EXPECT_TRUE(survivor.Run().ok());
    EXPECT_EQ(ran, 1);
    return absl::OkStatus();
  };
  ASSERT_EQ(survivor.calls.Add(&Invoke, &forks), AddResult::kAdded);
  ASSERT_TRUE(survivor.handler.Run(dead, false).ok());
}

TEST(PendingCallsTest, EB35_WhatWaitedForAHandlerThatIsGoneIsRaisedAgain) {
  OneThread survivor;
  EvalBreaker dead;
  int ran = 0;
  std::function<absl::Status()> forks = [&] {
    EXPECT_EQ(survivor.calls.Add(&Count, &ran), AddResult::kAdded);
    EXPECT_TRUE(survivor.Run().ok());
    EXPECT_EQ(ran, 0) << "left to the handler";
    EXPECT_FALSE(survivor.breaker.IsSet(BreakerEvent::kCallsToDo));
    survivor.handler.AfterForkInChild(&survivor.breaker);
    EXPECT_TRUE(survivor.breaker.IsSet(BreakerEvent::kCallsToDo));
    EXPECT_TRUE(survivor.Run().ok());
    EXPECT_EQ(ran, 1);
    return absl::OkStatus();
  };
  ASSERT_EQ(survivor.calls.Add(&Invoke, &forks), AddResult::kAdded);
  ASSERT_TRUE(survivor.handler.Run(dead, false).ok());
}

TEST(PendingCallsTest, FK10_AForkInsideACallKeepsTheGuardOfItsOwnThread) {
  OneThread thread;
  int ran = 0;
  std::function<absl::Status()> forks = [&] {
    thread.handler.AfterForkInChild(&thread.breaker);
    EXPECT_TRUE(thread.handler.IsHandling(thread.breaker));
    EXPECT_EQ(thread.calls.Add(&Count, &ran), AddResult::kAdded);
    EXPECT_TRUE(thread.Run().ok());
    EXPECT_EQ(ran, 0) << "still nested";
    return absl::OkStatus();
  };
  ASSERT_EQ(thread.calls.Add(&Invoke, &forks), AddResult::kAdded);
  ASSERT_TRUE(thread.Run().ok());
  EXPECT_EQ(ran, 1);
  EXPECT_FALSE(thread.handler.HasHandler());
}

TEST(PendingCallsTest, EB37_ForgetEndsTheGuardOfAThreadStateThatEnds) {
  OneThread thread;
  EvalBreaker other;
  std::function<absl::Status()> ends = [&] {
    EvalBreaker stranger;
    thread.handler.Forget(stranger);
    EXPECT_TRUE(thread.handler.IsHandling(other));
    thread.handler.Forget(other);
    EXPECT_FALSE(thread.handler.HasHandler());
    return absl::OkStatus();
  };
  ASSERT_EQ(thread.calls.Add(&Invoke, &ends), AddResult::kAdded);
  ASSERT_TRUE(thread.handler.Run(other, false).ok());
}

TEST(PendingCallsStressTest, EveryCallRunsExactlyOnceInTheOrderOfItsProducer) {
  constexpr int kProducers = 4;
  constexpr int kCallsEach = 5'000;
  struct Item {
    std::vector<int>* log;
    int number;
  };
  OneThread thread;
  std::vector<std::vector<int>> logs(kProducers);
  std::vector<std::vector<Item>> items(kProducers);
  Atomic<int> running{0};
  for (int p = 0; p < kProducers; ++p) {
    for (int i = 0; i < kCallsEach; ++i) items[p].push_back({&logs[p], i});
  }
  constexpr auto kLog = [](void* argument) -> absl::Status {
    Item* item = static_cast<Item*>(argument);
    item->log->push_back(item->number);
    return absl::OkStatus();
  };
  {
    std::vector<std::jthread> producers;
    for (int p = 0; p < kProducers; ++p) {
      producers.emplace_back([&, p] {
        for (Item& item : items[p]) {
          while (thread.calls.Add(kLog, &item) != AddResult::kAdded) YieldCpu();
        }
      });
    }
    // Two consumers that take turns, as threads of one interpreter do; each has its own word, both are
    // raised.
    Atomic<int> done{0};
    EvalBreaker second;
    std::jthread other([&] {
      while (done.load(kAcquire) == 0) {
        if (running.fetch_add(1, kAcqRel) == 0) {
          EXPECT_TRUE(thread.handler.Run(second, false).ok());
        }
        running.fetch_sub(1, kAcqRel);
        YieldCpu();
      }
    });
    size_t total = 0;
    while (total < static_cast<size_t>(kProducers) * kCallsEach) {
      if (running.fetch_add(1, kAcqRel) == 0) {
        EXPECT_TRUE(thread.Run().ok());
        total = 0;
        for (const auto& log : logs) total += log.size();
      }
      running.fetch_sub(1, kAcqRel);
      YieldCpu();
    }
    done.store(1, kRelease);
  }
  EXPECT_TRUE(thread.calls.IsEmpty());
  EXPECT_FALSE(thread.handler.HasHandler());
  for (const auto& log : logs) {
    ASSERT_EQ(log.size(), static_cast<size_t>(kCallsEach));
    for (int i = 0; i < kCallsEach; ++i) ASSERT_EQ(log[static_cast<size_t>(i)], i);
  }
}

TEST(PendingCallsStressTest, ManyThreadsMayRunAtOnceOneHandles) {
  // Without the turn-taking above: all threads call Run; the guard alone keeps the calls apart.
  constexpr int kThreads = 4;
  constexpr int kCalls = 20'000;
  OneThread thread;
  struct State {
    int inside = 0;
    int ran = 0;
    bool overlapped = false;
  } state;
  constexpr auto kCall = [](void* argument) -> absl::Status {
    State* s = static_cast<State*>(argument);
    if (++s->inside != 1) s->overlapped = true;
    ++s->ran;
    --s->inside;
    return absl::OkStatus();
  };
  Atomic<bool> stop{false};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        EvalBreaker self;
        while (!stop.load(kRelaxed)) EXPECT_TRUE(thread.handler.Run(self, false).ok());
      });
    }
    for (int i = 0; i < kCalls; ++i) {
      while (thread.calls.Add(kCall, &state) != AddResult::kAdded) YieldCpu();
    }
    while (!thread.calls.IsEmpty() || thread.handler.HasHandler()) YieldCpu();
    stop.store(true, kRelaxed);
  }
  EXPECT_EQ(state.ran, kCalls);
  EXPECT_FALSE(state.overlapped);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
