#!/usr/bin/env python3
"""known_bugs.md keeps what it says: the tests that it names exist, and what a row calls a mutant or a model is one.

A row that says "mutant" has a mutant in mutants.table which names one of the row's numbers; a row that says "model" has one of its
numbers behind BUG_ in a table of testing/models. Where there is no number, or the model has another name for it, the row gives the
name in backticks. A mutant that is named after a number makes its row say so.
"""

import pathlib
import re
import sys

root = pathlib.Path("MODULE.bazel").resolve().parent
TABLE, MUTANTS, MODELS = "testing/known_bugs.md", "testing/mutants/mutants.table", "testing/models"
NUMBER = re.compile(r"\b(gh|bpo|pep)[-_ ](\d+)", re.IGNORECASE)
FOUND = "What this work has found"


def numbers(text: str) -> set[str]:
    return {f"{tracker.lower()}-{number}" for tracker, number in NUMBER.findall(text.replace("_", " "))}


def mutants() -> dict[str, set[str]]:
    """Mutant -> the numbers in its name and in its description."""
    rows = [line.split("|") for line in (root / MUTANTS).read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith("#")]
    return {cells[0].strip(): numbers(cells[0]) | numbers(cells[-1]) for cells in rows}


def models() -> set[str]:
    """What testing/models verify to fail, and the names of the models."""
    tables = list((root / MODELS).glob("*.table"))
    return {table.stem for table in tables} | {
        bug for table in tables for bug in re.findall(r"BUG_\w+", table.read_text(encoding="utf-8"))}


problems: list[str] = []
text = (root / TABLE).read_text(encoding="utf-8")
mutant_numbers, model_bugs = mutants(), models()

rows = {"CPython": 0, "pyrt": 0}
tested, mutated, modelled = dict(rows), dict(rows), dict(rows)
all_numbers: set[str] = set()
in_rows: dict[str, bool] = {}  # number -> its row says "mutant"
for line_number, line in enumerate(text.splitlines(), 1):
    if not line.startswith("| ") or line.startswith(("| bug |", "| ---")):
        continue
    where = f"{TABLE}:{line_number}"
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if len(cells) != 3 or not all(cells):
        problems.append(f"{where}: want three cells")
        continue
    bug, _, caught = cells
    whose = "pyrt" if bug == "pyrt's own" else "CPython"
    ids = numbers(bug)
    rows[whose] += 1
    all_numbers |= ids
    if whose == "CPython" and not ids:
        problems.append(f"{where}: has no number")

    named = re.findall(r"`([\w/]+\.cc)(?:: (\w+)\.(\w+))?`", caught)
    if not named and "not covered yet" not in caught and "not applicable" not in caught:
        problems.append(f"{where}: names no test, and does not say why")
    tested[whose] += bool(named)
    for path, suite, test in named:
        if not (root / path).exists():
            problems.append(f"{where}: there is no {path}")
        elif test and not re.search(rf"TEST\w*\(\s*{suite}\s*,\s*{test}\s*\)", (root / path).read_text(encoding="utf-8")):
            problems.append(f"{where}: {path} has no {suite}.{test}")

    quoted = set(re.findall(r"`(\w+)`", caught))
    words = re.sub(r"`[^`]*`", "", caught)
    says_mutant, says_model = ("mutant" in words), ("model" in words)
    mutated[whose] += says_mutant
    modelled[whose] += says_model
    in_rows |= {number: says_mutant or in_rows.get(number, False) for number in ids}
    if says_mutant and not quoted & mutant_numbers.keys() and not any(ids & of for of in mutant_numbers.values()):
        problems.append(f"{where}: no mutant of {MUTANTS} names {', '.join(sorted(ids)) or 'it'}")
    if says_model and not quoted & model_bugs and not any(f"BUG_{number.split('-')[1]}" in model_bugs for number in ids):
        problems.append(f"{where}: no table of {MODELS} has a BUG_ of {', '.join(sorted(ids)) or 'it'}")

for mutant in sorted(mutant_numbers):
    for number in numbers(mutant):
        if not in_rows.get(number, False):
            problems.append(f"{MUTANTS}: {mutant}: {TABLE} has no row of {number} that says 'mutant'")

# The names of tests, scenarios, programs, mutants and models in prose. A name that is cut short ends in dots.
programs = {path.name for path in root.glob("*/*") if path.suffix in {".cc", ".pml"}} | {
    path.name for folder in ("storms", "models") for path in (root / "testing" / folder).iterdir()}
sources = [path for folder in ("ceval_breaker", "gil", "importlock", "interp", "runtime", "sys", "testing", "tstate")
           for path in (root / folder).rglob("*.cc") if path.stem.endswith(("_test", "_fuzz"))]
tests = "\n".join(path.read_text(encoding="utf-8") for path in sources)
prose = text.partition(f"## {FOUND}")[2]
names = 0
for name in re.findall(r"`([^`]+)`", prose):
    names += 1
    whole = name.rstrip(".")
    if whole in mutant_numbers.keys() | model_bugs or {whole, f"{whole}.cc"} & programs:
        continue
    suite, dot, test = whole.partition(".")
    if dot and not test.startswith("."):
        end = "" if name.endswith("...") else r"\s*\)"
        found = re.search(rf"TEST\w*\(\s*{suite}\s*,\s*{test}{end}", tests)
    else:
        end = "" if name.endswith("...") else r"\b"
        found = all(re.search(rf"\b{part}{end}", tests) for part in whole.split("...") if part)
    if not found:
        problems.append(f"{TABLE}: '{FOUND}' names {name}, which is no test, scenario, program, mutant or model")
if names == 0:
    problems.append(f"{TABLE}: '{FOUND}' names nothing")

print("\n".join(problems) or "\n".join([
    f"{rows['CPython']} known bugs of CPython, or groups of them ({len(all_numbers)} numbers): {tested['CPython']} with a test "
    f"that would catch them, {mutated['CPython']} made on purpose (mutants), {modelled['CPython']} in a model",
    f"{rows['pyrt']} of pyrt's own: {tested['pyrt']} with a test, {mutated['pyrt']} with a mutant, {modelled['pyrt']} in a model",
    f"{names} names in '{FOUND}'"]))
sys.exit(1 if problems or tested["CPython"] < 40 or mutated["CPython"] < 40 else 0)
