// The life of the process on the deterministic scheduler: its end on another thread than the main one, two ends at
// once, threads that start meanwhile, and a fork from any thread.

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

// Without older values, and on one CPU, so that nobody spins. A life that sleep sets cut short would leave the runtime
// in the middle of it for the next one.
Options Exhaustive(int preemption_bound) {
  Options options = Options::Exhaustive(preemption_bound);
  options.stale_reads = 0;
  options.usable_cpus = 1;
  options.sleep_sets = false;
  options.max_schedules = 3'000'000;
  options.schedules_per_process = 200;
  return options;
}

Options WithFork(Options options) {
  options.fork = detsched::ForkSide::kEither;
  return options;
}

// The runtime is one object: each exploration has a process of its own, and each schedule is one of its lives. An
// exhaustive one must have been finished.
void Expect(Options options, void (*body)(Schedule&)) {
  // Made on first use, and a fiber may not be switched in the middle of that.
  ASSERT_TRUE(Runtime::Initialize().ok());
  ASSERT_EQ(Runtime::Finalize(), 0);
  options.isolate = true;
  const Result result = Explore(options, body);
  if (options.strategy == detsched::Strategy::kExhaustive) {
    detsched::ExpectComplete(result);
  } else {
    detsched::ExpectOk(result);
  }
}

// A life is hundreds of turns: few enough for every CI run, and `tools/campaign walks` for the rest.
void ExpectSampled(
    void (*body)(Schedule&), Options (*with)(Options) = [](Options options) { return options; }) {
  for (const Options& options : {Options::Random(1000), Options::Pct(2, 2000), Options::Pct(3, 1000)}) {
    Expect(with(options), body);
  }
}

// A thread that the runtime did not start. Joined at the end of the scope, unless it may hang.
class Foreign {
 public:
  explicit Foreign(std::function<void()> body, bool join = true) : body_(std::move(body)), join_(join) {
    const auto run = [](void* self) { static_cast<Foreign*>(self)->body_(); };
    DETSCHED_CHECK(thread_.Start(run, this) == 0);
  }
  ~Foreign() {
    if (join_) {
      thread_.Join();
    } else {
      thread_.Detach();
    }
  }

 private:
  const std::function<void()> body_;
  const bool join_;
  OsThread thread_;
};

absl::Status Nothing(void*) { return absl::OkStatus(); }

// What cannot be raised is no concern here: that calls for the main thread were dropped.
absl::StatusOr<Runtime*> Start() {
  RuntimeOptions options;
  options.unraisable = [](void*, const absl::Status&, const char*, const Ref<Object>&) {};
  return Runtime::Initialize(options);
}

// ---- The end on another thread: nothing points to the main thread's state any more, and a call for the main
// thread that comes at any moment is accepted or refused.

void EndedElsewhere(Schedule& s) {
  s.Spawn("main", [] {
    InterpreterRegistry& registry = (*Start())->interpreters();
    ThreadState* const main_state = ThreadState::Current();
    DETSCHED_CHECK(registry.main_thread_state() == main_state);
    main_state->Detach();  // into native code, until the end
    {
      Foreign ender([&] {
        DETSCHED_CHECK(Runtime::Finalize() == 0);
        DETSCHED_CHECK(registry.main_thread_state() == nullptr);
      });
      Foreign caller([&] {
        const auto added = registry.AddMainCall(&Nothing, nullptr);
        DETSCHED_CHECK(added != PendingCalls::AddResult::kFull);
        registry.signals().RaiseOnMainThread(BreakerEvent::kSignalsPending);
      });
    }
    main_state->Attach();  // too late: it hangs
    detsched::Fail("the main thread came back");
  });
  s.Run();
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, EB41_EndedOnAnotherThread) {
  Expect(Exhaustive(2), EndedElsewhere);
  ExpectSampled(EndedElsewhere);
}

// ---- Two ends at once: one happens, the other comes too late.

void EndedTwice(Schedule& s) {
  s.Spawn("main", [] {
    DETSCHED_CHECK(Start().ok());
    // It may hang in Ensure, and then nobody waits for it.
    auto* const other = new Foreign(
        [] {
          static_cast<void>(GilStateEnsure());
          static_cast<void>(Runtime::Finalize());
        },
        /*join=*/false);
    ThreadState::Current()->Poll();
    static_cast<void>(Runtime::Finalize());
    DETSCHED_CHECK(!Runtime::IsInitialized());
    delete other;
    HangForever();
  });
  s.Run();
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, RE1_EndedByTwoThreadsAtOnce) {
  Expect(Exhaustive(2), EndedTwice);
  ExpectSampled(EndedTwice);
}

// ---- An end right after the start, by a thread that only sees that the runtime is there: it happens.

void EndedWhileTheStartReturns(Schedule& s) {
  s.Spawn("main", [] {
    ThreadState* main_state = nullptr;
    {
      Foreign ender([] {
        while (!Runtime::IsInitialized()) YieldCpu();
        DETSCHED_CHECK(Runtime::Finalize() == 0);
        DETSCHED_CHECK(!Runtime::IsInitialized());
      });
      DETSCHED_CHECK(Start().ok());
      main_state = ThreadState::Current();
      main_state->Detach();
    }
    main_state->Attach();  // too late: it hangs
    detsched::Fail("the main thread came back");
  });
  s.Run();
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, RT12_AnEndRightAfterTheStartIsNotLost) {
  Expect(Exhaustive(2), EndedWhileTheStartReturns);
  ExpectSampled(EndedWhileTheStartReturns);
}

// ---- A thread that the runtime did not start makes an interpreter and ends it, while the runtime ends and with it every
// interpreter that is left: each is ended once, by one of the two, and a half-made one by nobody.

void InterpretersAndTheEnd(Schedule& s) {
  s.Spawn("main", [] {
    DETSCHED_CHECK(Start().ok());
    // It may hang, and then nobody waits for it.
    auto* const other = new Foreign(
        [] {
          const GilStateBefore before = GilStateEnsure();
          ThreadState* const here = ThreadState::Current();
          if (const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy()); sub.ok()) {
            Runtime::EndInterpreter(**sub);
            here->Attach();
          }
          GilStateRelease(before);
        },
        /*join=*/false);
    ThreadState::Current()->Poll();
    DETSCHED_CHECK(Runtime::Finalize() == 0);
    delete other;
    HangForever();
  });
  s.Run();
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, LC16_AnInterpreterIsEndedByOneThread) {
  Expect(Exhaustive(2), InterpretersAndTheEnd);
  ExpectSampled(InterpretersAndTheEnd);
}

// ---- Threads: what must be joined has run to its end, a daemon may hang, a start that comes too late fails.

// The system may refuse one of the threads: whoever wanted it is told, and nobody waits for it.
void ThreadsAndTheEnd(Schedule& s) {
  static int started, joined;
  started = joined = 0;
  const auto start = [](Thread::Body body, bool daemon = false) {
    const auto thread = Thread::Start(std::move(body), {.daemon = daemon});
    DETSCHED_CHECK(thread.ok() || IsError(thread.status(), ErrorType::RuntimeError()));
    if (thread.ok() && !daemon) ++started;
  };
  s.Spawn("main", [start] {
    DETSCHED_CHECK(Start().ok());
    start([start] {
      ++joined;
      // Starts another one, which the end waits for as well.
      start([] {
        ++joined;
        return absl::OkStatus();
      });
      return absl::OkStatus();
    });
    start(
        [] {
          DetachedScope detached;
          return absl::OkStatus();
        },
        /*daemon=*/true);
    DETSCHED_CHECK(Runtime::Finalize() == 0);
    DETSCHED_CHECK(joined == started);
    HangForever();  // what the daemon may still look at
  });
  s.Run();
}

Options WithFailedStarts(Options options) {
  options.thread_start_failures = 1;
  return options;
}

TEST(RuntimeScheduleTest, LC12_ThreadsAreJoinedAndDaemonsAreLeft) {
  Expect(WithFailedStarts(Exhaustive(1)), ThreadsAndTheEnd);
  ExpectSampled(ThreadsAndTheEnd, WithFailedStarts);
}

// A daemon dies in native code, where it is detached, or never comes back from there, while another one works: the end
// does not wait for it, nor does a stop of the world.
void ADaemonDies(Schedule& s) {
  s.Spawn("main", [] {
    DETSCHED_CHECK(Start().ok());
    const auto victim = Thread::Start(
        [] {
          DetachedScope detached;
          if (const int how = detsched::Choose(3); how != 0) {
            detsched::Kill(detsched::CurrentFiber(),
                           how == 1 ? detsched::Death::kHang : detsched::Death::kExit);
          }
          return absl::OkStatus();
        },
        {.daemon = true});
    DETSCHED_CHECK(victim.ok());
    const auto worker = Thread::Start([] {
      ThreadState::Current()->Poll();
      return absl::OkStatus();
    });
    DETSCHED_CHECK(worker.ok());
    { StoppedWorld stopped(Runtime::Get().main_interpreter().threads()); }
    DETSCHED_CHECK(Runtime::Finalize() == 0);
    DETSCHED_CHECK(worker->IsDone());
    HangForever();
  });
  s.Run();
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, LC12_ADaemonThatDiesHoldsNobodyUp) {
  // The state of a thread that is gone without a word keeps its interpreter's locks, and each life looks through them:
  // few lives in a process.
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    Expect(Options::Pct(3, 100, seed), ADaemonDies);
  }
}

// ---- Fork, from a thread that is not the main one, while that one stops the world, attaches and ends the runtime, for
// which it waits for this thread: the child has one thread, which can do everything, also end the runtime.

template <bool kThird>
void ForkFromAWorker(Schedule& s) {
  static bool in_child;
  in_child = false;
  s.Spawn("main", [] {
    DETSCHED_CHECK(Start().ok());
    ThreadState* const self = ThreadState::Current();
    const auto forker = Thread::Start([] {
      const absl::StatusOr<pid_t> pid = Fork::Run();
      DETSCHED_CHECK(pid.ok());
      if (*pid != 0) return absl::OkStatus();
      in_child = true;
      InterpreterRegistry& registry = Runtime::Get().interpreters();
      DETSCHED_CHECK(registry.main_thread_state() == ThreadState::Current());
      DETSCHED_CHECK(Runtime::Get().main_interpreter().threads().size() == 1);
      if (kThird) {
        { StoppedWorld stopped(registry.threads()); }
        DETSCHED_CHECK(Thread::Start([] { return absl::OkStatus(); }).ok());
      }
      DETSCHED_CHECK(Runtime::Finalize() == 0);
      HangForever();
    });
    DETSCHED_CHECK(forker.ok());
    if (kThird) {
      // Perhaps in the middle of its start when the other one forks.
      DETSCHED_CHECK(Thread::Start([] { return absl::OkStatus(); }).ok());
      { StoppedWorld stopped(Runtime::Get().main_interpreter().threads()); }
      self->Poll();
    }
    self->Detach();
    self->Attach();
    DETSCHED_CHECK(Runtime::Finalize() == 0);
  });
  s.Run();
  DETSCHED_CHECK(s.forked() == in_child);
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, B029_ForkFromAWorkerWhileOthersRun) {
  Expect(WithFork(Exhaustive(2)), ForkFromAWorker<false>);
  Expect(WithFork(Exhaustive(1)), ForkFromAWorker<true>);
  ExpectSampled(ForkFromAWorker<true>, WithFork);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
