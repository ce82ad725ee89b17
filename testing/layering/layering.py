"""Checks the order of pyrt's layers, and the rules that keep its code explorable, over a whole source tree.

Bazel's visibility refuses an upward edge between targets. It sees neither an #include that no `deps` line stands for (GCC
does not check) nor what the code says; this does. Each rule yields lines such as

    gil/gil.cc:12: gil may not use tstate (#include "pyrt/tstate/thread_state.h")

Used by layering_test.py; by hand: python3 testing/layering/layering.py [ROOT]
"""

import ast
import dataclasses
import os
import pathlib
import re
import sys
from typing import Iterator

# From the bottom up. Layers of one tuple are siblings: neither may use the other.
ORDER = (
    ("runtime/config",),
    ("runtime/sync",),
    ("runtime/object",),
    ("gil", "ceval_breaker"),
    ("tstate",),
    ("interp",),
    ("importlock", "sys"),
    ("runtime",),
)
RANK = {layer: rank for rank, layers in enumerate(ORDER) for layer in layers}

# These may use everything, and no layer may use them.
OUTSIDE = ("testing", "bench")

# A library's one edge to `testing`: the deterministic scheduler in the place of the native platform.
PLATFORM_EDGE = ("runtime/sync", "testing/detsched")

# Where std::atomic and its like are at home: the platform itself, and what lies under it.
PLATFORM_FILES = re.compile(r"runtime/config/|runtime/sync/(platform(_types)?\.h|internal/native_platform)")

# Folders that are no part of the layered tree: other workspaces, generated files, prose and scripts.
SKIPPED_FOLDERS = frozenset({".git", ".ci", "docs", "examples", "node_modules", "third_party", "tools"})

CPP_SUFFIXES = frozenset({".cc", ".h", ".inc"})
TEST_STEM = re.compile(r"(_test|_fuzz|_benchmark|_test_util|_testing)$")
TEST_RULES = frozenset({
    "pyrt_cc_test", "pyrt_cc_schedule_test", "pyrt_cc_fuzz_test", "pyrt_cc_benchmark", "cc_test", "script_test",
    "sh_test"
})
DEPENDENCY_ATTRIBUTES = frozenset({"deps", "implementation_deps", "data", "srcs", "hdrs", "tests"})

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')
VARIANT_CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*\bPYRT_(?:GIL_DISABLED|DETSCHED)\b")
NAMESPACE = re.compile(r"^\s*namespace\s+pyrt\b(?!::inline PYRT_VARIANT\b)")
UNEXPLORABLE = re.compile(
    r"\bstd::(?:atomic\b(?!_signal_fence)|atomic_ref|atomic_flag|atomic_thread_fence|mutex|recursive_mutex|timed_mutex|"
    r"shared_mutex|thread|jthread|condition_variable|call_once|once_flag|counting_semaphore|binary_semaphore|latch|barrier|"
    r"promise|future|async|chrono::(?:steady|system|high_resolution)_clock)\b"
    r"|\b(?:clock_gettime|gettimeofday|nanosleep|usleep|pthread_create|pthread_(?:mutex|cond|rwlock|spin)_\w+|"
    r"__atomic_\w+|__sync_\w+)\b")
UNEXPLORABLE_HEADERS = frozenset(
    {"mutex", "shared_mutex", "thread", "condition_variable", "semaphore", "latch", "barrier", "future"})


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def layer_of(path: str) -> str | None:
    """The layer that a file or package lies in, "testing" or "bench", or None where no layer claims it."""
    for layer in sorted(RANK, key=len, reverse=True):
        if path == layer or path.startswith(layer + "/"):
            return layer
    first = path.partition("/")[0]
    return first if first in OUTSIDE else None


def may_use(user: str, used: str, *, in_test: bool) -> bool:
    if user == used or user in OUTSIDE:
        return True
    if used in OUTSIDE:
        return in_test and used == "testing"
    return RANK[used] < RANK[user]


def without_comments(text: str) -> str:
    """`text` with comments and the inside of literals blanked out; lines keep their numbers."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)

    def blank(match: re.Match[str]) -> str:
        token = match.group(0)
        if token.startswith(("//", "/*")):
            return re.sub(r"[^\n]", " ", token)
        return token[0] + " " * (len(token) - 2) + token[-1]

    return pattern.sub(blank, text)


def is_test_file(path: pathlib.PurePath) -> bool:
    return TEST_STEM.search(path.stem) is not None or "testdata" in path.parts


def check_cpp(path: str, text: str, exists) -> Iterator[Finding]:
    """Yields what one C++ file does against the rules. `exists(path)` tells whether the tree has that file."""
    layer = layer_of(path)
    if layer is None:
        yield Finding(path, 1, "lies in no layer; add its folder to testing/layering/layering.py and to docs")
        return
    in_test = is_test_file(pathlib.PurePath(path))
    code = without_comments(text).split("\n")
    for number, (line, stripped) in enumerate(zip(text.split("\n"), code), start=1):
        include = INCLUDE.match(line) if stripped.strip() else None
        if include:
            quoted, angled = include.groups()
            name = quoted or angled
            if name.startswith("pyrt/"):
                used_path = name.removeprefix("pyrt/")
                used = layer_of(used_path)
                through_platform = (layer, used_path.rpartition("/")[0]) == PLATFORM_EDGE
                if used is None:
                    yield Finding(path, number, f"includes {name}, which lies in no layer")
                elif not may_use(layer, used, in_test=in_test) and not through_platform:
                    yield Finding(path, number, f"{layer} may not use {used} ({line.strip()})")
            elif quoted and (exists(quoted) or exists(os.path.join(os.path.dirname(path), quoted))):
                yield Finding(path, number, f'write the full path: #include "pyrt/..." and not "{quoted}"')
            elif (angled in UNEXPLORABLE_HEADERS and not in_test and layer not in OUTSIDE and
                  not PLATFORM_FILES.match(path)):
                yield Finding(path, number, f"<{angled}> goes past runtime/sync/platform.h")
            continue
        if VARIANT_CONDITION.match(stripped) and layer != "runtime/config":
            yield Finding(path, number, "the variant is asked for with `if constexpr (kGilEnabled)`, not with #if")
        if NAMESPACE.match(stripped) and layer not in OUTSIDE:
            yield Finding(path, number, "write `namespace pyrt::inline PYRT_VARIANT {`, which keeps variants from linking")
        if in_test or layer in OUTSIDE or PLATFORM_FILES.match(path):
            continue
        past_platform = UNEXPLORABLE.search(stripped)
        if past_platform:
            yield Finding(path, number, f"{past_platform.group(0)} goes past runtime/sync/platform.h")


def strings_in(node: ast.AST) -> Iterator[ast.Constant]:
    for child in ast.walk(node):
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child


def package_of_label(label: str) -> str | None:
    """The package that a label of this workspace names; None for a label of another one, or a relative one."""
    for prefix in ("@pyrt//", "@@//", "@//", "//"):
        if label.startswith(prefix) and label != "//conditions:default":
            return label.removeprefix(prefix).partition(":")[0]
    return None


def check_build(path: str, text: str) -> Iterator[Finding]:
    """Yields what one BUILD file does against the rules."""
    package = os.path.dirname(path)
    layer = layer_of(package)
    if layer is None or layer in OUTSIDE:
        return
    for statement in ast.parse(text, filename=path).body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        arguments = {keyword.arg: keyword.value for keyword in call.keywords}
        testonly = arguments.get("testonly")
        in_test = call.func.id in TEST_RULES or (isinstance(testonly, ast.Constant) and bool(testonly.value))
        if call.func.id == "load":
            source = call.args[0].value
            if source.startswith("@") and not source.startswith(("@rules_cc//", "@pyrt//")):
                yield Finding(path, call.lineno, f"a consumer would need {source} too; load from pyrt and rules_cc only")
            continue
        for name, value in arguments.items():
            if name not in DEPENDENCY_ATTRIBUTES:
                continue
            for constant in strings_in(value):
                used_package = package_of_label(constant.value)
                if used_package is None:
                    continue
                used = layer_of(used_package)
                if (layer, used_package) == PLATFORM_EDGE or (used_package == "runtime/config"):
                    continue
                if used is None:
                    if not in_test:
                        yield Finding(path, constant.lineno, f"{layer} may not use {constant.value}")
                elif not may_use(layer, used, in_test=in_test):
                    yield Finding(path, constant.lineno, f"{layer} may not use {used} ({constant.value})")


def files_of(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for folder, subfolders, names in os.walk(root):
        relative = pathlib.Path(folder).relative_to(root)
        subfolders[:] = sorted(
            name for name in subfolders
            if not (relative == pathlib.Path(".") and (name in SKIPPED_FOLDERS or name.startswith("bazel-")))
            and name != "__pycache__")
        for name in sorted(names):
            yield relative / name


def check_tree(root: pathlib.Path) -> tuple[list[Finding], int]:
    """Checks every C++ and BUILD file under `root`. Returns the findings and how many files were read."""
    findings: list[Finding] = []
    count = 0
    for relative in files_of(root):
        path = str(relative)
        if relative.suffix in CPP_SUFFIXES:
            text = (root / relative).read_text(encoding="utf-8")
            findings.extend(check_cpp(path, text, lambda name: (root / name).is_file()))
        elif relative.name in ("BUILD", "BUILD.bazel"):
            findings.extend(check_build(path, (root / relative).read_text(encoding="utf-8")))
        else:
            continue
        count += 1
    return sorted(findings), count


def main(arguments: list[str]) -> int:
    root = pathlib.Path(arguments[0] if arguments else ".").resolve()
    findings, count = check_tree(root)
    for finding in findings:
        print(finding)
    print(f"{count} files, {len(findings)} findings", file=sys.stderr)
    return 1 if findings or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
