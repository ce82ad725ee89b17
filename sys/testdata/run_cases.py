"""Executes the rows of cases.tsv on the interpreter that runs this, one line of output for each: id, tab, result.

A result is the repr of a value, or "Type: text" of an exception; line ends are written as \\n.
"""

import os
import subprocess
import sys

NAMES = {"nan": float("nan"), "inf": float("inf"), "DeadlockError": RuntimeError}


def literals(text):
    return eval("(" + text + ",)" if text else "()", dict(NAMES))  # our own data


def shown(function):
    try:
        return repr(function())
    except BaseException as error:  # noqa: BLE001  SystemExit is a result too
        return f"{type(error).__name__}: {error}"


def run_program(arguments, environment):
    done = subprocess.run([sys.executable, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


PRINT_CONFIG = (
    "import sys;print(tuple(sys.flags)[:17],sys._xoptions,sys.warnoptions,sys.argv,"
    "sys.stdout.encoding,sys.stdout.errors,sys.stderr.errors)"
)


def run(kind, payload):
    if kind == "call":
        name, _, arguments = payload.partition(" ")
        return shown(lambda: getattr(sys, name)(*literals(arguments)))
    if kind == "attr":
        def look():
            value = sys
            for name in payload.split("."):
                value = getattr(value, name)
            return value
        return shown(look)
    if kind == "repr":
        return shown(lambda: literals(payload)[0])
    if kind == "error":
        name, _, arguments = payload.partition(" ")
        error = eval(name)(*literals(arguments))
        return f"{error!r} | {error}"
    if kind == "encode":
        encoding, errors, text = payload.split(" ", 2)
        return shown(lambda: literals(text)[0].encode(encoding, errors))
    if kind == "decode":
        encoding, errors, data = payload.split(" ", 2)
        return shown(lambda: literals(data)[0].decode(encoding, errors).encode("utf-8", "surrogatepass"))
    if kind == "exit":
        code, _, err = run_program(["-I", "-c", f"import sys; nan=float('nan'); sys.exit({payload})"], {})
        return f"{code} {err!r}"
    if kind == "config":
        words = payload.split()
        environment = {"LANG": "C.UTF-8"}
        while words and "=" in words[0] and not words[0].startswith("-"):
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        code, out, err = run_program(words + ["-c", PRINT_CONFIG], environment)
        return f"{code} {out.strip()}" if code == 0 else f"{code} {err.splitlines()[0]}"
    raise ValueError(kind)


def main():
    os.environ.clear()
    for line in open(sys.argv[1], encoding="utf-8"):
        line = line.rstrip("\n")
        if not line or line.startswith("#"):
            continue
        kind, payload = line.split("\t")[:2]
        print(run(kind, payload).replace("\\", "\\\\").replace("\n", "\\n"))


main()
