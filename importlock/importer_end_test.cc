// How imports end badly, and with the interpreter.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <string>
#include <thread>
#include <vector>

#include "pyrt/importlock/importer.h"
#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/importlock/lazy_import.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/sync/event.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::ElementsAre;

class ImporterEndTest : public ::testing::Test {
 protected:
  TestInterpreter interpreter;
  ScriptFinder& finder = *interpreter.finder;
  RecordingHost& host = interpreter.host;
  Importer& importer = *interpreter.importer;
};

// IL-77, and what destructors find that run meanwhile.
TEST_F(ImporterEndTest, IL77_TheEndInCPythonsOrder) {
  const InterpreterAttached attached(interpreter);
  static std::vector<std::string> log;
  log.clear();
  class Mourner final : public Object {
   public:
    Mourner(Importer& importer, std::string name) : importer_(importer), name_(std::move(name)) {}
    ~Mourner() override {
      const auto other = importer_.Import("unused2");
      log.push_back(name_ + ": " + (other.ok() ? "there" : MessageOf(other)));
    }
    const char* TypeName() const override { return "Mourner"; }

   private:
    Importer& importer_;
    const std::string name_;
  };
  std::vector<Ref<Object>> kept;
  for (const std::string name : {"sys", "kept1", "unused1", "kept2", "unused2"}) {
    finder.Add(name, [&, name](const Ref<Object>& module) {
      if (name.starts_with("kept")) {
        EXPECT_TRUE(module->SetAttr("_private", MakeRef<Mourner>(importer, name + "._private")).ok());
      }
      return module->SetAttr("public", MakeRef<Mourner>(importer, name + ".public"));
    });
    const auto module = importer.Import(name);
    ASSERT_TRUE(module.ok());
    if (name.starts_with("kept")) kept.push_back(*module);
  }
  importer.path_hooks()->Append(None());
  importer.Finalize();
  const std::string gone = "RuntimeError: unable to get sys.modules";
  EXPECT_THAT(log, ElementsAre("unused1.public: there",
                               "unused2.public: ModuleNotFoundError: import of unused2 halted; None in "
                               "sys.modules",
                               "kept2._private: " + gone, "kept2.public: " + gone, "kept1._private: " + gone,
                               "kept1.public: " + gone, "sys.public: " + gone));
  EXPECT_EQ(importer.path_hooks()->size(), 0u);
  EXPECT_EQ(host.collections, 1);
  EXPECT_TRUE(IsNone(*kept[0]->GetAttr("public"))) << "wiped: None, not absent";
}

// A destructor runs as soon as its name is wiped, and finds what stands behind it.
TEST_F(ImporterEndTest, IL77_DestructorsFindTheNamesBehindTheirs) {
  const InterpreterAttached attached(interpreter);
  static Ref<Object> found;
  class Reader final : public Object {
   public:
    explicit Reader(Module& module) : module_(module) {}
    ~Reader() override { found = module_.dict()->Get("second"); }
    const char* TypeName() const override { return "Reader"; }

   private:
    Module& module_;
  };
  const Ref<Module> module = Module::New("m");
  module->dict()->Set("first", MakeRef<Reader>(*module));
  module->dict()->Set("second", Int::Of(2));
  module->Wipe();
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->Repr().value(), "2");
  found = nullptr;
}

TEST_F(ImporterEndTest, NothingGrowsWithModulesThatAreGone) {
  const InterpreterAttached attached(interpreter);
  class Any final : public Finder {
   public:
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      ModuleSpec::Options options;
      options.is_package = true;
      return ModuleSpec::New(name, std::move(options));
    }
  };
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<Any>())}));
  host.record = false;
  const auto round = [&] {
    for (int i = 0; i < 2000; ++i) ASSERT_TRUE(importer.Import("m" + std::to_string(i)).ok());
    EXPECT_EQ(importer.module_locks().size(), 0u);
    for (int i = 0; i < 2000; ++i) importer.modules().Remove("m" + std::to_string(i));
  };
  round();
  const size_t after_one = importer.modules().MemoryUsage();
  for (int i = 0; i < 5; ++i) round();
  EXPECT_EQ(importer.modules().size(), 0u);
  EXPECT_LE(importer.modules().MemoryUsage(), after_one);
}

// The stack is unwound: that is a failed import, and not a module that stays half-made for ever.
TEST_F(ImporterEndTest, ABodyThatEndsItsThreadHasFailed) {
  int runs = 0;
  finder.AddPackage("p");
  finder.Add("p.m", [&](const Ref<Object>&) {
    if (++runs == 1) ::pthread_exit(nullptr);
    return absl::OkStatus();
  });
  std::thread([&] {
    const InterpreterAttached attached(interpreter);
    importer.Import("p.m").IgnoreError();
    ADD_FAILURE() << "its thread has ended";
  }).join();
  const InterpreterAttached attached(interpreter);
  EXPECT_FALSE(importer.InUse());
  EXPECT_FALSE(importer.modules().Get("p.m"));
  EXPECT_EQ(MessageOf(importer.Import("p").value()->GetAttr("m")),
            "AttributeError: module 'p' has no attribute 'm'");
  EXPECT_TRUE(importer.Import("p.m").ok());
  EXPECT_EQ(runs, 2);
}

// It comes back to the importer, whatever it ends meanwhile.
TEST_F(ImporterEndTest, ABodyOfExecModuleOrReloadKeepsTheImporter) {
  const InterpreterAttached attached(interpreter);
  finder.Add("m", [&](const Ref<Object>&) {
    EXPECT_TRUE(importer.InUse());
    return absl::OkStatus();
  });
  const Ref<Object> module = importer.Import("m").value();
  EXPECT_TRUE(importer.Reload(module).ok());
  EXPECT_TRUE(importer
                  .ExecModule("n",
                              [&](const Ref<Object>&) {
                                EXPECT_TRUE(importer.InUse());
                                return absl::OkStatus();
                              })
                  .ok());
  EXPECT_FALSE(importer.InUse());
}

// So does all that an import asks: audit hooks, warnings, attributes, the filter of lazy imports.
TEST_F(ImporterEndTest, WhatAnImportAsksKeepsTheImporter) {
  class AskingHost final : public RecordingHost {
   public:
    using RecordingHost::RecordingHost;
    absl::Status AuditImport(Args) override { return Asked("audit"); }
    absl::Status Warn(const ErrorType&, const std::string&) override { return Asked("warn"); }
    absl::Status Asked(const std::string& by) {
      asked.push_back(by + (importer->InUse() ? "" : " not kept"));
      return absl::OkStatus();
    }
    Importer* importer = nullptr;
    std::vector<std::string> asked;
  } asking(interpreter.gil);
  class Attributes final : public Object {
   public:
    explicit Attributes(AskingHost& host) : host_(host) {}
    absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
      host_.Asked(std::string(name)).IgnoreError();
      if (name == "__name__") return Ref<Object>(String::Of("p"));
      if (name == "__path__") return None();
      return Object::GetAttr(name);
    }
    const char* TypeName() const override { return "Attributes"; }

   private:
    AskingHost& host_;
  };
  const InterpreterAttached attached(interpreter);
  const Ref<Importer> other = MakeRef<Importer>(asking, interpreter.ReclaimerFor());
  asking.importer = other.get();
  other->set_meta_path(List::Of({interpreter.finder}));
  finder.Add("m");
  EXPECT_TRUE(other->Import("m").ok());
  const Ref<Object> package = MakeRef<Attributes>(asking);
  other->modules().Set("p", package);
  EXPECT_TRUE(other->ImportModuleLevel("p", nullptr, {"x"}, 0).ok());
  EXPECT_FALSE(other->ImportFrom(package, "x").ok());
  const Ref<Dict> globals = Dict::New();
  globals->Set("__name__", String::Of("p.q"));
  EXPECT_TRUE(other->ImportModuleLevel("", globals.get(), {}, 1).ok());
  LazyImports lazy(*other);
  EXPECT_TRUE(lazy.SetFilter(NativeFunction::New("filter",
                                                 [&](Args) -> absl::StatusOr<Ref<Object>> {
                                                   asking.Asked("filter").IgnoreError();
                                                   return None();
                                                 }))
                  .ok());
  EXPECT_TRUE(lazy.ImportModuleLevel("m", nullptr, {}, 0, /*is_explicit=*/true).ok());
  EXPECT_THAT(asking.asked,
              ::testing::IsSupersetOf({"audit", "__path__", "__name__", "x", "warn", "filter"}));
  EXPECT_THAT(asking.asked, ::testing::Each(::testing::Not(::testing::EndsWith("not kept"))));
  EXPECT_FALSE(other->InUse());
  other->Finalize();
}

// IL-10, IL-79: a thread that hangs in a finder owns the import lock for ever.
TEST_F(ImporterEndTest, AnImportAtTheEndDoesNotWaitForTheImportLock) {
  class FinalizingHost final : public RecordingHost {
   public:
    explicit FinalizingHost(TestGil& gil) : RecordingHost(gil), hooks_(*gil.hooks()) {
      hooks_.must_fail = [](void*) { return true; };
    }
    const WaitHooks* Hooks() override { return &hooks_; }

   private:
    WaitHooks hooks_;
  } finalizing(interpreter.gil);
  const Ref<Importer> ending = MakeRef<Importer>(finalizing, interpreter.ReclaimerFor());
  ending->set_meta_path(List::Of({interpreter.finder}));
  finder.Add("m");
  Event owned, end;
  std::thread gone([&] {
    const InterpreterAttached attached(interpreter);
    const ImportLockScope scope(ending->import_lock());
    interpreter.gil.Detach();
    owned.Notify();
    end.Wait();
    interpreter.gil.Attach();
  });
  owned.Wait();
  {
    const InterpreterAttached attached(interpreter);
    EXPECT_TRUE(ending->InUse());
    EXPECT_EQ(MessageOf(ending->Import("m")),
              "PythonFinalizationError: can't import 'm' at interpreter shutdown");
    EXPECT_FALSE(ending->modules().Get("m"));
  }
  end.Notify();
  gone.join();
  EXPECT_FALSE(ending->InUse());
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
