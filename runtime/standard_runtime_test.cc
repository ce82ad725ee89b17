#include "pyrt/runtime/standard_runtime.h"

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/runtime_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::string MessageOf(const absl::Status& status) {
  const Ref<Error> error = ErrorFromStatus(status);
  return error ? error->type().name() + ": " + error->Message() : "OK";
}
template <typename T>
std::string MessageOf(const absl::StatusOr<T>& result) {
  return MessageOf(result.status());
}
int64_t IntOf(const absl::StatusOr<Ref<Object>>& module, const char* name) {
  if (!module.ok()) return -1;
  const absl::StatusOr<Ref<Object>> value = (*module)->GetAttr(name);
  return value.ok() && As<Int>(*value) != nullptr ? As<Int>(*value)->value() : -2;
}

class RecordingSysHost final : public SysHost {
 public:
  absl::Status Warn(const ErrorType& category, const std::string& message) override {
    warnings.push_back(category.name() + ": " + message);
    return absl::OkStatus();
  }
  std::vector<std::string> warnings;
};

// --- Built-in modules

int64_t interpreter_of_init;

template <MultipleInterpreters kSupport, GilUse kGil>
void InitMulti(ModuleInit& init) {
  static constexpr ModuleSlot kSlots[] = {ModuleSlot::Interpreters(kSupport), ModuleSlot::Gil(kGil)};
  static constexpr ModuleDef kDef = {"m", 0, nullptr, absl::Span<const ModuleSlot>(kSlots)};
  init.Return(kDef);
}
void InitSingle(ModuleInit& init) {
  interpreter_of_init = Interpreter::Get().id();
  init.Return(Ref<Object>(Module::New(init.name(), init.spec())), GilUse::kNotUsed);
}

class StandardRuntimeTest : public testing::Test {
 public:
  StandardRuntimeTest() {
    constexpr auto kAnywhere = MultipleInterpreters::kPerInterpreterGilSupported;
    for (const char* const name : {"needs_gil", "needs_gil_too"}) {
      EXPECT_TRUE(inittab.Append(name, &InitMulti<kAnywhere, GilUse::kUsed>).ok());
    }
    EXPECT_TRUE(inittab.Append("fine", &InitMulti<kAnywhere, GilUse::kNotUsed>).ok());
    EXPECT_TRUE(
        inittab.Append("shared_only", &InitMulti<MultipleInterpreters::kSupported, GilUse::kNotUsed>).ok());
    EXPECT_TRUE(inittab.Append("single", &InitSingle).ok());
    EXPECT_TRUE(inittab.Append("single_first_in_sub", &InitSingle).ok());
    EXPECT_TRUE(inittab.Append("known", nullptr).ok());
    options.sys.config = RuntimeConfig::Isolated();
    options.sys.config.install_signal_handlers = false;
    options.sys.host = &host;
    options.sys.open_streams = false;
    options.imports.inittab = &inittab;
  }
  ~StandardRuntimeTest() override { Runtime::Finalize(); }

  Importer& Start() {
    const RuntimeConfig config = options.sys.config;
    AddStandardSubsystems(options);
    EXPECT_TRUE(Runtime::Initialize(RuntimeOptionsOf(config)).ok());
    return Current();
  }
  static Importer& Current() { return *ImporterOf(Interpreter::Get()); }
  static std::string SysShows(const char* name) {
    const Ref<Object> value = SysModule::Current()->dict().Find(name);
    return value ? value->Repr().value_or("failed") : "absent";
  }
  static bool IsGilEnabled() { return Interpreter::Get().gil().enabled(); }
  // `body` attached to a new interpreter, which then ends.
  template <typename Body>
  static void InSubinterpreter(const InterpreterConfig& config, Body body) {
    ThreadState* const caller = ThreadState::Current();
    const auto sub = Runtime::NewInterpreter(config);
    ASSERT_TRUE(sub.ok()) << sub.status();
    body(Current());
    Runtime::EndInterpreter(**sub);
    caller->Attach();
  }

  RecordingSysHost host;
  Inittab inittab;
  StandardRuntimeOptions options;
};

TEST_F(StandardRuntimeTest, SysAndTheImporterShareWhatTheyShow) {
  options.sys.config.module_search_paths = {"/nowhere"};
  Importer& importer = Start();
  ASSERT_TRUE(importer.Import("fine").ok());
  EXPECT_THAT(SysShows("modules"), StartsWith("{'sys': <module 'sys' (built-in)>, 'fine': <module 'fine'"));
  EXPECT_EQ(importer.Import("sys").value().get(), SysModule::Current()) << "IL-59";
  EXPECT_EQ(SysShows("path"), "['/nowhere']");
  EXPECT_EQ(SysShows("builtin_module_names"),
            "('fine', 'known', 'needs_gil', 'needs_gil_too', 'shared_only', 'single', "
            "'single_first_in_sub')");
  EXPECT_EQ(MessageOf(importer.Import("known")), "ModuleNotFoundError: No module named 'known'");

  SysDict& sys = SysModule::Current()->dict();
  sys.Set("modules", None());
  EXPECT_TRUE(importer.Import("fine").ok()) << "SY-5: the name, not the table";
  sys.Set("meta_path", List::Of());
  EXPECT_EQ(MessageOf(importer.Import("single")), "ModuleNotFoundError: No module named 'single'");
  EXPECT_THAT(host.warnings, ElementsAre("ImportWarning: sys.meta_path is empty"));
  sys.Set("meta_path", None());
  EXPECT_EQ(MessageOf(importer.Import("single")),
            "ImportError: sys.meta_path is None, Python is likely shutting down");
  sys.Set("meta_path", Int::Of(3));
  EXPECT_EQ(MessageOf(importer.Import("single")), "TypeError: 'int' object is not iterable");
}

// The subsystems end in the order in which CPython ends them: sys first lets go of what keeps objects alive.
TEST_F(StandardRuntimeTest, IL77_SysLetsGoBeforeTheModulesEnd) {
  struct Mourner final : Object {
    explicit Mourner(std::string* the_seen) : seen(the_seen) {}
    ~Mourner() override { *seen = SysShows("last_exc"); }
    const char* TypeName() const override { return "Mourner"; }
    std::string* const seen;
  };
  std::string seen;
  const absl::StatusOr<Ref<Object>> module = Start().Import("fine");
  ASSERT_TRUE(module.ok());
  ASSERT_TRUE((*module)->SetAttr("mourner", MakeRef<Mourner>(&seen)).ok());
  SysModule::Current()->dict().Set("last_exc", Error::New(ErrorType::ValueError(), "old"));
  EXPECT_EQ(SysShows("last_exc"), "ValueError('old')");
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_EQ(seen, "None");
}

TEST_F(StandardRuntimeTest, B118_TheEventImportReachesNativeAndInterpretersHooks) {
  static std::vector<std::string> events;
  events.clear();
  static bool refuses = false;
  ASSERT_TRUE(AddAuditHook(
                  [](std::string_view event, const Ref<Tuple>& arguments, void*) {
                    if (event != "import") return absl::OkStatus();
                    events.push_back(arguments->Repr().value_or("failed"));
                    return refuses ? Raise(ErrorType::RuntimeError(), "no") : absl::OkStatus();
                  },
                  nullptr)
                  .value_or(false));
  Importer& importer = Start();
  ASSERT_TRUE(importer.Import("fine").ok());
  ASSERT_TRUE(importer.Import("fine").ok());
  const std::string meta_path = SysShows("meta_path");
  EXPECT_THAT(events, ElementsAre("('fine', None, [], " + meta_path + ", [])"));
  SysModule::Current()->dict().Set("path_hooks", None());
  refuses = true;
  EXPECT_EQ(MessageOf(importer.Import("single")), "RuntimeError: no");
  EXPECT_EQ(events.back(), "('single', None, [], " + meta_path + ", None)");
  refuses = false;
}

TEST_F(StandardRuntimeTest, IL51_ImportTimeAsConfigured) {
  std::vector<std::string> lines;
  options.imports.import_time_sink = [&](const std::string& line) { lines.push_back(line); };
  options.sys.config.import_time = 2;
  Importer& importer = Start();
  ASSERT_TRUE(importer.ImportModuleLevel("fine", nullptr, {}, 0).ok());
  ASSERT_TRUE(importer.ImportModuleLevel("fine", nullptr, {}, 0).ok());
  EXPECT_THAT(lines, ElementsAre("import time: self [us] | cumulative | imported package",
                                 testing::ContainsRegex("^import time: +[0-9]+ \\| +[0-9]+ \\| fine$"),
                                 "import time: cached    | cached     | fine"));
}

TEST_F(StandardRuntimeTest, PEP810_LazyImportsAsConfigured) {
  for (const bool all : {false, true}) {
    options.sys.config.lazy_imports = all ? 1 : -1;
    Start();
    EXPECT_EQ(LazyImportsOf(Interpreter::Get())->mode(),
              all ? LazyImportsMode::kAll : LazyImportsMode::kNormal);
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
}

// --- The GIL of a GIL-disabled build

TEST_F(StandardRuntimeTest, GI36_AModuleThatNeedsTheGilSwitchesItOnForGoodAndWarnsOnce) {
  Importer& importer = Start();
  EXPECT_EQ(IsGilEnabled(), kGilEnabled);
  ASSERT_TRUE(importer.Import("fine").ok());
  EXPECT_EQ(IsGilEnabled(), kGilEnabled) << "on only while it was loaded";
  EXPECT_THAT(host.warnings, IsEmpty());
  ASSERT_TRUE(importer.Import("needs_gil").ok());
  ASSERT_TRUE(importer.Import("needs_gil_too").ok());
  ASSERT_TRUE(importer.Import("fine").ok());
  EXPECT_TRUE(IsGilEnabled());
  EXPECT_TRUE(ThreadState::Get("test").gil_holder().holds());
  if constexpr (kGilEnabled) {
    EXPECT_THAT(host.warnings, IsEmpty());
  } else {
    EXPECT_THAT(host.warnings, ElementsAre(HasSubstr("GIL) has been enabled to load module 'needs_gil', ")))
        << "GI-31";
  }
}

TEST_F(StandardRuntimeTest, GI36_AConfiguredGilIsLeftAlone) {
  for (const GilMode mode : {GilMode::kDisable, GilMode::kEnable}) {
    if (kGilEnabled && mode == GilMode::kDisable) continue;  // refused by the configuration
    options.sys.config.gil = mode;
    Importer& importer = Start();
    ASSERT_TRUE(importer.Import("needs_gil").ok());
    EXPECT_EQ(IsGilEnabled(), mode == GilMode::kEnable);
    EXPECT_THAT(host.warnings, IsEmpty());
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
}

// --- Subinterpreters

TEST_F(StandardRuntimeTest, B116_WhatAnInterpreterWithItsOwnGilLoads) {
  Start();
  InSubinterpreter(InterpreterConfig::Isolated(), [&](Importer& importer) {
    EXPECT_EQ(MessageOf(importer.Import("fine")), "OK");
    for (const char* const refused : {"shared_only", "single"}) {
      EXPECT_EQ(MessageOf(importer.Import(refused)), std::string("ImportError: module ") + refused +
                                                         " does not support loading in subinterpreters");
    }
    const auto override = NativeModulesOf(Interpreter::Get())->OverrideMultiInterpExtensionsCheck(-1);
    if constexpr (kGilEnabled) {
      EXPECT_EQ(override.value(), 0);
      EXPECT_EQ(MessageOf(importer.Import("shared_only")), "OK");
      EXPECT_EQ(MessageOf(importer.Import("single")), "OK");
    } else {
      EXPECT_THAT(MessageOf(override), HasSubstr("cannot be used in the free-threaded build"));
    }
  });
  EXPECT_THAT(MessageOf(NativeModulesOf(Interpreter::Get())->OverrideMultiInterpExtensionsCheck(-1)),
              HasSubstr("cannot be used in the main interpreter"));
}

TEST_F(StandardRuntimeTest, B117_SinglePhaseInitRunsAttachedToTheMainInterpreter) {
  Start();
  interpreter_of_init = -1;
  InSubinterpreter(InterpreterConfig::Legacy(), [&](Importer& importer) {
    EXPECT_EQ(MessageOf(importer.Import("single_first_in_sub")),
              kGilEnabled
                  ? "OK"
                  : "ImportError: module single_first_in_sub does not support loading in subinterpreters");
    EXPECT_NE(Interpreter::Get().id(), 0) << "and comes back";
  });
  EXPECT_EQ(interpreter_of_init, 0);
}

TEST_F(StandardRuntimeTest, B113_TheInittabMayGrowBetweenTwoLives) {
  Start();
  EXPECT_TRUE(inittab.frozen());
  EXPECT_EQ(Runtime::Finalize(), 0);
  ASSERT_TRUE(inittab.Append("later", &InitMulti<MultipleInterpreters::kSupported, GilUse::kNotUsed>).ok());
  EXPECT_EQ(MessageOf(Start().Import("later")), "OK");
}

TEST_F(StandardRuntimeTest, IL59_SysComesBackAsTheSameModule) {
  ASSERT_TRUE(inittab.Append("sys", nullptr).ok());
  Importer& importer = Start();
  ASSERT_TRUE(importer.modules().Remove("sys"));
  const auto sys = importer.Import("sys");
  ASSERT_EQ(MessageOf(sys), "OK");
  EXPECT_EQ(sys->get(), SysModule::Current());
}

// --- Shared objects

class NativeModuleFilesTest : public StandardRuntimeTest {
 public:
  NativeModuleFilesTest() {
    const char* const root = std::getenv("TEST_SRCDIR");
    const char* const workspace = std::getenv("TEST_WORKSPACE");
    options.sys.config.module_search_paths = {std::string(root == nullptr ? "" : root) + "/" +
                                              (workspace == nullptr ? "" : workspace) + "/runtime"};
    options.imports.path_finder = true;
  }
};

TEST_F(NativeModuleFilesTest, MultiPhaseInEveryInterpreterWithStateOfItsOwn) {
  Importer& importer = Start();
  const auto spam = importer.Import("native_spam");
  ASSERT_EQ(MessageOf(spam), "OK");
  EXPECT_EQ(IntOf(spam, "executions"), 1);
  EXPECT_THAT((*spam)->Repr().value(), testing::EndsWith("/native_spam.so'>"));
  const int64_t cleared = IntOf(spam, "states_cleared");
  InSubinterpreter(InterpreterConfig::Isolated(), [&](Importer& other) {
    const auto second = other.Import("native_spam");
    ASSERT_EQ(MessageOf(second), "OK");
    EXPECT_NE(second->get(), spam->get());
    EXPECT_EQ(IntOf(second, "executions"), 1) << "its own state, zeroed";
  });
  InSubinterpreter(InterpreterConfig::Isolated(), [&](Importer& other) {
    EXPECT_EQ(IntOf(other.Import("native_spam"), "states_cleared"), cleared + 1) << "with its interpreter";
  });
  ASSERT_TRUE(importer.Reload(*spam).ok());
  EXPECT_EQ(IntOf(spam, "executions"), 1) << "a reload does nothing";
}

TEST_F(NativeModuleFilesTest, PEP793_SlotsAlone) {
  Importer& importer = Start();
  const auto slots = importer.Import("native_slots");
  ASSERT_EQ(MessageOf(slots), "OK");
  EXPECT_EQ(IntOf(slots, "value"), 7);
  EXPECT_EQ(AsModule(*slots)->name(), "native_slots");
  EXPECT_TRUE(IsGilEnabled()) << "it has not said that it can do without";
  InSubinterpreter(InterpreterConfig::Isolated(), [&](Importer& other) {
    EXPECT_EQ(MessageOf(other.Import("native_slots")),
              "ImportError: module native_slots does not support loading in subinterpreters");
  });
}

TEST_F(NativeModuleFilesTest, SinglePhaseOnceAndNotWhereItIsChecked) {
  InterpreterConfig checking = InterpreterConfig::Legacy();
  checking.check_multi_interp_extensions = true;
  for (int life = 0; life < 2; ++life) {
    Importer& importer = Start();
    InSubinterpreter(checking, [&](Importer& other) {
      EXPECT_EQ(MessageOf(other.Import("native_single")),
                "ImportError: module native_single does not support loading in subinterpreters");
    });
    EXPECT_EQ(IntOf(importer.Import("native_single"), "runs"), 1) << "LC-4: in the process";
    if constexpr (kGilEnabled) {
      InSubinterpreter(InterpreterConfig::Legacy(),
                       [&](Importer& other) { EXPECT_EQ(IntOf(other.Import("native_single"), "runs"), 1); });
    }
    EXPECT_EQ(Runtime::Finalize(), 0);
  }
}

TEST_F(NativeModuleFilesTest, SharedObjectsThatCannotBeLoaded) {
  Importer& importer = Start();
  EXPECT_EQ(MessageOf(importer.Import("native_failing")), "ValueError: native_failing will not");
  EXPECT_EQ(MessageOf(importer.Import("native_bare")),
            "ImportError: dynamic module does not define module export function (PyrtModuleExport or "
            "PyrtModuleInit)");
  EXPECT_EQ(MessageOf(importer.Import("native_alien")),
            kGilEnabled ? "ImportError: native_alien: only compatible with free-threaded CPython"
                        : "ImportError: native_alien: incompatible with free-threaded CPython");
  for (const char* const name : {"native_failing", "native_bare", "native_alien"}) {
    EXPECT_EQ(importer.modules().Get(name), nullptr) << name;
  }
  EXPECT_EQ(IsGilEnabled(), kGilEnabled) << "what failed leaves the GIL as it was";
}

// --- The end

TEST_F(StandardRuntimeTest, IL77_FindersAreGoneBeforeModules) {
  Importer& importer = Start();
  static std::vector<std::string> seen;
  seen.clear();
  class LastWords final : public Object {
   public:
    explicit LastWords(Importer& importer) : importer_(importer) {}
    ~LastWords() override {
      seen.push_back(SysShows("meta_path") + SysShows("path_hooks") + SysShows("path_importer_cache"));
      seen.push_back(MessageOf(importer_.Import("fine")));
      seen.push_back(MessageOf(importer_.Import("new")));
    }
    const char* TypeName() const override { return "LastWords"; }

   private:
    Importer& importer_;
  };
  ASSERT_TRUE(importer.Import("fine").ok());
  Dict& cache = *As<Dict>(SysModule::Current()->dict().Find("path_importer_cache"));
  cache.Set("/somewhere", None());
  Ref<Object> module = importer.AddModule("last");
  ASSERT_TRUE(module->SetAttr("words", MakeRef<LastWords>(importer)).ok());
  module.reset();
  EXPECT_EQ(Runtime::Finalize(), 0);
  EXPECT_THAT(seen,
              ElementsAre("NoneNoneNone", "ModuleNotFoundError: import of fine halted; None in sys.modules",
                          "ImportError: sys.meta_path is None, Python is likely shutting down"));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
