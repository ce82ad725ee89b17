#include "pyrt/runtime/import_subsystem.h"

#include <pthread.h>
#include <signal.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/thread.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

// Finds every name; the body is one function.
using ModuleBody = std::function<absl::Status()>;

class BodyLoader final : public Loader {
 public:
  explicit BodyLoader(ModuleBody body) : body_(std::move(body)) {}
  absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>&) override { return body_(); }

 private:
  const ModuleBody body_;
};

class BodyFinder final : public Finder {
 public:
  explicit BodyFinder(ModuleBody body) : body_(std::move(body)) {}
  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                           const Object*) override {
    ModuleSpec::Options options;
    options.loader = MakeRef<BodyLoader>(body_);
    return ModuleSpec::New(name, std::move(options));
  }

 private:
  const ModuleBody body_;
};

// Finds every name; the module is one init function's.
class NativeFinder final : public Finder {
 public:
  explicit NativeFinder(ModuleInitFunction init) : init_(init) {}
  absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                           const Object*) override {
    ModuleSpec::Options options;
    options.loader = NativeModulesOf(Interpreter::Get())->LoaderFor(init_);
    options.origin = "built-in";
    return ModuleSpec::New(name, std::move(options));
  }

 private:
  const ModuleInitFunction init_;
};

class ImportSubsystemTest : public testing::Test {
 public:
  static void SetUpTestSuite() {
    Runtime::AddSubsystem(ImportSubsystem());
    // Its end comes before the importer's.
    Runtime::AddSubsystem({.name = "last", .finalize_modules = [](void*, Interpreter&) {
                             if (at_the_end) std::exchange(at_the_end, nullptr)();
                           }});
  }
  ~ImportSubsystemTest() override { Runtime::Finalize(); }

  static Importer& Start(ModuleBody body = [] { return absl::OkStatus(); }) {
    EXPECT_TRUE(Runtime::Initialize().ok());
    Importer& importer = *ImporterOf(Interpreter::Get());
    importer.set_meta_path(List::Of({MakeRef<BodyFinder>(std::move(body))}));
    return importer;
  }
  static inline std::function<void()> at_the_end;
  static inline Atomic<int> runs{0};
  static inline Atomic<bool> leave{false};
  static std::string ForkAnd(const std::function<int()>& body) {
    const auto pid = Fork::Run();
    if (!pid.ok()) return std::string(pid.status().message());
    if (*pid == 0) {
      ArmWatchdog();
      ::_exit(body());
    }
    DetachedScope detached;
    return WaitForChild(*pid);
  }
};

TEST_F(ImportSubsystemTest, EveryInterpreterHasItsOwnImporterForItsLife) {
  int bodies = 0;
  Importer& importer = Start([&] {
    ++bodies;
    return absl::OkStatus();
  });
  ASSERT_TRUE(importer.Import("m").ok());
  ASSERT_TRUE(importer.Import("m").ok());
  EXPECT_EQ(bodies, 1);
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  Importer* const other = ImporterOf(Interpreter::Get());
  ASSERT_NE(other, nullptr);
  EXPECT_NE(other, &importer);
  EXPECT_EQ(other->modules().Get("m"), nullptr);
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
  EXPECT_EQ(Runtime::Finalize(), 0);
  Start();
  EXPECT_EQ(ImporterOf(Interpreter::Get())->modules().Get("m"), nullptr) << "a new life";
}

TEST_F(ImportSubsystemTest, B031b_AForkWhileAnotherThreadIsInsideAModuleBody) {
  static Atomic<bool> inside{false};
  static Atomic<bool> leave{false};
  Importer& importer = Start([] {
    if (Runtime::Get().interpreters().IsMainThread()) return absl::OkStatus();
    inside.store(true, kRelease);
    DetachedScope detached;
    while (!leave.load(kAcquire)) YieldCpu();
    return absl::OkStatus();
  });
  auto thread = Thread::Start([&] { return importer.Import("slow").status(); });
  ASSERT_TRUE(thread.ok());
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([] { return inside.load(kAcquire); }));
  }
  EXPECT_EQ(ForkAnd([&] {
              if (importer.import_lock().Held()) return 1;
              if (!importer.Import("slow").ok()) return 2;
              return Runtime::Finalize() == 0 ? 0 : 3;
            }),
            "exit 0");
  leave.store(true, kRelease);
  EXPECT_TRUE(thread->Join().ok());
  EXPECT_TRUE(importer.Import("slow").ok());
}

// Readers of the table take no lock, so that in the GIL-disabled build a removed module dies later than it is removed:
// at the next collection at the latest.
TEST_F(ImportSubsystemTest, ARemovedModuleDiesWithTheNextCollection) {
  struct Mourner final : Object {
    explicit Mourner(bool* the_dead) : dead(the_dead) {}
    ~Mourner() override { *dead = true; }
    const char* TypeName() const override { return "Mourner"; }
    bool* const dead;
  };
  bool dead = false;
  Importer& importer = Start();
  Interpreter::Get().gc().SetCollector({.collect = [](void*, int) { return int64_t{0}; }});
  ASSERT_TRUE(importer.Import("m").value()->SetAttr("mourner", MakeRef<Mourner>(&dead)).ok());
  EXPECT_TRUE(importer.modules().Remove("m"));
  EXPECT_EQ(dead, kGilEnabled);
  EXPECT_TRUE(Interpreter::Get().gc().Collect(0).ok());
  EXPECT_TRUE(dead);
}

// What the thread was at goes with its interpreter, whose code must not wait for it meanwhile.
TEST_F(ImportSubsystemTest, AForkWhileAnotherInterpreterIsInsideAModuleBody) {
  static Atomic<bool> inside{false};
  static Atomic<bool> leave{false};
  static std::string imported;
  inside.store(false, kRelaxed);
  leave.store(false, kRelaxed);
  struct Importing final : Object {
    ~Importing() override { imported = ImporterOf(Interpreter::Get())->Import("slow").status().ToString(); }
    const char* TypeName() const override { return "Importing"; }
  };
  Start();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  Interpreter& interp = Interpreter::Get();
  ImporterOf(interp)->set_meta_path(List::Of({MakeRef<BodyFinder>([] {
    if (Runtime::Get().interpreters().IsMainThread()) return absl::OkStatus();
    DetachedScope detached;  // first: an interpreter that runs is not put in order
    inside.store(true, kRelease);
    while (!leave.load(kAcquire)) YieldCpu();
    return absl::OkStatus();
  })}));
  ThreadState::Swap(main_thread);
  std::jthread importing([&] {
    ThreadState* const own = interp.threads().NewBound();
    own->Attach();
    own->data().context = MakeRef<Importing>();
    EXPECT_TRUE(ImporterOf(interp)->Import("slow").ok());
    InterpreterThreads::Clear(*own);
    InterpreterThreads::DeleteCurrent();
  });
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([] { return inside.load(kAcquire); }));
  }
  EXPECT_EQ(ForkAnd([] {
              if (imported != "OK") return 1;
              return Runtime::Finalize() == 0 ? 0 : 2;
            }),
            "exit 0");
  leave.store(true, kRelease);
  DetachedScope detached;
  importing.join();
}

TEST_F(ImportSubsystemTest, WhatForkCallbacksHoldGoesBeforeTheImporter) {
  static std::string imported;
  struct Importing final : Object {
    ~Importing() override {
      imported = std::string(ImporterOf(Interpreter::Get())->Import("late").status().message());
    }
    const char* TypeName() const override { return "Importing"; }
  };
  Start();
  Fork::Register({[held = MakeRef<Importing>()] { return absl::OkStatus(); }, {}, {}});
  Runtime::Finalize();
  EXPECT_EQ(imported, "unable to get sys.modules");  // after the modules
}

// Whichever of them is first runs it, in the main interpreter, and the other one finds what that has made.
TEST_F(ImportSubsystemTest, B117_SinglePhaseRunsOnceThoughTwoInterpretersImportItAtOnce) {
  const auto init = [](ModuleInit& init) {
    runs.fetch_add(1, kRelease);
    {
      DetachedScope detached;
      while (!leave.load(kAcquire)) YieldCpu();
    }
    init.Return(Ref<Object>(Module::New(init.name(), init.spec())));
  };
  for (const bool main_is_first : {true, false}) {
    runs.store(0, kRelaxed);
    leave.store(false, kRelaxed);
    Start().set_meta_path(List::Of({MakeRef<NativeFinder>(init)}));
    ThreadState* const main_thread = ThreadState::Current();
    ASSERT_TRUE(Runtime::NewInterpreter(InterpreterConfig::Legacy()).ok());
    Interpreter& sub = Interpreter::Get();
    ImporterOf(sub)->set_meta_path(List::Of({MakeRef<NativeFinder>(init)}));
    ThreadState::Swap(main_thread);
    Atomic<int> started{0};
    // The cache is the process' own: a name for each pair.
    const std::string name = main_is_first ? "main_first" : "main_second";
    const auto import_in = [&](Interpreter& interp) {
      ThreadState* const own = interp.threads().NewBound();
      own->Attach();
      started.fetch_add(1, kRelease);
      // Without the GIL no subinterpreter may have it (IL-67), which is asked after it has run.
      EXPECT_EQ(ImporterOf(interp)->Import(name).ok(), kGilEnabled || interp.is_main());
      InterpreterThreads::Clear(*own);
      InterpreterThreads::DeleteCurrent();
    };
    {
      DetachedScope detached;
      Interpreter& main = Runtime::Get().main_interpreter();
      std::jthread first([&] { import_in(main_is_first ? main : sub); });
      EXPECT_TRUE(Eventually([] { return runs.load(kAcquire) == 1; }));
      std::jthread second([&] { import_in(main_is_first ? sub : main); });
      EXPECT_TRUE(Eventually([&] { return started.load(kAcquire) == 2; }));
      for (int i = 0; i < 1000 && runs.load(kAcquire) == 1; ++i) YieldCpu();
      leave.store(true, kRelease);
    }
    EXPECT_EQ(runs.load(kAcquire), 1) << name;
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
}

// The init function runs in the main interpreter, with a state of its own there; however it ends, the thread is back where
// it was and that state is gone.
TEST_F(ImportSubsystemTest, IL69_AnInitThatThrowsInTheMainInterpreterLeadsBack) {
  static bool throws;
  static Interpreter* ran_in;
  throws = true;
  const auto init = [](ModuleInit& init) {
    ran_in = &Interpreter::Get();
    if (throws) throw 7;
    init.Return(Ref<Object>(Module::New(init.name(), init.spec())));
  };
  Start();
  Interpreter& main = Interpreter::Get();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
  ASSERT_TRUE(sub.ok());
  Importer& importer = *ImporterOf(Interpreter::Get());
  importer.set_meta_path(List::Of({MakeRef<NativeFinder>(init)}));
  const size_t states = main.threads().size();
  EXPECT_THROW(static_cast<void>(importer.Import("throws")), int);
  EXPECT_EQ(ran_in, &main);
  EXPECT_EQ(ThreadState::Current(), *sub);
  EXPECT_EQ(main.threads().size(), states);
  EXPECT_FALSE(importer.modules().Get("throws"));
  throws = false;
  EXPECT_EQ(importer.Import("throws").ok(), kGilEnabled);  // IL-67
  EXPECT_EQ(ThreadState::Current(), *sub);
  EXPECT_EQ(main.threads().size(), states);
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
}

// What is given while the runtime runs is for its next life: neither the table that is frozen nor what a new interpreter
// gets changes.
TEST_F(ImportSubsystemTest, IL53_OptionsAreThoseOfTheNextLife) {
  Inittab now({{"now", [](ModuleInit& init) { init.Return(Ref<Object>(Module::New("now"))); }}});
  Inittab next({{"next", [](ModuleInit& init) { init.Return(Ref<Object>(Module::New("next"))); }}});
  ImportSubsystemOptions options;
  options.inittab = &now;
  static_cast<void>(ImportSubsystem(options));
  ASSERT_TRUE(Runtime::Initialize().ok());
  ThreadState* const main_thread = ThreadState::Current();
  options.inittab = &next;
  static_cast<void>(ImportSubsystem(options));
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Legacy());
  ASSERT_TRUE(sub.ok());
  const auto is_missing = [](const char* name) {
    return IsError(ImporterOf(Interpreter::Get())->Import(name).status(), ErrorType::ModuleNotFoundError());
  };
  EXPECT_FALSE(is_missing("now"));
  EXPECT_TRUE(is_missing("next"));
  ThreadState::Swap(main_thread);
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_TRUE(now.Append("later", nullptr).ok()) << "it may grow between two lives";

  ASSERT_TRUE(Runtime::Initialize().ok());
  EXPECT_FALSE(is_missing("next"));
  EXPECT_TRUE(is_missing("now"));
  EXPECT_EQ(Runtime::Finalize(), 0);
  static_cast<void>(ImportSubsystem());
}

TEST_F(ImportSubsystemTest, B101_AForkInsideAModuleBodyMayGoOnInBothProcesses) {
  std::string ended;
  Importer* importer = nullptr;
  importer = &Start([&] {
    static bool forked = false;
    if (std::exchange(forked, true)) return absl::OkStatus();
    const auto pid = Fork::Run();
    if (!pid.ok()) return pid.status();
    if (*pid == 0) {
      ArmWatchdog();
      ::_exit(importer->Import("other").ok() ? 0 : 1);
    }
    ended = WaitForChild(*pid);
    return absl::OkStatus();
  });
  EXPECT_TRUE(importer->Import("forks").ok());
  EXPECT_EQ(ended, "exit 0");
}

// The frames of the import are still there when everything else is gone.
TEST_F(ImportSubsystemTest, ABodyMayFinalizeTheRuntime) {
  for (const bool fails : {false, true}) {
    EXPECT_EQ(InChild([&] {
                Importer& importer = Start([&] {
                  EXPECT_EQ(Runtime::Finalize(), 0);
                  return fails ? Raise(ErrorType::ValueError(), "no") : absl::OkStatus();
                });
                const absl::Status status = importer.Import("m").status();
                if (!IsError(status, fails ? ErrorType::ValueError() : ErrorType::KeyError())) return 1;
                if (ThreadState::Current() != nullptr || Runtime::IsInitialized()) return 2;
                return Start().Import("m").ok() && Runtime::Finalize() == 0 ? 0 : 3;
              }),
              "exit 0");
  }
}

TEST_F(ImportSubsystemTest, ABodyWithoutAFinderMayFinalizeTheRuntime) {
  for (const bool fails : {false, true}) {
    EXPECT_EQ(InChild([&] {
                const absl::Status status =
                    Start()
                        .ExecModule("m",
                                    [&](const Ref<Object>&) {
                                      EXPECT_EQ(Runtime::Finalize(), 0);
                                      return fails ? Raise(ErrorType::ValueError(), "no") : absl::OkStatus();
                                    })
                        .status();
                if (!IsError(status, fails ? ErrorType::ValueError() : ErrorType::ImportError())) return 1;
                if (ThreadState::Current() != nullptr || Runtime::IsInitialized()) return 2;
                return Start().Import("m").ok() && Runtime::Finalize() == 0 ? 0 : 3;
              }),
              "exit 0");
  }
}

// IL-79: daemon threads that hang inside imports for good, in a body, in a finder, waiting for another's module.
TEST_F(ImportSubsystemTest, IL79_TheEndDoesNotWaitForThreadsThatHangInImports) {
  static Atomic<int> inside{0};
  static Atomic<bool> leave{false};
  inside.store(0, kRelaxed), leave.store(false, kRelaxed);
  class HangingFinder final : public Finder {
   public:
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      if (name == "hangs") Hang();
      return Ref<ModuleSpec>();
    }
    static void Hang() {
      inside.fetch_add(1, kRelease);
      DetachedScope detached;
      while (!leave.load(kAcquire)) YieldCpu();
    }
  };
  Importer& importer = Start([] {
    HangingFinder::Hang();
    return absl::OkStatus();
  });
  const Ref<List> meta_path = importer.meta_path();
  meta_path->Insert(0, MakeRef<HangingFinder>());
  const ThreadOptions daemon = {.daemon = true};
  ASSERT_TRUE(Thread::Start([&] { return importer.Import("slow").status(); }, daemon).ok());
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([] { return inside.load(kAcquire) == 1; }));
  }
  ASSERT_TRUE(Thread::Start([&] { return importer.Import("slow").status(); }, daemon).ok());
  ASSERT_TRUE(Thread::Start([&] { return importer.Import("hangs").status(); }, daemon).ok());
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([] { return inside.load(kAcquire) == 2; }));
  }
  EXPECT_TRUE(importer.import_lock().Held());
  std::vector<std::string> failures;
  at_the_end = [&] {
    for (const char* const name : {"slow", "never"}) {
      failures.push_back(ErrorFromStatus(importer.Import(name).status())->Message());
    }
  };
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_EQ(failures, (std::vector<std::string>{"can't import 'slow' at interpreter shutdown",
                                                "can't import 'never' at interpreter shutdown"}));
  EXPECT_TRUE(Start().Import("m").ok()) << "a new life has nothing to do with them";
  EXPECT_EQ(Runtime::Finalize(), 0);
  leave.store(true, kRelease);
}

TEST_F(ImportSubsystemTest, ASignalHandlersExceptionEndsTheWaitForAModule) {
  static Atomic<bool> inside{false};
  static Atomic<bool> leave{false};
  inside.store(false, kRelaxed), leave.store(false, kRelaxed);
  ::signal(SIGINT, SIG_DFL);  // whoever runs the test may ignore it
  ASSERT_TRUE(Runtime::Initialize({.install_signal_handlers = true}).ok());
  const pthread_t main_thread = ::pthread_self();
  Importer& importer = Start([main_thread] {
    inside.store(true, kRelease);
    DetachedScope detached;
    while (!leave.load(kAcquire)) {
      ::pthread_kill(main_thread, SIGINT);
      YieldCpu();
    }
    return absl::OkStatus();
  });
  auto thread = Thread::Start([&] { return importer.Import("slow").status(); });
  ASSERT_TRUE(thread.ok());
  {
    DetachedScope detached;
    ASSERT_TRUE(Eventually([] { return inside.load(kAcquire); }));
  }
  EXPECT_TRUE(IsError(importer.Import("slow").status(), ErrorType::KeyboardInterrupt()));
  leave.store(true, kRelease);
  ThreadState& self = ThreadState::Get("test");
  while (!thread->IsDone()) {  // more signals may have come: their exceptions are nobody's
    static_cast<void>(self.Poll());
    self.data().current_exception = nullptr;
    DetachedScope detached;
    YieldCpu();
  }
  while (Interpreter::CheckSignals(self) != 0) self.data().current_exception = nullptr;
  EXPECT_TRUE(importer.Import("slow").ok()) << "the other thread's import was not disturbed";
}

// Who blocks on a lock inside the importer does not detach: were they held across the stopping of the world, it would
// never stop.
TEST_F(ImportSubsystemTest, AForkBesideThreadsThatImport) {
  static Atomic<bool> stop{false};
  stop.store(false, kRelaxed);
  Importer& importer = Start();
  std::vector<Thread> threads;
  for (int t = 0; t < 3; ++t) {
    auto thread = Thread::Start([&importer, t] {
      for (int i = 0; !stop.load(kAcquire); ++i) {
        const std::string name = "m" + std::to_string(t) + "_" + std::to_string(i % 50);
        if (absl::Status status = importer.Import(name).status(); !status.ok()) return status;
        importer.modules().Remove(name);
        if (ThreadState::Get("test").Poll() != 0) return absl::UnknownError("poll");
      }
      return absl::OkStatus();
    });
    ASSERT_TRUE(thread.ok());
    threads.push_back(*std::move(thread));
  }
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(ForkAnd([&] { return importer.Import("in_child").ok() ? 0 : 1; }), "exit 0") << round;
  }
  stop.store(true, kRelease);
  for (Thread& thread : threads) EXPECT_TRUE(thread.Join().ok());
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
