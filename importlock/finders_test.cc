// Frozen modules and the path finder.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "pyrt/importlock/frozen.h"
#include "pyrt/importlock/importer_test_util.h"
#include "pyrt/importlock/path_finder.h"
#include "pyrt/runtime/object/function.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint8_t kCode[] = {1, 2, 3};

FrozenTables Tables() {
  FrozenTables tables;
  tables.bootstrap = {{"core", kCode, 1}, {"twice", kCode, 1}};
  tables.embedder = {{"twice", kCode, 2}, {"app", kCode, 2, true}};
  tables.stdlib = {{"lib", kCode, 3}, {"excluded", nullptr, 0}, {"broken", kCode, 0}};
  tables.test = {{"lib", kCode, 1}, {"hello", kCode, 3}};
  tables.aliases = {{"hello", "original"}, {"lib", ""}};
  return tables;
}

TEST(FrozenTest, B115_OrderOfTables) {
  const FrozenTables tables = Tables();
  EXPECT_EQ(tables.Find("twice", true).module->size, 1u) << "bootstrap before the embedder's";
  EXPECT_EQ(tables.Find("lib", true).module->size, 3u) << "library before test";
  EXPECT_TRUE(tables.Find("app", false).module->is_package) << "the embedder's count always";
  EXPECT_EQ(tables.Find("core", false).status, FrozenStatus::kFound) << "essential";
  EXPECT_EQ(tables.Find("lib", false).status, FrozenStatus::kDisabled);
  EXPECT_EQ(tables.Find("hello", true).original, "original");
  EXPECT_EQ(tables.Find("lib", true).original, "");
  EXPECT_EQ(tables.Find("core", true).original, "core");
  EXPECT_TRUE(UseFrozen(1, false));
  EXPECT_FALSE(UseFrozen(-1, true));
  EXPECT_TRUE(UseFrozen(0, true));
}

TEST(FrozenTest, B115_ErrorTexts) {
  const FrozenTables tables = Tables();
  const auto error = [&](std::string_view name, bool use) {
    return MessageOf(FrozenError(tables.Find(name, use).status, name));
  };
  EXPECT_EQ(error("no", true), "ImportError: No such frozen object named 'no'");
  EXPECT_EQ(error("lib", false),
            "ImportError: Frozen modules are disabled and the frozen object named 'lib' is not essential");
  EXPECT_EQ(error("excluded", true), "ImportError: Excluded frozen object named 'excluded'");
  EXPECT_EQ(error("broken", true), "ImportError: Frozen object named 'broken' is invalid");
  EXPECT_EQ(error(std::string_view("core\0x", 6), true),
            "ImportError: No such frozen object named 'core\\x00x'")
      << "gh-150633";
}

TEST(FrozenTest, FinderRunsTheCode) {
  TestInterpreter interpreter;
  const InterpreterAttached attached(interpreter);
  const FrozenTables tables = Tables();
  std::vector<size_t> run;
  std::vector<std::string> originals;
  interpreter.importer->set_meta_path(List::Of({Ref<Object>(MakeRef<FrozenFinder>(
      tables, true, [&](const FrozenModule& module, const Ref<Object>&, std::string_view original) {
        run.push_back(module.size);
        originals.emplace_back(original);
        return absl::OkStatus();
      }))}));
  EXPECT_TRUE(interpreter.importer->Import("app").ok());
  EXPECT_EQ(MessageOf(interpreter.importer->Import("excluded")),
            "ImportError: Excluded frozen object named 'excluded'");
  EXPECT_TRUE(interpreter.importer->Import("hello").ok());
  EXPECT_TRUE(interpreter.importer->Import("lib").ok());
  EXPECT_THAT(run, ElementsAre(2u, 3u, 3u));
  EXPECT_THAT(originals, ElementsAre("app", "original", "")) << "IL-66";
}

TEST(FrozenTest, ImportFrozenModuleWithoutAFinder) {
  TestInterpreter interpreter;
  const InterpreterAttached attached(interpreter);
  Importer& importer = *interpreter.importer;
  const FrozenTables tables = Tables();
  std::string last;
  const auto run = [&last](const FrozenModule& code, const Ref<Object>& module, std::string_view original) {
    last = original;
    return code.size == 3 ? Raise(ErrorType::ValueError(), "no")
                          : module->SetAttr("size", Int::Of(static_cast<int64_t>(code.size)));
  };
  const auto import = [&](std::string_view name) {
    return ImportFrozenModule(importer, tables, name, true, run);
  };
  EXPECT_TRUE(import("app").value());
  EXPECT_EQ(As<Int>(*importer.modules().Get("app")->GetAttr("size"))->value(), 2);
  EXPECT_TRUE(importer.modules().Get("app")->GetAttr("__path__").ok());
  EXPECT_FALSE(import("absent").value());
  EXPECT_FALSE(ImportFrozenModule(importer, tables, "lib", false, run).value());
  EXPECT_EQ(MessageOf(import("excluded")), "ImportError: Excluded frozen object named 'excluded'");
  EXPECT_EQ(MessageOf(import("broken")), "ImportError: Frozen object named 'broken' is invalid");
  EXPECT_EQ(As<String>(*importer.modules().Get("app")->GetAttr("__origname__"))->value(), "app");
  EXPECT_EQ(MessageOf(import("hello")), "ValueError: no");
  EXPECT_EQ(last, "original");
  EXPECT_FALSE(importer.modules().Get("hello")) << "a failure takes it away";
  EXPECT_EQ(MessageOf(importer.ExecModule("m",
                                          [&](const Ref<Object>&) {
                                            importer.modules().Remove("m");
                                            return absl::OkStatus();
                                          })),
            "ImportError: Loaded module 'm' not found in sys.modules");
}

class PathFinderTest : public ::testing::Test {
 protected:
  PathFinderTest() {
    std::string pattern = ::testing::TempDir() + "/path_finder_XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    root = pattern;
    const auto run = [this](const std::string& path, const Ref<Object>&) {
      ran.push_back(path.substr(root.size() + 1));
      return absl::OkStatus();
    };
    PathFinder::Options options;
    options.suffixes = {{".one", "init.one", run}, {".two", "", run}};
    options.native = &native;
    options.host = &interpreter.host;
    finder = MakeRef<PathFinder>(importer.path(), options);
    importer.path()->Append(String::Of(root));
    importer.set_meta_path(List::Of({finder}));
  }
  ~PathFinderTest() override { std::filesystem::remove_all(root); }

  void Write(const std::string& file, const std::string& content = "") {
    const std::filesystem::path path = root + "/" + file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << content;
    finder->InvalidateCaches();
  }

  TestInterpreter interpreter;
  InterpreterAttached attached{interpreter};
  Importer& importer = *interpreter.importer;
  ExtensionCache cache;
  NativeModules native{interpreter.host, cache};
  Ref<PathFinder> finder;
  std::string root;
  std::vector<std::string> ran;
};

TEST_F(PathFinderTest, PackagesBeforeFilesAndSuffixesInOrder) {
  Write("m.two");
  Write("m.one");
  Write("p/init.one");
  Write("p.one");
  Write("p/c.two");
  ASSERT_TRUE(importer.Import("m").ok());
  ASSERT_TRUE(importer.Import("p.c").ok());
  EXPECT_THAT(ran, ElementsAre("m.one", "p/init.one", "p/c.two"));
  EXPECT_EQ(As<String>(*importer.Import("m").value()->GetAttr("__file__"))->value(), root + "/m.one");
}

TEST_F(PathFinderTest, DirectoriesWithoutPackageFileAreNamespaces) {
  Write("space/a.one");
  Write("elsewhere/space/b.one");
  importer.path()->Append(String::Of(root + "/elsewhere"));
  ASSERT_TRUE(importer.Import("space.a").ok());
  ASSERT_TRUE(importer.Import("space.b").ok());
  EXPECT_THAT(ran, ElementsAre("space/a.one", "elsewhere/space/b.one"));
  Write("later/x.one");
  Write("elsewhere/later.one");
  ASSERT_TRUE(importer.Import("later").ok());
  EXPECT_EQ(ran.back(), "elsewhere/later.one") << "a module anywhere is better than a namespace";
}

TEST_F(PathFinderTest, ListingsAreCachedUntilTheDirectoryChanges) {
  Write("m.one");
  EXPECT_FALSE(importer.Import("x").ok());
  const uint64_t before = finder->listings();
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(importer.Import("y" + std::to_string(i)).ok());
  EXPECT_EQ(finder->listings(), before);
  std::ofstream(root + "/x.one") << "";
  const timespec times[2] = {{1'000'000, 0}, {1'000'000, 5}};
  ASSERT_EQ(::utimensat(AT_FDCWD, root.c_str(), times, 0), 0);
  EXPECT_TRUE(importer.Import("x").ok());
  EXPECT_EQ(finder->listings(), before + 1);
}

// It stays as it is, and so does its time: what could not be read then must not count as empty.
TEST_F(PathFinderTest, ADirectoryThatCannotBeReadNowIsAnErrorAndReadLater) {
  Write("m.one");
  rlimit limit;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = importer.Import("m").status();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(IsError(status, ErrorType::OSError())) << MessageOf(status);
  EXPECT_THAT(MessageOf(status), HasSubstr("Too many open files"));
  EXPECT_EQ(finder->listings(), 0u);
  EXPECT_EQ(MessageOf(importer.Import("m")), "OK");
}

TEST_F(PathFinderTest, TheCurrentDirectoryMayChange) {
  Write("first/a.one");
  Write("second/b.one");
  const timespec times[2] = {{1'000'000, 0}, {1'000'000, 5}};
  for (const char* const name : {"/first", "/second"}) {
    ASSERT_EQ(::utimensat(AT_FDCWD, (root + name).c_str(), times, 0), 0);
  }
  std::vector<std::string> found;
  PathFinder::Options options;
  options.suffixes = {{".one", "", [&](const std::string& path, const Ref<Object>&) {
                         found.push_back(path);
                         return absl::OkStatus();
                       }}};
  importer.set_meta_path(
      List::Of({Ref<Object>(MakeRef<PathFinder>(List::OfStrings({""}), std::move(options)))}));
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(root + "/first");
  EXPECT_EQ(MessageOf(importer.Import("a")), "OK");
  std::filesystem::current_path(root + "/second");
  EXPECT_EQ(MessageOf(importer.Import("b")), "OK");
  std::filesystem::current_path(before);
  EXPECT_THAT(found, ElementsAre("./a.one", "./b.one"));
}

TEST_F(PathFinderTest, PathsAndHooksMayBeTuples) {
  Write("m.one");
  interpreter.host.sys["path"] = Tuple::Of({Ref<Object>(String::Of(root))});
  int asked = 0;
  interpreter.host.sys["path_hooks"] =
      Tuple::Of({Ref<Object>(NativeFunction::New("hook", [&](Args) -> absl::StatusOr<Ref<Object>> {
        ++asked;
        return Raise(ErrorType::ImportError(), "not mine");
      }))});
  importer.path()->Assign({});
  EXPECT_EQ(MessageOf(importer.Import("m")), "OK");
  EXPECT_EQ(asked, 1);
}

TEST_F(PathFinderTest, NamesThatNoFileCanHave) {
  Write("p/init.one");
  Write("p/c.one");
  for (const std::string name : {"p/c", "../p", "..", "p."}) {
    EXPECT_FALSE(importer.Import(name).ok()) << name;
  }
  EXPECT_FALSE(importer.Import(std::string_view("p\0.one", 6)).ok());
  EXPECT_TRUE(importer.Import("p.c").ok());
}

// sys.path_hooks: entries that are no directories; sys.path_importer_cache; invalidate_caches.
TEST_F(PathFinderTest, PathHooksAreAskedOncePerEntry) {
  class ArchiveFinder final : public Finder {
   public:
    absl::StatusOr<Ref<ModuleSpec>> FindSpec(std::string_view name, const std::vector<std::string>* path,
                                             const Object*) override {
      EXPECT_EQ(path, nullptr);
      if (name == "portion") {
        ModuleSpec::Options options;
        options.is_package = true;
        options.search_path = {"archive:/portion"};
        return ModuleSpec::New(name, std::move(options));
      }
      if (name != "packed") return Ref<ModuleSpec>();
      class Packed final : public Loader {
        absl::Status Exec(const Ref<ModuleSpec>&, const Ref<Object>&) override { return absl::OkStatus(); }
      };
      ModuleSpec::Options options;
      options.loader = MakeRef<Packed>();
      return ModuleSpec::New(name, std::move(options));
    }
  };
  std::vector<std::string> asked;
  const auto hook = NativeFunction::New("hook", [&](Args arguments) -> absl::StatusOr<Ref<Object>> {
    asked.push_back(As<String>(arguments[0])->value());
    if (!asked.back().starts_with("archive:")) return Raise(ErrorType::ImportError(), "not mine");
    return Ref<Object>(MakeRef<ArchiveFinder>());
  });
  interpreter.host.sys["path_hooks"] = List::Of({Ref<Object>(hook)});
  importer.path()->Insert(0, String::Of("archive:"));
  Write("m.one");
  std::filesystem::create_directories(root + "/portion");
  EXPECT_TRUE(importer.Import("packed").ok());
  EXPECT_TRUE(importer.Import("m").ok()) << "no hook wants the directory: it is looked into";
  EXPECT_FALSE(importer.Import("nothing").ok());
  EXPECT_THAT(asked, ElementsAre("archive:", root));
  const auto portion = importer.Import("portion");
  ASSERT_TRUE(portion.ok());
  EXPECT_EQ((*(*portion)->GetAttr("__path__"))->Repr().value(),
            "['archive:/portion', '" + root + "/portion']");
  EXPECT_TRUE(IsNone(finder->path_importer_cache()->Get(root)));
  finder->InvalidateCaches();
  EXPECT_EQ(finder->path_importer_cache()->Get(root), nullptr) << "a hook may want it now";
  EXPECT_NE(finder->path_importer_cache()->Get("archive:"), nullptr);

  interpreter.host.sys["path_hooks"] =
      List::Of({Ref<Object>(NativeFunction::New("hook", [](Args) -> absl::StatusOr<Ref<Object>> {
        return Raise(ErrorType::ValueError(), "broken");
      }))});
  EXPECT_EQ(MessageOf(importer.Import("other")), "ValueError: broken");
  interpreter.host.sys["path"] = List::Of();
  EXPECT_EQ(MessageOf(importer.Import("other")), "ModuleNotFoundError: No module named 'other'")
      << "sys.path as it is now";
}

// Any object with `find_spec`, as importlib asks it.
class DuckFinder final : public Object {
 public:
  explicit DuckFinder(NativeFunction::Body find_spec)
      : find_spec_(NativeFunction::New("f", std::move(find_spec))) {}
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    return name == "find_spec" ? Ref<Object>(find_spec_) : Object::GetAttr(name);
  }
  const char* TypeName() const override { return "DuckFinder"; }

 private:
  const Ref<NativeFunction> find_spec_;
};

TEST_F(PathFinderTest, FindersMayBeAnyObjectWithFindSpec) {
  std::string asked;
  importer.set_meta_path(List::Of({Ref<Object>(MakeRef<DuckFinder>([&](Args arguments) {
    asked = Tuple::Of(arguments)->Repr().value();
    const std::string name = As<String>(arguments[0])->value();
    if (name == "none") return absl::StatusOr<Ref<Object>>(None());
    if (name == "wrong") return absl::StatusOr<Ref<Object>>(Int::Of(3));
    ModuleSpec::Options options;
    options.is_package = true;
    options.search_path = {"/p"};
    return absl::StatusOr<Ref<Object>>(ModuleSpec::New(name, std::move(options)));
  }))}));
  EXPECT_TRUE(importer.Import("p").ok());
  EXPECT_EQ(asked, "('p', None, None)");
  EXPECT_TRUE(importer.Import("p.c").ok());
  EXPECT_EQ(asked, "('p.c', ['/p'], None)");
  EXPECT_EQ(MessageOf(importer.Import("none")), "ModuleNotFoundError: No module named 'none'");
  EXPECT_EQ(MessageOf(importer.Import("wrong")),
            "TypeError: find_spec() must return a ModuleSpec or None, not int");
}

TEST_F(PathFinderTest, FilesThatAreNoNativeModules) {
  Write("bad.so", "this is no shared object");
  EXPECT_THAT(MessageOf(importer.Import("bad")), HasSubstr("ImportError: "));
  std::filesystem::create_directory(root + "/folder.so");
  finder->InvalidateCaches();
  EXPECT_EQ(MessageOf(importer.Import("folder")), "ModuleNotFoundError: No module named 'folder'");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
