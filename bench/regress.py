"""Compares two compare.json files and fails where a figure of pyrt has got worse. Run as `bazel run //bench:regress`.

A figure is worse when all of this holds:
  - the median over the repetitions moved the wrong way by more than 5 %, and by more than twice the spread that the
    repetitions of the old report have: the range of their middle half, which more repetitions do not widen;
  - a Mann-Whitney U test says that the new repetitions are worse, at one chance in a hundred of being wrong. Five
    repetitions on each side are the least with which that can be said.
A figure of a row that both reports have, which the new one lacks, is a failure too: what is not measured does not stay
good. Rows that the new report does not have are named.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys

ALPHA = 0.01
LEAST_SHIFT = 0.05
# A figure that may move further than this is not gated by much.
TOO_NOISY = 0.3
# Up to here every arrangement of the samples is counted (184 756 at ten and ten); beyond, the normal approximation.
_EXACT = 200_000


def p_value_greater(new, old):
    """The chance that samples of one distribution fall at least as far in favour of new > old: one-sided, ties halved."""
    wins = lambda a, b: sum((x > y) + 0.5 * (x == y) for x in a for y in b)
    observed, pooled = wins(new, old), list(new) + list(old)
    n, m = len(new), len(old)
    if math.comb(n + m, n) <= _EXACT:
        ranks = _ranks(pooled)
        smallest = n * (n + 1) / 2
        as_far = sum(sum(chosen) - smallest >= observed for chosen in itertools.combinations(ranks, n))
        return as_far / math.comb(n + m, n)
    ties = sum(t ** 3 - t for t in (pooled.count(v) for v in set(pooled)))
    variance = n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1)))
    if variance <= 0:
        return 1.0
    return 0.5 * math.erfc((observed - n * m / 2 - 0.5) / math.sqrt(2 * variance))


def _ranks(values):
    """The rank of each value from 1; equal ones share the mean of theirs."""
    order = sorted(values)
    first, last = {}, {}
    for rank, value in enumerate(order, 1):
        first.setdefault(value, rank)
        last[value] = rank
    return [(first[v] + last[v]) / 2 for v in values]


def relative_spread(samples):
    """The interquartile range over the median; the whole range where fewer than four samples make no quartiles."""
    middle = statistics.median(samples)
    if len(samples) < 4:
        low, high = min(samples), max(samples)
    else:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / abs(middle) if middle else 0.0


class Verdict:
    """One row of one column: what was, what is, and "worse", "better", "same", "unsure" or "lost"."""

    def __init__(self, row, column, old, new):
        self.row, self.column, self.old, self.new = row, column, old, new
        self.p = None
        self.allowed = max(LEAST_SHIFT, 2 * relative_spread(old))
        if not new:
            self.kind, self.shift = "lost", None
            return
        before, after = statistics.median(old), statistics.median(new)
        worse_is = 1 if row["better"] == "lower" else -1
        if before:
            self.shift = worse_is * (after - before) / abs(before)
        else:
            self.shift = math.copysign(math.inf, worse_is * after) if after else 0.0
        self.kind = "same"
        if abs(self.shift) > self.allowed:
            up = (self.shift > 0) == (worse_is > 0)  # the figures rose
            self.p = p_value_greater(new, old) if up else p_value_greater(old, new)
            self.kind = ("worse" if self.shift > 0 else "better") if self.p < ALPHA else "unsure"

    def __str__(self):
        name = f"{self.kind:6} {self.row['id']:26} {self.column:10}"
        unit = self.row["unit"]
        before = statistics.median(self.old)
        if self.kind == "lost":
            return f"{name} {before:.4g} {unit} -> no figure"
        after = statistics.median(self.new)
        text = f"{name} {before:.4g} -> {after:.4g} {unit}: {100 * self.shift:+.1f} % (allowed {100 * self.allowed:.0f} %"
        return text + (f", p = {self.p:.3g})" if self.p is not None else ")")


def judge(old, new, column_prefix="pyrt"):
    """(verdicts, ids of rows that only the old report has). Columns of pyrt only: CPython is not ours to gate."""
    after = {row["id"]: row for row in new["rows"]}
    verdicts, absent = [], []
    for row in old["rows"]:
        if row["id"] not in after:
            absent.append(row["id"])
            continue
        for column, samples in row["samples"].items():
            if samples and column.startswith(column_prefix):
                verdicts.append(Verdict(row, column, samples, after[row["id"]]["samples"].get(column) or []))
    return verdicts, absent


def notes(old, new):
    """What a reader must know before believing the verdicts."""
    for key in ("cpu", "num_cpus", "kernel", "window_ms", "quick"):
        a, b = old["context"].get(key), new["context"].get(key)
        if a != b:
            yield f"{key} differs: {a} and {b}: figures of different machines or settings say little"
    for name, report in (("old", old), ("new", new)):
        if report["context"].get("repetitions", 0) < 5:
            yield f"the {name} report has fewer than 5 repetitions: nothing can be called worse with certainty"
        for note in report["context"].get("notes", []):
            if note.startswith("noisy"):
                yield f"the {name} report: {note}"


def _load(path):
    try:
        # `bazel run` starts programs elsewhere and tells where the user was.
        with open(os.path.join(os.environ.get("BUILD_WORKING_DIRECTORY", ""), path), encoding="utf-8") as file:
            report = json.load(file)
        report["context"].get, report["rows"][0]["samples"]
        return report
    except OSError as error:
        reason = error.strerror
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        reason = "not a compare.json with rows"
    print(f"regress: {path}: {reason}", file=sys.stderr)
    sys.exit(2)


def main(arguments):
    parser = argparse.ArgumentParser(prog="regress", description="Fails where pyrt has got worse between two reports.")
    parser.add_argument("old", help="compare.json of before")
    parser.add_argument("new", help="compare.json of now")
    parser.add_argument("--all", action="store_true", help="list the figures that stayed too")
    options = parser.parse_args(arguments)
    old, new = _load(options.old), _load(options.new)
    verdicts, absent = judge(old, new)
    for verdict in verdicts:
        if options.all or verdict.kind != "same":
            print(verdict)
    for note in notes(old, new):
        print(f"note: {note}")
    if absent:
        print(f"note: not in the new report, not compared: {', '.join(absent)}")
    count = lambda kind: sum(v.kind == kind for v in verdicts)
    print(f"{len(verdicts)} figures of {len({v.row['id'] for v in verdicts})} rows compared "
          f"({old['context'].get('commit')} to {new['context'].get('commit')}): {count('worse')} worse, "
          f"{count('lost')} lost, {count('unsure')} moved without certainty, {count('better')} better")
    noisy = sum(verdict.allowed > TOO_NOISY for verdict in verdicts)
    print(f"{noisy} too noisy to judge (allowed more than {100 * TOO_NOISY:.0f} %)")
    if not verdicts:
        print("regress: nothing to compare", file=sys.stderr)
        return 2
    return 1 if count("worse") or count("lost") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
