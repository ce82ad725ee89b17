#!/usr/bin/env python3
"""Counts what is dear in the hot paths: locked instructions, calls, thread-local reads, fences, system calls.

    hot_functions.py check PROGRAM GOLDEN      fails where a count is above the golden file's
    hot_functions.py update PROGRAM GOLDEN     writes the golden file

No clock is asked, so the answer is the same on a loaded machine. It catches an atomic too many, an inline function that
no longer is one, and a thread-local variable that is reached through a call. Only the hot part of a function counts: gcc
moves what is [[unlikely]] into NAME.cold. Counts of loads, stores and branches move with every change and are not kept.

The golden files are those of one compiler on x86-64. With another, or under a sanitizer, the check says so and passes.
"""

import re
import subprocess
import sys

COMPILER = re.compile(r"GCC: \([^)]*\) 12\.")
# Functions of the libraries, by their mangled names.
LIBRARY = {
    "ModuleLock()": r"_ZN4pyrt\w+10ModuleLockC[12]E\w+",
    "ModuleLock::Acquire": r"_ZN4pyrt\w+10ModuleLock7AcquireE\w+",
    "~ModuleLock()": r"_ZN4pyrt\w+10ModuleLockD[12]Ev",
}
COLUMNS = ("locked", "fences", "calls", "tls", "syscalls")

HEADER = """# What one hot function contains, by gcc 12 with the options of //bench, x86-64; {variant} build.
# ./bazelw run //bench/golden_counts:update_goldens rewrites this file. A count that rises is a decision; the commit says
# what it buys.
"""


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def classify(text):
    """The class of one instruction as objdump prints it, or None."""
    # objdump prints prefixes first: "lock cmpxchg %ecx,(%rdi)"; an xchg with memory locks by itself.
    mnemonic = text.split(None, 1)[0]
    operands = text[len(mnemonic):]
    if mnemonic == "lock" or mnemonic.startswith("xchg") and "(" in operands:
        return "locked"
    if mnemonic in ("mfence", "lfence", "sfence"):
        return "fences"
    if mnemonic.startswith("call"):
        return "calls"
    if mnemonic in ("syscall", "sysenter"):
        return "syscalls"
    return None


def count(disassembly):
    """{hot function: {class: count}}. A jump out of the function into another is a call: a tail call."""
    functions, current = {}, None
    for line in disassembly.splitlines():
        header = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        if header:
            name = header.group(1)
            title = name if re.fullmatch(r"hot_\w+", name) else None
            title = next((key for key, pattern in LIBRARY.items() if re.fullmatch(pattern, name)), title)
            current = functions.setdefault(title, dict.fromkeys(COLUMNS, 0)) if title else None
            continue
        instruction = re.match(r"\s*[0-9a-f]+:\t(.+)$", line)
        if current is None or not instruction:
            continue
        text = instruction.group(1).strip()
        kind = classify(text)
        if kind:
            current[kind] += 1
        target = re.match(r"j\w+\s+[0-9a-f]+ <([^>+]+)(\+0x[0-9a-f]+)?>", text)
        if target and target.group(1) != name and not target.group(1).endswith(".cold"):
            current["calls"] += 1
        # The stack protector's canary (%fs:0x28) is a read too, but none of ours.
        if "%fs:" in text and "%fs:0x28" not in text:
            current["tls"] += 1
    return functions


def why_not(program):
    """Why the program cannot be compared with the golden files, or None."""
    comment = run("readelf", "--string-dump=.comment", program)
    if not COMPILER.search(comment) or "clang" in comment:
        found = [line.split("]", 1)[1].strip() for line in comment.splitlines() if "]" in line]
        return f"compiled by {', '.join(found) or 'an unknown compiler'}, and the golden files are gcc 12's"
    if "X86-64" not in run("readelf", "--file-header", program):
        return "not x86-64"
    sanitizer = re.search(r"__(asan|tsan|ubsan)_\w+", run("nm", program))
    if sanitizer:
        return f"built with a sanitizer ({sanitizer.group(0)})"
    return None


def parse(text):
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {row[0]: dict(zip(rows[0][1:], map(int, row[1:]))) for row in rows[1:]}


def render(functions, variant):
    width = max(map(len, functions))
    lines = [f"{'function':{width}}" + "".join(f"  {c:>8}" for c in COLUMNS)]
    for name, counts in sorted(functions.items()):
        lines.append(f"{name:{width}}" + "".join(f"  {counts[c]:>8}" for c in COLUMNS))
    return HEADER.format(variant=variant) + "\n".join(lines) + "\n"


def compare(found, golden):
    """(what is worse than expected, what is better), a line for each difference."""
    worse, better = [], []
    for name in sorted(found.keys() | golden.keys()):
        if name not in found or name not in golden:
            worse.append(f"{name}: {'new' if name in found else 'gone'}: run //bench/golden_counts:update_goldens")
            continue
        for column in COLUMNS:
            was, now = golden[name].get(column, 0), found[name][column]
            if was != now:
                (worse if now > was else better).append(f"{name}: {now} {column}, {was} expected")
    return worse, better


def main(mode, program, golden):
    try:
        reason = why_not(program)
        functions = count(run("objdump", "--disassemble", "--no-show-raw-insn", program)) if reason is None else {}
    except FileNotFoundError as error:
        reason = f"{error.filename} is not installed"
    if reason is not None:
        print(f"SKIPPED: {reason}")
        return 0 if mode == "check" else 1
    if not functions:
        print(f"{program}: no hot_* functions found")
        return 1
    if mode == "update":
        with open(golden, "w", encoding="utf-8") as file:
            file.write(render(functions, "GIL-disabled" if "_ft" in golden else "GIL-enabled"))
        print(f"wrote {golden}")
        return 0
    with open(golden, encoding="utf-8") as file:
        worse, better = compare(functions, parse(file.read()))
    for line in worse + better:
        print(line)
    if better:
        print("fewer than expected: run //bench/golden_counts:update_goldens to keep it so")
    print(f"{len(functions)} functions looked at")
    return 1 if worse else 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "update"):
        print(__doc__)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
