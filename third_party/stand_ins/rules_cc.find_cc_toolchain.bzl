"""The C++ toolchain of a rule."""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

find_cc_toolchain = find_cpp_toolchain

def use_cc_toolchain():
    """What a rule that calls find_cc_toolchain says in its `toolchains`."""
    return ["@bazel_tools//tools/cpp:toolchain_type"]
