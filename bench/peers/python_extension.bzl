"""python_repo.bzl for a Bazel with bzlmod; apart from it, because Debian's 4.2.3 does not know module_extension."""

load(":python_repo.bzl", "python_peers")

def _python_extension_impl(_module_ctx):
    python_peers(name = "pyrt_python")

python_extension = module_extension(
    implementation = _python_extension_impl,
    doc = "Defines @pyrt_python.",
)
