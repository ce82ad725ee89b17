"""pyrt_native_module: a module as a shared object, which a PathFinder loads."""

load("@rules_cc//cc:defs.bzl", "cc_binary")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

def _headers_impl(ctx):
    merged = cc_common.merge_cc_infos(cc_infos = [dep[CcInfo] for dep in ctx.attr.deps])
    return [CcInfo(compilation_context = merged.compilation_context)]

_headers = rule(
    implementation = _headers_impl,
    attrs = {"deps": attr.label_list(providers = [CcInfo])},
    doc = "What is needed to compile against `deps`, and nothing to link.",
)

def pyrt_native_module(name, srcs, deps, visibility = None, testonly = False, **kwargs):
    """NAME.so, which exports PYRT_MODULE_INIT or PYRT_MODULE_EXPORT (module_def.h).

    It takes pyrt from the program that loads it, so that there is one of everything: the program must export its
    symbols (linkopts = ["-rdynamic"]) and contain what the module uses. Let the program's cc_library have it as `data`,
    so that both are built in the same variant.

    Args:
      name: the module's name.
      srcs: sources.
      deps: libraries whose headers are used.
      visibility: as for cc_binary.
      testonly: as for cc_binary.
      **kwargs: as for cc_binary.
    """
    _headers(
        name = name + "_headers",
        testonly = testonly,
        deps = deps + [str(Label("//runtime/config"))],
    )
    cc_binary(
        name = name + ".so",
        srcs = srcs,
        linkshared = True,
        testonly = testonly,
        visibility = visibility,
        deps = [":" + name + "_headers"],
        **kwargs
    )
