#include "pyrt/runtime/sys_subsystem.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/runtime.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;

absl::Status Record(std::string_view event, const Ref<Tuple>&, void* log) {
  static_cast<std::vector<std::string>*>(log)->push_back(std::string(event));
  return absl::OkStatus();
}

class SysSubsystemTest : public testing::Test {
 public:
  static void SetUpTestSuite() { Runtime::AddSubsystem(SysSubsystem()); }
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

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
