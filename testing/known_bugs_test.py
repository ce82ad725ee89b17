#!/usr/bin/env python3
"""Each test that known_bugs.md names exists in the file that it names, and each row says what catches the bug."""

import pathlib
import re
import sys

root = pathlib.Path("MODULE.bazel").resolve().parent
problems = []
rows = covered = 0
for number, line in enumerate((root / "testing/known_bugs.md").read_text(encoding="utf-8").splitlines(), 1):
    if not line.startswith("| ") or line.startswith(("| bug |", "| ---")):
        continue
    rows += 1
    where = f"testing/known_bugs.md:{number}"
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if len(cells) != 3 or not all(cells):
        problems.append(f"{where}: want three cells")
        continue
    named = re.findall(r"`([\w/]+\.cc)(?:: (\w+)\.(\w+))?`", cells[2])
    if not named and "not covered yet" not in cells[2] and "not applicable" not in cells[2]:
        problems.append(f"{where}: names no test, and does not say why")
    covered += any(test for _, _, test in named)
    for path, suite, test in named:
        if not (root / path).exists():
            problems.append(f"{where}: there is no {path}")
        elif test and not re.search(rf"TEST\w*\(\s*{suite}\s*,\s*{test}\s*\)", (root / path).read_text(encoding="utf-8")):
            problems.append(f"{where}: {path} has no {suite}.{test}")
print("\n".join(problems) or f"{rows} known bugs, {covered} with a test that would catch them")
sys.exit(1 if problems or covered < 40 else 0)
