"""@pyrt_lua: the system's Lua 5.4 as a library, for //examples/lua; LUA is False where there is none."""

_HEADERS = ["/usr/include/lua5.4", "/usr/local/include"]

def _system_lua_impl(repository_ctx):
    found = [path for path in _HEADERS if repository_ctx.path(path + "/lua.hpp").exists]
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("lua.bzl", "\"\"\"Whether this machine has Lua's headers.\"\"\"\n\nLUA = %s\n" % bool(found))
    build = "load(\"@rules_cc//cc:defs.bzl\", \"cc_library\")\n"
    if found:
        repository_ctx.symlink(found[0], "include")
        library = "lua5.4" if found[0] == _HEADERS[0] else "lua"
        build += """
cc_library(
    name = "lua",
    hdrs = glob(["include/l*.h", "include/l*.hpp"]),
    includes = ["include"],
    linkopts = ["-l{library}"],
    visibility = ["//visibility:public"],
)
""".format(library = library)
    repository_ctx.file("BUILD.bazel", build)

system_lua = repository_rule(
    implementation = _system_lua_impl,
    doc = "Presents liblua5.4-dev, or a Lua in /usr/local.",
    local = True,
)
