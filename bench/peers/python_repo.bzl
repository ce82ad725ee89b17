"""Finds the Pythons that //bench measures beside pyrt.

The system's own (/usr/bin/python3-config, Debian's python3-dev), and those named by

    --repo_env=PYRT_PYTHON_CONFIG=/path/to/python3-config[:/path/to/another]

3.11 to 3.15, with or without a GIL. Never the first python3-config of the PATH: that may be a version manager's, and a
report must not depend on a shell's set-up. Where there is none, //bench builds all the same and its report says so.

The repository has pythons.bzl with

    PYTHONS = [struct(id = "cpython_3_11", title = "CPython 3.11.2", gil = True)], oldest first
    NOTE = "why there is none", or ""

and a cc_library per id, to compile and link an embedding program with.
"""

_SYSTEM = "/usr/bin/python3-config"

# What an embedding program needs, and what the report wants to know of it.
_PROBE = """
#include <Python.h>
#include <stdio.h>
int main(void) {
#ifdef Py_GIL_DISABLED
  const int gil = 0;
#else
  const int gil = 1;
#endif
  printf("%d.%d.%s.%d\\n", PY_MAJOR_VERSION, PY_MINOR_VERSION, PY_VERSION, gil);
  return Py_IsInitialized();
}
"""

def _words(repository_ctx, config, *flags):
    """What `config` prints, as words; None if it fails."""
    result = repository_ctx.execute([config] + list(flags))
    if result.return_code != 0:
        return None
    return [word for word in result.stdout.replace("\n", " ").split(" ") if word]

def _compiler(repository_ctx):
    for name in [repository_ctx.os.environ.get("CC", ""), "cc", "gcc", "clang"]:
        if name:
            path = repository_ctx.path(name) if name.startswith("/") else repository_ctx.which(name)
            if path != None and path.exists:
                return path
    return None

def _probe(repository_ctx, compiler, config, index):
    """A struct that describes the Python of `config`, or a string: why it cannot be used."""
    includes = _words(repository_ctx, config, "--includes")
    linkopts = _words(repository_ctx, config, "--embed", "--ldflags")
    prefix = _words(repository_ctx, config, "--prefix")
    if not includes or linkopts == None or not prefix:
        return "%s does not answer --includes, --embed --ldflags and --prefix" % config
    linkopts = linkopts + [
        "-Wl,-rpath," + word[2:]
        for word in linkopts
        if word.startswith("-L/") and not word.startswith("-L/usr/lib")
    ]

    source, program = "probe_%d.c" % index, "probe_%d" % index
    repository_ctx.file(source, _PROBE)
    built = repository_ctx.execute([compiler, source, "-o", program] + includes + linkopts)
    if built.return_code != 0:
        complaint = [line for line in built.stderr.split("\n") if "error" in line or "cannot find" in line]
        return "%s: no program links with it (%s)" % (config, complaint[0].strip() if complaint else "no message")
    ran = repository_ctx.execute(["./" + program])
    if ran.return_code != 0:
        return "%s: a program linked with it does not start (%s)" % (config, ran.stderr.strip())

    # major.minor.full version.gil, and the full version has dots itself.
    words = ran.stdout.strip().split(".")
    major, minor, gil = int(words[0]), int(words[1]), words[-1] == "1"
    version = ".".join(words[2:-1])
    if (major, minor) < (3, 11) or (major, minor) > (3, 15):
        return "%s: Python %s; 3.11 to 3.15 are supported" % (config, version)
    return struct(
        id = "cpython_%d_%d%s" % (major, minor, "" if gil else "t"),
        title = "CPython " + version + ("" if gil else " FT"),
        gil = gil,
        order = (minor, 0 if gil else 1, index),
        include = includes[0][2:],
        linkopts = linkopts,
        prefix = prefix[0],
    )

def _python_peers_impl(repository_ctx):
    asked = [path for path in repository_ctx.os.environ.get("PYRT_PYTHON_CONFIG", "").split(":") if path]
    for path in asked:
        if not path.startswith("/") or not repository_ctx.path(path).exists:
            fail("PYRT_PYTHON_CONFIG names %s: give the absolute path of a python3-config that exists" % path)

    configs = ([_SYSTEM] if repository_ctx.path(_SYSTEM).exists else []) + asked
    compiler = _compiler(repository_ctx)
    note = ""
    if not configs:
        note = "no python3-dev found: apt-get install python3-dev"
    elif compiler == None:
        note = "no C compiler found to try python3-dev with: apt-get install g++"
    pythons = []
    for index in range(len(configs) if compiler != None else 0):
        python = _probe(repository_ctx, compiler, configs[index], index)
        if type(python) != "string":
            pythons.append(python)
        elif configs[index] in asked:
            fail("PYRT_PYTHON_CONFIG: " + python)
        else:
            note = python + ": apt-get install python3-dev"

    # Of two of one version the last given is meant: the system's stands first.
    by_id = {python.id: python for python in pythons}
    by_order = {python.order: python for python in by_id.values()}
    pythons = [by_order[order] for order in sorted(by_order)]

    build = [
        "load(\"@rules_cc//cc:defs.bzl\", \"cc_library\")",
        "package(default_visibility = [\"//visibility:public\"])",
    ]
    listed = []
    for python in pythons:
        repository_ctx.symlink(python.include, python.id + "/include")
        build.append("""
cc_library(
    name = "{id}",
    hdrs = glob(["{id}/include/**/*.h"]),
    defines = ['PYRT_PEER_HOME=\\\\"{prefix}\\\\"'],
    includes = ["{id}/include"],
    linkopts = {linkopts},
)
""".format(id = python.id, prefix = python.prefix, linkopts = repr(python.linkopts)))
        listed.append("    struct(id = %r, title = %r, gil = %r)," % (python.id, python.title, python.gil))
    repository_ctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % repository_ctx.name)
    repository_ctx.file("BUILD.bazel", "\n".join(build))
    repository_ctx.file("pythons.bzl", "\n".join(
        ["\"\"\"The Pythons found; see //bench/peers:python_repo.bzl.\"\"\"", "", "PYTHONS = ["] + listed +
        ["]", "NOTE = %r" % ("" if pythons else note), ""],
    ))

python_peers = repository_rule(
    implementation = _python_peers_impl,
    doc = "The Pythons to measure beside pyrt.",
    environ = [
        "CC",
        "PYRT_PYTHON_CONFIG",
    ],
    # Looked for again when Bazel starts: python3-dev may have come.
    local = True,
)
