"""The figures of all repetitions, by column and benchmark."""

import math
import re
import statistics

from report import histogram

_SUFFIX = re.compile(r"(/iterations:\d+|/manual_time|/real_time|/process_time)+$")
_NANOS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
_PER_UNIT = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def per_unit(unit):
    """Nanoseconds in a unit of time; 1 for other units."""
    return _PER_UNIT.get(unit, 1.0)


def plain_name(name):
    """The name as rows.py has it: without what Google Benchmark appends."""
    return _SUFFIX.sub("", name)


class Results:
    """Samples as Google Benchmark wrote them, one dict per column, benchmark and repetition."""

    def __init__(self):
        self._runs = {}  # (column, plain name) -> {repetition: run}
        self.failures = {}  # column -> [what went wrong]

    def add(self, column, repetition, run):
        self._runs.setdefault((column, plain_name(run["name"])), {})[repetition] = run

    def fail(self, column, reason):
        reasons = self.failures.setdefault(column, [])
        if reason not in reasons:
            reasons.append(reason)

    def runs(self, column, name):
        """{repetition: run} of those that succeeded."""
        found = self._runs.get((column, name), {})
        return {repetition: run for repetition, run in found.items() if not _error(run)}

    def error(self, column, name):
        """Why a benchmark was skipped, or None."""
        for run in self._runs.get((column, name), {}).values():
            if _error(run):
                return _error(run)
        return None

    def samples(self, column, name, metric, unit):
        """{repetition: figure in `unit`}."""
        if name is None:
            return {}
        values = {}
        for repetition, run in self.runs(column, name).items():
            value = _figure(run, metric, unit)
            if value is not None:
                values[repetition] = value
        return values

    def distribution(self, column, name, which):
        """The histogram `which` of a benchmark, all repetitions together."""
        if name is None:
            return {}
        return histogram.merge(
            histogram.decode(run.get("label")).get(which, {}) for run in self.runs(column, name).values())

    def all_runs(self):
        """Every run for the JSON report, in Google Benchmark's schema, its column before the name."""
        for (column, _), by_repetition in sorted(self._runs.items()):
            for repetition, run in sorted(by_repetition.items()):
                yield dict(run, name=f"{column}/{run['name']}", run_name=f"{column}/{run.get('run_name', run['name'])}",
                           repetition_index=repetition, repetitions=len(by_repetition))


def _error(run):
    if run.get("error_occurred") or run.get("skipped"):
        return run.get("error_message") or run.get("skip_message") or "skipped"
    return None


def _figure(run, metric, unit):
    if metric == "cpu_time" and run.get("name", "").endswith("/manual_time"):
        metric = "real_time"  # what the benchmark has timed itself: the loop, and not what it sets up for it
    value = run.get(metric)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if unit == "%":
        return value * 100
    if unit not in _PER_UNIT:
        return value
    if metric in ("real_time", "cpu_time"):
        nanos = value * _NANOS[run.get("time_unit", "ns")]
    else:
        nanos = value  # counters are nanoseconds where the unit is a time
    return nanos / _PER_UNIT[unit]


def median(samples):
    return statistics.median(samples.values()) if samples else None


def spread(samples):
    """(largest - smallest) / median; 0 for a single sample."""
    middle = median(samples)
    if not middle or len(samples) < 2:
        return 0.0
    return (max(samples.values()) - min(samples.values())) / abs(middle)


def paired_ratio(over, under):
    """The median, smallest and largest of over/under within one repetition, or None.

    The two were measured seconds apart there, so what drifts between repetitions cancels.
    """
    ratios = [over[r] / under[r] for r in over.keys() & under.keys() if under[r] > 0]
    if not ratios:
        return None
    return statistics.median(ratios), min(ratios), max(ratios)
