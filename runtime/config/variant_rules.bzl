"""Tests and programs built in a given variant, whatever the command line says.

Transitions stand here and nowhere else: on leaves. A library never changes the configuration of what it depends on, so
a consumer's binary has one variant throughout.
"""

# As str(Label(...)), which yields the spelling that this Bazel uses inside itself. "@pyrt//runtime/config:gil" would
# name, in pyrt's own workspace, a flag that nobody reads, without an error; testing/variants proves that it works.
_GIL = str(Label("//runtime/config:gil"))
_PLATFORM = str(Label("//runtime/config:platform"))
_COMPILATION_MODE = "//command_line_option:compilation_mode"
_COPT = "//command_line_option:copt"
_LINKOPT = "//command_line_option:linkopt"

# What a figure is measured with. The alignment keeps a function's figure from moving when code before it changes;
# without position independence a read of a thread-local variable is one instruction, as in a program that cares.
_RELEASE_COPTS = ["-O3", "-DNDEBUG", "-falign-functions=64", "-falign-loops=32", "-fno-pie"]
_RELEASE_LINKOPTS = ["-no-pie"]

def _test_transition_impl(_settings, attr):
    return {_GIL: attr.gil, _PLATFORM: attr.platform}

_test_transition = transition(
    implementation = _test_transition_impl,
    inputs = [],
    outputs = [_GIL, _PLATFORM],
)

def _release_transition_impl(settings, attr):
    return {
        _GIL: attr.gil,
        _PLATFORM: attr.platform,
        _COMPILATION_MODE: "opt",
        _COPT: settings[_COPT] + _RELEASE_COPTS,
        _LINKOPT: settings[_LINKOPT] + _RELEASE_LINKOPTS,
    }

_release_transition = transition(
    implementation = _release_transition_impl,
    inputs = [_COPT, _LINKOPT],
    outputs = [_GIL, _PLATFORM, _COMPILATION_MODE, _COPT, _LINKOPT],
)

def _variant_impl(ctx):
    # An attribute with a transition is a list, here of one.
    inner = ctx.attr.binary[0][DefaultInfo]
    executable = ctx.actions.declare_file(ctx.label.name)
    ctx.actions.symlink(
        output = executable,
        target_file = inner.files_to_run.executable,
        is_executable = True,
    )
    runfiles = ctx.runfiles(files = [executable] + ctx.files.data).merge(inner.default_runfiles)
    for target in ctx.attr.data:
        runfiles = runfiles.merge(target[DefaultInfo].default_runfiles)
    return [
        DefaultInfo(executable = executable, files = depset([executable]), runfiles = runfiles),
        testing.TestEnvironment(ctx.attr.env),
    ]

def _attrs(cfg):
    return {
        "binary": attr.label(cfg = cfg, doc = "What to build in the variant.", mandatory = True),
        "data": attr.label_list(allow_files = True, doc = "Files for run time, in the default variant."),
        "env": attr.string_dict(doc = "The environment of the test."),
        "gil": attr.string(mandatory = True, values = ["enabled", "disabled"]),
        "platform": attr.string(default = "native", values = ["native", "detsched"]),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    }

variant_test = rule(
    implementation = _variant_impl,
    attrs = _attrs(_test_transition),
    doc = "A test: `binary` built in the variant. Compiled as the command line says.",
    test = True,
)

variant_binary = rule(
    implementation = _variant_impl,
    attrs = _attrs(_test_transition),
    doc = "A program: `binary` built in the variant. Compiled as the command line says.",
    executable = True,
)

release_variant_test = rule(
    implementation = _variant_impl,
    attrs = _attrs(_release_transition),
    doc = "A test: `binary` built in the variant, optimised and without debug checks.",
    test = True,
)

release_variant_binary = rule(
    implementation = _variant_impl,
    attrs = _attrs(_release_transition),
    doc = "A program: `binary` built in the variant, optimised and without debug checks.",
    executable = True,
)
