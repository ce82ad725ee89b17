// The whole runtime under real threads: forks from any of them while others attach, import and stop the world; a crowd
// that is stopped; threads that come and go.

#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/import_subsystem.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/testing/storms/lying_kernel.h"
#include "pyrt/testing/storms/storm.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using pyrt_storm::LyingKernel;
using storm::Budget;

// Finds every name; the body lets others in.
class AnyLoader final : public Loader {
 public:
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>&) override {
    DetachedScope detached;
    YieldCpu();
    return absl::OkStatus();
  }
};
class AnyFinder final : public Finder {
 public:
  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                           const Object*) override {
    ModuleSpec::Options options;
    options.loader = MakeRef<AnyLoader>();
    return ModuleSpec::New(name, std::move(options));
  }
};

Importer& Start() {
  static const bool added = (Runtime::AddSubsystem(ImportSubsystem()), true);
  EXPECT_TRUE(added && Runtime::Initialize().ok());
  Importer& importer = *ImporterOf(Interpreter::Get());
  importer.set_meta_path(List::Of({MakeRef<AnyFinder>()}));
  return importer;
}

class Dice {
 public:
  explicit Dice(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t Roll(uint32_t sides) {
    state_ ^= state_ << 13, state_ ^= state_ >> 17, state_ ^= state_ << 5;
    return state_ % sides;
  }

 private:
  uint32_t state_;
};

// What a thread does between two polls: comes in with another state, imports what others import as well, stops all.
bool DoSomething(Dice& dice, Importer& importer) {
  Interpreter& interp = Interpreter::Get();
  switch (dice.Roll(4)) {
    case 0: {
      ThreadState* const mine = ThreadState::Current();
      ThreadState* const other = interp.threads().NewBound();
      ThreadState::Swap(other);
      const bool ok = other->Poll() == 0;
      InterpreterThreads::Clear(*other);
      InterpreterThreads::DeleteCurrent();
      mine->Attach();
      return ok;
    }
    case 1: {
      // Every fourth name is new, so that threads meet in its import. Old ones, which nobody can still be importing,
      // go: each child wipes what there is.
      static Atomic<uint32_t> names{0};
      const uint32_t name = names.fetch_add(1, kRelaxed) / 4;
      constexpr uint32_t kKept = 1024;
      if (name >= kKept) importer.modules().Remove("m" + std::to_string(name - kKept));
      return importer.Import("m" + std::to_string(name)).ok();
    }
    case 2: {
      StoppedWorld stopped(interp.registry().threads());
      return true;
    }
    default: {
      DetachedScope detached;
      YieldCpu();
      return true;
    }
  }
}

// In the child: all that a process can do, and its end. The exit status says what failed.
int LiveOn(Importer& importer) {
  storm::WatchdogInChild(kAsan ? 10 : 60);
  Interpreter& interp = Interpreter::Get();
  if (interp.threads().size() != 1) return 10;
  if (importer.import_lock().Held() || importer.module_locks().size() != 0) return 11;
  Dice dice(static_cast<uint32_t>(::getpid()));
  for (int i = 0; i < 8; ++i) {
    if (!DoSomething(dice, importer)) return 12;
  }
  auto thread = Thread::Start([&importer] { return importer.Import("of_the_child").status(); });
  if (!thread.ok() || !thread->Join().ok()) return 13;
  if (!importer.modules().Get("of_the_child")) return 14;
  return Runtime::Finalize() == 0 ? 0 : 15;
}

// PYRT_STORM_FORKS=10000: so many forks at least, whatever the budget.
uint64_t ForksWanted() {
  const char* const forks = std::getenv("PYRT_STORM_FORKS");
  return forks == nullptr ? 1 : std::strtoull(forks, nullptr, 10);
}

void ForkFromAnyThread() {
  Importer& importer = Start();
  const Budget budget;
  const uint64_t wanted = ForksWanted();
  Atomic<uint64_t> forks{0}, deeds{0};
  Atomic<bool> stop{false};
  {
    std::vector<Thread> threads;
    for (uint32_t i = 0; i < 8; ++i) {
      auto thread = Thread::Start([&, i] {
        Dice dice(i + 1);
        while (!stop.load(kRelaxed)) {
          if (dice.Roll(16) == 0) {
            const absl::StatusOr<pid_t> pid = Fork::Run();
            if (pid.ok() && *pid == 0) ::_exit(LiveOn(importer));
            // A machine that is short of processes is not what is tested.
            if (!pid.ok()) continue;
            DetachedScope detached;
            const std::string end = storm::WaitForChild(*pid);
            // Under AddressSanitizer a child may wait for its allocator for ever.
            if (!kAsan || !end.starts_with("hangs")) {
              EXPECT_EQ(end, "exit status 0");
            }
            forks.fetch_add(1, kRelaxed);
          } else {
            EXPECT_TRUE(DoSomething(dice, importer));
            deeds.fetch_add(1, kRelaxed);
          }
          EXPECT_EQ(ThreadState::Get().Poll(), 0);
          const bool enough = budget.spent() && forks.load(kRelaxed) >= wanted;
          if (enough || ::testing::Test::HasFailure()) stop.store(true, kRelaxed);
        }
        return absl::OkStatus();
      });
      ASSERT_TRUE(thread.ok()) << thread.status();
      threads.push_back(*thread);
    }
    for (Thread& thread : threads) EXPECT_TRUE(thread.Join().ok());
  }
  EXPECT_EQ(Interpreter::Get().threads().size(), 1u);
  EXPECT_EQ(importer.module_locks().size(), 0u);
  EXPECT_EQ(Runtime::Finalize(), 0);
  std::cout << forks.load(kRelaxed) << " forks, " << deeds.load(kRelaxed) << " deeds beside them"
            << std::endl;
}

TEST(RuntimeStormTest, ForksFromAnyThread) { ForkFromAnyThread(); }

TEST(RuntimeStormTest, ForksOfAKernelThatLies) {
  const LyingKernel lying(8);
  ForkFromAnyThread();
  EXPECT_GT(lying.answered(), 0u) << "nobody waited, or not through here";
}

// 256 threads that attach, poll and detach, and one that stops all of them again and again. Everybody gets on, and
// inside a stop nobody does.
void StopACrowd() {
  Start();
  Interpreter& interp = Interpreter::Get();
  constexpr int kThreads = kTsan ? 32 : 256;
  std::vector<Atomic<uint64_t>> turns(kThreads);
  Atomic<bool> stop{false};
  Atomic<int> unserved{kThreads};
  std::vector<Thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    auto thread = Thread::Start([&, i] {
      while (!stop.load(kRelaxed)) {
        if (turns[i].fetch_add(1, kRelaxed) == 0) unserved.fetch_sub(1, kRelaxed);
        if (ThreadState::Get().Poll() != 0) return absl::InternalError("poll");
        DetachedScope detached;
        YieldCpu();  // or a stop waits for each of them to get its slice of a CPU
      }
      return absl::OkStatus();
    });
    ASSERT_TRUE(thread.ok()) << thread.status();
    threads.push_back(*thread);
  }
  const auto total = [&] {
    uint64_t sum = 0;
    for (const Atomic<uint64_t>& count : turns) sum += count.load(kRelaxed);
    return sum;
  };
  const Budget budget;
  uint64_t stops = 0;
  while (!budget.spent() || unserved.load(kRelaxed) > 0) {
    {
      StoppedWorld stopped(interp.registry().threads());
      const uint64_t before = total();
      for (int i = 0; i < 1000; ++i) CpuRelax();
      EXPECT_EQ(total(), before) << "somebody ran while the world was stopped";
    }
    ++stops;
    DetachedScope detached;
    YieldCpu();
  }
  stop.store(true, kRelaxed);
  for (Thread& thread : threads) EXPECT_TRUE(thread.Join().ok());
  EXPECT_EQ(interp.threads().size(), 1u);
  EXPECT_EQ(Runtime::Finalize(), 0);
  std::cout << kThreads << " threads, " << total() << " turns, " << stops << " stops" << std::endl;
}

TEST(RuntimeStormTest, ACrowdIsStopped) { StopACrowd(); }

TEST(RuntimeStormTest, ACrowdIsStoppedByAKernelThatLies) {
  const LyingKernel lying(8);
  StopACrowd();
  EXPECT_GT(lying.answered(), 0u) << "nobody waited, or not through here";
}

TEST(RuntimeStormTest, MembarrierRefused) {
  if (kTsan) GTEST_SKIP() << "both fences are read-modify-writes there, and membarrier is not asked for";
  if (storm::WithoutMembarrier()) GTEST_SKIP() << "this is what it has started";
  const std::string end = storm::RunWithoutMembarrier(
      "RuntimeStormTest.ForksFromAnyThread:RuntimeStormTest.ACrowdIsStopped:RuntimeStormTest."
      "ThreadsComeAndGo");
  if (end == storm::kSeccompRefused) GTEST_SKIP() << end;
  EXPECT_EQ(end, "exit status 0");
}

TEST(RuntimeStormTest, ACrowdIsStoppedOnOneCpu) {
  const storm::OneCpu one;
  if (!one.set()) GTEST_SKIP() << "sched_setaffinity is refused here";
  StopACrowd();
}

// Threads are born, import, and go, sixteen at a time, in lives of the runtime that follow each other; the last batch
// of each life is daemons that are still busy when it ends.
TEST(RuntimeStormTest, ThreadsComeAndGo) {
  const Budget budget;
  uint64_t lives = 0;
  static Atomic<uint64_t> born;
  born.store(0, kRelaxed);
  do {
    Importer& importer = Start();
    for (int batch = 0; batch < 4; ++batch) {
      const bool is_last = batch == 3;
      std::vector<Thread> threads;
      for (uint32_t i = 0; i < 16; ++i) {
        auto thread = Thread::Start(
            [&importer, i, is_last] {
              Dice dice(i + 1);
              born.fetch_add(1, kRelaxed);
              for (int deed = 0; deed < 4; ++deed) {
                // Imports are refused once the interpreter is finalizing, which only daemons live to see.
                if (!DoSomething(dice, importer) && !is_last) return absl::InternalError("deed");
                if (ThreadState::Get().Poll() != 0) return absl::InternalError("poll");
              }
              return absl::OkStatus();
            },
            {.daemon = is_last});
        ASSERT_TRUE(thread.ok()) << thread.status();
        threads.push_back(*thread);
      }
      if (is_last) break;
      for (Thread& thread : threads) EXPECT_TRUE(thread.Join().ok());
      EXPECT_EQ(Interpreter::Get().threads().size(), 1u);
    }
    EXPECT_EQ(Runtime::Finalize(), 0);
    ++lives;
  } while (!budget.spent());
  std::cout << born.load(kRelaxed) << " threads in " << lives << " lives" << std::endl;
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
