#include "pyrt/runtime/sys_subsystem.h"

#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/fork.h"
#include "pyrt/runtime/import_subsystem.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/runtime.h"
#include "pyrt/runtime/runtime_test_util.h"
#include "pyrt/runtime/thread.h"
#include "pyrt/sys/sys_values.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;

absl::Status Record(std::string_view event, const Ref<Tuple>&, void* log) {
  static_cast<std::vector<std::string>*>(log)->push_back(std::string(event));
  return absl::OkStatus();
}

class SysSubsystemTest : public testing::Test {
 public:
  static void SetUpTestSuite() {
    Runtime::AddSubsystem(ImportSubsystem());
    Runtime::AddSubsystem(SysSubsystem());
  }
  ~SysSubsystemTest() override { Runtime::Finalize(); }
};

TEST_F(SysSubsystemTest, EveryInterpreterHasItsOwnSysForItsLife) {
  for (int life = 0; life < 3; ++life) {
    ASSERT_TRUE(Runtime::Initialize().ok());
    SysModule* const sys = SysModule::Current();
    ASSERT_NE(sys, nullptr);
    EXPECT_NE(sys->dict().Find("stdout"), nullptr);
    ThreadState* const main_thread = ThreadState::Current();
    const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
    ASSERT_TRUE(sub.ok()) << sub.status();
    EXPECT_NE(SysModule::Current(), sys);
    Runtime::EndInterpreter(**sub);
    main_thread->Attach();
    EXPECT_EQ(SysModule::Current(), sys);
    EXPECT_EQ(Runtime::Finalize(), 0);
    EXPECT_EQ(SysModule::Current(), nullptr);
  }
}

TEST_F(SysSubsystemTest, B026_NativeHooksSeeNewClearAndTheirOwnEndLast) {
  std::vector<std::string> log;
  ASSERT_TRUE(AddAuditHook(&Record, &log).value()) << "before Initialize";
  ASSERT_TRUE(Runtime::Initialize().ok());
  log.clear();
  ThreadState* const main_thread = ThreadState::Current();
  const auto sub = Runtime::NewInterpreter(InterpreterConfig::Isolated());
  ASSERT_TRUE(sub.ok());
  Runtime::EndInterpreter(**sub);
  main_thread->Attach();
  EXPECT_EQ(Runtime::Finalize(), 0);
  std::vector<std::string> lifecycle;
  for (const std::string& event : log) {
    if (event.starts_with("cpython.")) lifecycle.push_back(event);
  }
  EXPECT_THAT(lifecycle, ElementsAre("cpython.PyInterpreterState_New", "cpython.PyInterpreterState_Clear",
                                     "cpython.PyInterpreterState_Clear", "cpython._PySys_ClearAuditHooks"));
  log.clear();
  ASSERT_TRUE(Runtime::Initialize().ok());
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_THAT(log, ElementsAre()) << "RT-5: a second life fires none";
}

// Event and arguments, "event(args)"; refuses what State::refused names.
struct Trail {
  std::vector<std::string> events;
  std::string refused;

  static absl::Status Record(std::string_view event, const Ref<Tuple>& arguments, void* data) {
    auto* const trail = static_cast<Trail*>(data);
    trail->events.push_back(std::string(event) + arguments->Repr().value());
    if (event == trail->refused) return Raise(ErrorType::RuntimeError(), "refused");
    return absl::OkStatus();
  }
};

TEST_F(SysSubsystemTest, SY51_ThreadsForksAndImportsAreEventsThatMayBeRefused) {
  Trail trail;
  ASSERT_TRUE(Runtime::Initialize().ok());
  ASSERT_TRUE(AddAuditHook(&Trail::Record, &trail).value());
  const Ref<Object> function =
      NativeFunction::New("f", [](Args) -> absl::StatusOr<Ref<Object>> { return None(); });
  bool ran = false;
  const auto body = [&] {
    ran = true;
    return absl::OkStatus();
  };
  auto thread = Thread::Start(body, {.function = function});
  ASSERT_TRUE(thread.ok() && thread->Join().ok());
  EXPECT_TRUE(ran);
  ASSERT_TRUE(Fork::Check("os.fork").ok());
  ASSERT_TRUE(Fork::Check("os.forkpty").ok());
  static_cast<void>(ImporterOf(Interpreter::Get())->Import("absent"));
  ASSERT_EQ(trail.events.size(), 4u);
  EXPECT_EQ(trail.events[0], "_thread.start_joinable_thread(<built-in function f>, 0, None)");
  EXPECT_EQ(trail.events[1], "os.fork()");
  EXPECT_EQ(trail.events[2], "os.forkpty()");
  EXPECT_EQ(trail.events[3].rfind("import('absent', None, ", 0), 0u) << trail.events[3];

  ran = false;
  trail.refused = "_thread.start_joinable_thread";
  const auto refused = Thread::Start(body, {.daemon = true});
  EXPECT_TRUE(IsError(refused.status(), ErrorType::RuntimeError()));
  EXPECT_EQ(trail.events.back(), "_thread.start_joinable_thread(None, 1, None)");
  EXPECT_FALSE(ran);
  trail.refused = "os.fork";
  EXPECT_TRUE(IsError(Fork::Run().status(), ErrorType::RuntimeError()));
  trail.refused = "import";
  EXPECT_TRUE(IsError(ImporterOf(Interpreter::Get())->Import("absent").status(), ErrorType::RuntimeError()));
  trail.refused.clear();
  EXPECT_EQ(Runtime::Finalize(), 0);
}

// bpo-41162: hooks live longer than everything that could still tell them something.
TEST_F(SysSubsystemTest, BPO_41162_EventsOfTheEndArrive) {
  Trail trail;
  ASSERT_TRUE(Runtime::Initialize().ok());
  ASSERT_TRUE(AddAuditHook(&Trail::Record, &trail).value());
  struct Late final : Object {
    ~Late() override { static_cast<void>(Runtime::Audit("late.destructor")); }
    const char* TypeName() const override { return "Late"; }
  };
  SysModule::Current()->dict().Set("late", MakeRef<Late>());
  static_cast<void>(Interpreter::Get().set_table(Interpreter::Table::kModules, MakeRef<Late>()));
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_THAT(trail.events, ElementsAre("cpython.PyInterpreterState_Clear()", "late.destructor()",
                                        "late.destructor()", "cpython._PySys_ClearAuditHooks()"));
}

TEST_F(SysSubsystemTest, SY26_WhatKeepsOthersAliveGoesFirst) {
  struct Seen {
    bool last_exc_was_none = false;
    bool stdout_was_the_original = false;
  } seen;
  struct Late final : Object {
    explicit Late(Seen* seen) : seen(seen) {}
    ~Late() override {
      SysModule* const sys = SysModule::Current();
      if (sys == nullptr) return;
      seen->last_exc_was_none = IsNone(sys->dict().Find("last_exc"));
      seen->stdout_was_the_original = sys->dict().Find("stdout") == sys->dict().Find("__stdout__");
    }
    const char* TypeName() const override { return "Late"; }
    Seen* const seen;
  };
  ASSERT_TRUE(Runtime::Initialize().ok());
  SysDict& dict = SysModule::Current()->dict();
  dict.Set("last_exc", Error::New(ErrorType::ValueError(), "old"));
  dict.Set("stdout", None());
  dict.Set("__late",
           MakeRef<Late>(&seen));  // the newest name, which goes first when the dictionary is cleared
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_TRUE(seen.last_exc_was_none);
  EXPECT_TRUE(seen.stdout_was_the_original);
}

// Another interpreter, which has a GIL of its own and so is not stopped in the GIL-enabled build, is looking up what a new
// sys module needs.
TEST_F(SysSubsystemTest, FK2_AForkFindsTheImmortalTextsFreeAndComplete) {
  if (kTsan) GTEST_SKIP() << "ThreadSanitizer takes a thread of the child for one of the parent's";
  ASSERT_TRUE(Runtime::Initialize({.warn = [](void*, const char*, const char*) {}}).ok());
  ThreadState* const main_thread = ThreadState::Current();
  ASSERT_TRUE(Runtime::NewInterpreter(InterpreterConfig::Isolated()).ok());
  Interpreter& other = Interpreter::Get();
  ThreadState::Swap(main_thread);
  Atomic<int> looked_up{0};
  Atomic<bool> end{false};
  std::jthread busy([&] {
    ThreadState* const own = other.threads().NewBound();
    own->Attach();
    while (!end.load(kAcquire)) {
      for (int i = 0; i < 100; ++i) static_cast<void>(ImmortalText("short"));
      looked_up.fetch_add(1, kRelaxed);
      own->Poll();
    }
    InterpreterThreads::Clear(*own);
    InterpreterThreads::DeleteCurrent();
  });
  for (int i = 0; i < 20 && !HasFailure(); ++i) {
    {
      DetachedScope detached;
      const int before = looked_up.load(kRelaxed);
      const bool is_busy = Eventually([&] { return looked_up.load(kRelaxed) > before + 1; });
      EXPECT_TRUE(is_busy);
      if (!is_busy) break;  // not an ASSERT: `busy` ends only when it is told to
    }
    const auto pid = Fork::Run();
    EXPECT_TRUE(pid.ok()) << pid.status();
    if (!pid.ok()) break;
    if (*pid == 0) {
      ArmWatchdog();
      ::_exit(Runtime::NewInterpreter(InterpreterConfig::Isolated()).ok() ? 0 : 1);
    }
    DetachedScope detached;
    EXPECT_EQ(WaitForChild(*pid), "exit 0");
  }
  end.store(true, kRelease);
  DetachedScope detached;
  busy.join();
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
