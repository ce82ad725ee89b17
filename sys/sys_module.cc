#include "pyrt/sys/sys_module.h"

#include <dlfcn.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"
#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/sys/error_display.h"
#include "pyrt/sys/stdio.h"
#include "pyrt/sys/struct_sequence.h"
#include "pyrt/sys/sys_functions.h"
#include "pyrt/sys/sys_values.h"
#include "pyrt/sys/text_stream.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

SysHost& DefaultHost() {
  static SysHost* const host = new SysHost;
  return *host;
}

Ref<Tuple> TupleOfStrings(const std::vector<std::string>& strings) {
  TupleBuilder items(strings.size());
  for (const std::string& string : strings) items.Append(String::Of(string));
  return items.Finish();
}

// In CPython's order (sys_deletes of finalize_modules_delete_special).
constexpr SysName kClearedFirst[] = {"path",       "argv",
                                     "ps1",        "ps2",
                                     "last_exc",   "last_type",
                                     "last_value", "last_traceback",
                                     "path_hooks", "path_importer_cache",
                                     "meta_path",  "__interactivehook__"};

constexpr struct {
  SysName name;
  SysName original;
} kStreams[] = {{"stdin", "__stdin__"}, {"stdout", "__stdout__"}, {"stderr", "__stderr__"}};

}  // namespace

SysModule::SysModule(Interpreter& interp, Options options)
    : interp_(interp),
      config_(std::move(options.config)),
      host_(options.host != nullptr ? options.host : &DefaultHost()),
      auditor_(*options.native_hooks),
      monitoring_(interp),
      inspect_(config_.inspect),
      int_max_str_digits_(config_.int_max_str_digits),
      dlopen_flags_(RTLD_NOW) {}

absl::StatusOr<Ref<SysModule>> SysModule::Create(Interpreter& interp, Options options) {
  PYRT_CHECK(options.native_hooks != nullptr, "SysModule::Create", "Options::native_hooks is null");
  if (interp.table(Interpreter::Table::kSysDict)) {
    return Raise(ErrorType::RuntimeError(), "can't initialize sys module: interpreter %lld has one",
                 static_cast<long long>(interp.id()));
  }
  const int stderr_fd = options.stderr_fd;
  Ref<SysModule> module = Ref<SysModule>::Adopt(new SysModule(interp, std::move(options)));
  module->SetConstants();
  module->SetFromConfig(stderr_fd);
  AddSysFunctions(module->dict_);
  interp.set_table(Interpreter::Table::kSysDict, module);
  return module;
}

SysModule* SysModule::Of(Interpreter& interp) {
  // The table's other users do not put anything but a SysModule there.
  return static_cast<SysModule*>(interp.table(Interpreter::Table::kSysDict).get());
}

SysModule* SysModule::Current() {
  Interpreter* const interp = Interpreter::Current();
  return interp == nullptr ? nullptr : Of(*interp);
}

void SysModule::SetConstants() {
  dict_.Set("__name__", String::Of("sys"));
  dict_.Set("__doc__", None());
  dict_.Set("version", ImmortalText(VersionText(config_)));
  dict_.Set("version_info", MakeVersionInfo(config_.language));
  dict_.Set("hexversion", Int::Of(config_.language.Hex()));
  dict_.Set("api_version", MakeApiVersion());
  dict_.Set("_git", Tuple::Of({String::Of("pyrt"), String::Of(""), String::Of("")}));
  dict_.Set("_framework", String::Of(""));
  dict_.Set("abiflags", ImmortalText(AbiFlags()));
  dict_.Set("implementation", MakeImplementation(config_));
  dict_.Set("abi_info", MakeAbiInfo());
  dict_.Set("platform", ImmortalText(config_.platform));
  dict_.Set("copyright", ImmortalText(config_.copyright));
  dict_.Set("byteorder", ImmortalText(std::endian::native == std::endian::little ? "little" : "big"));
  dict_.Set("maxsize", MakeMaxSize());
  dict_.Set("maxunicode", MakeMaxUnicode());
  dict_.Set("float_repr_style", ImmortalText("short"));
  dict_.Set("int_info", MakeIntInfo());
  dict_.Set("float_info", MakeFloatInfo());
  dict_.Set("hash_info", MakeHashInfo());
  dict_.Set("thread_info", MakeThreadInfo());
  dict_.Set("builtin_module_names", TupleOfStrings(config_.builtin_module_names));
  dict_.Set("stdlib_module_names", TupleOfStrings(config_.stdlib_module_names));
}

void SysModule::SetFromConfig(int stderr_fd) {
  // Before anything that could fail: errors must show.
  Ref<Object> preliminary = OpenPreliminaryStderr(&ThreadStreamHooks(), stderr_fd);
  dict_.Set("stderr", preliminary);
  dict_.Set("__stderr__", preliminary);

  dict_.Set("flags", MakeFlags(config_));
  dict_.Set("argv", List::OfStrings(config_.argv));
  dict_.Set("orig_argv", List::OfStrings(config_.orig_argv));
  dict_.Set("path", List::OfStrings(config_.module_search_paths));
  dict_.Set("warnoptions", List::OfStrings(config_.warn_options));
  Ref<Dict> x_options = Dict::New();
  for (const auto& [name, value] : config_.x_options) {
    x_options->Set(name, value.has_value() ? Ref<Object>(String::Of(*value)) : True());
  }
  dict_.Set("_xoptions", x_options);
  dict_.Set("executable", String::Of(config_.executable));
  dict_.Set("_base_executable", String::Of(config_.executable));
  dict_.Set("prefix", String::Of(config_.prefix));
  dict_.Set("base_prefix", String::Of(config_.base_prefix));
  dict_.Set("exec_prefix", String::Of(config_.exec_prefix));
  dict_.Set("base_exec_prefix", String::Of(config_.base_exec_prefix));
  dict_.Set("platlibdir", String::Of(config_.platlibdir));
  dict_.Set("pycache_prefix",
            config_.pycache_prefix.has_value() ? Ref<Object>(String::Of(*config_.pycache_prefix)) : None());
  dict_.Set("dont_write_bytecode", BoolOf(!config_.write_bytecode));
  dict_.Set("meta_path", List::Of());
  dict_.Set("path_hooks", List::Of());
  dict_.Set("path_importer_cache", Dict::New());
  Ref<Object> modules = interp_.table(Interpreter::Table::kModules);
  dict_.Set("modules", modules ? modules : Ref<Object>(Dict::New()));
}

void SysModule::SetStreams(const StandardStreams& streams) {
  const Ref<Object>* values[] = {&streams.standard_input, &streams.standard_output, &streams.standard_error};
  for (size_t i = 0; i < std::size(values); ++i) {
    dict_.Set(kStreams[i].original, *values[i]);
    dict_.Set(kStreams[i].name, *values[i]);
  }
}

void SysModule::PrepareForEnd() {
  const auto say = [this](const char* what, std::string_view name) {
    if (config_.verbose > 0) WriteStderr(*this, std::string(what) + std::string(name) + "\n");
  };
  // Set to None and not deleted, for code that runs later and expects the names.
  for (const SysName name : kClearedFirst) {
    say("# clear sys.", name.text());
    dict_.Set(name, None());
  }
  for (const auto& stream : kStreams) {
    say("# restore sys.", stream.name.text());
    Ref<Object> original = dict_.Find(stream.original);
    dict_.Set(stream.name, original ? original : None());
  }
}

absl::Status SysHost::Warn(const ErrorType& category, const std::string& message) {
  SysModule* const sys = SysModule::Current();
  if (sys == nullptr) return absl::OkStatus();
  if (!sys->config().dev_mode) {
    // CPython's filters without any option.
    for (const ErrorType* ignored :
         {&ErrorType::DeprecationWarning(), &ErrorType::ImportWarning(), &ErrorType::ResourceWarning()}) {
      if (category.IsSubtypeOf(*ignored)) return absl::OkStatus();
    }
  }
  FormatStderr(*sys, "<sys>:0: " + category.QualifiedName() + ": " + message + "\n");
  return absl::OkStatus();
}

std::optional<std::string> SysHost::Environment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): as CPython's start reads it
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

void SysModule::ReplaceFlag(std::string_view field, const Ref<Object>& value) {
  Ref<Object> flags = dict_.Find("flags");
  // The program may have put anything there (SY-5), another sequence too.
  const auto* const sequence = As<StructSequence>(flags);
  if (sequence != nullptr && sequence->type().name() == "sys.flags") {
    dict_.Set("flags", sequence->With(field, value));
  }
}

absl::Status SysModule::SetIntMaxStrDigits(int64_t digits) {
  if (digits != 0 && digits < 640) {
    return Raise(ErrorType::ValueError(), "maxdigits must be >= 640 or 0 for unlimited");
  }
  int_max_str_digits_.store(digits, kRelaxed);
  // Two setters must not leave the limit and the flag different, and no lock may be held here: replacing
  // allocates, and destructors run. Whoever replaced the flag last looks at the limit after all others have
  // stored theirs: the lock of the dictionary orders one replacement, and what was stored before it, before
  // the next. So it ends with both the same.
  int64_t shown = 0;
  do {
    shown = int_max_str_digits_.load(kRelaxed);
    ReplaceFlag("int_max_str_digits", Int::Of(shown));
  } while (shown != int_max_str_digits_.load(kRelaxed));
  return absl::OkStatus();
}

void SysModule::Clear() {
  monitoring_.Clear();
  dict_.Clear();
  auditor_.Clear();
}

void SysModule::ReinitAfterFork() {
  for (const auto& stream : kStreams) {
    for (const SysName& name : {stream.name, stream.original}) {
      Ref<Object> value = dict_.Find(name);
      if (auto* text = As<TextStream>(value)) text->ReinitAfterFork();
    }
  }
  dict_.ReinitAfterFork();
  auditor_.ReinitAfterFork();
  interns_.ReinitAfterFork();
  monitoring_.ReinitAfterFork();
}

absl::StatusOr<Ref<Object>> SysModule::GetAttr(std::string_view name) {
  Ref<Object> value = dict_.Find(name);
  if (value) return value;
  return Raise(ErrorType::AttributeError(), "module 'sys' has no attribute '%s'", std::string(name).c_str());
}

absl::Status SysModule::SetAttr(std::string_view name, Ref<Object> value) {
  if (value) {
    dict_.Set(name, std::move(value));
  } else if (!dict_.Delete(name)) {
    return Object::SetAttr(name, nullptr);  // CPython's text for this is that of any object
  }
  return absl::OkStatus();
}

namespace {

PYRT_THREAD_LOCAL(ThreadState*, stream_thread) = nullptr;
// Whose end would keep this thread from attaching again; null if it is the one that ends it. A registry outlives
// its threads, where the state of a detached one may be freed.
PYRT_THREAD_LOCAL(const InterpreterRegistry*, stream_registry) = nullptr;

bool IsFinalizingForStream() {
  const ThreadState* const thread = ThreadState::Current();
  return thread != nullptr && thread->interp() != nullptr && thread->interp()->registry().IsFinalizing();
}

bool DetachForStream() {
  ThreadState* const thread = ThreadState::Current();
  if (thread == nullptr) return false;
  stream_thread = thread;
  stream_registry =
      thread->interp() == nullptr || IsFinalizingForStream() ? nullptr : &thread->interp()->registry();
  thread->Detach();
  return true;
}

void AttachForStream() { stream_thread->Attach(); }

absl::Status CheckSignalsForStream() {
  ThreadState* const thread = ThreadState::Current();
  if (thread == nullptr || thread->interp() == nullptr || Interpreter::CheckSignals(*thread) == 0) {
    return absl::OkStatus();
  }
  return ToStatus(std::exchange(thread->data().current_exception, nullptr));
}

bool RunsHandlersForStream() {
  const ThreadState* const thread = ThreadState::Current();
  return thread != nullptr && thread->interp() != nullptr &&
         thread->interp()->registry().IsMainThreadOfMainInterpreter(*thread);
}

bool MayAttachForStream() { return stream_registry == nullptr || !stream_registry->IsFinalizing(); }

}  // namespace

const StreamHooks& ThreadStreamHooks() {
  static constexpr StreamHooks kHooks{&DetachForStream,       &AttachForStream,       &CheckSignalsForStream,
                                      &IsFinalizingForStream, &RunsHandlersForStream, &MayAttachForStream};
  return kHooks;
}

}  // namespace pyrt::inline PYRT_VARIANT
