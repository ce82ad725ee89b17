#include "pyrt/interp/interpreter_config.h"

#include <string>

#include "pyrt/runtime/object/error.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

absl::Status Denied(bool allowed, const char* text) {
  return allowed ? absl::OkStatus() : Raise(ErrorType::RuntimeError(), "%s", text);
}

}  // namespace

absl::Status InterpreterConfig::Validate(bool is_main) const {
  // In CPython's order, so that a configuration with two faults gets the same text.
  if (!use_main_obmalloc && !check_multi_interp_extensions) {
    return absl::InvalidArgumentError(
        "per-interpreter obmalloc does not support single-phase init extension modules");
  }
  if (!kGilEnabled && !is_main && !check_multi_interp_extensions) {
    return absl::InvalidArgumentError(
        "The free-threaded build does not support single-phase init extension modules in subinterpreters");
  }
  switch (gil) {
    case GilMode::kDefault:
    case GilMode::kShared:
    case GilMode::kOwn:
      return absl::OkStatus();
  }
  return absl::InvalidArgumentError("invalid interpreter config 'gil' value");
}

FeatureFlags InterpreterConfig::Features() const {
  uint64_t bits = 0;
  if (use_main_obmalloc) bits |= FeatureFlags::kUseMainObmalloc;
  if (check_multi_interp_extensions) bits |= FeatureFlags::kMultiInterpExtensions;
  if (allow_threads) bits |= FeatureFlags::kThreads;
  if (allow_daemon_threads) bits |= FeatureFlags::kDaemonThreads;
  if (allow_fork) bits |= FeatureFlags::kFork;
  if (allow_exec) bits |= FeatureFlags::kExec;
  return FeatureFlags(bits);
}

std::string_view GilModeName(InterpreterConfig::GilMode mode) {
  switch (mode) {
    case InterpreterConfig::GilMode::kDefault:
      return "default";
    case InterpreterConfig::GilMode::kShared:
      return "shared";
    case InterpreterConfig::GilMode::kOwn:
      return "own";
  }
  return "invalid";
}

absl::StatusOr<InterpreterConfig::GilMode> ParseGilMode(std::string_view text) {
  for (const auto mode : {InterpreterConfig::GilMode::kDefault, InterpreterConfig::GilMode::kShared,
                          InterpreterConfig::GilMode::kOwn}) {
    if (text == GilModeName(mode)) return mode;
  }
  return Raise(ErrorType::ValueError(), "unsupported interpreter config .gil value '%s'",
               std::string(text).c_str());
}

absl::Status CheckThreadsAllowed(FeatureFlags features) {
  return Denied(features.Has(FeatureFlags::kThreads), "thread is not supported for isolated subinterpreters");
}

absl::Status CheckDaemonThreadsAllowed(FeatureFlags features) {
  return Denied(features.Has(FeatureFlags::kDaemonThreads),
                "daemon threads are disabled in this (sub)interpreter");
}

absl::Status CheckForkAllowed(FeatureFlags features) {
  return Denied(features.Has(FeatureFlags::kFork), "fork not supported for isolated subinterpreters");
}

absl::Status CheckExecAllowed(FeatureFlags features) {
  return Denied(features.Has(FeatureFlags::kExec), "exec not supported for isolated subinterpreters");
}

}  // namespace pyrt::inline PYRT_VARIANT
