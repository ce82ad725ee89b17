"""Headers of other projects, parsed once for each way of compiling them instead of once for each file (GCC).

Half of the time to compile a test went into GoogleTest and Abseil. A rule of this file makes NAME.h, which includes what
it is told to, and NAME.h.gch beside it, GCC's own form of the same. Who depends on the rule and has
`copts = include_first(NAME)` gets them; GCC checks for itself that both were compiled alike, and reads the text
of NAME.h where they were not. build_defs.bzl adds both, where --//runtime/config:precompiled_headers=on says so.
"""

load("@rules_cc//cc:action_names.bzl", "CPP_COMPILE_ACTION_NAME")
load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

def include_first(name):
    """The copts of a target that depends on the rule `name` of this package.

    Args:
      name: the rule's name.

    Returns:
      A list of options.
    """

    # Found by -iquote <bin>, which is on each command line; nothing of that name is among the sources.
    return ["-include", "third_party/precompiled/%s.h" % name]

def _precompiled_headers_impl(ctx):
    header = ctx.actions.declare_file(ctx.label.name + ".h")
    ctx.actions.write(header, "".join(["#include <%s>\n" % include for include in ctx.attr.includes]))
    precompiled = ctx.actions.declare_file(ctx.label.name + ".h.gch")

    toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    needed = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps]).compilation_context
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        source_file = header.path,
        output_file = precompiled.path,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + ctx.attr.copts +
                             ["-x", "c++-header"],
        include_directories = needed.includes,
        quote_include_directories = needed.quote_includes,
        system_include_directories = needed.system_includes,
        preprocessor_defines = needed.defines,
    )
    ctx.actions.run(
        executable = cc_common.get_tool_for_action(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
        ),
        arguments = cc_common.get_memory_inefficient_command_line(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        ),
        env = cc_common.get_environment_variables(
            feature_configuration = features,
            action_name = CPP_COMPILE_ACTION_NAME,
            variables = variables,
        ),
        inputs = depset([header], transitive = [needed.headers, toolchain.all_files]),
        outputs = [precompiled],
        mnemonic = "PrecompileHeaders",
        progress_message = "Precompiling %s" % header.short_path,
    )
    files = depset([header, precompiled], transitive = [needed.headers])
    return [
        DefaultInfo(files = depset([header, precompiled])),
        # No defines and no folders: a file that includes one of these by itself says so in its own deps.
        CcInfo(compilation_context = cc_common.create_compilation_context(headers = files)),
    ]

precompiled_headers = rule(
    implementation = _precompiled_headers_impl,
    attrs = {
        "copts": attr.string_list(doc = "Options that those who use it have beside the command line's."),
        "deps": attr.label_list(doc = "Where the headers come from.", providers = [CcInfo]),
        "includes": attr.string_list(doc = "The headers, as between < and >.", mandatory = True),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    doc = "Precompiles headers for C++ targets that include them first.",
    fragments = ["cpp"],
    toolchains = use_cc_toolchain(),
)
