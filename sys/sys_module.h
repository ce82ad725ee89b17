// SysModule: the sys module of one interpreter: its dictionary, and the state behind the functions in it.
//
// Changing the dictionary never changes the state (SY-5): `sys.modules = {}` replaces a name, not the table of modules.
//
//   Create          the constants, a preliminary stderr, the values of the config, the functions (sys_functions.h)
//   SetStreams      the standard streams and their dunder originals, once files can be opened
//   PrepareForEnd   finalization: what keeps others alive goes, the original streams are put back
//   Clear           the end: the dictionary first, the interpreter's audit hooks last
//
// The interpreter holds it in Table::kSysDict; without one, sys functions fail with "no sys module".
//
// Attached unless said otherwise; any thread.
//
// CPython counterpart: _PySys_Create, _PySys_InitCore, _PySys_UpdateConfig, interp->sysdict.

#ifndef PYRT_SYS_SYS_MODULE_H_
#define PYRT_SYS_SYS_MODULE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/sys/audit.h"
#include "pyrt/sys/intern_table.h"
#include "pyrt/sys/monitoring.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/stdio.h"
#include "pyrt/sys/sys_dict.h"

namespace pyrt::inline PYRT_VARIANT {

// What sys asks of the host. Every method has a default for a host without the feature. Called attached, no lock held.
class SysHost {
 public:
  virtual ~SysHost() = default;
  // The frame object `depth` levels above the current frame of the calling thread; null if the stack is not so deep.
  virtual Ref<Object> Frame(int64_t depth) {
    static_cast<void>(depth);
    return nullptr;
  }
  // The name of the module whose code runs in that frame; null if there is none.
  virtual Ref<Object> FrameModuleName(int64_t depth) {
    static_cast<void>(depth);
    return nullptr;
  }
  // The object that shows the host's frame `frame` of any thread; null leaves it out of
  // sys._current_frames(). Called with the world stopped: may take a reference to an object that exists and
  // nothing else, so neither make nor release one, run host code, wait, or detach.
  virtual Ref<Object> FrameObject(void* frame) {
    static_cast<void>(frame);
    return nullptr;
  }
  // "package.module.attribute" for sys.breakpointhook; an error or null if it cannot be imported.
  virtual absl::StatusOr<Ref<Object>> Import(std::string_view dotted_name) {
    static_cast<void>(dotted_name);
    return Ref<Object>();
  }
  // warnings.warn. Default: "<sys>:0: RuntimeWarning: message" on sys.stderr; nothing, except in development mode, for
  // the categories that CPython ignores by default. An error: the warning was made one.
  virtual absl::Status Warn(const ErrorType& category, const std::string& message);
  // A variable of the environment as it is now. Default: getenv(3); empty counts as unset.
  virtual std::optional<std::string> Environment(const char* name);
  virtual int64_t AllocatedBlocks() { return 0; }
};

class SysModule final : public Object {
 public:
  struct Options {
    RuntimeConfig config;
    NativeAuditHooks* native_hooks = nullptr;  // required; outlives the module
    SysHost* host = nullptr;                   // null: the defaults
    int stderr_fd = 2;
  };

  // Makes the module and gives it to `interp`. RuntimeError "can't initialize sys module" if it has one.
  static absl::StatusOr<Ref<SysModule>> Create(Interpreter& interp, Options options);

  // The module of the current thread's interpreter; null when detached, before Create and after the end.
  static SysModule* Current();
  static SysModule* Of(Interpreter& interp);

  Interpreter& interp() const { return interp_; }
  SysDict& dict() { return dict_; }
  Auditor& auditor() { return auditor_; }
  InternTable& interns() { return interns_; }
  Monitoring& monitoring() { return monitoring_; }
  const RuntimeConfig& config() const { return config_; }
  SysHost& host() const { return *host_; }

  void SetStreams(const StandardStreams& streams);
  // What the end of the interpreter does first with sys: names that keep frames and importers alive become None
  // (SY-26), then the original streams are put back (SY-15). Says so on stderr if the config is verbose.
  void PrepareForEnd();

  // sys.flags with one field changed: a new object takes the place of the old one (gh-151218). Nothing if
  // sys.flags is something else by now.
  void ReplaceFlag(std::string_view field, const Ref<Object>& value);

  // Whether a SystemExit that nobody catches is shown like other exceptions: the config's -i, until whoever
  // gives the prompt that it asks for says 0 (SY-29).
  int inspect() const { return inspect_.load(kRelaxed); }
  void set_inspect(int inspect) { inspect_.store(inspect, kRelaxed); }

  int64_t int_max_str_digits() const { return int_max_str_digits_.load(kRelaxed); }
  // ValueError below 640, but for 0.
  absl::Status SetIntMaxStrDigits(int64_t digits);
  int64_t dlopen_flags() const { return dlopen_flags_.load(kRelaxed); }
  void set_dlopen_flags(int64_t flags) { dlopen_flags_.store(flags, kRelaxed); }

  // Trace and profile functions of all threads, as of the last change; those of threads that have ended since
  // still count.
  Atomic<int32_t>& tracing_threads() { return tracing_threads_; }

  // Whether a failed flush of `stream` is to be reported: not if the last report was about it (SY-16).
  bool ClaimFlushReport(const Object* stream) { return flush_reported_.exchange(stream, kRelaxed) != stream; }

  void Clear();
  void ReinitAfterFork();

  const char* TypeName() const override { return "module"; }
  absl::StatusOr<std::string> Repr() const override { return std::string("<module 'sys' (built-in)>"); }
  // AttributeError "module 'sys' has no attribute 'x'".
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;
  absl::Status SetAttr(std::string_view name, Ref<Object> value) override;

 private:
  SysModule(Interpreter& interp, Options options);
  void SetConstants();
  void SetFromConfig(int stderr_fd);

  Interpreter& interp_;
  const RuntimeConfig config_;
  SysHost* const host_;
  SysDict dict_;
  Auditor auditor_;
  InternTable interns_;
  Monitoring monitoring_;
  Atomic<int> inspect_;
  Atomic<int64_t> int_max_str_digits_;
  Atomic<int64_t> dlopen_flags_;
  Atomic<int32_t> tracing_threads_{0};
  Atomic<const Object*> flush_reported_{nullptr};  // compared, never used
};

// What a stream asks of its thread, in terms of thread states.
const StreamHooks& ThreadStreamHooks();

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_SYS_MODULE_H_
