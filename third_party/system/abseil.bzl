"""Abseil of the system (Debian: libabsl-dev) as @com_google_absl, with upstream's labels."""

load("//third_party/system:pkg_config.bzl", "find_pkg_config_folder", "read_pkg_config")

# Upstream's label -> pkg-config module. Add a row when a BUILD file needs another part of Abseil.
_TARGETS = {
    "absl/algorithm:container": "absl_algorithm_container",
    "absl/base:base": "absl_base",
    "absl/base:config": "absl_config",
    "absl/base:core_headers": "absl_core_headers",
    "absl/base:dynamic_annotations": "absl_dynamic_annotations",
    "absl/cleanup:cleanup": "absl_cleanup",
    "absl/container:fixed_array": "absl_fixed_array",
    "absl/container:flat_hash_map": "absl_flat_hash_map",
    "absl/container:flat_hash_set": "absl_flat_hash_set",
    "absl/container:inlined_vector": "absl_inlined_vector",
    "absl/container:node_hash_map": "absl_node_hash_map",
    "absl/container:node_hash_set": "absl_node_hash_set",
    "absl/functional:any_invocable": "absl_any_invocable",
    "absl/functional:function_ref": "absl_function_ref",
    "absl/hash:hash": "absl_hash",
    "absl/memory:memory": "absl_memory",
    "absl/meta:type_traits": "absl_type_traits",
    "absl/numeric:bits": "absl_bits",
    "absl/random:random": "absl_random_random",
    "absl/status:status": "absl_status",
    "absl/status:statusor": "absl_statusor",
    "absl/strings:cord": "absl_cord",
    "absl/strings:str_format": "absl_str_format",
    "absl/strings:strings": "absl_strings",
    "absl/synchronization:synchronization": "absl_synchronization",
    "absl/time:time": "absl_time",
    "absl/types:optional": "absl_optional",
    "absl/types:span": "absl_span",
    "absl/types:variant": "absl_variant",
    "absl/utility:utility": "absl_utility",
}

_HEADER = """\
load("@rules_cc//cc:defs.bzl", "cc_library")

package(default_visibility = ["//visibility:public"])
"""

_LIBRARY = """
cc_library(
    name = "{name}",
    linkopts = {linkopts},
    deps = {deps},
)
"""

_ALIAS = """
alias(
    name = "{name}",
    actual = "//:{actual}",
)
"""

# pkg-config modules number about 150 and form a graph without cycles; this bounds the walk over it.
_MAX_MODULES = 1000

def _system_abseil_impl(repository_ctx):
    folder = find_pkg_config_folder(repository_ctx, "absl_base", "libabsl-dev")

    pending = _TARGETS.values()
    modules = {}
    for _ in range(_MAX_MODULES):
        if not pending:
            break
        module = pending.pop()
        if module not in modules:
            modules[module] = read_pkg_config(repository_ctx, folder, module)
            pending += modules[module].requires

    root = _HEADER
    for module in sorted(modules):
        root += _LIBRARY.format(
            name = module,
            linkopts = repr(modules[module].linkopts),
            deps = repr([":" + name for name in modules[module].requires]),
        )
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("BUILD.bazel", root)

    packages = {}
    for label, module in _TARGETS.items():
        package, _, name = label.partition(":")
        packages[package] = packages.get(package, _HEADER) + _ALIAS.format(name = name, actual = module)
    for package, content in packages.items():
        repository_ctx.file(package + "/BUILD.bazel", content)

system_abseil = repository_rule(
    implementation = _system_abseil_impl,
    doc = "Presents the system's Abseil under upstream's labels; headers from /usr/include, libraries by -l.",
    local = True,
)
