// Imports by several threads at once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/runtime/sync/event.h"
#include "pyrt/runtime/sync/parking_lot.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class ImporterThreadsTest : public ::testing::Test {
 protected:
  ImporterThreadsTest() { interpreter.host.record = false; }
  ~ImporterThreadsTest() override { EXPECT_EQ(importer.module_locks().size(), 0u); }

  // Detached, so that others can run.
  template <typename Condition>
  bool Eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (;;) {
      if (condition()) return true;
      if (std::chrono::steady_clock::now() > deadline) return false;
      interpreter.gil.Detach();
      std::this_thread::yield();
      interpreter.gil.Attach();
    }
  }
  std::thread Import(const std::string& name, std::string* message = nullptr) {
    return std::thread([this, name, message] {
      const InterpreterAttached attached(interpreter);
      const std::string result = MessageOf(importer.Import(name));
      if (message != nullptr) {
        *message = result;
      } else {
        EXPECT_EQ(result, "OK") << name;
      }
    });
  }

  TestInterpreter interpreter;
  ScriptFinder& finder = *interpreter.finder;
  Importer& importer = *interpreter.importer;
};

TEST_F(ImporterThreadsTest, NobodyElseSeesAHalfMadeModule) {
  Atomic<int> bodies{0};
  Atomic<bool> complete{false};
  finder.Add("m", [&](const Ref<Object>& module) {
    bodies.fetch_add(1, kRelaxed);
    // All the others wait for this body.
    EXPECT_TRUE(Eventually([&] { return interpreter.gil.times_detached() >= 3; }));
    complete.store(true, kRelease);
    return module->SetAttr("x", Int::Of(1));
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const InterpreterAttached attached(interpreter);
      const auto module = importer.Import("m");
      EXPECT_TRUE(complete.load(kAcquire));
      EXPECT_TRUE(module.ok() && (*module)->GetAttr("x").ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bodies.load(kRelaxed), 1);
}

TEST_F(ImporterThreadsTest, B108_AWaiterRetriesAfterTheFirstLoaderFailed) {
  Atomic<int> bodies{0};
  finder.AddPackage("p");
  finder.Add("p.m", [&](const Ref<Object>&) -> absl::Status {
    if (bodies.fetch_add(1, kRelaxed) == 0) {
      EXPECT_TRUE(Eventually([&] { return interpreter.gil.times_detached() == 1; }));
      return Raise(ErrorType::ValueError(), "first");
    }
    return Raise(ErrorType::ValueError(), "second");
  });
  std::string first, second;
  std::thread a = Import("p.m", &first);
  std::thread b = Import("p.m", &second);
  a.join();
  b.join();
  EXPECT_EQ(bodies.load(kRelaxed), 2);
  EXPECT_THAT((std::vector<std::string>{first, second}),
              ::testing::UnorderedElementsAre("ValueError: first", "ValueError: second"));
}

TEST_F(ImporterThreadsTest, B109_gh83065_PackageThatImportsItsChildAgainstTheChild) {
  for (int round = 0; round < 200; ++round) {
    TestInterpreter fresh;
    fresh.host.record = false;
    Importer& imports = *fresh.importer;
    fresh.finder->AddPackage("a", [&](const Ref<Object>&) {
      fresh.gil.Detach();
      std::this_thread::yield();
      fresh.gil.Attach();
      return imports.Import("a.b").status();
    });
    fresh.finder->Add("a.b", [&](const Ref<Object>&) { return imports.Import("a").status(); });
    std::vector<std::thread> threads;
    for (const char* name : {"a.b", "a", "a.b"}) {
      threads.emplace_back([&, name] {
        const InterpreterAttached attached(fresh);
        EXPECT_EQ(MessageOf(imports.Import(name)), "OK");
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

// What a package's body is still making may be what the module relies on, also if the package between is
// finished.
TEST_F(ImporterThreadsTest, B109_AnInitializingGrandParentIsWaitedFor) {
  Event in_body;
  Atomic<bool> done{false};
  finder.AddPackage("a", [&](const Ref<Object>&) {
    EXPECT_TRUE(importer.Import("a.b").ok());
    in_body.Notify();
    EXPECT_TRUE(Eventually([&] { return interpreter.gil.times_detached() >= 1; }));
    done.store(true, kRelease);
    return absl::OkStatus();
  });
  finder.AddPackage("a.b");
  finder.Add("a.b.c", [&](const Ref<Object>&) {
    EXPECT_TRUE(done.load(kAcquire));
    return absl::OkStatus();
  });
  std::thread package = Import("a");
  in_body.Wait();
  std::thread module = Import("a.b.c");
  package.join();
  module.join();
}

TEST_F(ImporterThreadsTest, IL50_APackageWhoseImportFailedMeanwhileIsAudited) {
  interpreter.host.record = true;  // the threads audit one after the other
  Event in_body;
  Atomic<int> bodies{0};
  finder.AddPackage("p", [&](const Ref<Object>&) -> absl::Status {
    if (bodies.fetch_add(1, kRelaxed) != 0) return absl::OkStatus();
    in_body.Notify();
    EXPECT_TRUE(Eventually([&] { return interpreter.gil.times_detached() >= 1; }));
    return Raise(ErrorType::ValueError(), "first");
  });
  finder.Add("p.c");
  std::string failure;
  std::thread package = Import("p", &failure);
  in_body.Wait();
  std::thread module = Import("p.c");
  package.join();
  module.join();
  EXPECT_EQ(failure, "ValueError: first");
  EXPECT_THAT(interpreter.host.audited,
              ::testing::ElementsAre("p NoneType list list list", "p.c NoneType list list list",
                                     "p NoneType list list list"));
}

// Its body is in the middle, in a thread that waits for this one: there is nothing that could be run again.
TEST_F(ImporterThreadsTest, IL29_ReloadOfAModuleWhoseImportWaitsForThisThread) {
  Event in_m, in_y;
  Atomic<int> runs{0};
  finder.Add("m", [&](const Ref<Object>&) {
    runs.fetch_add(1, kRelaxed);
    in_m.Notify();
    interpreter.gil.Detach();
    in_y.Wait();
    interpreter.gil.Attach();
    return importer.Import("y").status();
  });
  std::string message;
  finder.Add("y", [&](const Ref<Object>&) {
    in_y.Notify();
    EXPECT_TRUE(Eventually([&] { return interpreter.gil.times_detached() >= 1; }));
    message = MessageOf(importer.Reload(importer.modules().Get("m")));
    return absl::OkStatus();
  });
  std::thread importing = Import("m");
  in_m.Wait();
  std::thread reloading = Import("y");
  importing.join();
  reloading.join();
  EXPECT_THAT(message, ::testing::HasSubstr("deadlock detected by _ModuleLock('m') at "));
  EXPECT_EQ(runs.load(kRelaxed), 1);
}

TEST_F(ImporterThreadsTest, B110_gh159963_ColdSiblingsInParallel) {
  constexpr int kThreads = 8;
  Atomic<int> package_runs{0};
  Atomic<int> in_children{0};
  finder.AddPackage("p", [&](const Ref<Object>&) {
    package_runs.fetch_add(1, kRelaxed);
    return absl::OkStatus();
  });
  for (int i = 0; i < kThreads; ++i) {
    finder.Add("p.c" + std::to_string(i), [&](const Ref<Object>&) {
      // Nobody gets on before all are in a child's body: the parent does not serialise them.
      in_children.fetch_add(1, kRelaxed);
      EXPECT_TRUE(Eventually([&] { return in_children.load(kRelaxed) == kThreads; }));
      return absl::OkStatus();
    });
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.push_back(Import("p.c" + std::to_string(i)));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(package_runs.load(kRelaxed), 1);
}

TEST_F(ImporterThreadsTest, CircleAcrossThreadsEndsWithAHalfMadeModuleAndNoError) {
  for (int round = 0; round < 100; ++round) {
    TestInterpreter fresh;
    fresh.host.record = false;
    Importer& imports = *fresh.importer;
    Atomic<int> in_bodies{0};
    const auto body = [&](const char* other) {
      return [&, other](const Ref<Object>&) {
        in_bodies.fetch_add(1, kRelaxed);
        while (in_bodies.load(kRelaxed) < 2) {
          fresh.gil.Detach();
          std::this_thread::yield();
          fresh.gil.Attach();
        }
        return imports.Import(other).status();
      };
    };
    fresh.finder->Add("a", body("b"));
    fresh.finder->Add("b", body("a"));
    std::vector<std::thread> threads;
    for (const char* name : {"a", "b"}) {
      threads.emplace_back([&, name] {
        const InterpreterAttached attached(fresh);
        EXPECT_EQ(MessageOf(imports.Import(name)), "OK");
        EXPECT_TRUE(imports.modules().GetFinished(name));
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(in_bodies.load(kRelaxed), 2);
  }
}

TEST_F(ImporterThreadsTest, gh137422_AddModuleGivesAllThreadsTheSame) {
  std::vector<Ref<Object>> results(8);
  std::vector<std::thread> threads;
  for (Ref<Object>& result : results) {
    threads.emplace_back([&] {
      const InterpreterAttached attached(interpreter);
      result = importer.AddModule("m");
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ref<Object>& result : results) EXPECT_EQ(result, results[0]);
}

// FK-7, and the body that ends its thread: in the child nobody will ever complete it.
TEST_F(ImporterThreadsTest, FK7_TheChildImportsWhatAnotherThreadWasImporting) {
  Event in_body, end;
  const pid_t parent = getpid();
  finder.Add("m", [&](const Ref<Object>&) {
    if (getpid() != parent) return absl::OkStatus();
    in_body.Notify();
    interpreter.gil.Detach();
    end.Wait();
    interpreter.gil.Attach();
    return absl::OkStatus();
  });
  std::thread importing = Import("m");
  in_body.Wait();
  {
    const InterpreterAttached attached(interpreter);
    importer.BeforeFork();
    const pid_t pid = ForkProcess();
    if (pid == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      importer.AfterForkInChild();
      const bool dropped = !importer.modules().Get("m");
      const bool ok = importer.Import("m").ok();
      _exit(dropped && ok && importer.module_locks().size() == 0 ? 42 : 1);
    }
    importer.AfterForkInParent();
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 42 << 8);
  }
  end.Notify();
  importing.join();
}

// A body's thread that never comes back keeps its module (IL-10); at shutdown nobody waits for it (IL-79).
TEST_F(ImporterThreadsTest, ABodyWhoseThreadIsGoneDoesNotHangTheFinalizer) {
  Event in_body, end;
  finder.Add("m", [&](const Ref<Object>&) {
    in_body.Notify();
    interpreter.gil.Detach();
    end.Wait();
    interpreter.gil.Attach();
    return absl::OkStatus();
  });
  std::thread gone = Import("m");
  in_body.Wait();
  class FinalizingHost final : public RecordingHost {
   public:
    explicit FinalizingHost(TestGil& gil) : RecordingHost(gil), hooks_(*gil.hooks()) {
      hooks_.must_fail = [](void*) { return true; };
    }
    const WaitHooks* Hooks() override { return &hooks_; }

   private:
    WaitHooks hooks_;
  } finalizing(interpreter.gil);
  {
    const InterpreterAttached attached(interpreter);
    ModuleLock lock(importer.module_locks(), "m");
    EXPECT_EQ(lock.Acquire(finalizing.Hooks()), ModuleLockStatus::kFailure);
    EXPECT_EQ(MessageOf(finalizing.WaitFailure(LockStatus::kFailure, "m")),
              "PythonFinalizationError: can't import 'm' at interpreter shutdown");
  }
  end.Notify();
  gone.join();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
