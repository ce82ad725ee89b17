#include "pyrt/importlock/native_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/importlock/inittab.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int init_runs;

struct SpamState {
  int64_t counter;
};
int states_cleared;

absl::Status FillSpam(const Ref<Object>& module) {
  auto* const state = static_cast<SpamState*>(AsModule(module)->state());
  EXPECT_NE(state, nullptr);
  return module->SetAttr("counter", Int::Of(++state->counter));
}

template <MultipleInterpreters kSupport, GilUse kGil>
void InitSpam(ModuleInit& init) {
  static constexpr ModuleSlot kSlots[] = {ModuleSlot::Exec(&FillSpam), ModuleSlot::Interpreters(kSupport),
                                          ModuleSlot::Gil(kGil)};
  static constexpr ModuleDef kSpam = {"spam", sizeof(SpamState), [](void*) { ++states_cleared; },
                                      absl::Span<const ModuleSlot>(kSlots)};
  ++init_runs;
  init.Return(kSpam);
}

void InitSinglePhase(ModuleInit& init) {
  ++init_runs;
  const Ref<Module> module = Module::New(init.name(), init.spec());
  module->dict()->Set("answer", Int::Of(42));
  init.Return(Ref<Object>(module));
}

void InitFails(ModuleInit& init) { init.Fail(Raise(ErrorType::ValueError(), "no")); }
void InitSilent(ModuleInit&) {}
void InitBoth(ModuleInit& init) {
  init.Return(Ref<Object>(Module::New("m")));
  init.Fail(Raise(ErrorType::ValueError(), "no"));
}
void InitUninitialized(ModuleInit& init) {
  static constexpr ModuleDef kEmpty;
  init.Return(kEmpty);
}
absl::StatusOr<Ref<Object>> CreateNothing(const Ref<ModuleSpec>&) { return Ref<Object>(); }
void InitTwoCreates(ModuleInit& init) {
  static constexpr ModuleSlot kSlots[] = {ModuleSlot::Create(&CreateNothing),
                                          ModuleSlot::Create(&CreateNothing)};
  static constexpr ModuleDef kDef = {"twice", 0, nullptr, absl::Span<const ModuleSlot>(kSlots)};
  init.Return(kDef);
}
void InitCreateNothing(ModuleInit& init) {
  static constexpr ModuleSlot kSlots[] = {ModuleSlot::Create(&CreateNothing)};
  static constexpr ModuleDef kDef = {"nothing", 0, nullptr, absl::Span<const ModuleSlot>(kSlots)};
  init.Return(kDef);
}

absl::StatusOr<Ref<Object>> CreateModule(const Ref<ModuleSpec>& spec) {
  return Ref<Object>(Module::New(spec->name(), spec));
}
absl::StatusOr<Ref<Object>> CreateString(const Ref<ModuleSpec>&) {
  return Ref<Object>(String::Of("no module"));
}
template <ModuleSlot::CreateFunction kCreate, size_t kStateSize, bool kExecutes>
void InitCreating(ModuleInit& init) {
  static constexpr ModuleSlot kSlots[] = {
      ModuleSlot::Create(kCreate),
      kExecutes ? ModuleSlot::Exec(&FillSpam) : ModuleSlot::Gil(GilUse::kNotUsed)};
  static constexpr ModuleDef kDef = {"creating", kStateSize, nullptr, absl::Span<const ModuleSlot>(kSlots)};
  init.Return(kDef);
}

constexpr auto* kInitPlain = &InitSpam<MultipleInterpreters::kSupported, GilUse::kNotUsed>;
constexpr auto* kInitNeedsGil = &InitSpam<MultipleInterpreters::kSupported, GilUse::kUsed>;
constexpr auto* kInitOwnGil = &InitSpam<MultipleInterpreters::kPerInterpreterGilSupported, GilUse::kNotUsed>;
constexpr auto* kInitMainOnly = &InitSpam<MultipleInterpreters::kNotSupported, GilUse::kNotUsed>;

class NativeModulesTest : public ::testing::Test {
 protected:
  NativeModulesTest() {
    init_runs = states_cleared = 0;
    host.gil_may_be_enabled = true;
  }

  std::string ImportWith(ModuleInitFunction init) {
    Inittab inittab({{"m", init}});
    Importer& importer = *interpreter.importer;
    importer.set_meta_path(List::Of({Ref<Object>(MakeRef<BuiltinFinder>(inittab.Freeze(), native))}));
    result = importer.Import("m");
    return MessageOf(result);
  }

  TestInterpreter interpreter;
  InterpreterAttached attached{interpreter};
  RecordingHost& host = interpreter.host;
  ExtensionCache cache;
  NativeModules native{host, cache};
  absl::StatusOr<Ref<Object>> result;
};

TEST_F(NativeModulesTest, MultiPhaseWithState) {
  EXPECT_EQ(ImportWith(kInitPlain), "OK");
  EXPECT_EQ(As<Int>(*(*result)->GetAttr("counter"))->value(), 1);
  EXPECT_EQ(static_cast<SpamState*>(AsModule(*result)->state())->counter, 1);
  interpreter.importer->Finalize();
  EXPECT_EQ(states_cleared, 1);
  result = absl::UnknownError("");
  EXPECT_EQ(states_cleared, 1) << "once";
}

TEST_F(NativeModulesTest, ReloadDoesNothingToAModuleThatHasItsState) {
  ASSERT_EQ(ImportWith(kInitPlain), "OK");
  ASSERT_TRUE(interpreter.importer->Reload(*result).ok());
  EXPECT_EQ(static_cast<SpamState*>(AsModule(*result)->state())->counter, 1);
}

TEST_F(NativeModulesTest, WhatACreateSlotMakesIsExecutedIfItIsAModule) {
  ASSERT_EQ(ImportWith(&InitCreating<&CreateModule, sizeof(SpamState), true>), "OK");
  EXPECT_EQ(As<Int>(*(*result)->GetAttr("counter"))->value(), 1);
  ASSERT_TRUE(interpreter.importer->Reload(*result).ok());
  EXPECT_EQ(static_cast<SpamState*>(AsModule(*result)->state())->counter, 1) << "once";
  interpreter.importer->modules().Remove("m");
  EXPECT_EQ(ImportWith(&InitCreating<&CreateString, sizeof(SpamState), true>),
            "SystemError: module m is not a module object, but requests module state");
  EXPECT_EQ(ImportWith(&InitCreating<&CreateString, 0, true>),
            "SystemError: module m specifies execution slots, but did not create a ModuleType instance");
  EXPECT_EQ(ImportWith(&InitCreating<&CreateString, 0, false>), "OK") << "it may be anything";
}

TEST_F(NativeModulesTest, IL59_AnEntryWithoutAFunctionIsTheCoresModule) {
  host.core["m"] = Module::New("m");
  EXPECT_EQ(ImportWith(nullptr), "OK");
  EXPECT_EQ(*result, host.core["m"]);
  interpreter.importer->modules().Remove("m");
  EXPECT_EQ(ImportWith(nullptr), "OK");
  EXPECT_EQ(*result, host.core["m"]) << "the same again";
  interpreter.importer->modules().Remove("m");
  host.core.clear();
  EXPECT_EQ(ImportWith(nullptr), "ModuleNotFoundError: No module named 'm'");
}

TEST_F(NativeModulesTest, PEP793_SlotsWithoutADefinition) {
  const auto import = [&](const ModuleSlot* slots) {
    class SlotsFinder final : public Finder {
     public:
      SlotsFinder(NativeModules& native, const ModuleSlot* slots) : native_(native), slots_(slots) {}
      absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                               const Object*) override {
        ModuleSpec::Options options;
        options.loader = native_.LoaderFor(slots_);
        return ModuleSpec::New(name, std::move(options));
      }

     private:
      NativeModules& native_;
      const ModuleSlot* const slots_;
    };
    interpreter.importer->set_meta_path(List::Of({Ref<Object>(MakeRef<SlotsFinder>(native, slots))}));
    result = interpreter.importer->Import("m");
    return MessageOf(result);
  };
  static constexpr ModuleSlot kGood[] = {
      ModuleSlot::Name("spam"),          ModuleSlot::StateSize(sizeof(SpamState)),
      ModuleSlot::Exec(&FillSpam),       ModuleSlot::Clear([](void*) { ++states_cleared; }),
      ModuleSlot::Gil(GilUse::kNotUsed), ModuleSlot::End()};
  ASSERT_EQ(import(kGood), "OK");
  EXPECT_EQ(AsModule(*result)->name(), "m");
  EXPECT_EQ(static_cast<SpamState*>(AsModule(*result)->state())->counter, 1);
  EXPECT_EQ(host.gil_events, "") << "what it needs is known before anything of it runs";
  interpreter.importer->modules().Remove("m");
  result = absl::UnknownError("");
  interpreter.delayed.FreeAll();
  EXPECT_EQ(states_cleared, 1);
  static constexpr ModuleSlot kTwice[] = {ModuleSlot::Name("spam"), ModuleSlot::StateSize(1),
                                          ModuleSlot::StateSize(2), ModuleSlot::End()};
  EXPECT_EQ(import(kTwice), "SystemError: module spam has more than one state size slot");
  static constexpr ModuleSlot kNothing[] = {ModuleSlot::End()};
  EXPECT_EQ(import(kNothing), "OK");
}

TEST_F(NativeModulesTest, DescriptionsAreNoSlotsOfADefinition) {
  static constexpr ModuleSlot kSlots[] = {ModuleSlot::StateSize(8)};
  static constexpr ModuleDef kDef = {"odd", 0, nullptr, absl::Span<const ModuleSlot>(kSlots)};
  EXPECT_EQ(ImportWith([](ModuleInit& init) { init.Return(kDef); }),
            "SystemError: module odd uses unknown slot ID 6");
}

TEST(ModuleAbiTest, OnlyWhatWasBuiltForThisBuild) {
  EXPECT_TRUE(CheckModuleAbi(kModuleAbi, "m").ok());
  EXPECT_EQ(MessageOf(CheckModuleAbi({kModuleAbi.version, !kGilEnabled}, "m")),
            kGilEnabled ? "ImportError: m: only compatible with free-threaded CPython"
                        : "ImportError: m: incompatible with free-threaded CPython");
  EXPECT_EQ(MessageOf(CheckModuleAbi({99, kGilEnabled}, "m")),
            "ImportError: m: incompatible ABI version (99)");
}

TEST_F(NativeModulesTest, IL60_AnswersThatContradictThemselves) {
  EXPECT_EQ(ImportWith(&InitFails), "ValueError: no");
  EXPECT_EQ(ImportWith(&InitSilent), "SystemError: initialization of m failed without raising an exception");
  EXPECT_EQ(ImportWith(&InitBoth), "SystemError: initialization of m raised unreported exception");
  EXPECT_EQ(ImportWith(&InitUninitialized), "SystemError: init function of m returned uninitialized object");
  EXPECT_EQ(ImportWith(&InitTwoCreates), "SystemError: module twice has multiple create slots");
  EXPECT_EQ(ImportWith(&InitCreateNothing),
            "SystemError: creation of module m failed without setting an exception");
  EXPECT_FALSE(interpreter.importer->modules().Get("m"));
  EXPECT_EQ(ImportWith(kInitPlain), "OK") << "nothing is left of the failures";
}

// B116: flag x override x kind x interpreter. The override is refused in the GIL-disabled build.
TEST_F(NativeModulesTest, B116_CompatibilityMatrix) {
  const std::string refused = "ImportError: module m does not support loading in subinterpreters";
  struct Kind {
    ModuleInitFunction init;
    bool shared_gil_ok, own_gil_ok;
  };
  const Kind kinds[] = {{&InitSinglePhase, false, false},
                        {kInitMainOnly, false, false},
                        {kInitPlain, true, false},
                        {kInitOwnGil, true, true}};
  for (const Kind& kind : kinds) {
    for (const bool is_main : {true, false}) {
      for (const bool checks : {false, true}) {
        for (const bool own : {false, true}) {
          for (const int override : {-1, 0, 1}) {
            TestInterpreter fresh;
            const InterpreterAttached attach(fresh);
            ExtensionCache fresh_cache;
            NativeModules modules(fresh.host, fresh_cache);
            fresh.host.checks_extensions = checks;
            fresh.host.owns_gil = own;
            fresh.host.is_main = false;
            const bool overridden = modules.OverrideMultiInterpExtensionsCheck(override).ok();
            EXPECT_EQ(overridden, kGilEnabled);
            fresh.host.is_main = is_main;
            Inittab inittab({{"m", kind.init}});
            fresh.importer->set_meta_path(
                List::Of({Ref<Object>(MakeRef<BuiltinFinder>(inittab.Freeze(), modules))}));
            const bool checked = !is_main && (overridden && override != 0 ? override > 0 : checks);
            const bool ok = !checked || (own ? kind.own_gil_ok : kind.shared_gil_ok);
            EXPECT_EQ(MessageOf(fresh.importer->Import("m")), ok ? "OK" : refused)
                << "main " << is_main << " checks " << checks << " own " << own << " override " << override;
          }
        }
      }
    }
  }
}

TEST_F(NativeModulesTest, IL68_OverrideIsRefusedWhereItMeansNothing) {
  EXPECT_EQ(
      MessageOf(native.OverrideMultiInterpExtensionsCheck(1)),
      "RuntimeError: _imp._override_multi_interp_extensions_check() cannot be used in the main interpreter");
  host.is_main = false;
  if constexpr (kGilEnabled) {
    EXPECT_EQ(native.OverrideMultiInterpExtensionsCheck(1).value(), 0);
    EXPECT_EQ(native.OverrideMultiInterpExtensionsCheck(-1).value(), 1);
  } else {
    EXPECT_EQ(
        MessageOf(native.OverrideMultiInterpExtensionsCheck(1)),
        "RuntimeError: _imp._override_multi_interp_extensions_check() cannot be used in the free-threaded "
        "build");
  }
}

TEST_F(NativeModulesTest, B117_SinglePhaseRunsOnceAndInTheMainInterpreter) {
  host.is_main = false;
  ASSERT_EQ(ImportWith(&InitSinglePhase), "OK");
  EXPECT_EQ(init_runs, 1);
  EXPECT_EQ(host.runs_in_main, 1);
  EXPECT_EQ(As<Int>(*(*result)->GetAttr("answer"))->value(), 42);
  // Another interpreter of the same process: a module of its own, without running anything.
  TestInterpreter other;
  const InterpreterAttached attach(other);
  other.host.is_main = false;
  NativeModules others(other.host, cache);
  Inittab inittab({{"m", &InitSinglePhase}});
  other.importer->set_meta_path(List::Of({Ref<Object>(MakeRef<BuiltinFinder>(inittab.Freeze(), others))}));
  const auto second = other.importer->Import("m");
  ASSERT_TRUE(second.ok());
  EXPECT_NE(second->get(), result->get());
  EXPECT_EQ(As<Int>(*(*second)->GetAttr("answer"))->value(), 42);
  EXPECT_EQ(init_runs, 1);
  EXPECT_EQ(cache.size(), 1u);
}

// Its init function imports the module it is about to make.
TEST_F(NativeModulesTest, gh123880_ASinglePhaseModuleThatImportsItselfHasOneEntry) {
  static Importer* importer;
  importer = interpreter.importer.get();
  static int depth;
  depth = 0;
  EXPECT_EQ(ImportWith([](ModuleInit& init) {
              if (++depth == 1) {
                EXPECT_TRUE(importer->Import("m").ok());
              }
              InitSinglePhase(init);
            }),
            "OK");
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(interpreter.importer->Import("m").value(), *result);
}

TEST_F(NativeModulesTest, GI36_AModuleThatNeedsTheGilTurnsItOn) {
  ASSERT_EQ(ImportWith(kInitNeedsGil), "OK");
  if constexpr (kGilEnabled) {
    EXPECT_EQ(host.gil_events, "");
    EXPECT_THAT(host.warnings, IsEmpty());
  } else {
    EXPECT_EQ(host.gil_events, "+!") << "enabled for the import, kept";
    interpreter.importer->modules().Remove("m");
    ASSERT_EQ(ImportWith(kInitNeedsGil), "OK");
    EXPECT_EQ(host.gil_events, "+!+!") << "the warning comes once (GI-31)";
    EXPECT_THAT(
        host.warnings,
        ElementsAre("RuntimeWarning: The global interpreter lock (GIL) has been enabled to load module 'm', "
                    "which has not declared that it can run safely without the GIL. To override this "
                    "behavior and keep the GIL disabled (at your own risk), run with PYTHON_GIL=0 or "
                    "-Xgil=0."));
  }
}

TEST_F(NativeModulesTest, GI36_OneThatDoesNotOrFailsTurnsItOffAgain) {
  ASSERT_EQ(ImportWith(kInitPlain), "OK");
  EXPECT_EQ(host.gil_events, kGilEnabled ? "" : "+-");
  interpreter.importer->modules().Remove("m");
  EXPECT_EQ(ImportWith(&InitFails), "ValueError: no");
  EXPECT_EQ(host.gil_events, kGilEnabled ? "" : "+-+-");
  interpreter.importer->modules().Remove("m");
  host.is_main = false, host.checks_extensions = host.owns_gil = true;
  EXPECT_EQ(ImportWith(kInitNeedsGil), "ImportError: module m does not support loading in subinterpreters");
  EXPECT_EQ(host.gil_events, kGilEnabled ? "" : "+-+-+-") << "refused: not for good, and no warning";
  host.gil_events.resize(kGilEnabled ? 0 : 4);
  host.is_main = true, host.checks_extensions = host.owns_gil = false;
  host.gil_may_be_enabled = false;  // PYTHON_GIL=0
  EXPECT_EQ(ImportWith(kInitNeedsGil), "OK");
  EXPECT_EQ(host.gil_events, kGilEnabled ? "" : "+-+-+");
  EXPECT_THAT(host.warnings, IsEmpty());
}

// --- Inittab

TEST(InittabTest, B114_TheFirstOfTwoWins) {
  Inittab inittab;
  ASSERT_TRUE(inittab.Append("m", &InitFails).ok());
  ASSERT_TRUE(inittab.Append("m", &InitSilent).ok());
  ASSERT_TRUE(inittab.Append("known", nullptr).ok());
  const auto snapshot = inittab.Freeze();
  EXPECT_EQ(snapshot->Find("m")->init, &InitFails);
  EXPECT_EQ(snapshot->IsBuiltin("m"), 1);
  EXPECT_EQ(snapshot->IsBuiltin("known"), -1);
  EXPECT_EQ(snapshot->IsBuiltin("unknown"), 0);
  EXPECT_THAT(snapshot->Names(), ElementsAre("known", "m"));
}

TEST(InittabTest, B113_PersistsOverCycles) {
  Inittab inittab;
  for (size_t cycle = 1; cycle <= 3; ++cycle) {
    ASSERT_TRUE(inittab.Append("m" + std::to_string(cycle), &InitFails).ok());
    EXPECT_EQ(inittab.Freeze()->Names().size(), cycle);
    inittab.Thaw();
  }
}

TEST(InittabTest, BadInputChangesNothing) {
  Inittab inittab;
  EXPECT_FALSE(inittab.Append("", &InitFails).ok());
  EXPECT_THAT(std::string(inittab.Append(std::string_view("a\0b", 3), &InitFails).message()),
              HasSubstr("NUL at byte 1"));
  const InittabEntry entries[] = {{"fine", &InitFails}, {"", &InitFails}};
  EXPECT_FALSE(inittab.Extend(entries).ok());
  EXPECT_TRUE(inittab.Extend({}).ok());
  EXPECT_EQ(inittab.size(), 0u);
}

TEST(InittabDeathTest, B113_ChangesAfterInitializeAreFatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Inittab inittab;
  inittab.Freeze();
  EXPECT_DEATH(inittab.Append("m", &InitFails).IgnoreError(),
               "PyImport_AppendInittab\\(\\) may not be called after Py_Initialize\\(\\)");
  EXPECT_DEATH(inittab.Extend({}).IgnoreError(),
               "PyImport_ExtendInittab\\(\\) may not be called after Py_Initialize\\(\\)");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
