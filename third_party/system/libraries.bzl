"""GoogleTest, Google Benchmark and mimalloc of the system, with upstream's labels."""

load("//third_party/system:pkg_config.bzl", "missing_package")

def _system_library_impl(repository_ctx):
    header = repository_ctx.attr.header
    if not repository_ctx.path("/usr/include/" + header).exists and \
       not repository_ctx.path("/usr/local/include/" + header).exists:
        missing_package(repository_ctx.attr.package, header)
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("BUILD.bazel", repository_ctx.attr.build_file_content)

_system_library = repository_rule(
    implementation = _system_library_impl,
    attrs = {
        "build_file_content": attr.string(mandatory = True),
        "header": attr.string(doc = "A header whose presence shows that the package is installed.", mandatory = True),
        "package": attr.string(doc = "Debian's package, for the error message.", mandatory = True),
    },
    doc = "Presents one system library under upstream's labels.",
    local = True,
)

_HEADER = """\
load("@rules_cc//cc:defs.bzl", "cc_library")

package(default_visibility = ["//visibility:public"])
"""

def system_googletest(name):
    """Debian's libgtest-dev and libgmock-dev; as upstream, `gtest` has GoogleMock too.

    Args:
      name: of the repository.
    """
    _system_library(
        name = name,
        build_file_content = _HEADER + """
cc_library(
    name = "gtest",
    linkopts = ["-lgmock", "-lgtest", "-lpthread"],
)

cc_library(
    name = "gtest_main",
    linkopts = ["-lgmock_main"],
    deps = [":gtest"],
)
""",
        header = "gmock/gmock.h",
        package = "libgmock-dev",
    )

def system_benchmark(name):
    """Debian's libbenchmark-dev.

    Args:
      name: of the repository.
    """
    _system_library(
        name = name,
        build_file_content = _HEADER + """
cc_library(
    name = "benchmark",
    linkopts = ["-lbenchmark", "-lpthread"],
)

cc_library(
    name = "benchmark_main",
    linkopts = ["-lbenchmark_main"],
    deps = [":benchmark"],
)
""",
        header = "benchmark/benchmark.h",
        package = "libbenchmark-dev",
    )

def system_mimalloc(name):
    """Debian's libmimalloc-dev.

    Args:
      name: of the repository.
    """
    _system_library(
        name = name,
        build_file_content = _HEADER + """
cc_library(
    name = "mimalloc",
    linkopts = ["-lmimalloc"],
)

# The header without the library, as in upstream's module.
cc_library(name = "mimalloc-api")
""",
        header = "mimalloc.h",
        package = "libmimalloc-dev",
    )
