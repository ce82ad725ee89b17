#!/usr/bin/env python3
"""Makes each mistake of the table on purpose, and requires that the named schedule test finds it.

    mutants.py check TABLE              the table and the sources name the same mutants, and the BUILD file beside the
                                        table runs each test that the table names
    mutants.py run TABLE BINARY...      runs, for each row, the test with PYRT_MUTANT set; prints killed/total. All
                                        binaries of a folder go into one run

A mutant is compiled into the schedule tests at PYRT_MUTANT(name) and made when the environment asks for it. The test that
kills it is mostly an ordinary one, which passes without the mutant (it is a test of its own folder) and must fail with it, by an
assertion or a report of the deterministic scheduler. A test that runs into the time limit or is not there kills nothing.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time

BUILD = "testing/mutants/BUILD.bazel"
SECONDS = 120  # for one mutant, on a machine that does other things too
SITE = re.compile(r"\bPYRT_MUTANT\(\s*(\w+)\s*\)")
LABEL = re.compile(r'"//([\w/]+):(\w+_schedule_test)"')
# The scheduler's own, for its own tests, and the definitions of the macro.
NOT_A_SITE = re.compile(r"testing/|runtime/sync/(platform\.h|internal/native_platform\.h)$")


@dataclasses.dataclass(frozen=True)
class Row:
    mutant: str
    variants: tuple[str, ...]  # of gil, ft
    binary: str                # folder/name_schedule_test
    test: str                  # GoogleTest's filter
    mistake: str

    @property
    def open(self) -> bool:
        return self.binary == "open"

    @property
    def asserts_itself(self) -> bool:
        return self.test.startswith("asserts:")

    @property
    def filter(self) -> str:
        return self.test.removeprefix("asserts:")


def read_table(path: str) -> list[Row]:
    rows = []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 5 or not all(cells):
            sys.exit(f"{path}:{number}: want 'mutant | builds | binary | test | mistake'")
        variants = ("gil", "ft") if cells[1] == "both" else (cells[1],)
        if not set(variants) <= {"gil", "ft"}:
            sys.exit(f"{path}:{number}: builds is both, gil or ft")
        rows.append(Row(cells[0], variants, *cells[2:]))
    return rows


def sources(root: pathlib.Path) -> dict[str, str]:
    """Mutant -> one file that has it."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "bazel-"))]
        for name in files:
            path = (pathlib.Path(folder) / name).relative_to(root).as_posix()
            if not name.endswith((".cc", ".h")) or NOT_A_SITE.search(path):
                continue
            text = (root / path).read_text(encoding="utf-8", errors="replace")
            for mutant in SITE.findall(re.sub(r"//[^\n]*", "", text)):
                found.setdefault(mutant, path)
    return found


def check(table: str) -> int:
    root = pathlib.Path("MODULE.bazel").resolve().parent
    rows = read_table(table)
    in_sources, in_table = sources(root), {row.mutant for row in rows}
    problems = [f"{in_sources[m]}: PYRT_MUTANT({m}) is not in {table}" for m in sorted(in_sources.keys() - in_table)]
    problems += [f"{table}: {m} is in no source" for m in sorted(in_table - in_sources.keys())]
    if len(in_table) != len(rows):
        problems.append(f"{table}: a mutant has two rows")
    for row in rows:
        if row.open:
            continue
        folder, name = row.binary.rsplit("/", 1)
        source = root / folder / (name + ".cc")
        case = row.test.split(".")[-1]
        if not source.exists():
            problems.append(f"{table}: {row.mutant}: there is no {folder}/{name}.cc")
        elif case.split("/")[0] not in source.read_text(encoding="utf-8"):
            problems.append(f"{table}: {row.mutant}: {folder}/{name}.cc has no {row.test}")
    run_by_build = {f"{folder}/{name}" for folder, name in LABEL.findall((root / BUILD).read_text(encoding="utf-8"))}
    in_rows = {row.binary for row in rows if not row.open}
    problems += [f"{table}: {BUILD} does not run {binary}" for binary in sorted(in_rows - run_by_build)]
    problems += [f"{BUILD}: {binary} kills no mutant of {table}" for binary in sorted(run_by_build - in_rows)]
    without = sum(row.open for row in rows)
    print("\n".join(problems) or f"{len(rows)} mutants, each in the sources and in the table; {without} without a test")
    return 1 if problems or len(rows) - without < 40 else 0


def kill(row: Row, variant: str, binary: str) -> tuple[bool, str, float]:
    started = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GTEST_", "TEST_", "TESTBRIDGE_", "XML_"))}
    if not row.asserts_itself:
        environment["PYRT_MUTANT"] = row.mutant
    try:
        done = subprocess.run([binary, f"--gtest_filter={row.filter}", "--gtest_brief=1"], env=environment, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False, "ran into the time limit", time.monotonic() - started
    seconds = time.monotonic() - started
    if row.asserts_itself:
        passed = done.returncode == 0 and re.search(r"PASSED  \] [1-9]", done.stdout)
        return bool(passed), "it makes the mutant itself and asserts the failure", seconds
    if done.returncode == 0:
        ran = re.search(r"\] (\d+) tests? from", done.stdout)
        return False, "survives" if ran and int(ran[1]) > 0 else "no such test", seconds
    reason = re.search(r"^(?:detsched: )?(.*(?:race|deadlock|livelock|CHECK|invariant|fatal|FAILED).*)$", done.stdout,
                       re.MULTILINE | re.IGNORECASE)
    # Anything else is a program that could not run, not a test that noticed something.
    if reason is None:
        return False, f"exit status {done.returncode} without a finding", seconds
    return True, reason[1].strip()[:100], seconds


def run(table: str, binaries: list[str]) -> int:
    jobs, missing = [], set()
    folders = {os.path.dirname(os.path.abspath(binary)) for binary in binaries}
    for row in read_table(table):
        for variant in row.variants:
            wanted = f"{row.binary}_detsched_{variant}"
            binary = next((binary for binary in binaries if binary.endswith(wanted)), None)
            if binary is not None:
                jobs.append((row, variant, binary))
            elif any(folder.endswith(f"/{os.path.dirname(wanted)}") for folder in folders):
                missing.add(wanted)
    if missing:
        sys.exit(f"of a folder whose mutants are run, no binary was given for: {', '.join(sorted(missing))}")
    if not jobs:
        sys.exit("no binary of the table was given")
    jobs.sort(key=lambda job: binaries.index(job[2]))
    # A test that makes its mutants itself is run once for all of them. Two at once hide most of the waiting.
    def run_of(job: tuple[Row, str, str]) -> tuple[str, str]:
        row, _, binary = job
        return binary, row.filter if row.asserts_itself else row.mutant

    first = {run_of(job): job for job in reversed(jobs)}
    with concurrent.futures.ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        ends = dict(zip(first, pool.map(lambda job: kill(*job), first.values())))
    results = [ends[run_of(job)] for job in jobs]
    killed = 0
    for (row, variant, _), (dead, how, seconds) in zip(jobs, results):
        killed += dead
        print(f"{'killed  ' if dead else 'SURVIVES'} {seconds:5.1f} s  {variant:3} {row.mutant}\n"
              f"{'':20} {row.mistake}\n{'':20} by {row.binary} {row.test}: {how}")
    for row in read_table(table):
        if row.open:
            print(f"open             {row.mutant}: {row.mistake}: no test kills it yet")
    print(f"{killed} of {len(jobs)} mutants killed ({len({job[0].mutant for job in jobs})} mistakes)")
    return 0 if killed == len(jobs) else 1


def main() -> int:
    if len(sys.argv) >= 3 and sys.argv[1] == "check":
        return check(sys.argv[2])
    if len(sys.argv) >= 4 and sys.argv[1] == "run":
        return run(sys.argv[2], sys.argv[3:])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
