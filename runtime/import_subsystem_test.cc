#include "pyrt/runtime/import_subsystem.h"

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

class ImportSubsystemTest : public testing::Test {
 public:
  static void SetUpTestSuite() { Runtime::AddSubsystem(ImportSubsystem()); }
  ~ImportSubsystemTest() override { Runtime::Finalize(); }

  static Importer& Start(ModuleBody body = [] { return absl::OkStatus(); }) {
    EXPECT_TRUE(Runtime::Initialize().ok());
    Importer& importer = *ImporterOf(Interpreter::Get());
    importer.set_meta_path(List::Of({MakeRef<BodyFinder>(std::move(body))}));
    return importer;
  }
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

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
