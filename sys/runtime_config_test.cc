#include "pyrt/sys/runtime_config.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using Variables = std::vector<std::pair<std::string, std::string>>;
using Words = std::vector<std::string>;

struct Read {
  RuntimeConfig config;
  ConfigStatus status = ConfigStatus::Ok();
};

Read ReadWith(const Variables& variables, Words words = {}) {
  Read read;
  words.insert(words.begin(), "python3");
  read.status = ReadConfig(EnvironmentView(variables), words, &read.config);
  return read;
}

std::string ErrorOf(const Variables& variables, const Words& words = {}) {
  return ReadWith(variables, words).status.Text();
}

TEST(RuntimeConfigTest, DefaultsOfPython) {
  const Read read = ReadWith({{"LANG", "en_US.UTF-8"}});
  ASSERT_TRUE(read.status.ok());
  EXPECT_EQ(read.config.argv, Words{""});
  EXPECT_EQ(read.config.orig_argv, Words{"python3"});
  EXPECT_TRUE(read.config.buffered_stdio);
  EXPECT_EQ(read.config.stdio_errors, "strict");
  EXPECT_EQ(read.config.int_max_str_digits, 4300);
  EXPECT_EQ(read.config.gil, GilMode::kDefault);
  EXPECT_EQ(read.config.use_hash_seed, false);
}

TEST(RuntimeConfigTest, EnvironmentFlagsAreNumbersOrOne) {
  EXPECT_EQ(ReadWith({{"PYTHONOPTIMIZE", "7"}}).config.optimization_level, 7);
  EXPECT_EQ(ReadWith({{"PYTHONVERBOSE", "abc"}}).config.verbose, 1);
  EXPECT_EQ(ReadWith({{"PYTHONDEBUG", "-3"}}).config.parser_debug, 1);
  EXPECT_EQ(ReadWith({{"PYTHONOPTIMIZE", ""}}).config.optimization_level, 0) << "empty is unset";
  EXPECT_TRUE(ReadWith({{"PYTHONDONTWRITEBYTECODE", "0"}}).config.write_bytecode);
  EXPECT_FALSE(ReadWith({{"PYTHONDONTWRITEBYTECODE", "x"}}).config.write_bytecode);
  EXPECT_FALSE(ReadWith({{"PYTHONUNBUFFERED", "1"}}).config.buffered_stdio);
  EXPECT_FALSE(ReadWith({{"PYTHONNOUSERSITE", "1"}}).config.user_site_directory);
  EXPECT_TRUE(ReadWith({{"PYTHONSAFEPATH", "0"}}).config.safe_path) << "any text, even 0";
  EXPECT_EQ(ReadWith({{"PYTHONOPTIMIZE", "1"}}, {"-OO"}).config.optimization_level, 2) << "the larger wins";
}

TEST(RuntimeConfigTest, IsolatedModeIgnoresTheEnvironment) {
  const Variables hostile = {
      {"PYTHONOPTIMIZE", "2"},    {"PYTHONHASHSEED", "bad"}, {"PYTHON_GIL", "bad"},
      {"PYTHONUTF8", "bad"},      {"PYTHONMALLOC", "bad"},   {"PYTHONIOENCODING", "bad"},
      {"PYTHONTRACEMALLOC", "x"}, {"PYTHONDEVMODE", "1"},    {"PYTHONWARNINGS", "error"}};
  for (const char* option : {"-E", "-I"}) {
    const Read read = ReadWith(hostile, {option});
    ASSERT_TRUE(read.status.ok()) << read.status.Text();
    EXPECT_EQ(read.config.optimization_level, 0);
    EXPECT_FALSE(read.config.dev_mode);
    EXPECT_TRUE(read.config.warn_options.empty());
  }
  const Read isolated = ReadWith({}, {"-I"});
  EXPECT_TRUE(isolated.config.isolated);
  EXPECT_TRUE(isolated.config.safe_path);
  EXPECT_FALSE(isolated.config.user_site_directory);

  RuntimeConfig embedded = RuntimeConfig::Isolated();
  const Words words = {"host", "-O", "x"};
  ASSERT_TRUE(ReadConfig(EnvironmentView(hostile), words, &embedded).ok());
  EXPECT_EQ(embedded.optimization_level, 0) << "an embedded config does not parse argv";
  EXPECT_EQ(embedded.argv, words);
}

TEST(RuntimeConfigTest, IsolatedSaidByTheHostImpliesTheRest) {
  RuntimeConfig config;
  config.isolated = true;
  const Variables variables = {{"PYTHONOPTIMIZE", "2"}, {"PYTHONHASHSEED", "bad"}};
  const Words words = {"host", "-O", "-Z"};
  const ConfigStatus status = ReadConfig(EnvironmentView(variables), words, &config);
  ASSERT_TRUE(status.ok()) << status.Text();
  EXPECT_EQ(config.optimization_level, 0);
  EXPECT_FALSE(config.use_environment);
  EXPECT_FALSE(config.user_site_directory);
  EXPECT_TRUE(config.safe_path);
  EXPECT_EQ(config.argv, words);
}

TEST(RuntimeConfigTest, TheHashSeedIsTheOptionsTheHostsOrTheVariables) {
  const Read seeded = ReadWith({{"PYTHONHASHSEED", "7"}});
  EXPECT_EQ(seeded.config.use_hash_seed, true);
  EXPECT_EQ(seeded.config.hash_seed, 7u);
  EXPECT_EQ(ReadWith({{"PYTHONHASHSEED", "random"}}).config.use_hash_seed, false);
  for (const char* value : {"0", "7", "bad"}) {
    const Read random = ReadWith({{"PYTHONHASHSEED", value}}, {"-R"});
    ASSERT_TRUE(random.status.ok()) << random.status.Text();
    EXPECT_EQ(random.config.use_hash_seed, false) << value;
  }
  RuntimeConfig config;
  config.use_hash_seed = true;
  config.hash_seed = 5;
  ASSERT_TRUE(ReadConfig(EnvironmentView(Variables{{"PYTHONHASHSEED", "7"}}), Words{"host"}, &config).ok());
  EXPECT_EQ(config.use_hash_seed, true);
  EXPECT_EQ(config.hash_seed, 5u);
}

TEST(RuntimeConfigTest, SY14_StdioEncodingAndErrors) {
  const auto stdio = [](const Variables& variables) {
    const Read read = ReadWith(variables);
    return read.config.stdio_encoding.value() + "/" + read.config.stdio_errors.value();
  };
  EXPECT_EQ(stdio({{"LANG", "de_DE.UTF-8"}}), "utf-8/strict");
  EXPECT_EQ(stdio({}), "utf-8/surrogateescape") << "the C locale";
  EXPECT_EQ(stdio({{"LANG", "de_DE.UTF-8"}, {"LC_ALL", "POSIX"}}), "utf-8/surrogateescape");
  EXPECT_EQ(stdio({{"LANG", "de_DE.UTF-8"}, {"PYTHONUTF8", "1"}}), "utf-8/surrogateescape");
  EXPECT_EQ(stdio({{"PYTHONIOENCODING", "latin-1:replace"}}), "iso8859-1/replace");
  EXPECT_EQ(stdio({{"PYTHONIOENCODING", "ascii"}}), "ascii/strict");
  EXPECT_EQ(stdio({{"LANG", "x.UTF-8"}, {"PYTHONIOENCODING", ":backslashreplace"}}),
            "utf-8/backslashreplace");
  EXPECT_EQ(
      ErrorOf({{"PYTHONIOENCODING", "bogus"}}),
      "Fatal Python error: init_stdio_encoding: failed to get the Python codec name of the stdio encoding\n"
      "Python runtime state: preinitialized\n");
}

TEST(RuntimeConfigTest, SY14_WhatTheHostSaysAboutErrorsStays) {
  const auto errors = [](const Variables& variables, bool isolated) {
    RuntimeConfig config = isolated ? RuntimeConfig::Isolated() : RuntimeConfig();
    config.stdio_errors = "backslashreplace";
    EXPECT_TRUE(ReadConfig(EnvironmentView(variables), Words{"host"}, &config).ok());
    return config.stdio_encoding.value() + "/" + config.stdio_errors.value();
  };
  for (const bool isolated : {false, true}) {
    EXPECT_EQ(errors({}, isolated), "utf-8/backslashreplace");
    EXPECT_EQ(errors({{"LANG", "de_DE.UTF-8"}}, isolated), "utf-8/backslashreplace");
  }
  EXPECT_EQ(errors({{"PYTHONIOENCODING", "latin-1:replace"}}, false), "iso8859-1/backslashreplace");
  RuntimeConfig config = RuntimeConfig::Isolated();
  ASSERT_TRUE(ReadConfig(EnvironmentView(Variables{{"LC_ALL", "de_DE.UTF-8"}}), Words{"host"}, &config).ok());
  EXPECT_EQ(config.stdio_errors, "strict") << "the locale is no PYTHON* variable";
}

TEST(RuntimeConfigTest, SY14_WhatTheHostSaysAboutTheEncodingStays) {
  const auto stdio = [](const char* variable) {
    RuntimeConfig config;
    config.stdio_encoding = "ASCII";
    const EnvironmentView environment(Variables{{"LANG", "de_DE.UTF-8"}, {"PYTHONIOENCODING", variable}});
    EXPECT_TRUE(ReadConfig(environment, Words{"host"}, &config).ok());
    return config.stdio_encoding.value() + "/" + config.stdio_errors.value();
  };
  EXPECT_EQ(stdio(""), "ascii/strict");
  EXPECT_EQ(stdio("latin-1"), "ascii/strict");
  EXPECT_EQ(stdio("latin-1:replace"), "ascii/replace");
  EXPECT_EQ(stdio("bogus"), "ascii/strict") << "not looked at";
}

TEST(RuntimeConfigTest, PEP810_LazyImports) {
  EXPECT_EQ(ReadWith({}).config.lazy_imports, -1);
  EXPECT_EQ(ReadWith({{"PYTHON_LAZY_IMPORTS", "all"}}).config.lazy_imports, 1);
  EXPECT_EQ(ReadWith({{"PYTHON_LAZY_IMPORTS", "all"}}, {"-Xlazy_imports=normal"}).config.lazy_imports, -1);
  EXPECT_EQ(ReadWith({{"PYTHON_LAZY_IMPORTS", "none"}}, {"-I", "-Xlazy_imports=all"}).config.lazy_imports, 1);
  for (const char* option : {"lazy_imports", "lazy_imports=", "lazy_imports=none", "lazy_imports=bogus"}) {
    EXPECT_EQ(
        ErrorOf({}, {"-X", option}),
        "Fatal Python error: config_init_lazy_imports: -X lazy_imports: invalid value; expected 'all' or "
        "'normal'\nPython runtime state: preinitialized\n");
  }
  const ConfigStatus variable = ReadWith({{"PYTHON_LAZY_IMPORTS", "none"}}).status;
  EXPECT_EQ(variable.exit_code(), 1);
  EXPECT_EQ(variable.message(), "PYTHON_LAZY_IMPORTS: invalid value; expected 'all' or 'normal'");
}

// strtol(3) and strtoul(3) decide in CPython.
TEST(RuntimeConfigTest, NumbersAreReadAsTheCLibraryReadsThem) {
  const RuntimeConfig empty =
      ReadWith({}, {"-Xint_max_str_digits=", "-Xtracemalloc=", "-Xthread_inherit_context="}).config;
  EXPECT_EQ(empty.int_max_str_digits, 0);
  EXPECT_EQ(empty.tracemalloc, 0);
  EXPECT_FALSE(empty.thread_inherit_context);
  EXPECT_EQ(ReadWith({}, {"-Ximporttime="}).config.import_time, 1) << "but here it counts as no value";
  for (const char* option : {"-Xint_max_str_digits", "-Xthread_inherit_context", "-Xcpu_count="}) {
    EXPECT_FALSE(ReadWith({}, {option}).status.ok()) << option;
  }
  EXPECT_FALSE(ReadWith({{"PYTHONTRACEMALLOC", " "}}).status.ok()) << "a blank alone is no number";
  for (const char* seed : {" 7", "+7", "\t+7", "07"}) {
    EXPECT_EQ(ReadWith({{"PYTHONHASHSEED", seed}}).config.hash_seed, 7u) << seed;
  }
  EXPECT_EQ(ReadWith({{"PYTHONHASHSEED", "-0"}}).config.hash_seed, 0u);
  EXPECT_EQ(ReadWith({{"PYTHONHASHSEED", "-18446744073709551615"}}).config.hash_seed, 1u) << "2^64 less it";
  for (const char* seed : {"+ 7", "7 ", "-7", "+-7", "-+7", "--7", "++7", "+", "-", "18446744073709551616"}) {
    EXPECT_FALSE(ReadWith({{"PYTHONHASHSEED", seed}}).status.ok()) << seed;
  }
}

TEST(RuntimeConfigTest, GilOption) {
  const std::string bad =
      "Fatal Python error: config_read_gil: PYTHON_GIL / -X gil must be \"0\" or \"1\"\n"
      "Python runtime state: preinitialized\n";
  for (const char* value : {"2", "00", "on", "-1"}) {
    EXPECT_EQ(ErrorOf({{"PYTHON_GIL", value}}), bad);
    EXPECT_EQ(ErrorOf({}, {"-X", std::string("gil=") + value}), bad);
  }
  EXPECT_EQ(ErrorOf({}, {"-Xgil"}), bad);
  EXPECT_EQ(ErrorOf({{"PYTHON_GIL", "x"}}, {"-Xgil=1"}), bad) << "the option does not hide a bad variable";
  if constexpr (kGilEnabled) {
    EXPECT_EQ(ErrorOf({}, {"-Xgil=0"}),
              "Fatal Python error: config_read_gil: Disabling the GIL is not supported by this build\n"
              "Python runtime state: preinitialized\n");
    EXPECT_EQ(ReadWith({{"PYTHON_GIL", "1"}}).config.gil, GilMode::kDefault);
  } else {
    EXPECT_EQ(ReadWith({{"PYTHON_GIL", "1"}}).config.gil, GilMode::kEnable);
    EXPECT_EQ(ReadWith({{"PYTHON_GIL", "1"}}, {"-Xgil=0"}).config.gil, GilMode::kDisable);
  }
}

TEST(RuntimeConfigTest, BadValuesHaveCPythonsTexts) {
  const auto message = [](const Variables& variables, const Words& words = {}) {
    const ConfigStatus status = ReadWith(variables, words).status;
    return status.function() + ": " + status.message();
  };
  EXPECT_EQ(
      message({{"PYTHONHASHSEED", "x"}}),
      "config_init_hash_seed: PYTHONHASHSEED must be \"random\" or an integer in range [0; 4294967295]");
  EXPECT_EQ(message({{"PYTHONHASHSEED", "4294967296"}}).substr(0, 21), "config_init_hash_seed");
  EXPECT_EQ(message({{"PYTHONUTF8", "5"}}),
            "preconfig_init_utf8_mode: invalid PYTHONUTF8 environment variable value");
  for (const char* option : {"-Xutf8=3", "-Xutf8="}) {
    EXPECT_EQ(message({}, {option}), "preconfig_init_utf8_mode: invalid -X utf8 option value") << option;
  }
  EXPECT_EQ(message({{"PYTHONTRACEMALLOC", "-1"}}),
            "config_init_tracemalloc: PYTHONTRACEMALLOC: invalid number of frames");
  EXPECT_EQ(message({}, {"-X", "tracemalloc=x"}),
            "config_init_tracemalloc: -X tracemalloc=NFRAME: invalid number of frames");
  EXPECT_EQ(message({{"PYTHONINTMAXSTRDIGITS", "639"}}),
            "config_init_int_max_str_digits: PYTHONINTMAXSTRDIGITS: invalid limit; must be >= 640 or 0 for "
            "unlimited.");
  EXPECT_EQ(message({}, {"-Xint_max_str_digits"}),
            "config_init_int_max_str_digits: -X int_max_str_digits: invalid limit; must be >= 640 or 0 for "
            "unlimited.");
  EXPECT_EQ(message({{"PYTHONMALLOC", "foo"}}), "preconfig_init_allocator: PYTHONMALLOC: unknown allocator");
  EXPECT_EQ(message({}, {"-Xcpu_count=0"}),
            "config_init_cpu_count: -X cpu_count=n option: n is missing or an invalid number, n must be "
            "greater than "
            "0");
  EXPECT_EQ(message({{"PYTHON_THREAD_INHERIT_CONTEXT", "2"}}),
            "config_init_thread_inherit_context: PYTHON_THREAD_INHERIT_CONTEXT=N: N is missing or invalid");
  EXPECT_EQ(message({}, {"-Xcontext_aware_warnings"}),
            "config_init_context_aware_warnings: -X context_aware_warnings=n: n is missing or invalid");
  EXPECT_EQ(message({}, {"-Ximporttime=3"}),
            "config_init_import_time: -X importtime: values other than 1 and 2 are reserved for future use.");
  EXPECT_EQ(ErrorOf({}, {"-Xfrozen_modules=3"}),
            "Fatal Python error: bad value for option -X frozen_modules (expected \"on\" or \"off\")\n"
            "Python runtime state: preinitialized\n");
  EXPECT_EQ(ErrorOf({{"PYTHONUTF8", "5"}}).substr(ErrorOf({{"PYTHONUTF8", "5"}}).find('\n') + 1),
            "Python runtime state: preinitializing\n");
  EXPECT_EQ(ReadWith({{"PYTHONUTF8", "5"}}).status.exit_code(), 1);
}

TEST(RuntimeConfigTest, XOptions) {
  const Read read = ReadWith({}, {"-Xdev", "-X", "importtime", "-Xa=b=c", "-Xtracemalloc", "-Xcpu_count=3",
                                  "-X", "pycache_prefix=/x"});
  ASSERT_TRUE(read.status.ok()) << read.status.Text();
  EXPECT_TRUE(read.config.dev_mode);
  EXPECT_TRUE(read.config.faulthandler) << "development mode implies it";
  EXPECT_EQ(read.config.import_time, 1);
  EXPECT_EQ(read.config.tracemalloc, 1);
  EXPECT_EQ(read.config.cpu_count, 3);
  EXPECT_EQ(read.config.pycache_prefix, "/x");
  EXPECT_EQ(read.config.XOption("a"), "b=c");
  EXPECT_EQ(read.config.XOption("none"), std::nullopt);
  EXPECT_EQ(ReadWith({{"PYTHONPYCACHEPREFIX", "/env"}}, {"-Xpycache_prefix="}).config.pycache_prefix,
            std::nullopt);
}

TEST(RuntimeConfigTest, WarnOptionsLowestPriorityFirst) {
  EXPECT_EQ(ReadWith({{"PYTHONWARNINGS", "a,b,,c"}, {"PYTHONDEVMODE", "1"}}, {"-bb", "-Wd", "-W", "e"})
                .config.warn_options,
            (Words{"default", "a", "b", "c", "d", "e", "error::BytesWarning"}));
}

TEST(RuntimeConfigTest, WarnOptionsAreThereOnceAndTheHostsLast) {
  const Variables variables = {{"PYTHONWARNINGS", "a,b,a"}, {"PYTHONDEVMODE", "1"}};
  const Words words = {"host", "-Wb", "-Wc", "-Wc", "-Wdefault", "-b"};
  EXPECT_EQ(ReadWith(variables, Words(words.begin() + 1, words.end())).config.warn_options,
            (Words{"default", "a", "b", "c", "default::BytesWarning"}));
  RuntimeConfig config;
  config.warn_options = {"a", "h", "h"};
  for (int times = 0; times < 2; ++times) {
    ASSERT_TRUE(ReadConfig(EnvironmentView(variables), words, &config).ok());
    config.bytes_warning = 0;
    EXPECT_EQ(config.warn_options, (Words{"default", "b", "c", "default::BytesWarning", "a", "h", "h"}));
  }
}

TEST(RuntimeConfigTest, CommandLineSplitsProgramAndArguments) {
  const auto argv = [](const Words& words) { return ReadWith({}, words).config.argv; };
  EXPECT_EQ(argv({"-c", "pass", "-O", "x"}), (Words{"-c", "-O", "x"}));
  EXPECT_EQ(argv({"-Bcpass", "y"}), (Words{"-c", "y"}));
  EXPECT_EQ(argv({"-m", "mod", "z"}), (Words{"-m", "z"}));
  EXPECT_EQ(argv({"-u", "script.py", "-u"}), (Words{"script.py", "-u"}));
  EXPECT_EQ(argv({"--", "-weird"}), (Words{"-weird"}));
  EXPECT_EQ(argv({"-", "a"}), (Words{"-", "a"}));
  EXPECT_EQ(ReadWith({}, {"-c", "pass"}).config.run_command, "pass\n");
  EXPECT_EQ(ReadWith({}, {"script.py"}).config.run_filename, "script.py");
  const Read many = ReadWith({}, {"-bBdEiOPqsSuvvx"});
  EXPECT_EQ(many.config.verbose, 2);
  EXPECT_EQ(many.config.inspect, 1);
  EXPECT_TRUE(many.config.skip_source_first_line);
}

TEST(RuntimeConfigTest, BadUsageExitsWithTwo) {
  const auto first_line = [](const Words& words) {
    const ConfigStatus status = ReadWith({}, words).status;
    EXPECT_TRUE(status.is_exit());
    EXPECT_EQ(status.exit_code(), 2);
    return status.Text().substr(0, status.Text().find('\n'));
  };
  EXPECT_EQ(first_line({"-Z"}), "Unknown option: -Z");
  EXPECT_EQ(first_line({"--foo"}), "unknown option --foo");
  EXPECT_EQ(first_line({"-W"}), "Argument expected for the -W option");
  EXPECT_EQ(first_line({"-c"}), "Argument expected for the -c option");
  EXPECT_EQ(first_line({"-J"}), "-J is reserved for Jython");
  EXPECT_EQ(first_line({"--check-hash-based-pycs", "bad"}),
            "--check-hash-based-pycs must be one of 'default', 'always', or 'never'");
}

TEST(RuntimeConfigTest, VersionAndHelpExitWithZero) {
  const auto text = [](const Words& words) {
    const ConfigStatus status = ReadWith({}, words).status;
    EXPECT_TRUE(status.is_exit());
    EXPECT_EQ(status.exit_code(), 0);
    return status.Text();
  };
  for (const char* option : {"-V", "--version"}) EXPECT_EQ(text({option}), "Python 3.15.2\n");
  const std::string build = "Python " + VersionText(RuntimeConfig()) + "\n";
  EXPECT_EQ(text({"-VV"}), build);
  EXPECT_EQ(text({"-V", "--version"}), build);
  EXPECT_EQ(ReadWith({{"PYTHONUTF8", "bad"}}, {"-V"}).status.exit_code(), 0) << "values are looked at later";
  EXPECT_EQ(text({"-V", "-h"}), text({"-h"})) << "help ends it at once";
  EXPECT_EQ(text({"-?"}), text({"--help"}));
  EXPECT_EQ(text({"--help-all"}),
            text({"-h"}) + "\n" + text({"--help-env"}) + "\n" + text({"--help-xoptions"}));
  EXPECT_EQ(ReadWith({}, {"-V", "-Z"}).status.exit_code(), 2) << "bad usage is noticed first";
}

TEST(RuntimeConfigTest, HelpNamesEveryOptionOfOneLetter) {
  const std::string help = ReadWith({}, {"-h"}).status.Text();
  for (char option = '!'; option <= '~'; ++option) {
    const std::string word = {'-', option};
    const std::string error = ReadWith({}, {word}).status.Text();
    const bool known = error.rfind("Unknown option", 0) != 0 && error.rfind("-J is reserved", 0) != 0;
    // -t is for old scripts, -? a way to write -h, "--" no option.
    if (option == 't' || option == '?' || option == '-') continue;
    EXPECT_EQ(help.find("\n" + word + " ") != std::string::npos, known) << word;
  }
}

// The words behind `prefix` at the beginnings of lines, up to a character that no name has.
Words NamesIn(const std::string& text, const std::string& prefix) {
  Words names;
  for (size_t at = text.find("\n" + prefix); at != std::string::npos; at = text.find("\n" + prefix, at + 1)) {
    const size_t begin = at + 1 + (prefix == "-X " ? prefix.size() : 0);
    names.push_back(text.substr(begin, text.find_first_of(" :=[", begin) - begin));
  }
  return names;
}

TEST(RuntimeConfigTest, EverythingThatHelpNamesHasAnEffect) {
  const RuntimeConfig unchanged = ReadWith({}, {}).config;
  const Words values = {"1", "0", "bad", "off", "640"};
  const Words variables = NamesIn(ReadWith({}, {"--help-env"}).status.Text(), "PYTHON");
  EXPECT_GE(variables.size(), 30u);
  for (const std::string& variable : variables) {
    if (variable == "PYTHONBREAKPOINT") continue;  // read when breakpoint() is called
    bool effect = false;
    for (const std::string& value : values) {
      const Read read = ReadWith({{variable, value}}, {});
      effect = effect || !read.status.ok() || !(read.config == unchanged);
      EXPECT_EQ(ReadWith({{variable, value}}, {"-E"}).config.use_environment, false);
      RuntimeConfig ignoring = ReadWith({{variable, value}}, {"-E"}).config;
      EXPECT_TRUE(ignoring == ReadWith({}, {"-E"}).config) << "-E does not ignore " << variable;
    }
    EXPECT_TRUE(effect) << variable;
  }
  const Words options = NamesIn(ReadWith({}, {"--help-xoptions"}).status.Text(), "-X ");
  EXPECT_GE(options.size(), 18u);
  for (const std::string& option : options) {
    bool effect = false;
    for (const std::string& value : values) {
      for (const std::string& word : {option, option + "=" + value}) {
        Read read = ReadWith({}, {"-X", word});
        read.config.x_options.clear();
        read.config.orig_argv = unchanged.orig_argv;
        effect = effect || !read.status.ok() || !(read.config == unchanged);
      }
    }
    EXPECT_TRUE(effect) << "-X " << option;
  }
}

TEST(RuntimeConfigTest, VersionsAndHexversion) {
  LanguageVersion version;
  EXPECT_EQ(version.Hex(), 0x030f02f0);
  version = {3, 16, 0, "alpha", 1};
  EXPECT_EQ(version.Hex(), 0x031000a1);
  EXPECT_EQ(version.Short(), "3.16.0a1");
  version = {3, 16, 0, "candidate", 2};
  EXPECT_EQ(version.Short(), "3.16.0rc2");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
