// The store/load pairs on which pyrt's protocols stand, on real CPUs. See litmus.h.

#include "pyrt/testing/litmus/litmus.h"

#include <iostream>
#include <memory>
#include <string>

#include "gtest/gtest.h"

#include "pyrt/ceval_breaker/eval_breaker.h"
#include "pyrt/gil/gil.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using litmus::Outcomes;

void Report(const Outcomes& outcomes) {
  std::cout << outcomes.ToString() << std::endl;
  EXPECT_GE(outcomes.states, outcomes.required) << "too few for a campaign";
}

struct Pair {
  alignas(128) Atomic<uint32_t> x{0};
  alignas(128) Atomic<uint32_t> y{0};
  alignas(128) uint32_t first = 0;
  alignas(128) uint32_t second = 0;
};

std::string Seen(const Pair& state) {
  return std::to_string(state.first) + "," + std::to_string(state.second);
}

// ---- Controls: what the machine does, seen through this harness

TEST(LitmusControlTest, StoreBufferingIsSeenWithoutAFence) {
  if (litmus::Cpus().size() < 2) GTEST_SKIP() << "one CPU: no two threads run at once";
  const Outcomes outcomes = litmus::Run<Pair>(
      [](Pair& state) {
        state.x.store(1, kRelaxed);
        state.first = state.y.load(kRelaxed);
      },
      [](Pair& state) {
        state.y.store(1, kRelaxed);
        state.second = state.x.load(kRelaxed);
      },
      Seen, [](const Outcomes& so_far) { return so_far["0,0"] > 0; }, 10'000);
  Report(outcomes);
  // If this fails, the absence of outcomes below means nothing.
  EXPECT_GT(outcomes["0,0"], 0u);
}

TEST(LitmusControlTest, StoreBufferingIsGoneWithSeqCst) {
  const Outcomes outcomes = litmus::Run<Pair>(
      [](Pair& state) {
        state.x.store(1, kSeqCst);
        state.first = state.y.load(kSeqCst);
      },
      [](Pair& state) {
        state.y.store(1, kSeqCst);
        state.second = state.x.load(kSeqCst);
      },
      Seen, 10'000);
  Report(outcomes);
  EXPECT_EQ(outcomes["0,0"], 0u);
}

TEST(LitmusControlTest, MessagePassingByReleaseAndAcquire) {
  const Outcomes outcomes = litmus::Run<Pair>(
      [](Pair& state) {
        state.x.store(1, kRelaxed);
        state.y.store(1, kRelease);
      },
      [](Pair& state) {
        state.first = state.y.load(kAcquire);
        state.second = state.x.load(kRelaxed);
      },
      Seen, 10'000);
  Report(outcomes);
  EXPECT_EQ(outcomes["1,0"], 0u);
}

// ---- AsymmetricFence

TEST(LitmusTest, AsymmetricFenceOrdersItsTwoSides) {
  const Outcomes outcomes = litmus::Run<Pair>(
      [](Pair& state) {
        state.x.store(1, kRelaxed);
        AsymmetricFence::Light();
        state.first = state.y.load(kRelaxed);
      },
      [](Pair& state) {
        state.y.store(1, kRelaxed);
        AsymmetricFence::Heavy();
        state.second = state.x.load(kRelaxed);
      },
      Seen, 500);
  Report(outcomes);
  EXPECT_EQ(outcomes["0,0"], 0u);
}

// ---- The thread's word against a stopper: tstate/internal/thread_state_word.h and stop_the_world.cc, in
// miniature. x is the word, y the token.

constexpr uint32_t kDetachedWord = 0;
constexpr uint32_t kAttachedWord = 1;
constexpr uint32_t kSuspendedWord = 2;

bool Move(Atomic<uint32_t>& word, uint32_t from, uint32_t to) {
  return word.compare_exchange_strong(from, to, kAcqRel, kRelaxed);
}

struct Detaching : Pair {
  Detaching() { x.store(kAttachedWord, kRelaxed); }
};

// The thread stores, then looks for a token; the stopper leaves a token, then looks at the word. That neither
// sees the other is allowed at the first look, and must not outlive the fence.
TEST(LitmusTest, DetachAgainstStop) {
  const Outcomes outcomes = litmus::Run<Detaching>(
      [](Detaching& state) {
        state.x.store(kDetachedWord, kRelease);
        AsymmetricFence::Light();
        state.first = state.y.load(kRelaxed);
      },
      [](Detaching& state) {
        state.y.fetch_or(1, kAcqRel);
        state.second = Move(state.x, kDetachedWord, kSuspendedWord) ? 1 : 0;
        if (state.second == 0) {
          AsymmetricFence::Heavy();
          if (Move(state.x, kDetachedWord, kSuspendedWord)) state.second = 2;
        }
      },
      [](const Detaching& state) {
        static constexpr const char* kLooks[] = {"never", "first look", "after the fence"};
        return std::string(state.first ? "token seen" : "token missed") +
               ", suspended: " + kLooks[state.second];
      },
      // A thread sanitizer's fences are read-modify-writes: nothing is left for the second look to find.
      [](const Outcomes& so_far) {
        return kTsan || litmus::Cpus().size() < 2 || so_far["token missed, suspended: after the fence"] > 0;
      },
      500);
  Report(outcomes);
  EXPECT_EQ(outcomes["token missed, suspended: never"], 0u);
  if (!kTsan && litmus::Cpus().size() > 1) {
    EXPECT_GT(outcomes["token missed, suspended: after the fence"], 0u) << "the fence was not needed";
  }
}

// ---- EvalBreaker: who clears the bit and then looks at the data misses nothing.

struct Published {
  alignas(128) EvalBreaker breaker;
  alignas(128) Atomic<uint32_t> data{0};
  alignas(128) uint32_t seen = 0;
};

TEST(LitmusTest, PublishAgainstClear) {
  const Outcomes outcomes = litmus::Run<Published>(
      [](Published& state) {
        state.data.store(1, kRelaxed);
        state.breaker.Set(BreakerEvent::kCallsToDo);
      },
      [](Published& state) {
        state.breaker.Clear(BreakerEvent::kCallsToDo);
        state.seen = state.data.load(kRelaxed);
      },
      [](const Published& state) {
        const bool set = state.breaker.IsSet(BreakerEvent::kCallsToDo);
        return std::string(set ? "bit set" : "bit clear") + (state.seen ? ", data seen" : ", data missed");
      },
      [](const Outcomes& so_far) { return litmus::Cpus().size() < 2 || so_far["bit set, data seen"] > 0; },
      10'000);
  Report(outcomes);
  EXPECT_EQ(outcomes["bit clear, data missed"], 0u);
  if (litmus::Cpus().size() > 1) {
    EXPECT_GT(outcomes["bit set, data seen"], 0u) << "the two never met";
  }
}

// ---- The shipping Gil: a biased take against the thread that revokes the bias.

struct BiasState {
  struct Thread {
    Atomic<uintptr_t> word{0};
    GilHolder holder{&word, 1};
  };
  // How often the biased thread takes the GIL, around the one take that revokes the bias.
  static constexpr uint32_t kTakes = 256;

  Gil gil{/*enabled=*/true};
  alignas(128) Thread threads[2];
  alignas(128) Atomic<uint32_t> inside{0};
  uint32_t saw[2] = {0, 0};
  uint32_t next = 0;     // guarded by the GIL
  uint32_t revoked = 0;  // before which take
  bool biased = false;

  BiasState() {
    // The first thread earns the bias: 4096 takes in a row.
    for (int i = 0; i < 5000 && !biased; i += 512) {
      for (int j = 0; j < 512; ++j) {
        if (gil.Take(threads[0].holder) == Gil::TakeResult::kTaken) gil.Drop(threads[0].holder);
      }
      biased = gil.Stats().bias_grants != 0;
    }
  }
  ~BiasState() {
    for (Thread& thread : threads) gil.Forget(thread.holder);
  }
  void Use(int self) {
    if (gil.Take(threads[self].holder) != Gil::TakeResult::kTaken) return;
    saw[self] += inside.fetch_add(1, kRelaxed);
    if (self == 1) revoked = next;
    ++next;
    saw[self] += inside.fetch_sub(1, kRelaxed) - 1;
    gil.Drop(threads[self].holder);
  }
};

TEST(LitmusTest, BiasedTakeAgainstRevocation) {
  const auto in_the_middle = [](const Outcomes& so_far) {
    return litmus::Cpus().size() < 2 || so_far["in the middle"] > 0;
  };
  const Outcomes outcomes = litmus::Run<BiasState, 64>(
      [](BiasState& state) {
        for (uint32_t i = 0; i < BiasState::kTakes; ++i) state.Use(0);
      },
      [](BiasState& state) { state.Use(1); },
      [](const BiasState& state) -> std::string {
        if (!state.biased) return "no bias";
        if (state.saw[0] != 0 || state.saw[1] != 0) return "both inside";
        if (state.next != BiasState::kTakes + 1) return "a take was lost";
        if (state.gil.locked()) return "still held";
        if (state.gil.Stats().waiting != 0) return "somebody waits";
        if (state.revoked == 0) return "the revoker first";
        return state.revoked == BiasState::kTakes ? "the revoker last" : "in the middle";
      },
      in_the_middle, 50);
  Report(outcomes);
  for (const char* const never :
       {"no bias", "both inside", "a take was lost", "still held", "somebody waits"}) {
    EXPECT_EQ(outcomes[never], 0u) << never;
  }
  EXPECT_TRUE(in_the_middle(outcomes)) << "the two never met";
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
