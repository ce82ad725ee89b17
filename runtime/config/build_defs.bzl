"""The macros that pyrt's BUILD files are written with.

Every BUILD file of a component begins with

    load("//runtime/config:build_defs.bzl", "pyrt_cc_library", "pyrt_cc_test")

    package(default_visibility = ["//visibility:private"])

    licenses(["notice"])

Visibility: nothing is given; state what is meant. The package groups are in runtime/config/BUILD.bazel:

    (nothing)                            the target's own package
    ["//runtime/config:above_gil"]       the layers that may use the gil layer (one group per layer), testing, bench
    ["//visibility:public"]              part of pyrt's interface; such a target is listed in its folder's README

Variants come from one table, VARIANTS. A test x_test yields one target per row of its kind, x_test_gil and x_test_ft,
and a test_suite x_test of them. What they run is x_test_binary, which follows the command line's flags.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")
load("//third_party/precompiled:precompiled_headers.bzl", "include_first")
load(
    ":variant_rules.bzl",
    "release_variant_binary",
    "release_variant_test",
    "variant_test",
)

# suffix -> the flags of the variant.
VARIANTS = {
    "gil": struct(gil = "enabled", platform = "native"),
    "ft": struct(gil = "disabled", platform = "native"),
    "detsched_gil": struct(gil = "enabled", platform = "detsched"),
    "detsched_ft": struct(gil = "disabled", platform = "detsched"),
}

NATIVE_VARIANTS = ["gil", "ft"]
DETSCHED_VARIANTS = ["detsched_gil", "detsched_ft"]

_CONFIG = str(Label("//runtime/config"))
_FUZZ_MAIN = str(Label("//testing/fuzz:fuzz_main"))
_LIBFUZZER = str(Label("//runtime/config:libfuzzer"))
_PRECOMPILING = str(Label("//runtime/config:precompiling"))

def _with_config(deps):
    # `deps` may be a select(), which has no elements to look at.
    if type(deps) == "list":
        deps = [dep for dep in deps if dep not in ["//runtime/config", "//runtime/config:config"]]
    return deps + [_CONFIG]

def _precompiled(name, deps):
    """The deps, with //runtime/config, and copts of a target that includes what third_party/precompiled has parsed."""
    deps = _with_config(deps)
    if not name:
        return struct(deps = deps, copts = [])
    return struct(
        deps = deps + select({
            _PRECOMPILING: [str(Label("//third_party/precompiled:" + name))],
            "//conditions:default": [],
        }),
        copts = select({
            _PRECOMPILING: include_first(name),
            "//conditions:default": [],
        }),
    )

# Where every file includes absl/status by way of thread_state.h at the latest.
_ALL_USE_STATUS = ["bench", "importlock", "interp", "sys", "tstate"]

def _status_if_used(deps):
    used = type(deps) == "list" and [dep for dep in deps if dep.startswith("@com_google_absl//absl/status")]
    return "status" if used or native.package_name().split("/")[0] in _ALL_USE_STATUS else None

def pyrt_cc_library(name, srcs = [], hdrs = [], deps = [], **kwargs):
    """A cc_library whose headers are included as "pyrt/<package>/<header>".

    No compiler options are set: a consumer's own apply (pyrt's are in .bazelrc).

    Args:
      name: the public header's stem.
      srcs: sources; headers among them (internal/...) are served under the prefix too.
      hdrs: headers.
      deps: //runtime/config is added.
      **kwargs: as for cc_library.
    """
    if type(srcs) == "list":
        # include_prefix acts on hdrs only, and a private header is included by its full path as any other.
        hdrs = hdrs + [src for src in srcs if src.endswith(".h")]
        srcs = [src for src in srcs if not src.endswith(".h")]
    first = _precompiled(_status_if_used(deps) if srcs else None, deps)
    cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = first.copts,
        include_prefix = "pyrt/" + native.package_name(),
        deps = first.deps,
        **kwargs
    )

def _variant_tests(rule, name, variants, binary, tags, **kwargs):
    for suffix in variants:
        rule(
            name = name + "_" + suffix,
            binary = binary,
            gil = VARIANTS[suffix].gil,
            platform = VARIANTS[suffix].platform,
            tags = tags,
            **kwargs
        )
    native.test_suite(
        name = name,
        tests = [":" + name + "_" + suffix for suffix in variants],
    )

def _cc_variant_tests(
        name,
        srcs,
        deps,
        variants,
        precompiled,
        size = "small",
        timeout = None,
        tags = [],
        data = [],
        args = [],
        env = {},
        shard_count = None,
        flaky = None,
        visibility = None,
        **kwargs):
    if flaky:
        fail("%s: a test that fails now and then has found something; it may not be marked flaky" % name)

    first = _precompiled(precompiled, deps)

    # Manual, so that //... builds the variants and not the binary once more as the command line has it.
    cc_test(
        name = name + "_binary",
        size = size,
        srcs = srcs,
        copts = first.copts,
        data = data,
        linkstatic = True,
        tags = ["manual"],
        deps = first.deps,
        **kwargs
    )
    _variant_tests(
        variant_test,
        name,
        variants,
        binary = ":" + name + "_binary",
        size = size,
        timeout = timeout,
        tags = tags,
        data = data,
        args = args,
        env = env,
        shard_count = shard_count,
        visibility = visibility,
    )

def pyrt_cc_test(name, srcs, deps = [], variants = NATIVE_VARIANTS, **kwargs):
    """A GoogleTest test on real threads, in both builds: <name>_gil and <name>_ft.

    Args:
      name: ends in _test.
      srcs: sources.
      deps: //runtime/config is added; name @com_google_googletest//:gtest_main or :gtest yourself.
      variants: rows of VARIANTS, where one of them makes no sense.
      **kwargs: size ("small" unless told), timeout, tags, data, args, env, shard_count, and as for cc_test.
    """
    _cc_variant_tests(name, srcs, deps, variants, precompiled = "googletest_o1", **kwargs)

def pyrt_cc_schedule_test(
        name,
        srcs,
        deps = [],
        variants = DETSCHED_VARIANTS,
        visibility = ["//testing/mutants:__pkg__"],
        **kwargs):
    """A test of the same code on the deterministic scheduler: <name>_detsched_gil and <name>_detsched_ft.

    Args:
      name: ends in _schedule_test.
      srcs: sources.
      deps: as for pyrt_cc_test, and what is used of //testing/detsched.
      variants: rows of VARIANTS.
      visibility: of the tests; //testing/mutants runs them with one mistake each.
      **kwargs: as for pyrt_cc_test.
    """
    _cc_variant_tests(
        name,
        srcs,
        deps,
        variants,
        precompiled = "googletest",
        visibility = visibility,
        **kwargs
    )

def pyrt_cc_fuzz_test(
        name,
        srcs,
        deps = [],
        corpus = [],
        platform = "native",
        size = "small",
        tags = [],
        **kwargs):
    """A fuzz target (LLVMFuzzerTestOneInput), in both builds: <name>_gil and <name>_ft, or _detsched_gil and _detsched_ft.

    As a test it replays `corpus`, then runs for a bounded number of random inputs, with any compiler. With
    --config=fuzz (clang) the binary is libFuzzer's; see testing/fuzz/README.md.

    Args:
      name: ends in _fuzz; in _schedule_fuzz on detsched.
      srcs: sources.
      deps: //runtime/config and the driver are added.
      corpus: input files, one per crash or shape worth keeping.
      platform: "native", or "detsched" for a target whose bytes drive the schedule.
      size: of the test.
      tags: of the tests.
      **kwargs: as for cc_test.
    """
    variants = NATIVE_VARIANTS if platform == "native" else DETSCHED_VARIANTS
    first = _precompiled(_status_if_used(deps), deps)
    cc_test(
        name = name + "_binary",
        size = size,
        srcs = srcs,
        copts = first.copts,
        linkopts = select({
            _LIBFUZZER: ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        linkstatic = True,
        tags = ["manual"],
        deps = first.deps + select({
            _LIBFUZZER: [],
            "//conditions:default": [_FUZZ_MAIN],
        }),
        **kwargs
    )
    native.filegroup(
        name = name + "_corpus",
        testonly = True,
        srcs = corpus,
    )
    for suffix in variants:
        variant_test(
            name = name + "_" + suffix,
            size = size,
            args = select({
                _LIBFUZZER: ["-runs=20000", "-max_total_time=10"],
                "//conditions:default": ["--random_inputs=2000", "--seconds=5"],
            }) + (["$(rootpaths :%s_corpus)" % name] if corpus else []),
            binary = ":" + name + "_binary",
            data = [":" + name + "_corpus"],
            gil = VARIANTS[suffix].gil,
            platform = VARIANTS[suffix].platform,
            tags = tags + ["fuzz"],
        )
    native.test_suite(
        name = name,
        tests = [":" + name + "_" + suffix for suffix in variants],
    )

def pyrt_cc_benchmark(
        name,
        srcs,
        deps = [],
        data = [],
        smoke_args = [],
        smoke_env = {},
        size = "small",
        tags = [],
        visibility = None,
        **kwargs):
    """A Google Benchmark program in both builds, <name>_gil and <name>_ft, with a test that runs each once.

    Always optimised and without debug checks, whatever the command line says: a figure of another build means nothing.

    Args:
      name: of the benchmark; <name>_smoke_gil and <name>_smoke_ft are its tests.
      srcs: sources.
      deps: //runtime/config is added; name @com_github_google_benchmark//:benchmark_main or :benchmark yourself.
      data: files for run time.
      smoke_args: more arguments for the smoke tests, such as a --benchmark_filter.
      smoke_env: environment of the smoke tests.
      size: of the smoke tests.
      tags: of the programs and the tests.
      visibility: of the programs.
      **kwargs: as for cc_binary.
    """
    first = _precompiled(_status_if_used(deps), deps)
    cc_binary(
        name = name + "_binary",
        testonly = True,
        srcs = srcs,
        copts = first.copts,
        data = data,
        tags = ["manual"],
        deps = first.deps,
        **kwargs
    )
    for suffix in NATIVE_VARIANTS:
        release_variant_binary(
            name = name + "_" + suffix,
            testonly = True,
            binary = ":" + name + "_binary",
            data = data,
            gil = VARIANTS[suffix].gil,
            tags = tags,
            visibility = visibility,
        )
    _variant_tests(
        release_variant_test,
        name + "_smoke",
        NATIVE_VARIANTS,
        binary = ":" + name + "_binary",
        size = size,
        # One iteration where the benchmark does not ask for a number itself.
        args = ["--benchmark_min_time=0.000001"] + smoke_args,
        env = smoke_env,
        data = data,
        tags = tags + ["benchmark_smoke"],
    )
