// Every schedule of the breaker's protocols: no lost bit, no lost call, no signal without its flag.

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/ceval_breaker/signals.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::ExpectPct;
using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Schedule;
using detsched::ScopedMutant;
using detsched::Watched;

void RaiseBit(void* breaker) { static_cast<EvalBreaker*>(breaker)->Set(BreakerEvent::kCallsToDo); }

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

void VersionAgainstBit(Schedule& s, bool watched) {
  EvalBreaker breaker;
  uintptr_t set = 0;  // the model: what was set, and not cleared; changed between two scheduling points
  detsched::Name(&breaker, "breaker");
  if (watched) s.Invariant("a bit that was set is there", [&] { return (breaker.Load() & set) == set; });
  s.Spawn("setter", [&] {
    breaker.Set(BreakerEvent::kCallsToDo);
    set |= BreakerBit(BreakerEvent::kCallsToDo);
    DETSCHED_CHECK(breaker.IsSet(BreakerEvent::kCallsToDo));
    set = 0;
    breaker.Clear(BreakerEvent::kCallsToDo);
    breaker.Set(BreakerEvent::kPleaseStop);
    set |= BreakerBit(BreakerEvent::kPleaseStop);
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
  for (const bool watched : {false, true}) {
    ExpectComplete(
        Explore(Options::Exhaustive(2), [watched](Schedule& s) { VersionAgainstBit(s, watched); }));
  }
}

// ---- PendingCalls ----

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
      : Queue(&RaiseBit, raised, max, per_pass) {}
  Queue(void (*raise)(void*), void* context, uint32_t max, uint32_t per_pass)
      : calls({.limits = {max, per_pass}, .raise = raise, .context = context}), handler(&calls, nullptr) {
    detsched::NameRange(this, sizeof(*this), "queue");
  }

  PendingCalls::AddResult Add(Counted& call) {
    ++inside;
    const PendingCalls::AddResult result = calls.Add(&Counted::Run, &call);
    --inside;
    return result;
  }
  void Poll(EvalBreaker& self) {
    if (!self.AnyPending()) return;
    ++inside;
    static_cast<void>(handler.Run(self, false));
    --inside;
  }

  // While nobody is inside Add or Run, a call that waits has its bit in the word of each thread that may run
  // it.
  void Watch(Schedule& s, Watched watched, std::vector<const EvalBreaker*> words) {
    if (watched == Watched::kNo) return;
    s.Invariant("a call that waits has its bit", [this, words] {
      if (inside != 0 || calls.IsEmpty()) return true;
      return std::all_of(words.begin(), words.end(),
                         [](const EvalBreaker* word) { return word->IsSet(BreakerEvent::kCallsToDo); });
    });
  }

  PendingCalls calls;
  PendingCallHandler handler;
  int inside = 0;  // threads in Add and Run, the model's: changed between two scheduling points
};

// Polls like an evaluation loop, as long as a call may come. A call whose bit was lost stays.
void PollUntil(EvalBreaker& self, Queue& queue, const Atomic<int>& producers) {
  for (;;) {
    const bool last = producers.load(kAcquire) == 0;
    queue.Poll(self);
    if (last && !self.AnyPending()) return;
    if (!last) CpuRelax();
  }
}

constexpr const char* kProducers[] = {"producer 0", "producer 1", "producer 2"};

// One call per producer.
void ProducersAndOneConsumer(Schedule& s, int count, Watched watched) {
  EvalBreaker breaker;
  Queue queue(&breaker, static_cast<uint32_t>(count));
  queue.Watch(s, watched, {&breaker});
  Counted counted[3];
  Atomic<int> producers{count};
  for (int i = 0; i < count; ++i) {
    s.Spawn(kProducers[i], [&, i] {
      DETSCHED_CHECK(queue.Add(counted[i]) == PendingCalls::AddResult::kAdded);
      producers.fetch_sub(1, kRelease);
    });
  }
  s.Spawn("consumer", [&] { PollUntil(breaker, queue, producers); });
  s.Run();
  for (int i = 0; i < count; ++i) DETSCHED_CHECK(counted[i].ran.Get() == 1);
  DETSCHED_CHECK(queue.calls.IsEmpty() && !queue.handler.HasHandler());
}
void TwoProducersOneConsumer(Schedule& s) { ProducersAndOneConsumer(s, 2, Watched::kNo); }
void TwoProducersWatched(Schedule& s) { ProducersAndOneConsumer(s, 2, Watched::kYes); }

TEST(PendingCallsScheduleTest, EveryCallRunsOnce) {
  ExpectComplete(Explore(Options::Exhaustive(2), TwoProducersOneConsumer));
  ExpectComplete(
      Explore(Options::Exhaustive(2), [](Schedule& s) { ProducersAndOneConsumer(s, 1, Watched::kYes); }));
  ExpectPct(&TwoProducersWatched, 50'000);
  ExpectPct([](Schedule& s) { ProducersAndOneConsumer(s, 3, Watched::kYes); }, 20'000);
}

TEST(PendingCallsScheduleTest, MutantAddDoesNotRaise) {
  ExpectKilled("pending_add_does_not_raise", Failure::kInvariant, Options::Exhaustive(2),
               [](Schedule& s) { ProducersAndOneConsumer(s, 1, Watched::kYes); });
  ExpectKilled("pending_add_does_not_raise", Failure::kCheck, Options::Exhaustive(2),
               TwoProducersOneConsumer);
  ExpectKilled("pending_add_does_not_raise", Failure::kInvariant, Options::Pct(2, 2'000),
               TwoProducersWatched);
}
TEST(PendingCallsScheduleTest, MutantPublishIsRelaxed) {
  ExpectKilled("call_ring_publish_is_relaxed", Failure::kRace, Options::Exhaustive(2),
               TwoProducersOneConsumer);
}

// A ring of one slot: the second producer writes where the consumer has just read.
void SlotIsUsedAgain(Schedule& s) {
  EvalBreaker breaker;
  Queue queue(&breaker, /*max=*/1, /*per_pass=*/1);
  queue.Watch(s, Watched::kYes, {&breaker});
  Counted counted[2];
  Atomic<int> producers{2};
  for (int i = 0; i < 2; ++i) {
    s.Spawn(kProducers[i], [&, i] {
      while (queue.Add(counted[i]) != PendingCalls::AddResult::kAdded) CpuRelax();
      producers.fetch_sub(1, kRelease);
    });
  }
  s.Spawn("consumer", [&] { PollUntil(breaker, queue, producers); });
  s.Run();
  DETSCHED_CHECK(counted[0].ran.Get() == 1 && counted[1].ran.Get() == 1);
}

TEST(PendingCallsScheduleTest, SlotsAreReused) {
  ExpectPct(&SlotIsUsedAgain, 50'000);
  ExpectOk(Explore(Options::Random(10'000), SlotIsUsedAgain));
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

void TwoConsumers(Schedule& s, int count, Watched watched) {
  BothWords both;
  Queue queue(&BothWords::Raise, &both, /*max=*/2, /*per_pass=*/2);
  queue.Watch(s, watched, {&both.words[0], &both.words[1]});
  Counted counted[2];
  Atomic<int> producers{count};
  for (int i = 0; i < count; ++i) {
    s.Spawn(kProducers[i], [&, i] {
      DETSCHED_CHECK(queue.Add(counted[i]) == PendingCalls::AddResult::kAdded);
      producers.fetch_sub(1, kRelease);
    });
  }
  for (int i = 0; i < 2; ++i) {
    s.Spawn(i == 0 ? "consumer 0" : "consumer 1", [&, i] { PollUntil(both.words[i], queue, producers); });
  }
  s.Run();
  for (int i = 0; i < count; ++i) DETSCHED_CHECK(counted[i].ran.Get() == 1);
  DETSCHED_CHECK(queue.calls.IsEmpty() && !queue.handler.HasHandler());
}

TEST(PendingCallsScheduleTest, B089_OneOfTwoConsumersHandlesNothingIsLost) {
  ExpectComplete(Explore(Options::Exhaustive(2), [](Schedule& s) { TwoConsumers(s, 1, Watched::kNo); }));
  ExpectPct([](Schedule& s) { TwoConsumers(s, 1, Watched::kYes); }, 50'000);
  ExpectPct([](Schedule& s) { TwoConsumers(s, 2, Watched::kYes); }, 20'000);
}
TEST(PendingCallsScheduleTest, MutantTheOtherConsumerDoesNotLookAgain) {
  ExpectKilled("gh_95820_no_again", Failure::kInvariant, Options::Pct(3, 50'000),
               [](Schedule& s) { TwoConsumers(s, 2, Watched::kYes); });
}

// A call for the main thread comes while a worker handles: the main thread leaves, the worker raises its bit.
void MainOnlyCallWhileAWorkerHandles(Schedule& s, Watched watched) {
  EvalBreaker main;
  EvalBreaker worker;
  int inside = 0;  // as Queue::inside
  PendingCalls calls({.limits = {1, 1}, .raise = &RaiseBit, .context = &worker});
  PendingCalls main_calls({.limits = {1, 1}, .raise = &RaiseBit, .context = &main});
  PendingCallHandler handler(&calls, &main_calls);
  Counted for_worker;
  Counted for_main;
  DETSCHED_CHECK(calls.Add(&Counted::Run, &for_worker) == PendingCalls::AddResult::kAdded);
  if (watched == Watched::kYes) {
    s.Invariant("a call that waits has its bit", [&] {
      const auto has_bit = [](const PendingCalls& queue, const EvalBreaker& word) {
        return queue.IsEmpty() || word.IsSet(BreakerEvent::kCallsToDo);
      };
      return inside != 0 || (has_bit(calls, worker) && has_bit(main_calls, main));
    });
  }
  Atomic<int> others{2};
  s.Spawn("producer", [&] {
    ++inside;
    DETSCHED_CHECK(main_calls.Add(&Counted::Run, &for_main) == PendingCalls::AddResult::kAdded);
    --inside;
    others.fetch_sub(1, kRelaxed);
  });
  s.Spawn("worker", [&] {
    ++inside;
    static_cast<void>(handler.Run(worker, false));
    --inside;
    others.fetch_sub(1, kRelaxed);
  });
  s.Spawn("main", [&] {
    for (;;) {
      const bool last = others.load(kRelaxed) == 0;
      if (main.AnyPending()) {
        ++inside;
        static_cast<void>(handler.Run(main, true));
        --inside;
      }
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
  ExpectComplete(
      Explore(Options::Exhaustive(2), [](Schedule& s) { MainOnlyCallWhileAWorkerHandles(s, Watched::kNo); }));
  ExpectPct([](Schedule& s) { MainOnlyCallWhileAWorkerHandles(s, Watched::kYes); }, 50'000);
}
TEST(PendingCallsScheduleTest, MutantHandlerIsNotToldToLookAgain) {
  ExpectKilled("gh_95820_no_again", Failure::kCheck, Options::Exhaustive(2),
               [](Schedule& s) { MainOnlyCallWhileAWorkerHandles(s, Watched::kNo); });
  ExpectKilled("gh_95820_no_again", Failure::kInvariant, Options::Pct(3, 50'000),
               [](Schedule& s) { MainOnlyCallWhileAWorkerHandles(s, Watched::kYes); });
}

void FailingCall(Schedule& s, Watched watched) {
  EvalBreaker breaker;
  Queue queue(&breaker);
  queue.Watch(s, watched, {&breaker});
  Counted counted[2];
  counted[0].fails = true;
  Atomic<int> producers{1};
  s.Spawn("producer", [&] {
    for (Counted& call : counted) DETSCHED_CHECK(queue.Add(call) == PendingCalls::AddResult::kAdded);
    producers.fetch_sub(1, kRelease);
  });
  s.Spawn("consumer", [&] { PollUntil(breaker, queue, producers); });
  s.Run();
  DETSCHED_CHECK(counted[0].ran.Get() == 1 && counted[1].ran.Get() == 1);
}

TEST(PendingCallsScheduleTest, B088_AFailureLosesNothing) {
  ExpectComplete(Explore(Options::Exhaustive(2), [](Schedule& s) { FailingCall(s, Watched::kNo); }));
  ExpectComplete(Explore(Options::Exhaustive(2), [](Schedule& s) { FailingCall(s, Watched::kYes); }));
  ExpectPct([](Schedule& s) { FailingCall(s, Watched::kYes); }, 50'000);
}
TEST(PendingCallsScheduleTest, MutantErrorKeepsTheHandler) {
  ExpectKilled("gh_138731_error_keeps_handler", Failure::kCheck, Options::Exhaustive(2),
               [](Schedule& s) { FailingCall(s, Watched::kNo); });
}

// A call polls while another thread adds: what the nested poll has seen is still known afterwards.
struct Nesting {
  EvalBreaker breaker;
  Queue queue{&breaker, /*max=*/4, /*per_pass=*/1};
  bool bit_kept = true;
  static absl::Status Poll(void* argument) {
    Nesting* self = static_cast<Nesting*>(argument);
    const bool before = self->breaker.IsSet(BreakerEvent::kCallsToDo);
    static_cast<void>(self->queue.handler.Run(self->breaker, false));
    if (before && !self->breaker.IsSet(BreakerEvent::kCallsToDo)) self->bit_kept = false;
    return absl::OkStatus();
  }
};

void NestedPoll(Schedule& s) {
  Nesting nesting;
  Counted counted;
  Atomic<int> producers{1};
  s.Spawn("producer", [&] {
    static_cast<void>(nesting.queue.calls.Add(&Nesting::Poll, &nesting));
    static_cast<void>(nesting.queue.Add(counted));
    producers.fetch_sub(1, kRelease);
  });
  s.Spawn("consumer", [&] { PollUntil(nesting.breaker, nesting.queue, producers); });
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

// A thread that attaches (twice, with a new version to copy) looks at the queue while a call comes.
void AttachAgainstAdd(Schedule& s, Watched watched) {
  EvalBreaker breaker;
  Queue queue(&breaker);
  queue.Watch(s, watched, {&breaker});
  Counted counted;
  Atomic<int> producers{1};
  s.Spawn("producer", [&] {
    DETSCHED_CHECK(queue.Add(counted) == PendingCalls::AddResult::kAdded);
    producers.fetch_sub(1, kRelease);
  });
  s.Spawn("attach", [&] {
    for (const uintptr_t version : {uintptr_t{0x100}, uintptr_t{0x200}}) {
      breaker.RefreshOnAttach(queue.handler.HasWork(/*is_main_thread=*/false), version);
      DETSCHED_CHECK(breaker.version() == version);
      queue.Poll(breaker);
    }
    PollUntil(breaker, queue, producers);
  });
  s.Run();
  DETSCHED_CHECK(counted.ran.Get() == 1);
  DETSCHED_CHECK(breaker.Load() == 0x200);
}

TEST(PendingCallsScheduleTest, EB10_AttachingNeverTakesTheBitAway) {
  ExpectComplete(Explore(Options::Exhaustive(3), [](Schedule& s) { AttachAgainstAdd(s, Watched::kNo); }));
  ExpectComplete(Explore(Options::Exhaustive(2), [](Schedule& s) { AttachAgainstAdd(s, Watched::kYes); }));
  ExpectPct([](Schedule& s) { AttachAgainstAdd(s, Watched::kYes); }, 50'000);
}
TEST(PendingCallsScheduleTest, MutantAttachClearsTheBit) {
  ExpectKilled("gh_95820_attach_clears_the_bit", Failure::kCheck, Options::Exhaustive(2),
               [](Schedule& s) { AttachAgainstAdd(s, Watched::kNo); });
}

// Both processes after a fork at any point of another thread's Add or pass. Complete calls that nobody has
// begun are run by both, and a thread of either needs no more than its bit to know of them.
void ForkWhileAnotherHandles(Schedule& s) {
  constexpr auto kCall = [](void* argument) -> absl::Status {
    static_cast<Atomic<int>*>(argument)->fetch_add(1, kRelaxed);
    return absl::OkStatus();
  };
  BothWords both;
  EvalBreaker& own = both.words[0];
  EvalBreaker& other = both.words[1];
  Queue queue(&BothWords::Raise, &both, /*max=*/4, /*per_pass=*/4);
  Atomic<int> before{0};  // what the other thread adds
  Atomic<int> after{0};   // what the forking thread adds
  Atomic<bool> added{false};
  s.Spawn("other", [&] {
    DETSCHED_CHECK(queue.calls.Add(kCall, &before) == PendingCalls::AddResult::kAdded);
    added.store(true, kRelaxed);
    queue.Poll(other);
  });
  s.Spawn("forks", [&] {
    queue.Poll(own);  // may meet the other thread at it, and leave the call to that one
    if (ForkProcess() == 0) {
      PlatformAfterForkInChild();
      const bool waits = added.load(kRelaxed) && !queue.calls.IsEmpty();
      const int ran = before.load(kRelaxed);
      queue.calls.AfterForkInChild();
      queue.handler.AfterForkInChild(&own);
      while (own.AnyPending()) queue.Poll(own);
      DETSCHED_CHECK(queue.calls.IsEmpty());
      DETSCHED_CHECK(before.load(kRelaxed) <= 1);
      DETSCHED_CHECK(!waits || before.load(kRelaxed) == ran + 1);
    }
    DETSCHED_CHECK(queue.calls.Add(kCall, &after) == PendingCalls::AddResult::kAdded);
    while (own.AnyPending()) {
      queue.Poll(own);
      CpuRelax();  // until the other thread's call is complete
    }
  });
  s.Run();
  for (EvalBreaker& word : both.words) {
    if (!s.forked()) queue.Poll(word);
  }
  DETSCHED_CHECK(after.load(kRelaxed) == 1);
  DETSCHED_CHECK(s.forked() || before.load(kRelaxed) == 1);
  DETSCHED_CHECK(queue.calls.IsEmpty() && !queue.handler.HasHandler());
}

Options OnEitherSide(Options options) {
  options.fork = detsched::ForkSide::kEither;
  return options;
}
Options OnBothSides(int preemption_bound) { return OnEitherSide(Options::Exhaustive(preemption_bound)); }

TEST(PendingCallsScheduleTest, B031_BothSidesOfAForkRunTheirCalls) {
  ExpectComplete(Explore(OnBothSides(2), ForkWhileAnotherHandles));
  ExpectPct(&ForkWhileAnotherHandles, 50'000, &OnEitherSide);
}
TEST(PendingCallsScheduleTest, MutantHandlerSurvivesTheFork) {
  ExpectKilled("eb_35_handler_survives_fork", Failure::kCheck, OnBothSides(2), ForkWhileAnotherHandles);
}
TEST(PendingCallsScheduleTest, MutantTheChildIsNotTold) {
  ExpectKilled("eb_35_child_is_not_told", Failure::kCheck, OnBothSides(2), ForkWhileAnotherHandles);
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
                          self->waits[number] = false;
                          return number == self->fails ? absl::InternalError("") : absl::OkStatus();
                        },
                        this};
  int seen = 0;  // the main fiber's
  bool waits[3] = {};
  int fails = 0;
};

// Each of `count` signals is handled at least once after it came, also if the first handler fails. `watched`: while
// nobody trips and the main thread is in no poll, one that waits has its flag and its bit.
void SignalsBesideMain(Schedule& s, int count, int fails, Watched watched) {
  EvalBreaker breaker;
  Signals signals;
  CountingHandler counting;
  counting.fails = fails;
  signals.SetMainThread(&breaker);
  signals.SetHandler(1, &counting.handler);
  signals.SetHandler(2, &counting.handler);
  int inside = 0;  // as Queue::inside
  if (watched == Watched::kYes) {
    s.Invariant("a signal that waits has its flag and its bit", [&] {
      if (inside != 0 || (!counting.waits[1] && !counting.waits[2])) return true;
      return signals.IsTripped() && breaker.IsSet(BreakerEvent::kSignalsPending);
    });
  }
  Atomic<int> threads{count};
  for (int number = 1; number <= count; ++number) {
    s.Spawn(number == 1 ? "signal 1" : "signal 2", [&, number] {
      ++inside;
      counting.waits[number] = true;
      signals.Trip(number);
      --inside;
      threads.fetch_sub(1, kRelease);
    });
  }
  s.Spawn("main", [&] {
    for (;;) {
      const bool last = threads.load(kAcquire) == 0;
      if (breaker.AnyPending()) {
        ++inside;
        breaker.Clear(BreakerEvent::kSignalsPending);
        static_cast<void>(signals.Run(breaker));
        --inside;
      }
      if (last && !breaker.AnyPending()) return;
      if (!last) CpuRelax();
    }
  });
  s.Run();
  DETSCHED_CHECK(counting.seen == count);
  DETSCHED_CHECK(!signals.IsTripped());
}
void TwoSignals(Schedule& s, int fails) { SignalsBesideMain(s, 2, fails, Watched::kNo); }

Options ManySteps() { return Options::Pct(3, 10'000); }

TEST(SignalsScheduleTest, B098_NoSignalIsLost) {
  for (const int fails : {0, 1}) {
    ExpectComplete(Explore(Options::Exhaustive(2), [fails](Schedule& s) { TwoSignals(s, fails); }));
    ExpectPct([fails](Schedule& s) { SignalsBesideMain(s, 2, fails, Watched::kYes); }, 20'000);
  }
}
TEST(SignalsScheduleTest, B098_ASignalThatWaitsHasItsFlagAndItsBitAtEachStep) {
  ExpectComplete(Explore(Options::Exhaustive(2),
                         [](Schedule& s) { SignalsBesideMain(s, 1, /*fails=*/0, Watched::kYes); }));
}
TEST(SignalsScheduleTest, MutantFailingHandlerLosesTheRest) {
  ExpectKilled("failing_signal_handler_loses_the_rest", Failure::kInvariant, ManySteps(),
               [](Schedule& s) { SignalsBesideMain(s, 2, 1, Watched::kYes); });
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

// Signals interrupt the main thread itself, at any point of its polls and of its change to another word;
// `another`: beside one that comes on another thread. Each is handled after it came, by a poll that the bit
// asks for.
void SignalsInterruptMain(Schedule& s, int times, bool another, int fails) {
  EvalBreaker words[2];
  Signals signals;
  CountingHandler counting;
  counting.fails = fails;
  signals.SetMainThread(&words[0]);
  signals.SetHandler(1, &counting.handler);
  signals.SetHandler(2, &counting.handler);
  const auto trip = [&](int number) {
    counting.waits[number] = true;
    signals.Trip(number);
  };
  const auto poll = [&](EvalBreaker& word) {
    if (!word.AnyPending()) return;
    word.Clear(BreakerEvent::kSignalsPending);
    static_cast<void>(signals.Run(word));
    counting.fails = 0;
  };
  if (!another) trip(1);
  const detsched::FiberId main = s.Spawn("main", [&, another] {
    if (!another) poll(words[0]);
    signals.SetMainThread(&words[1]);
    poll(words[1]);
  });
  s.MaySignal(
      main, [&] { trip(2); }, times);
  if (another) s.Spawn("signalled", [&] { trip(1); });
  s.Run();
  while (words[1].AnyPending()) poll(words[1]);
  DETSCHED_CHECK(!counting.waits[1] && !counting.waits[2]);
  DETSCHED_CHECK(!signals.IsTripped());
}

TEST(SignalsScheduleTest, EB42_SignalsInterruptTheMainThreadItself) {
  for (const int fails : {0, 1, 2}) {
    ExpectComplete(
        Explore(Options::Exhaustive(2), [fails](Schedule& s) { SignalsInterruptMain(s, 2, false, fails); }));
  }
  ExpectComplete(Explore(Options::Exhaustive(2), [](Schedule& s) { SignalsInterruptMain(s, 1, true, 0); }));
}
TEST(SignalsScheduleTest, MutantsAreSeenByTheMainThreadAlone) {
  const auto alone = [](Schedule& s) { SignalsInterruptMain(s, 1, false, 0); };
  ExpectKilled("any_tripped_cleared_after_scan", Failure::kCheck, Options::Exhaustive(2), alone);
  ExpectKilled("set_main_thread_forgets_tripped", Failure::kCheck, Options::Exhaustive(2), alone);
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
