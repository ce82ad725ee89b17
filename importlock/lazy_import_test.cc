#include "pyrt/importlock/lazy_import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/runtime/object/function.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string CauseOf(const absl::StatusOr<Ref<Object>>& result) {
  const Ref<Error> error = ErrorFromStatus(result.status());
  return error && error->cause() ? error->cause()->type().name() + ": " + error->cause()->Message() : "none";
}

class LazyImportTest : public ::testing::Test {
 protected:
  LazyImportTest() {
    finder.AddPackage("p");
    finder.Add("p.m", [this](const Ref<Object>& module) {
      ++runs;
      return module->SetAttr("x", Int::Of(7));
    });
  }
  absl::StatusOr<Ref<Object>> Statement(const char* name, const std::vector<std::string>& from_list = {},
                                        bool is_explicit = true) {
    return lazy.ImportModuleLevel(name, globals.get(), from_list, 0, is_explicit);
  }
  static LazyImport* AsLazy(const absl::StatusOr<Ref<Object>>& value) {
    return value.ok() ? dynamic_cast<LazyImport*>(value->get()) : nullptr;
  }

  TestInterpreter interpreter;
  InterpreterAttached attached{interpreter};
  ScriptFinder& finder = *interpreter.finder;
  Importer& importer = *interpreter.importer;
  LazyImports lazy{importer};
  Ref<Dict> globals = Dict::New();
  int runs = 0;
};

TEST_F(LazyImportTest, PEP810_ThePlaceholderImportsWhenItIsUsed) {
  const auto statement = Statement("p.m");
  ASSERT_NE(AsLazy(statement), nullptr);
  EXPECT_EQ((*statement)->Repr().value(), "<lazy_import 'p.m'>");
  EXPECT_THAT(importer.modules().Snapshot(), IsEmpty());
  EXPECT_THAT(lazy.names(), ElementsAre("p.m"));
  const auto p = ResolveIfLazy(*statement);
  ASSERT_TRUE(p.ok()) << p.status();
  EXPECT_EQ(*p, importer.Import("p").value()) << "the head, as by the statement";
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(AsLazy(statement)->resolved());
  EXPECT_EQ(ResolveIfLazy(*statement).value(), *p);
  EXPECT_EQ(ResolveIfLazy(*p).value(), *p);
  EXPECT_EQ((*(*statement)->GetAttr("resolve"))->Call({}).value(), *p);
}

TEST_F(LazyImportTest, PEP810_AModulesAttributeResolvesItself) {
  const auto statement = Statement("p.m", {"x"});
  const Ref<Object> x = AsLazy(statement)->From("x");
  EXPECT_EQ(x->Repr().value(), "<lazy_import 'p.m.x'>");
  const Ref<Module> user = Module::New("user");
  user->dict()->Set("x", x);
  user->dict()->Set("m", *statement);
  EXPECT_EQ(runs, 0);
  EXPECT_EQ(As<Int>(*user->GetAttr("x"))->value(), 7);
  EXPECT_EQ(As<Int>(user->dict()->Get("x"))->value(), 7) << "kept in the placeholder's stead";
  EXPECT_EQ(*user->GetAttr("m"), importer.Import("p.m").value()) << "with a from-list: the tail";
  EXPECT_EQ(runs, 1);
}

TEST_F(LazyImportTest, PEP810_ErrorsAreChainedAndTheNextUseTriesAgain) {
  const auto absent = Statement("absent");
  const auto failed = ResolveIfLazy(*absent);
  EXPECT_EQ(MessageOf(failed), "ModuleNotFoundError: No module named 'absent'");
  EXPECT_EQ(CauseOf(failed), "ImportError: lazy import of 'absent' raised an exception during resolution");
  finder.Add("absent");
  EXPECT_TRUE(ResolveIfLazy(*absent).ok());

  const auto wrong = AsLazy(Statement("p.m", {"y"}))->From("y")->Resolve();
  EXPECT_EQ(MessageOf(wrong), "ImportError: cannot import name 'y' from 'p.m' (unknown location)");
  EXPECT_EQ(CauseOf(wrong), "ImportError: lazy import of 'p.m.y' raised an exception during resolution");

  finder.Add("chained", [](const Ref<Object>&) {
    const Ref<Error> error = Error::New(ErrorType::ValueError(), "no");
    error->set_cause(Error::New(ErrorType::KeyError(), "why"));
    return ToStatus(error);
  });
  EXPECT_EQ(CauseOf(ResolveIfLazy(*Statement("chained"))), "KeyError: 'why'") << "its own cause stays";
}

TEST_F(LazyImportTest, PEP810_ModesAndTheFilter) {
  for (const LazyImportsMode mode :
       {LazyImportsMode::kNormal, LazyImportsMode::kAll, LazyImportsMode::kNone}) {
    lazy.set_mode(mode);
    EXPECT_EQ(AsLazy(Statement("p", {}, true)) != nullptr, mode != LazyImportsMode::kNone);
    EXPECT_EQ(AsLazy(Statement("p", {}, false)) != nullptr, mode == LazyImportsMode::kAll);
    EXPECT_EQ(AsLazy(Statement("p", {"*"}, true)), nullptr) << "never";
  }
  lazy.set_mode(LazyImportsMode::kNormal);
  std::string asked;
  ASSERT_TRUE(lazy.SetFilter(NativeFunction::New("filter",
                                                 [&](Args arguments) -> absl::StatusOr<Ref<Object>> {
                                                   asked = Tuple::Of(arguments)->Repr().value();
                                                   if (As<String>(arguments[1])->value() == "bad")
                                                     return Raise(ErrorType::ValueError(), "bad");
                                                   return BoolOf(IsNone(arguments[2]));
                                                 }))
                  .ok());
  EXPECT_NE(AsLazy(Statement("p")), nullptr);
  EXPECT_EQ(asked, "(None, 'p', None)");
  globals->Set("__name__", String::Of("user"));
  EXPECT_EQ(*Statement("p.m", {"x"}), importer.Import("p.m").value()) << "the filter says no";
  EXPECT_EQ(asked, "('user', 'p.m', ('x',))");
  EXPECT_EQ(MessageOf(Statement("bad")), "ValueError: bad");
  EXPECT_EQ(MessageOf(lazy.SetFilter(Int::Of(1))), "ValueError: filter provided but is not callable");
  EXPECT_TRUE(lazy.SetFilter(None()).ok());
  EXPECT_EQ(lazy.filter(), nullptr);
}

TEST_F(LazyImportTest, PEP810_RelativeNamesAreResolvedWhereTheyAreWritten) {
  globals->Set("__package__", String::Of("p"));
  const auto relative = lazy.ImportModuleLevel("m", globals.get(), {"x"}, 1, true);
  ASSERT_NE(AsLazy(relative), nullptr);
  EXPECT_EQ(AsLazy(relative)->name(), "p.m");
  EXPECT_EQ(MessageOf(lazy.ImportModuleLevel("m", globals.get(), {}, 2, true)),
            "ImportError: attempted relative import beyond top-level package");
  EXPECT_EQ(MessageOf(Statement("")), "ValueError: Empty module name");
}

TEST_F(LazyImportTest, IL74_AMissingModuleMayBeNoError) {
  finder.Add("broken", [&](const Ref<Object>&) { return importer.Import("absent").status(); });
  EXPECT_TRUE(importer.ImportIfPresent("p").value());
  EXPECT_FALSE(importer.ImportIfPresent("p.absent").value());
  EXPECT_EQ(MessageOf(importer.ImportIfPresent("broken")), "ModuleNotFoundError: No module named 'absent'");
  importer.modules().Set("p.halted", None());
  EXPECT_EQ(MessageOf(importer.ImportIfPresent("p.halted")),
            "ModuleNotFoundError: import of p.halted halted; None in sys.modules");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
