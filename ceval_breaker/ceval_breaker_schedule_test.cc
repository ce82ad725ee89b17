// Every schedule of the breaker's protocols: no lost bit, no lost call, no signal without its flag.

#include <memory>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/ceval_breaker/signals.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Schedule;
using detsched::ScopedMutant;

void RaiseBit(void* breaker) { static_cast<EvalBreaker*>(breaker)->Set(BreakerEvent::kCallsToDo); }

void Expect(const detsched::Result& result) { EXPECT_TRUE(result.ok()) << result.report; }

void ExpectComplete(const detsched::Result& result) {
  Expect(result);
  EXPECT_TRUE(result.complete);
}

// The mutant is reached, and the exploration finds what is wrong with it.
void ExpectKilled(const char* mutant, Failure failure, const Options& options,
                  const std::function<void(Schedule&)>& body) {
  ScopedMutant active(mutant);
  Options quiet = options;
  quiet.shrink = false;
  const auto result = Explore(quiet, body);
  EXPECT_GT(detsched::MutantHits(), 0u) << mutant;
  EXPECT_EQ(result.failure, failure) << mutant << "\n" << result.report;
}

// ---- EvalBreaker ----

void VersionAgainstBit(Schedule& s) {
  EvalBreaker breaker;
  detsched::Name(&breaker, "breaker");
  s.Spawn("setter", [&] {
    breaker.Set(BreakerEvent::kCallsToDo);
    DETSCHED_CHECK(breaker.IsSet(BreakerEvent::kCallsToDo));
    breaker.Clear(BreakerEvent::kCallsToDo);
    breaker.Set(BreakerEvent::kPleaseStop);
  });
  s.Spawn("version", [&] {
    breaker.SetVersion(0x100);
    breaker.SetVersion(0x200);
  });
  s.Spawn("attach", [&] { breaker.RefreshOnAttach(false, 0x200); });
  s.Run();
  DETSCHED_CHECK(breaker.Load() == (0x200 | BreakerBit(BreakerEvent::kPleaseStop)));
}

TEST(EvalBreakerScheduleTest, B081_NoBitIsLost) {
  ExpectComplete(Explore(Options::Exhaustive(2), VersionAgainstBit));
}

// ---- PendingCalls ----

// One call per producer, a thread that polls like an evaluation loop until all calls have run.
struct Counted {
  static absl::Status Run(void* argument) {
    Counted* self = static_cast<Counted*>(argument);
    self->ran.Set(self->ran.Get() + 1);
    return self->fails ? absl::InternalError("") : absl::OkStatus();
  }
  Plain<int> ran{0};
  bool fails = false;
};

struct Queue {
  explicit Queue(EvalBreaker* raised, uint32_t max = 2, uint32_t per_pass = 2)
      : calls({.limits = {max, per_pass}, .raise = &RaiseBit, .context = raised}), handler(&calls, nullptr) {
    detsched::NameRange(this, sizeof(*this), "queue");
  }
  PendingCalls calls;
  PendingCallHandler handler;
};

// Polls as long as a call may come. A call whose bit was lost makes this a livelock.
void PollUntil(EvalBreaker& self, PendingCallHandler& handler, const Atomic<int>& producers,
               const PendingCalls& calls) {
  for (;;) {
    const bool last = producers.load(kAcquire) == 0;
    if (self.AnyPending()) static_cast<void>(handler.Run(self, false));
    if (last && !self.AnyPending()) return;
    if (!last) CpuRelax();
  }
  static_cast<void>(calls);
}

void TwoProducersOneConsumer(Schedule& s) {
  EvalBreaker breaker;
  Queue queue(&breaker);
  Counted counted[2];
  Atomic<int> producers{2};
  for (int i = 0; i < 2; ++i) {
    s.Spawn(i == 0 ? "producer 0" : "producer 1", [&, i] {
      DETSCHED_CHECK(queue.calls.Add(&Counted::Run, &counted[i]) == PendingCalls::AddResult::kAdded);
      producers.fetch_sub(1, kRelease);
    });
  }
  s.Spawn("consumer", [&] { PollUntil(breaker, queue.handler, producers, queue.calls); });
  s.Run();
  DETSCHED_CHECK(counted[0].ran.Get() == 1 && counted[1].ran.Get() == 1);
  DETSCHED_CHECK(queue.calls.IsEmpty() && !queue.handler.HasHandler());
}

TEST(PendingCallsScheduleTest, EveryCallRunsOnce) {
  ExpectComplete(Explore(Options::Exhaustive(2), TwoProducersOneConsumer));
  Expect(Explore(Options::Pct(3, 5'000), TwoProducersOneConsumer));
}

TEST(PendingCallsScheduleTest, MutantAddDoesNotRaise) {
  ExpectKilled("pending_add_does_not_raise", Failure::kCheck, Options::Exhaustive(2),
               TwoProducersOneConsumer);
}
TEST(PendingCallsScheduleTest, MutantPublishIsRelaxed) {
  ExpectKilled("call_ring_publish_is_relaxed", Failure::kRace, Options::Exhaustive(2),
               TwoProducersOneConsumer);
}

// A ring of one slot: the second producer writes where the consumer has just read.
void SlotIsUsedAgain(Schedule& s) {
  EvalBreaker breaker;
  Queue queue(&breaker, /*max=*/1, /*per_pass=*/1);
  Counted counted[2];
  Atomic<int> producers{2};
  for (int i = 0; i < 2; ++i) {
    s.Spawn(i == 0 ? "producer 0" : "producer 1", [&, i] {
      while (queue.calls.Add(&Counted::Run, &counted[i]) != PendingCalls::AddResult::kAdded) CpuRelax();
      producers.fetch_sub(1, kRelease);
    });
  }
  s.Spawn("consumer", [&] { PollUntil(breaker, queue.handler, producers, queue.calls); });
  s.Run();
  DETSCHED_CHECK(counted[0].ran.Get() == 1 && counted[1].ran.Get() == 1);
}

TEST(PendingCallsScheduleTest, SlotsAreReused) {
  Expect(Explore(Options::Pct(3, 10'000), SlotIsUsedAgain));
  Expect(Explore(Options::Random(10'000), SlotIsUsedAgain));
}
TEST(PendingCallsScheduleTest, MutantSlotFreedByARelaxedStore) {
  ExpectKilled("call_ring_free_slot_is_relaxed", Failure::kRace, Options::Random(10'000), SlotIsUsedAgain);
}

// Two threads of an interpreter without a GIL: both words are raised, one thread handles, the other leaves.
struct BothWords {
  EvalBreaker words[2];
  static void Raise(void* context) {
    for (EvalBreaker& word : static_cast<BothWords*>(context)->words) word.Set(BreakerEvent::kCallsToDo);
  }
};

void TwoConsumers(Schedule& s) {
  BothWords both;
  PendingCalls calls({.limits = {2, 2}, .raise = &BothWords::Raise, .context = &both});
  PendingCallHandler handler(&calls, nullptr);
  detsched::Name(&handler, "handler");
  Counted counted;
  Atomic<int> producers{1};
  s.Spawn("producer", [&] {
    DETSCHED_CHECK(calls.Add(&Counted::Run, &counted) == PendingCalls::AddResult::kAdded);
    producers.fetch_sub(1, kRelease);
  });
  for (int i = 0; i < 2; ++i) {
    s.Spawn(i == 0 ? "consumer 0" : "consumer 1",
            [&, i] { PollUntil(both.words[i], handler, producers, calls); });
  }
  s.Run();
  DETSCHED_CHECK(counted.ran.Get() == 1);
  DETSCHED_CHECK(calls.IsEmpty() && !handler.HasHandler());
}

TEST(PendingCallsScheduleTest, B089_OneOfTwoConsumersHandlesNothingIsLost) {
  ExpectComplete(Explore(Options::Exhaustive(2), TwoConsumers));
  Expect(Explore(Options::Pct(3, 10'000), TwoConsumers));
}

// A call for the main thread comes while a worker handles: the main thread leaves, the worker raises its bit.
void MainOnlyCallWhileAWorkerHandles(Schedule& s) {
  EvalBreaker main;
  EvalBreaker worker;
  PendingCalls calls({.limits = {1, 1}, .raise = &RaiseBit, .context = &worker});
  PendingCalls main_calls({.limits = {1, 1}, .raise = &RaiseBit, .context = &main});
  PendingCallHandler handler(&calls, &main_calls);
  Counted for_worker;
  Counted for_main;
  DETSCHED_CHECK(calls.Add(&Counted::Run, &for_worker) == PendingCalls::AddResult::kAdded);
  Atomic<int> others{2};
  s.Spawn("producer", [&] {
    DETSCHED_CHECK(main_calls.Add(&Counted::Run, &for_main) == PendingCalls::AddResult::kAdded);
    others.fetch_sub(1, kRelaxed);
  });
  s.Spawn("worker", [&] {
    static_cast<void>(handler.Run(worker, false));
    others.fetch_sub(1, kRelaxed);
  });
  s.Spawn("main", [&] {
    for (;;) {
      const bool last = others.load(kRelaxed) == 0;
      if (main.AnyPending()) static_cast<void>(handler.Run(main, true));
      if (last) return;
      CpuRelax();
    }
  });
  s.Run();
  if (main.AnyPending()) static_cast<void>(handler.Run(main, true));
  DETSCHED_CHECK(for_worker.ran.Get() == 1);
  DETSCHED_CHECK(for_main.ran.Get() == 1);
}

TEST(PendingCallsScheduleTest, EB28_AWorkerThatBlockedTheMainThreadRaisesItsBit) {
  Expect(Explore(Options::Exhaustive(2), MainOnlyCallWhileAWorkerHandles));
  Expect(Explore(Options::Pct(3, 10'000), MainOnlyCallWhileAWorkerHandles));
}
TEST(PendingCallsScheduleTest, MutantHandlerIsNotToldToLookAgain) {
  ExpectKilled("gh_95820_no_again", Failure::kCheck, Options::Exhaustive(2), MainOnlyCallWhileAWorkerHandles);
}

void FailingCall(Schedule& s) {
  EvalBreaker breaker;
  Queue queue(&breaker);
  Counted counted[2];
  counted[0].fails = true;
  Atomic<int> producers{1};
  s.Spawn("producer", [&] {
    for (Counted& call : counted) {
      DETSCHED_CHECK(queue.calls.Add(&Counted::Run, &call) == PendingCalls::AddResult::kAdded);
    }
    producers.fetch_sub(1, kRelease);
  });
  s.Spawn("consumer", [&] { PollUntil(breaker, queue.handler, producers, queue.calls); });
  s.Run();
  DETSCHED_CHECK(counted[0].ran.Get() == 1 && counted[1].ran.Get() == 1);
}

TEST(PendingCallsScheduleTest, B088_AFailureLosesNothing) {
  ExpectComplete(Explore(Options::Exhaustive(2), FailingCall));
}
TEST(PendingCallsScheduleTest, MutantErrorKeepsTheHandler) {
  ExpectKilled("gh_138731_error_keeps_handler", Failure::kCheck, Options::Exhaustive(2), FailingCall);
}

// A call polls while another thread adds: what the nested poll has seen is still known afterwards.
struct Nesting {
  EvalBreaker breaker;
  PendingCalls calls{{.limits = {4, 1}, .raise = &RaiseBit, .context = &breaker}};
  PendingCallHandler handler{&calls, nullptr};
  bool bit_kept = true;
  static absl::Status Poll(void* argument) {
    Nesting* self = static_cast<Nesting*>(argument);
    const bool before = self->breaker.IsSet(BreakerEvent::kCallsToDo);
    static_cast<void>(self->handler.Run(self->breaker, false));
    if (before && !self->breaker.IsSet(BreakerEvent::kCallsToDo)) self->bit_kept = false;
    return absl::OkStatus();
  }
};

void NestedPoll(Schedule& s) {
  Nesting nesting;
  Counted counted;
  Atomic<int> producers{1};
  s.Spawn("producer", [&] {
    static_cast<void>(nesting.calls.Add(&Nesting::Poll, &nesting));
    static_cast<void>(nesting.calls.Add(&Counted::Run, &counted));
    producers.fetch_sub(1, kRelease);
  });
  s.Spawn("consumer", [&] { PollUntil(nesting.breaker, nesting.handler, producers, nesting.calls); });
  s.Run();
  DETSCHED_CHECK(counted.ran.Get() == 1);
  DETSCHED_CHECK(nesting.bit_kept);
}

TEST(PendingCallsScheduleTest, B091_NestedPollKeepsMoreToDo) {
  ExpectComplete(Explore(Options::Exhaustive(2), NestedPoll));
}
TEST(PendingCallsScheduleTest, MutantNestedRunClearsTheBit) {
  ExpectKilled("nested_run_clears_the_bit", Failure::kCheck, Options::Exhaustive(2), NestedPoll);
}

// The child of a fork at any point of another thread's pass or of a producer's push can still run calls.
void ForkWhileAnotherHandles(Schedule& s) {
  EvalBreaker own;
  EvalBreaker other;
  PendingCalls calls({.limits = {4, 4}, .raise = &RaiseBit, .context = &own});
  PendingCallHandler handler(&calls, nullptr);
  Counted in_parent;
  Atomic<int> in_child{0};
  s.Spawn("other", [&] {
    static_cast<void>(calls.Add(&Counted::Run, &in_parent));
    static_cast<void>(handler.Run(other, false));
  });
  s.Spawn("forks", [&] {
    if (ForkProcess() != 0) return;
    PlatformAfterForkInChild();
    calls.AfterForkInChild();
    handler.AfterForkInChild(&own);
    constexpr auto kCall = [](void* argument) -> absl::Status {
      static_cast<Atomic<int>*>(argument)->fetch_add(1, kRelaxed);
      return absl::OkStatus();
    };
    DETSCHED_CHECK(calls.Add(kCall, &in_child) == PendingCalls::AddResult::kAdded);
    // What the other thread was adding is no part of this test: it was not ordered before the fork.
    for (int passes = 0; passes < 3 && in_child.load(kRelaxed) == 0; ++passes) {
      DETSCHED_CHECK(handler.Run(own, false).ok());
    }
    DETSCHED_CHECK(in_child.load(kRelaxed) == 1);
  });
  s.Run();
}

Options InChild() {
  Options options = Options::Exhaustive(2);
  options.fork = detsched::ForkSide::kChild;
  return options;
}

TEST(PendingCallsScheduleTest, B031_ChildOfAForkRunsItsCalls) {
  ExpectComplete(Explore(InChild(), ForkWhileAnotherHandles));
}
TEST(PendingCallsScheduleTest, MutantHandlerSurvivesTheFork) {
  ExpectKilled("eb_35_handler_survives_fork", Failure::kCheck, InChild(), ForkWhileAnotherHandles);
}

// Close against Add: a call that was accepted is run or refuses the close.
void CloseAgainstAdd(Schedule& s) {
  EvalBreaker breaker;
  Queue queue(&breaker);
  Counted counted;
  bool accepted = false;
  s.Spawn("producer",
          [&] { accepted = queue.calls.Add(&Counted::Run, &counted) == PendingCalls::AddResult::kAdded; });
  s.Spawn("finalizer", [&] {
    while (!queue.calls.CloseIfEmpty()) {
      static_cast<void>(queue.handler.Run(breaker, false));
      CpuRelax();
    }
  });
  s.Run();
  DETSCHED_CHECK(counted.ran.Get() == (accepted ? 1 : 0));
}

TEST(PendingCallsScheduleTest, EB34_AcceptedMeansRun) {
  ExpectComplete(Explore(Options::Exhaustive(2), CloseAgainstAdd));
}

// A signal handler adds a call at any point of its own thread's Add: both arrive, nobody waits.
void AddInterruptedByAdd(Schedule& s) {
  EvalBreaker breaker;
  Queue queue(&breaker, /*max=*/4, /*per_pass=*/4);
  Counted counted[2];
  const auto fiber = s.Spawn("producer", [&] {
    DETSCHED_CHECK(queue.calls.Add(&Counted::Run, &counted[0]) == PendingCalls::AddResult::kAdded);
  });
  int handled = 0;
  s.MaySignal(fiber, [&] {
    ++handled;
    DETSCHED_CHECK(queue.calls.Add(&Counted::Run, &counted[1]) == PendingCalls::AddResult::kAdded);
  });
  s.Run();
  while (breaker.AnyPending()) static_cast<void>(queue.handler.Run(breaker, false));
  DETSCHED_CHECK(counted[0].ran.Get() == 1 && counted[1].ran.Get() == handled);
}

TEST(PendingCallsScheduleTest, AddIsSafeInASignalHandlerThatInterruptsAdd) {
  ExpectComplete(Explore(Options::Exhaustive(2), AddInterruptedByAdd));
}

// ---- Signals ----

Atomic<bool>* byte_written = nullptr;
ssize_t WriteByte(int, const void*, size_t size) {
  byte_written->store(true, kRelease);
  return static_cast<ssize_t>(size);
}

void WakeupByteAndFlag(Schedule& s) {
  Atomic<bool> byte{false};
  byte_written = &byte;
  EvalBreaker breaker;
  Signals signals({.write = &WriteByte});
  detsched::Name(&signals, "signals");
  signals.SetWakeupFd(1000);
  signals.SetMainThread(&breaker);
  s.Spawn("signalled", [&] { signals.Trip(2); });
  s.Spawn("reader", [&] {
    if (byte.load(kAcquire)) DETSCHED_CHECK(signals.IsTripped());
  });
  s.Run();
  DETSCHED_CHECK(breaker.IsSet(BreakerEvent::kSignalsPending));
}

TEST(SignalsScheduleTest, B097_WhoReadsTheByteFindsTheFlag) {
  ExpectComplete(Explore(Options::Exhaustive(2), WakeupByteAndFlag));
}
TEST(SignalsScheduleTest, MutantByteBeforeFlag) {
  ExpectKilled("bpo_30038_wakeup_before_flag", Failure::kCheck, Options::Exhaustive(2), WakeupByteAndFlag);
}

struct CountingHandler {
  SignalHandler handler{[](void* context, int number) -> absl::Status {
                          auto* self = static_cast<CountingHandler*>(context);
                          ++self->seen;
                          return number == self->fails ? absl::InternalError("") : absl::OkStatus();
                        },
                        this};
  int seen = 0;  // the main fiber's
  int fails = 0;
};

// Each of two signals is handled at least once after it came, also if the first handler fails.
void TwoSignals(Schedule& s, int fails) {
  EvalBreaker breaker;
  Signals signals;
  CountingHandler counting;
  counting.fails = fails;
  signals.SetMainThread(&breaker);
  signals.SetHandler(1, &counting.handler);
  signals.SetHandler(2, &counting.handler);
  Atomic<int> threads{2};
  for (int number = 1; number <= 2; ++number) {
    s.Spawn(number == 1 ? "signal 1" : "signal 2", [&, number] {
      signals.Trip(number);
      threads.fetch_sub(1, kRelease);
    });
  }
  s.Spawn("main", [&] {
    for (;;) {
      const bool last = threads.load(kAcquire) == 0;
      if (breaker.AnyPending()) {
        breaker.Clear(BreakerEvent::kSignalsPending);
        static_cast<void>(signals.Run(breaker));
      }
      if (last && !breaker.AnyPending()) return;
      if (!last) CpuRelax();
    }
  });
  s.Run();
  DETSCHED_CHECK(counting.seen == 2);
  DETSCHED_CHECK(!signals.IsTripped());
}

Options ManySteps() { return Options::Pct(3, 10'000); }

TEST(SignalsScheduleTest, B098_NoSignalIsLost) {
  Expect(Explore(ManySteps(), [](Schedule& s) { TwoSignals(s, 0); }));
  Expect(Explore(ManySteps(), [](Schedule& s) { TwoSignals(s, 1); }));
}
TEST(SignalsScheduleTest, MutantFailingHandlerLosesTheRest) {
  ExpectKilled("failing_signal_handler_loses_the_rest", Failure::kCheck, ManySteps(),
               [](Schedule& s) { TwoSignals(s, 1); });
}
TEST(SignalsScheduleTest, MutantFlagIsAPlainStore) {
  ExpectKilled("any_tripped_is_a_plain_store", Failure::kCheck, ManySteps(),
               [](Schedule& s) { TwoSignals(s, 0); });
}
TEST(SignalsScheduleTest, MutantFlagClearedAfterTheScan) {
  ExpectKilled("any_tripped_cleared_after_scan", Failure::kCheck, ManySteps(),
               [](Schedule& s) { TwoSignals(s, 0); });
}

// The main thread's word is freed as soon as SetMainThread has returned.
void WordGoesAway(Schedule& s) {
  struct Word {
    EvalBreaker breaker;
    Plain<int> lives{1};
  };
  Word word;
  Word next;
  Signals signals;
  signals.SetMainThread(&word.breaker);
  Atomic<bool> gone{false};
  s.Spawn("signalled", [&] {
    signals.Trip(1);
    DETSCHED_CHECK(!gone.load(kRelaxed) || next.breaker.IsSet(BreakerEvent::kSignalsPending) ||
                   word.breaker.IsSet(BreakerEvent::kSignalsPending));
  });
  s.Spawn("main", [&] {
    signals.SetMainThread(&next.breaker);
    const uintptr_t at_end = word.breaker.Load();
    gone.store(true, kRelaxed);
    detsched::Point("old word freed");
    detsched::Point("old word freed");
    DETSCHED_CHECK(word.breaker.Load() == at_end);
  });
  s.Run();
  // Whichever word the trip found, the new main thread has learnt of the signal.
  DETSCHED_CHECK(next.breaker.IsSet(BreakerEvent::kSignalsPending));
}

TEST(SignalsScheduleTest, EB41_TheOldWordIsNotTouchedAfterwards) {
  Options options = Options::Exhaustive(2);
  options.weak_memory = false;  // "newest value" is what a use-after-free would overwrite
  ExpectComplete(Explore(options, WordGoesAway));
}
TEST(SignalsScheduleTest, MutantNoWaitForTrips) {
  Options options = Options::Exhaustive(2);
  options.weak_memory = false;
  ExpectKilled("eb_41_no_wait_for_trips", Failure::kCheck, options, WordGoesAway);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
