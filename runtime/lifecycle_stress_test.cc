// A thousand lives of the runtime, with and without threads that never end, and a storm of threads, forks and
// stopped worlds in one life. What is conserved: memory, and each thread's accounts.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/tstate/gil_state.h"
#include "pyrt/tstate/stop_the_world.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Everything that the runtime allocates for itself.
constinit Atomic<int> live_states{0};
constinit Atomic<int64_t> all_states{0};

constexpr ThreadRegistry::Allocator kCountingStates{
    .allocate = [](size_t size, size_t alignment) -> void* {
      live_states.fetch_add(1, kRelaxed);
      all_states.fetch_add(1, kRelaxed);
      return ::operator new(size, std::align_val_t(alignment));
    },
    .deallocate =
        [](void* memory, size_t, size_t alignment) {
          live_states.fetch_sub(1, kRelaxed);
          ::operator delete(memory, std::align_val_t(alignment));
        },
};

Runtime& Start() {
  absl::StatusOr<Runtime*> runtime = Runtime::Initialize(
      {.warn = [](void*, const char*, const char*) {}, .state_allocator = &kCountingStates});
  if (!runtime.ok()) std::abort();
  return **runtime;
}

absl::StatusOr<Thread> StartThread(std::function<void()> body, bool daemon = false) {
  return Thread::Start(
      [body = std::move(body)] {
        body();
        return absl::OkStatus();
      },
      {.daemon = daemon, .stack_size = size_t{256} << 10});
}

void PollOrDie() {
  if (ThreadState::Get().Poll() != 0) std::abort();
}

long ResidentKilobytes() {
  long total = 0;
  long resident = 0;
  FILE* const file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%ld %ld", &total, &resident) != 2) std::abort();
  std::fclose(file);
  return resident * 4;
}

// In a child process each: the results must not depend on what other tests have left behind.

TEST(LifecycleStressTest, AThousandLivesDoNotGrow) {
  EXPECT_EQ(InChild([] {
              ArmWatchdog(120);
              long at_start = 0;
              for (int life = 0; life < 1000; ++life) {
                if (life == 200) at_start = ResidentKilobytes();
                Start();
                if (life % 10 == 0) {
                  ThreadState* const before = ThreadState::Current();
                  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
                  if (!sub.ok()) return 1;
                  Runtime::EndInterpreter(**sub);
                  before->Attach();
                  auto thread = StartThread(&PollOrDie);
                  if (!thread.ok() || !thread->Join().ok()) return 2;
                }
                if (Runtime::Finalize() != 0) return 3;
                // A thread's record goes on the thread itself, a moment after the thread is done.
                if (!Eventually([] { return live_states.load(kRelaxed) == 0; })) return 4;
              }
              if (all_states.load(kRelaxed) < 3000) return 5;  // that there was something to count
              const long grown = ResidentKilobytes() - at_start;
              if (!kTsan && !kAsan && grown > 1024) {
                std::fprintf(stderr, "grown by %ld KiB in 800 lives\n", grown);
                return 6;
              }
              return 0;
            }),
            "exit 0");
}

// Threads that hang for ever are what CPython has too: each keeps its stack. Nothing else of the lives may stay, as
// soon as the last thread of a life has noticed its end.
TEST(LifecycleStressTest, B138_AThousandLivesWithDaemonAndForeignThreadsAlive) {
  constexpr int kLives = kTsan ? 60 : 1000;
  EXPECT_EQ(InChild([] {
              ArmWatchdog(240);
              static Atomic<bool> stop{false};
              static Atomic<bool> never{false};
              static Atomic<int> ensured{0};
              static Atomic<int> sleepers_up_to{0};  // those of lives before this one may go on
              static Atomic<int> running{0};
              // A foreign thread that ensures all the time; it takes a guard first, so that it never hangs.
              std::jthread ensurer([] {
                while (!stop.load(kRelaxed)) {
                  EnsureToken token = EnsureAttachedFromView(InterpreterView::FromMain());
                  if (token) {
                    PollOrDie();
                    ReleaseAttached(token);
                    ensured.fetch_add(1, kRelaxed);
                  }
                  YieldCpu();
                }
              });
              long at_start = 0;
              int result = 0;
              size_t most_lost = 0;
              for (int life = 0; life < kLives && result == 0; ++life) {
                if (life == kLives / 5) at_start = ResidentKilobytes();
                Runtime& runtime = Start();
                runtime.main_interpreter().gil().set_interval(100);
                // A daemon that is running when the end comes, or has not even begun to.
                running.store(0, kRelaxed);
                auto spinner = StartThread(
                    [] {
                      running.store(1, kRelaxed);
                      while (!never.load(kRelaxed)) PollOrDie();
                    },
                    /*daemon=*/true);
                if (!spinner.ok()) result = 1;
                while (life % 4 == 0 && result == 0 && running.load(kRelaxed) == 0) PollOrDie();
                if (life % 8 == 0) {
                  // And one that is away until the next life has begun: it comes back to a runtime that has a main
                  // interpreter, which is not its own.
                  auto sleeper = StartThread(
                      [life] {
                        DetachedScope detached;
                        while (sleepers_up_to.load(kAcquire) <= life) YieldCpu();
                      },
                      /*daemon=*/true);
                  if (!sleeper.ok()) result = 2;
                }
                sleepers_up_to.store(life, kRelease);
                most_lost = std::max(most_lost, runtime.interpreters().lost());
                if (Runtime::Finalize() != 0) result = 3;
              }
              sleepers_up_to.store(kLives, kRelease);
              stop.store(true, kRelaxed);
              ensurer.join();
              if (result != 0) return result;
              if (ensured.load(kRelaxed) == 0) return 4;
              // One more life, and all that the others have left is gone: states, interpreters, handles, records.
              if (!Eventually([] {
                    Start();
                    const size_t lost = Runtime::Get().interpreters().lost();
                    return Runtime::Finalize() == 0 && lost == 0;
                  })) {
                return 5;
              }
              // But for the handles and records of daemons, which never return from their bodies.
              const int daemons = kLives + (kLives + 7) / 8;
              if (live_states.load(kRelaxed) > 2 * daemons) {
                std::fprintf(stderr, "%d blocks of %d daemons\n", live_states.load(kRelaxed), daemons);
                return 6;
              }
              const long grown = ResidentKilobytes() - at_start;
              std::fprintf(stderr, "%ld KiB for each thread that hangs; %zu lost at most\n",
                           grown * 5 / 4 / daemons, most_lost);
              // A thread's stack, its thread-local data and what malloc keeps for it.
              if (!kTsan && !kAsan && grown * 5 / 4 / daemons > 32) return 7;
              return 0;
            }),
            "exit 0");
}

// 64 threads create, attach, poll, detach and delete states, while others fork and others stop the world.
TEST(LifecycleStressTest, StormOfThreadsForksAndStops) {
  const int kThreads = kTsan ? 18 : 72;  // of nine, one forks, one stops, seven work
  const int kRounds = kTsan ? 10 : 40;
  EXPECT_EQ(
      InChild([=] {
        ArmWatchdog(300);
        Runtime& runtime = Start();
        Interpreter& interp = runtime.main_interpreter();
        // Both are the thread's own, and differ only between two polls.
        struct Account {
          int64_t given = 0;
          int64_t taken = 0;
        };
        static std::vector<Account> accounts;
        static Atomic<int> failures{0};
        static Atomic<int> forks{0};
        static Atomic<int> stops{0};
        accounts.resize(static_cast<size_t>(kThreads));
        const auto balanced = [] {
          for (const Account& account : accounts) {
            if (account.given != account.taken) return false;
          }
          return true;
        };
        const auto require = [](bool holds) {
          if (!holds) failures.fetch_add(1, kRelaxed);
        };
        const uint64_t ids_before = interp.threads().last_id();
        std::vector<Thread> threads;
        for (int t = 0; t < kThreads; ++t) {
          auto thread = StartThread([=, &interp] {
            Account& account = accounts[static_cast<size_t>(t)];
            for (int round = 0; round < kRounds; ++round) {
              if (t % 9 == 0) {
                if (round % 10 != 0) continue;
                const auto pid = Fork::Run();
                if (pid.ok() && *pid == 0) {
                  ArmWatchdog();
                  ::_exit(interp.threads().size() != 1 ? 1 : !balanced() ? 2 : ThreadState::Get().Poll());
                }
                DetachedScope detached;
                require(pid.ok() && WaitForChild(*pid) == "exit 0");
                forks.fetch_add(1, kRelaxed);
              } else if (t % 9 == 1) {
                StoppedWorld stopped(interp.registry().threads());
                require(balanced());
                stops.fetch_add(1, kRelaxed);
              } else {
                ThreadState* const mine = ThreadState::Current();
                ThreadState* const other = interp.threads().NewBound();
                ThreadState::Swap(other);
                ++account.given;
                ++account.taken;
                require(other->Poll() == 0);
                InterpreterThreads::Clear(*other);
                InterpreterThreads::DeleteCurrent();
                mine->Attach();
              }
              require(ThreadState::Get().Poll() == 0);
            }
          });
          if (!thread.ok()) return 1;
          threads.push_back(*thread);
        }
        for (Thread& thread : threads) {
          if (!thread.Join().ok()) return 2;
        }
        if (failures.load(kRelaxed) != 0) return 3;
        int64_t made = 0;
        for (const Account& account : accounts) made += account.given;
        const int per_kind = kThreads / 9;
        if (made != int64_t{7} * per_kind * kRounds) return 4;
        if (forks.load(kRelaxed) != per_kind * (kRounds / 10) || stops.load(kRelaxed) != per_kind * kRounds) {
          return 5;
        }
        // Each state had an id of its own: those of the threads and those that they made.
        if (interp.threads().last_id() - ids_before != static_cast<uint64_t>(made + kThreads)) return 6;
        if (interp.threads().size() != 1) return 7;
        threads.clear();
        if (Runtime::Finalize() != 0) return 8;
        return Eventually([] { return live_states.load(kRelaxed) == 0; }) ? 0 : 9;
      }),
      "exit 0");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
