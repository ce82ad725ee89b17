"""The dependencies of pyrt for Bazel without bzlmod, taken from the system's packages.

A workspace that uses pyrt calls pyrt_dependencies() from its WORKSPACE. What it has defined itself under the same name
(its own Abseil, say) stays as it is.
"""

load("//third_party:stand_in.bzl", "stand_in_repository")
load("//third_party/system:abseil.bzl", "system_abseil")
load("//third_party/system:libraries.bzl", "system_benchmark", "system_googletest", "system_mimalloc")

# As str(Label(...)): a plain string would be looked up in the workspace that calls, not in this one.
_RULES_CC = {
    str(Label("//third_party/stand_ins:rules_cc.action_names.bzl")): "cc/action_names.bzl",
    str(Label("//third_party/stand_ins:rules_cc.cc_common.bzl")): "cc/common/cc_common.bzl",
    str(Label("//third_party/stand_ins:rules_cc.cc_info.bzl")): "cc/common/cc_info.bzl",
    str(Label("//third_party/stand_ins:rules_cc.defs.bzl")): "cc/defs.bzl",
    str(Label("//third_party/stand_ins:rules_cc.find_cc_toolchain.bzl")): "cc/find_cc_toolchain.bzl",
    str(Label("//third_party/stand_ins:rules_cc.native.bzl")): "cc/common/native.bzl",
}
_RULES_JAVA = str(Label("//third_party/stand_ins:rules_java.defs.bzl"))

def _maybe(rule, name, **kwargs):
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def pyrt_dependencies():
    """Defines every repository that pyrt's BUILD files name, unless the workspace has one of that name already."""
    _maybe(system_abseil, "com_google_absl")
    _maybe(system_benchmark, "com_github_google_benchmark")
    _maybe(system_googletest, "com_google_googletest")
    _maybe(system_mimalloc, "mimalloc")

    # Bazel would fetch these three from the net.
    _maybe(
        stand_in_repository,
        "rules_cc",
        files = _RULES_CC,
    )
    _maybe(
        stand_in_repository,
        "rules_java",
        files = {_RULES_JAVA: "java/defs.bzl"},
    )

    # Only `bazel coverage` would run it, but every test names it.
    _maybe(
        stand_in_repository,
        "remote_coverage_tools",
        build_file_content = """\
package(default_visibility = ["//visibility:public"])

filegroup(name = "coverage_report_generator")
""",
    )
