"""lua_repo.bzl for a Bazel with bzlmod; apart from it, because Debian's 4.2.3 does not know module_extension."""

load(":lua_repo.bzl", "system_lua")

def _lua_extension_impl(_module_ctx):
    system_lua(name = "pyrt_lua")

lua_extension = module_extension(
    implementation = _lua_extension_impl,
    doc = "Defines @pyrt_lua.",
)
