// The same pairs as litmus_test.cc, but with the code that ships on both sides: a thread state that attaches and detaches
// against a stop of its interpreter and against the stop of everything that a fork makes, and a pending call against
// the thread that handles calls. A lost wake-up shows as a test that does not end.

#include <sys/wait.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/ceval_breaker/pending_calls.h"
#include "pyrt/testing/litmus/litmus.h"
#include "pyrt/tstate/stop_the_world.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using litmus::Outcomes;

void Report(const Outcomes& outcomes) {
  std::cout << outcomes.ToString() << std::endl;
  EXPECT_GE(outcomes.states, outcomes.required) << "too few for a campaign";
}

// ---- ThreadState against StopTheWorld

// An interpreter with one thread. To make one takes far longer than to use and stop it, so that each is used for kUses
// states, one after the other: every one finds its thread detached and the world running, as in a fresh one.
struct Interpreter {
  static constexpr int kUses = 16;  // a round has a multiple of it
  ThreadRegistry registry;
  Gil gil;
  InterpreterThreads threads{{.registry = &registry, .gil = &gil}};
  ThreadState* thread = threads.New(Whence::kThreading);
  bool bound = false;

  // By its thread, which is the one that makes states; or by any, if it has not been used.
  ~Interpreter() {
    if (!bound) thread->Bind();
    thread->Attach();
    InterpreterThreads::Clear(*thread);
    InterpreterThreads::DeleteCurrent();
  }

  // The same one kUses times, on the thread that makes states.
  static std::shared_ptr<Interpreter> Next() {
    static std::weak_ptr<Interpreter> last;
    static int uses = 0;
    std::shared_ptr<Interpreter> interpreter;
    if (uses++ % kUses != 0) {
      interpreter = last.lock();
    } else {
      last = interpreter = std::make_shared<Interpreter>();
    }
    return interpreter;
  }
};

// One use of an interpreter by its thread, and somebody who stops it once.
struct Stopped {
  std::shared_ptr<Interpreter> interpreter = Interpreter::Next();
  ThreadRegistry& registry = interpreter->registry;
  InterpreterThreads& threads = interpreter->threads;
  ThreadState* const thread = interpreter->thread;
  // Written by the thread while it is attached.
  alignas(128) Atomic<uint32_t> entered{0};
  alignas(128) Atomic<uint32_t> left{0};
  // What the stopper finds, at once and a little later.
  alignas(128) uint32_t first_look = 0;
  uint32_t second_look = 0;

  void Use() {
    if (!std::exchange(interpreter->bound, true)) thread->Bind();
    thread->Attach();
    entered.store(1, kRelaxed);
    left.store(1, kRelaxed);
    thread->Detach();
    // The next interpreter's thread is the same thread: it may not find this one's in its slots.
    thread->UnbindGilState();
  }
  uint32_t Look() const { return entered.load(kRelaxed) + left.load(kRelaxed); }
  void Stop(StopTheWorld stop) {
    stop.Stop();
    first_look = Look();
    for (int i = 0; i < 20; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
    second_look = Look();
    stop.Start();
  }
};

// Relaxed stores, and yet: the stopper sees all that the thread did while it was attached, or nothing, and nothing
// changes while the world is stopped.
std::string Judge(const Stopped& state) {
  if (state.first_look != state.second_look) return "ran while the world was stopped";
  switch (state.first_look) {
    case 0:
      return "stopped before it attached";
    case 2:
      return "stopped after it detached";
    default:
      return "half of its work seen";
  }
}

void StopAgainstUse(bool global, double per_second) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "a stop is empty with the GIL";
  const auto both = [](const Outcomes& so_far) {
    return litmus::Cpus().size() < 2 ||
           (so_far["stopped before it attached"] > 0 && so_far["stopped after it detached"] > 0);
  };
  const Outcomes outcomes = litmus::Run<Stopped, 1024>(
      [](Stopped& state) { state.Use(); },
      [global](Stopped& state) {
        state.Stop(global ? StopTheWorld(state.registry) : StopTheWorld(state.threads));
      },
      Judge, both, per_second);
  Report(outcomes);
  EXPECT_EQ(outcomes["ran while the world was stopped"], 0u);
  EXPECT_EQ(outcomes["half of its work seen"], 0u);
  EXPECT_TRUE(both(outcomes)) << "the two never met";
}

TEST(LitmusWordsTest, B055_AttachAndDetachAgainstTheStopOfAnInterpreter) { StopAgainstUse(false, 100); }
TEST(LitmusWordsTest, B029_AttachAndDetachAgainstTheStopOfAFork) { StopAgainstUse(true, 100); }

// The child has all that the thread did while it was attached, or nothing.
TEST(LitmusWordsTest, B029_AChildSeesNoHalfOfWhatAnAttachedThreadDid) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "a stop is empty with the GIL";
  const auto both = [](const Outcomes& so_far) {
    return litmus::Cpus().size() < 2 ||
           (so_far["forked before it attached"] > 0 && so_far["forked after it detached"] > 0);
  };
  const Outcomes outcomes = litmus::Run<Stopped, 16>(
      [](Stopped& state) { state.Use(); },
      [](Stopped& state) {
        StopTheWorld stop(state.registry);
        stop.Stop();
        const pid_t child = ForkProcess();
        if (child == 0) ::_exit(static_cast<int>(state.Look()));
        stop.Start();
        int status = 0;
        state.first_look = child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status)
                               ? static_cast<uint32_t>(WEXITSTATUS(status))
                               : 77;
      },
      [](const Stopped& state) -> std::string {
        switch (state.first_look) {
          case 0:
            return "forked before it attached";
          case 2:
            return "forked after it detached";
          default:
            return "half of its work seen, or no child: " + std::to_string(state.first_look);
        }
      },
      both, 1);
  Report(outcomes);
  EXPECT_EQ(outcomes["forked before it attached"] + outcomes["forked after it detached"], outcomes.states);
  EXPECT_TRUE(both(outcomes)) << "the two never met";
}

// ---- PendingCalls: Add publishes a call and raises the bit, Run clears the bit and takes what there is.

struct Calls {
  static void Raise(void* breaker) { static_cast<EvalBreaker*>(breaker)->Set(BreakerEvent::kCallsToDo); }
  static absl::Status Run(void* self) {
    ++static_cast<Calls*>(self)->ran;
    return absl::OkStatus();
  }

  alignas(128) EvalBreaker breaker;
  PendingCalls calls{{.raise = &Raise, .context = &breaker}};
  PendingCallHandler handler{&calls, nullptr};
  alignas(128) uint32_t ran = 0;
  // Another call is there already, so that the consumer has a reason to clear.
  Calls() { EXPECT_EQ(calls.Add(&Run, this), PendingCalls::AddResult::kAdded); }
};

TEST(LitmusWordsTest, B084_AddAgainstRun) {
  const Outcomes outcomes = litmus::Run<Calls, 2048>(
      [](Calls& state) { static_cast<void>(state.calls.Add(&Calls::Run, &state)); },
      [](Calls& state) {
        if (state.breaker.AnyPending()) static_cast<void>(state.handler.Run(state.breaker, false));
      },
      [](const Calls& state) -> std::string {
        const bool raised = state.breaker.IsSet(BreakerEvent::kCallsToDo);
        if (state.ran == 2) return raised ? "both ran, another look" : "both ran";
        return raised ? "one ran, the other waits with its bit" : "one ran, the other is lost";
      },
      [](const Outcomes& so_far) {
        return litmus::Cpus().size() < 2 || so_far["one ran, the other waits with its bit"] > 0;
      },
      1000);
  Report(outcomes);
  EXPECT_EQ(outcomes["one ran, the other is lost"], 0u);
  if (litmus::Cpus().size() > 1) {
    EXPECT_GT(outcomes["one ran, the other waits with its bit"], 0u) << "the two never met";
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
