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
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Explore;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

// The runtime is one object: each exploration has a process of its own, and each schedule is one of its lives.
void Expect(Options options, void (*body)(Schedule&)) {
  // Made on first use, and a fiber may not be switched in the middle of that.
  ASSERT_TRUE(Runtime::Initialize().ok());
  Fork::Clear();
  static_cast<void>(Raise(ErrorType::RuntimeError(), "no").ok());
  ASSERT_EQ(Runtime::Finalize(), 0);
  options.isolate = true;
  const Result result = Explore(options, body);
  EXPECT_TRUE(result.ok()) << result.report;
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
    main_state->Detach();  // into native code, for ever
    Foreign ender([&] {
      DETSCHED_CHECK(Runtime::Finalize() == 0);
      DETSCHED_CHECK(registry.main_thread_state() == nullptr);
    });
    Foreign caller([&] {
      const auto added = registry.AddMainCall(&Nothing, nullptr);
      DETSCHED_CHECK(added != PendingCalls::AddResult::kFull);
      registry.signals().RaiseOnMainThread(BreakerEvent::kSignalsPending);
    });
  });
  s.Run();
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, EB41_EndedOnAnotherThread) {
  Expect(Options::Random(1500), EndedElsewhere);
  Expect(Options::Pct(3, 1500), EndedElsewhere);
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

TEST(RuntimeScheduleTest, RE1_EndedByTwoThreadsAtOnce) { Expect(Options::Random(1500), EndedTwice); }

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
  Expect(Options::Random(1500), InterpretersAndTheEnd);
  Expect(Options::Pct(3, 1500), InterpretersAndTheEnd);
}

// ---- Threads: what must be joined has run to its end, a daemon may hang, a start that comes too late fails.

void ThreadsAndTheEnd(Schedule& s) {
  static int joined, daemons;
  joined = daemons = 0;
  s.Spawn("main", [] {
    DETSCHED_CHECK(Start().ok());
    const auto worker = Thread::Start([] {
      ++joined;
      // Starts another one, which the end waits for as well.
      const auto second = Thread::Start([] {
        ++joined;
        return absl::OkStatus();
      });
      DETSCHED_CHECK(second.ok());
      return absl::OkStatus();
    });
    DETSCHED_CHECK(worker.ok());
    const auto daemon = Thread::Start(
        [] {
          ++daemons;
          DetachedScope detached;
          return absl::OkStatus();
        },
        {.daemon = true});
    DETSCHED_CHECK(daemon.ok());
    DETSCHED_CHECK(Runtime::Finalize() == 0);
    DETSCHED_CHECK(joined == 2);
    HangForever();  // what the daemon may still look at
  });
  s.Run();
}

TEST(RuntimeScheduleTest, LC12_ThreadsAreJoinedAndDaemonsAreLeft) {
  Expect(Options::Random(1500), ThreadsAndTheEnd);
}

// ---- Fork, from a thread that is not the main one, while that one stops the world, attaches and ends the runtime, for
// which it waits for this thread: the child has one thread, which can do everything, also end the runtime.

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
      { StoppedWorld stopped(registry.threads()); }
      const auto thread = Thread::Start([] { return absl::OkStatus(); });
      DETSCHED_CHECK(thread.ok());
      DETSCHED_CHECK(Runtime::Finalize() == 0);
      HangForever();
    });
    DETSCHED_CHECK(forker.ok());
    // Perhaps in the middle of its start when the other one forks.
    const auto starter = Thread::Start([] { return absl::OkStatus(); });
    DETSCHED_CHECK(starter.ok());
    { StoppedWorld stopped(Runtime::Get().main_interpreter().threads()); }
    self->Poll();
    self->Detach();
    self->Attach();
    DETSCHED_CHECK(Runtime::Finalize() == 0);
  });
  s.Run();
  DETSCHED_CHECK(s.forked() == in_child);
  DETSCHED_CHECK(!Runtime::IsInitialized());
}

TEST(RuntimeScheduleTest, B029_ForkFromAWorkerWhileOthersRun) {
  for (const auto side : {detsched::ForkSide::kChild, detsched::ForkSide::kParent}) {
    Options options = Options::Random(1000);
    options.fork = side;
    Expect(options, ForkFromAWorker);
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
