#include "pyrt/interp/interpreter_config.h"

#include <string>

#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using GilMode = InterpreterConfig::GilMode;

TEST(InterpreterConfigTest, B035_PresetsHaveTheDocumentedMasks) {
  constexpr uint64_t kAll = 32 | 1024 | 2048 | 32768 | 65536;
  EXPECT_EQ(InterpreterConfig::Isolated().Features().bits(), 256u | 1024u);
  EXPECT_EQ(InterpreterConfig::Legacy().Features().bits(), kAll | (kGilEnabled ? 0 : 256u));
  EXPECT_EQ(InterpreterConfig::Main().Features().bits(), kAll);
  EXPECT_TRUE(InterpreterConfig::Isolated().has_own_gil());
  EXPECT_FALSE(InterpreterConfig::Legacy().has_own_gil());
  EXPECT_TRUE(InterpreterConfig::Main().has_own_gil());
  EXPECT_TRUE(InterpreterConfig::Isolated().Validate().ok());
  EXPECT_TRUE(InterpreterConfig::Legacy().Validate().ok());
  EXPECT_TRUE(InterpreterConfig::Main().Validate(/*is_main=*/true).ok());
}

TEST(InterpreterConfigTest, B034_OwnAllocatorNeedsTheExtensionCheck) {
  InterpreterConfig config = InterpreterConfig::Isolated();
  config.check_multi_interp_extensions = false;
  EXPECT_EQ(config.Validate().message(),
            "per-interpreter obmalloc does not support single-phase init extension modules");
}

TEST(InterpreterConfigTest, B034_FreeThreadedSubinterpretersNeedTheExtensionCheck) {
  InterpreterConfig config = InterpreterConfig::Legacy();
  config.check_multi_interp_extensions = false;
  EXPECT_TRUE(config.Validate(/*is_main=*/true).ok());
  if (kGilEnabled) {
    EXPECT_TRUE(config.Validate().ok());
  } else {
    EXPECT_EQ(config.Validate().message(),
              "The free-threaded build does not support single-phase init extension modules in "
              "subinterpreters");
  }
}

TEST(InterpreterConfigTest, B034_GilValueOutOfRange) {
  InterpreterConfig config = InterpreterConfig::Legacy();
  config.gil = static_cast<GilMode>(3);
  EXPECT_EQ(config.Validate().message(), "invalid interpreter config 'gil' value");
  config.check_multi_interp_extensions = false;
  config.use_main_obmalloc = false;
  EXPECT_EQ(config.Validate().message(),
            "per-interpreter obmalloc does not support single-phase init extension modules")
      << "of two faults CPython names this one";
}

TEST(InterpreterConfigTest, EveryCombinationIsValidOrHasOneOfTheTexts) {
  int valid = 0;
  for (int bits = 0; bits < 64; ++bits) {
    for (const GilMode gil : {GilMode::kDefault, GilMode::kShared, GilMode::kOwn}) {
      const InterpreterConfig config{.use_main_obmalloc = (bits & 1) != 0,
                                     .allow_fork = (bits & 2) != 0,
                                     .allow_exec = (bits & 4) != 0,
                                     .allow_threads = (bits & 8) != 0,
                                     .allow_daemon_threads = (bits & 16) != 0,
                                     .check_multi_interp_extensions = (bits & 32) != 0,
                                     .gil = gil};
      const bool expected = kGilEnabled ? (bits & (1 | 32)) != 0 : (bits & 32) != 0;
      EXPECT_EQ(config.Validate().ok(), expected) << bits;
      valid += config.Validate().ok();
    }
  }
  EXPECT_EQ(valid, kGilEnabled ? 144 : 96);
}

TEST(InterpreterConfigTest, IN12_GilTexts) {
  EXPECT_EQ(static_cast<int>(GilMode::kDefault), 0);
  EXPECT_EQ(static_cast<int>(GilMode::kShared), 1);
  EXPECT_EQ(static_cast<int>(GilMode::kOwn), 2);
  for (const GilMode mode : {GilMode::kDefault, GilMode::kShared, GilMode::kOwn}) {
    EXPECT_EQ(ParseGilMode(GilModeName(mode)).value(), mode);
  }
  const auto unknown = ParseGilMode("borrowed");
  EXPECT_TRUE(IsError(unknown.status(), ErrorType::ValueError()));
  EXPECT_EQ(unknown.status().message(), "unsupported interpreter config .gil value 'borrowed'");
}

TEST(InterpreterConfigTest, IN16_DenialTexts) {
  const FeatureFlags none;
  EXPECT_EQ(CheckThreadsAllowed(none).message(), "thread is not supported for isolated subinterpreters");
  EXPECT_EQ(CheckDaemonThreadsAllowed(none).message(),
            "daemon threads are disabled in this (sub)interpreter");
  EXPECT_EQ(CheckForkAllowed(none).message(), "fork not supported for isolated subinterpreters");
  EXPECT_EQ(CheckExecAllowed(none).message(), "exec not supported for isolated subinterpreters");
  EXPECT_TRUE(IsError(CheckForkAllowed(none), ErrorType::RuntimeError()));
  const FeatureFlags all = InterpreterConfig::Main().Features();
  EXPECT_TRUE(CheckThreadsAllowed(all).ok() && CheckDaemonThreadsAllowed(all).ok() &&
              CheckForkAllowed(all).ok() && CheckExecAllowed(all).ok());
}

TEST(InterpreterConfigTest, IN18_AnyBitOfTheMaskCounts) {
  const FeatureFlags fork(FeatureFlags::kFork);
  EXPECT_TRUE(fork.Has(FeatureFlags::kFork | FeatureFlags::kExec));
  EXPECT_FALSE(fork.Has(FeatureFlags::kThreads | FeatureFlags::kExec));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
