#include "pyrt/importlock/importer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/runtime/sync/parking_lot.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ImporterTest : public ::testing::Test {
 protected:
  ~ImporterTest() override {
    EXPECT_EQ(importer.module_locks().size(), 0u);
    EXPECT_FALSE(importer.import_lock().Held());
  }

  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (const ModuleTable::Item& item : importer.modules().Snapshot()) names.push_back(item.first);
    return names;
  }
  // A body that imports `name`.
  ScriptFinder::Body Importing(std::string name) {
    return [this, name = std::move(name)](const Ref<Object>&) { return importer.Import(name).status(); };
  }

  TestInterpreter interpreter;
  InterpreterAttached attached{interpreter};
  ScriptFinder& finder = *interpreter.finder;
  RecordingHost& host = interpreter.host;
  Importer& importer = *interpreter.importer;
};

TEST_F(ImporterTest, ImportsOnceAndSetsWhatModulesHave) {
  int runs = 0;
  finder.Add("m", [&](const Ref<Object>& module) {
    ++runs;
    return module->SetAttr("x", Int::Of(7));
  });
  const auto module = importer.Import("m");
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_EQ(importer.Import("m").value(), *module);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(As<Int>(*(*module)->GetAttr("x"))->value(), 7);
  EXPECT_EQ(As<String>(*(*module)->GetAttr("__name__"))->value(), "m");
  EXPECT_EQ(As<String>(*(*module)->GetAttr("__package__"))->value(), "");
  EXPECT_EQ(MessageOf((*module)->GetAttr("y")), "AttributeError: module 'm' has no attribute 'y'");
}

TEST_F(ImporterTest, B107_FinishedModuleTakesNoLock) {
  finder.AddPackage("p");
  finder.Add("p.m");
  ASSERT_TRUE(importer.Import("p.m").ok());
  const uint64_t before = importer.module_locks().lock_operations();
  importer.import_lock().Acquire();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(importer.Import("p.m").ok());
  ASSERT_TRUE(importer.import_lock().Release().ok());
  EXPECT_EQ(importer.module_locks().lock_operations(), before);
}

TEST_F(ImporterTest, B109_ParentsFirstFromTheOutsideIn) {
  std::vector<std::string> order;
  for (const char* name : {"a", "a.b", "a.b.c"}) {
    finder.AddPackage(name, [&order, name](const Ref<Object>&) {
      order.push_back(name);
      return absl::OkStatus();
    });
  }
  const auto module = importer.Import("a.b.c");
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_THAT(order, ElementsAre("a", "a.b", "a.b.c"));
  EXPECT_EQ(*importer.Import("a").value()->GetAttr("b"), importer.Import("a.b").value());
}

TEST_F(ImporterTest, IL37_OnlyTheImmediateParentMustExist) {
  finder.AddPackage("a");
  finder.AddPackage("a.b");
  finder.Add("a.b.c");
  ASSERT_TRUE(importer.Import("a.b").ok());
  importer.modules().Remove("a");
  EXPECT_TRUE(importer.Import("a.b.c").ok());
  EXPECT_FALSE(importer.modules().Get("a"));
}

TEST_F(ImporterTest, IL38_TheParentsBodyMayImportTheChild) {
  int runs = 0;
  finder.AddPackage("p", Importing("p.c"));
  finder.Add("p.c", [&](const Ref<Object>&) {
    ++runs;
    return absl::OkStatus();
  });
  ASSERT_TRUE(importer.Import("p.c").ok());
  EXPECT_EQ(runs, 1);
}

TEST_F(ImporterTest, B111_FailureRemovesWhatItAddedAndNothingElse) {
  finder.AddPackage("p");
  finder.Add("p.good");
  finder.Add("p.bad", [&](const Ref<Object>&) -> absl::Status {
    EXPECT_TRUE(importer.Import("p.good").ok());
    return Raise(ErrorType::ValueError(), "no");
  });
  EXPECT_EQ(MessageOf(importer.Import("p.bad")), "ValueError: no");
  EXPECT_THAT(Names(), ElementsAre("p", "p.good"));
  EXPECT_EQ(MessageOf(importer.Import("p").value()->GetAttr("bad")),
            "AttributeError: module 'p' has no attribute 'bad'");
  EXPECT_EQ(MessageOf(importer.Import("p.bad")), "ValueError: no") << "and is tried again";
}

TEST_F(ImporterTest, B111_TheTableIsInTheOrderOfCompletion) {
  finder.Add("outer", Importing("inner"));
  finder.Add("inner");
  ASSERT_TRUE(importer.Import("outer").ok());
  EXPECT_THAT(Names(), ElementsAre("inner", "outer"));
}

TEST_F(ImporterTest, B111_TheParentGetsItsAttributeAfterTheLoad) {
  finder.AddPackage("p");
  finder.Add("p.c", [&](const Ref<Object>&) {
    EXPECT_EQ(
        MessageOf(importer.Import("p").value()->GetAttr("c")),
        "AttributeError: cannot access submodule 'c' of module 'p' (most likely due to a circular import)");
    return absl::OkStatus();
  });
  ASSERT_TRUE(importer.Import("p.c").ok());
  EXPECT_TRUE(importer.Import("p").value()->GetAttr("c").ok());
}

TEST_F(ImporterTest, B112_Texts) {
  finder.Add("m");
  importer.modules().Set("x", None());
  EXPECT_EQ(MessageOf(importer.Import("x")), "ModuleNotFoundError: import of x halted; None in sys.modules");
  EXPECT_EQ(MessageOf(importer.Import("x.y")),
            "ModuleNotFoundError: import of x halted; None in sys.modules");
  EXPECT_EQ(MessageOf(importer.Import("nothing")), "ModuleNotFoundError: No module named 'nothing'");
  EXPECT_EQ(MessageOf(importer.Import("m.x")),
            "ModuleNotFoundError: No module named 'm.x'; 'm' is not a package");
  EXPECT_EQ(As<String>(*ErrorFromStatus(importer.Import("m.x").status())->GetAttr("name"))->value(), "m.x");
  importer.set_meta_path(List::Of());
  EXPECT_EQ(MessageOf(importer.Import("nothing")), "ModuleNotFoundError: No module named 'nothing'");
  EXPECT_THAT(host.warnings, ElementsAre("ImportWarning: sys.meta_path is empty"));
  importer.set_meta_path(nullptr);
  EXPECT_EQ(MessageOf(importer.Import("nothing")),
            "ImportError: sys.meta_path is None, Python is likely shutting down");
  EXPECT_TRUE(importer.Import("m").ok()) << "what is in the table is still found";
}

TEST_F(ImporterTest, B118_AuditEventOncePerLoadWithFiveArguments) {
  finder.AddPackage("p");
  finder.Add("p.c");
  ASSERT_TRUE(importer.Import("p.c").ok());
  ASSERT_TRUE(importer.Import("p.c").ok());
  EXPECT_THAT(host.audited, ElementsAre("p.c NoneType list list list", "p NoneType list list list"));
  host.audited.clear();
  EXPECT_FALSE(importer.Import("nothing").ok());
  EXPECT_FALSE(importer.Import("nothing").ok());
  EXPECT_EQ(host.audited.size(), 2u) << "once per attempt";
  host.veto = "m ";
  finder.Add("m");
  EXPECT_EQ(MessageOf(importer.Import("m")), "RuntimeError: vetoed m ");
  EXPECT_FALSE(importer.modules().Get("m"));
}

// --- Bodies that misbehave

TEST_F(ImporterTest, BodyImportsItself) {
  finder.Add("m", [&](const Ref<Object>& module) {
    EXPECT_EQ(importer.Import("m").value(), module) << "the half-made module, at once (IL-35)";
    EXPECT_EQ(
        MessageOf(module->GetAttr("later")),
        "AttributeError: partially initialized module 'm' has no attribute 'later' (most likely due to a "
        "circular import)");
    return absl::OkStatus();
  });
  EXPECT_TRUE(importer.Import("m").ok());
}

TEST_F(ImporterTest, CircularImportInOneThread) {
  finder.Add("a", [&](const Ref<Object>& a) {
    EXPECT_TRUE(importer.Import("b").ok());
    return a->SetAttr("x", Int::Of(1));
  });
  finder.Add("b", [&](const Ref<Object>&) {
    const auto a = importer.Import("a");
    EXPECT_TRUE(a.ok());
    EXPECT_EQ(
        MessageOf(importer.ImportFrom(*a, "x")),
        "ImportError: cannot import name 'x' from partially initialized module 'a' (most likely due to a "
        "circular import) (unknown location)");
    return absl::OkStatus();
  });
  ASSERT_TRUE(importer.Import("a").ok());
  EXPECT_THAT(Names(), ElementsAre("b", "a"));
}

TEST_F(ImporterTest, BodyDeletesItself_gh134100) {
  finder.Add("m", [&](const Ref<Object>&) {
    importer.modules().Remove("m");
    return absl::OkStatus();
  });
  EXPECT_EQ(MessageOf(importer.Import("m")), "KeyError: 'm'");
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(ImporterTest, BodyDeletesItselfAndFails) {
  finder.Add("m", [&](const Ref<Object>&) {
    importer.modules().Remove("m");
    return Raise(ErrorType::ValueError(), "no");
  });
  EXPECT_EQ(MessageOf(importer.Import("m")), "ValueError: no");
}

TEST_F(ImporterTest, BodyReplacesItself) {
  finder.Add("m", [&](const Ref<Object>&) {
    importer.modules().Set("m", String::Of("instead"));
    return absl::OkStatus();
  });
  const auto result = importer.Import("m");
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(As<String>(*result)->value(), "instead");
  EXPECT_EQ(importer.Import("m").value(), *result);
}

TEST_F(ImporterTest, BodyForks) {
  finder.Add("m", [&](const Ref<Object>&) -> absl::Status {
    importer.BeforeFork();
    const pid_t pid = ForkProcess();
    if (pid == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      importer.AfterForkInChild();
      // The body goes on in both: the module is complete here, too, and everything can be imported.
      return importer.Import("other").ok() ? absl::OkStatus() : Raise(ErrorType::ValueError(), "child");
    }
    importer.AfterForkInParent();
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 42 << 8);
    return absl::OkStatus();
  });
  finder.Add("other");
  const pid_t self = getpid();
  const bool ok = importer.Import("m").ok() && importer.Import("m").ok();
  if (getpid() != self) _exit(ok && importer.module_locks().size() == 0 ? 42 : 1);
  EXPECT_TRUE(ok);
}

TEST_F(ImporterTest, BodyFinalizesTheInterpreter) {
  finder.Add("m", [&](const Ref<Object>&) {
    importer.Finalize();
    EXPECT_EQ(MessageOf(importer.Import("other")), "RuntimeError: unable to get sys.modules");
    return absl::OkStatus();
  });
  EXPECT_EQ(MessageOf(importer.Import("m")), "KeyError: 'm'");
  EXPECT_EQ(MessageOf(importer.Import("m")), "RuntimeError: unable to get sys.modules");
}

// --- Names

TEST_F(ImporterTest, BadNames) {
  finder.AddPackage("p");
  EXPECT_EQ(MessageOf(importer.Import("")), "ValueError: Empty module name");
  EXPECT_EQ(MessageOf(importer.Import("p.")), "ModuleNotFoundError: No module named 'p.'");
  EXPECT_EQ(MessageOf(importer.Import(".p")), "ModuleNotFoundError: No module named '.p'");
  EXPECT_EQ(MessageOf(importer.Import("p..c")), "ModuleNotFoundError: No module named 'p.'");
  EXPECT_EQ(MessageOf(importer.Import(".")), "ModuleNotFoundError: No module named '.'");
  EXPECT_EQ(MessageOf(importer.Import(std::string_view("p\0q", 3))),
            "ModuleNotFoundError: No module named 'p\\x00q'");
  EXPECT_THAT(Names(), ElementsAre("p"));
}

TEST_F(ImporterTest, PackageChainTenThousandDeep) {
  constexpr int kDepth = 10'000;
  class Deep final : public Finder {
   public:
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      ModuleSpec::Options options;
      options.is_package = true;
      return ModuleSpec::New(name, std::move(options));
    }
  };
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<Deep>())}));
  host.record = false;
  std::string name = "p";
  for (int i = 1; i < kDepth; ++i) name += ".p";
  ASSERT_TRUE(importer.Import(name).ok());
  EXPECT_EQ(importer.modules().size(), static_cast<size_t>(kDepth));
}

TEST_F(ImporterTest, FindersThatThrowAwayTheirResultOrAreNone) {
  class Careless final : public Finder {
   public:
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      static_cast<void>(ModuleSpec::New(name, {}));
      return Ref<ModuleSpec>();
    }
  };
  class NoLoader final : public Finder {
   public:
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      return ModuleSpec::New(name, {});
    }
  };
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<Careless>())}));
  EXPECT_EQ(MessageOf(importer.Import("m")), "ModuleNotFoundError: No module named 'm'");
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<NoLoader>())}));
  EXPECT_EQ(MessageOf(importer.Import("m")), "ImportError: missing loader");
  importer.set_meta_path(List::Of({Ref<Object>(Int::Of(3))}));
  EXPECT_EQ(MessageOf(importer.Import("m")), "ModuleNotFoundError: No module named 'm'") << "passed over";
}

TEST_F(ImporterTest, gh130094_FindersMayChangeTheMetaPath) {
  class Remover final : public Finder {
   public:
    explicit Remover(Importer& importer) : importer_(importer) {}
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view, const std::vector<std::string>*,
                                             const Object*) override {
      importer_.meta_path()->Assign({});
      return Ref<ModuleSpec>();
    }

   private:
    Importer& importer_;
  };
  finder.Add("m");
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<Remover>(importer)), interpreter.finder}));
  EXPECT_TRUE(importer.Import("m").ok()) << "the finder behind it is not skipped";
}

TEST_F(ImporterTest, IL6_TheImportLockIsHeldForFindersOnly) {
  class Looker final : public Finder {
   public:
    explicit Looker(Importer& importer) : importer_(importer) {}
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view, const std::vector<std::string>*,
                                             const Object*) override {
      EXPECT_TRUE(importer_.import_lock().HeldByCurrentThread());
      return Ref<ModuleSpec>();
    }

   private:
    Importer& importer_;
  };
  finder.Add("m", [&](const Ref<Object>&) {
    EXPECT_FALSE(importer.import_lock().Held());
    return absl::OkStatus();
  });
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<Looker>(importer)), interpreter.finder}));
  EXPECT_TRUE(importer.Import("m").ok());
}

// --- Other entries

TEST_F(ImporterTest, AddAndGetModule) {
  EXPECT_FALSE(importer.GetModule("m").value());
  const Ref<Object> module = importer.AddModule("m");
  EXPECT_EQ(importer.AddModule("m"), module);
  EXPECT_EQ(importer.GetModule("m").value(), module);
  importer.modules().Set("m", String::Of("no module"));
  EXPECT_NE(importer.AddModule("m").get(), module.get()) << "what is no module is replaced";
}

TEST_F(ImporterTest, Reload) {
  int runs = 0;
  bool fail = false;
  finder.Add("m", [&](const Ref<Object>& module) -> absl::Status {
    if (fail) return Raise(ErrorType::ValueError(), "no");
    return module->SetAttr("runs", Int::Of(++runs));
  });
  finder.Add("other");
  const Ref<Object> module = importer.Import("m").value();
  ASSERT_TRUE(importer.Import("other").ok());
  EXPECT_EQ(importer.Reload(module).value(), module);
  EXPECT_EQ(As<Int>(*module->GetAttr("runs"))->value(), 2);
  fail = true;
  EXPECT_EQ(MessageOf(importer.Reload(module)), "ValueError: no");
  EXPECT_EQ(importer.Import("m").value(), module) << "a failed reload takes nothing away";
  EXPECT_EQ(importer.modules().Snapshot().back().first, "m")
      << "and is the last, as importlib's _exec has it";
  importer.modules().Remove("m");
  EXPECT_EQ(MessageOf(importer.Reload(module)), "ImportError: module m not in sys.modules");
}

// importlib's _exec.
TEST_F(ImporterTest, ReloadOfAModuleThatGoesMeanwhile) {
  bool remove = false;
  finder.Add("m", [&](const Ref<Object>&) {
    if (remove) importer.modules().Remove("m");
    return absl::OkStatus();
  });
  const Ref<Object> module = importer.Import("m").value();
  remove = true;
  EXPECT_EQ(MessageOf(importer.Reload(module)), "KeyError: 'm'") << "in its body";

  class Remover final : public Finder {
   public:
    explicit Remover(Importer& importer) : importer_(importer) {}
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      importer_.modules().Remove(std::string(name));
      return Ref<ModuleSpec>();
    }

   private:
    Importer& importer_;
  };
  importer.modules().Set("m", module);
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<Remover>(importer)), interpreter.finder}));
  EXPECT_EQ(MessageOf(importer.Reload(module)), "ImportError: module 'm' not in sys.modules") << "before it";
}

TEST_F(ImporterTest, ReloadWithoutALoader) {
  class WithoutLoader final : public Finder {
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>*,
                                             const Object*) override {
      return ModuleSpec::New(name, {});
    }
  };
  finder.Add("m");
  finder.Add("other");
  const Ref<Object> module = importer.Import("m").value();
  ASSERT_TRUE(importer.Import("other").ok());
  importer.set_meta_path(List::Of({MakeRef<WithoutLoader>()}));
  EXPECT_EQ(MessageOf(importer.Reload(module)), "ImportError: missing loader");
  EXPECT_EQ(importer.modules().Snapshot().back().first, "m");
}

TEST_F(ImporterTest, ReloadsInACircleEnd) {
  int runs = 0;
  bool reload = false;
  const auto reloading = [&](const char* other) {
    return [&, other](const Ref<Object>&) {
      if (!reload || ++runs > 10) return absl::OkStatus();
      return importer.Reload(importer.modules().Get(other)).status();
    };
  };
  finder.Add("a", reloading("b"));
  finder.Add("b", reloading("a"));
  const Ref<Object> a = importer.Import("a").value();
  ASSERT_TRUE(importer.Import("b").ok());
  reload = true;
  EXPECT_EQ(importer.Reload(a).value(), a);
  EXPECT_EQ(runs, 2) << "each body once";
  EXPECT_EQ(importer.Reload(a).value(), a);
  EXPECT_EQ(runs, 4) << "and once more";
}

// --- Sequences

TEST_F(ImporterTest, TuplesAreAsGoodAsLists) {
  std::vector<std::string> searched;
  class Listening final : public Finder {
   public:
    Listening(Ref<ScriptFinder> scripts, std::vector<std::string>& searched)
        : scripts_(std::move(scripts)), searched_(searched) {}
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                             const Object* target) override {
      if (path != nullptr) searched_ = *path;
      return scripts_->FindSpec(name, path, target);
    }

   private:
    const Ref<ScriptFinder> scripts_;
    std::vector<std::string>& searched_;
  };
  host.sys["meta_path"] = Tuple::Of({Ref<Object>(MakeRef<Listening>(interpreter.finder, searched))});
  finder.AddPackage("p", [](const Ref<Object>& module) -> absl::Status {
    if (absl::Status status = module->SetAttr("__path__", Tuple::Of({Ref<Object>(String::Of("/x"))}));
        !status.ok()) {
      return status;
    }
    return module->SetAttr("__all__", Tuple::Of({Ref<Object>(String::Of("c"))}));
  });
  finder.Add("p.c");
  const auto package = importer.ImportModuleLevel("p", nullptr, {"*"}, 0);
  ASSERT_EQ(MessageOf(package), "OK");
  EXPECT_TRUE(importer.modules().Get("p.c"));
  EXPECT_THAT(searched, ElementsAre("/x"));
  searched.clear();
  EXPECT_EQ(MessageOf(importer.Reload(importer.Import("p.c").value())), "OK");
  EXPECT_THAT(searched, ElementsAre("/x"));
  host.sys["meta_path"] = Int::Of(3);
  EXPECT_EQ(MessageOf(importer.Import("m")), "TypeError: 'int' object is not iterable");
}

// CPython asks with hasattr.
TEST_F(ImporterTest, AFromListPassesOverAttributeErrorsOnly) {
  class Odd final : public Object {
   public:
    absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
      if (name == failing) return Raise(ErrorType::ValueError(), "no %s", failing.c_str());
      if (name == "__name__") return Ref<Object>(String::Of("odd"));
      if (name == "__path__") return Ref<Object>(List::Of());
      return Object::GetAttr(name);
    }
    const char* TypeName() const override { return "Odd"; }
    std::string failing;
  };
  const Ref<Odd> odd = MakeRef<Odd>();
  importer.modules().Set("odd", odd);
  const auto import = [&](const std::string& failing) {
    odd->failing = failing;
    return MessageOf(importer.ImportModuleLevel("odd", nullptr, {"*", "x"}, 0));
  };
  EXPECT_EQ(import(""), "OK");
  EXPECT_EQ(import("__path__"), "ValueError: no __path__");
  EXPECT_EQ(import("__all__"), "ValueError: no __all__");
  EXPECT_EQ(import("x"), "ValueError: no x");
}

TEST_F(ImporterTest, ImportTimeIsATree) {
  std::vector<std::string> lines;
  importer.import_time().Enable([&](const std::string& line) { lines.push_back(line); });
  finder.Add("outer", Importing("inner"));
  finder.Add("inner");
  ASSERT_TRUE(importer.Import("outer").ok());
  ASSERT_TRUE(importer.Import("outer").ok());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "import time: self [us] | cumulative | imported package");
  EXPECT_THAT(lines[1], ::testing::MatchesRegex("import time: +[0-9]+ \\| +[0-9]+ \\|   inner"));
  EXPECT_THAT(lines[2], ::testing::MatchesRegex("import time: +[0-9]+ \\| +[0-9]+ \\| outer"));
}

TEST_F(ImporterTest, IL51_APackageThatIsThereHasNoLineOfItsOwn) {
  std::vector<std::string> lines;
  importer.import_time().Enable([&](const std::string& line) { lines.push_back(line); });
  finder.AddPackage("p", Importing("p.x"));
  finder.Add("p.x");
  ASSERT_TRUE(importer.Import("p").ok());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[1], ::testing::EndsWith("|   p.x"));
  EXPECT_THAT(lines[2], ::testing::EndsWith("| p"));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
