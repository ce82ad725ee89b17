"""Runs the measuring programs, interleaved, and says how long it will still take."""

import json
import os
import re
import subprocess
import sys
import time

from report.results import Results, plain_name

_START_UP = 0.05  # seconds that a program takes before it measures
_TIMEOUT = 120
_CONTENDED = "/iterations:1/manual_time"  # a benchmark that watches threads for PYRT_BENCH_WINDOW_MS


class Column:
    """One side of the comparison: its programs and which benchmarks each has."""

    def __init__(self, spec, root):
        self.id = spec["id"]
        self.title = spec["title"]
        self.kind = spec["kind"]  # "pyrt_gil", "pyrt_ft", "peer", "floor"
        self.gil = spec.get("gil", True)
        self.note = spec.get("note")
        self.programs = [os.path.join(root, path) for path in spec.get("programs", [])]
        self.benchmarks = {}  # plain name -> (program, full name)
        self.context = {}

    def discover(self, results):
        for program in self.programs:
            try:
                done = subprocess.run([program, "--benchmark_list_tests"], capture_output=True, text=True,
                                      timeout=_TIMEOUT)
            except (OSError, subprocess.SubprocessError) as error:
                results.fail(self.id, f"{os.path.basename(program)}: {error}")
                continue
            if done.returncode != 0:
                results.fail(self.id, _complaint(program, done.returncode, done.stderr))
                continue
            for full in done.stdout.split():
                self.benchmarks.setdefault(plain_name(full), (program, full))


def _complaint(program, code, stderr):
    lines = [line for line in (stderr or "").strip().splitlines() if line.strip()]
    return f"{os.path.basename(program)} failed ({code}): {lines[-1] if lines else 'no message'}"


class Step:
    """One program run for one group of rows; repeated in every repetition."""

    def __init__(self, column, program, names):
        self.column = column
        self.program = program
        self.names = names  # full names
        self.took = None

    @property
    def windows(self):
        # I/O re-attachment watches two windows: without and with the I/O thread.
        return sum(2 if "Reattach" in name else 1 for name in self.names if _CONTENDED in name)

    @property
    def loops(self):
        return sum(_CONTENDED not in name for name in self.names)

    def expected(self, window, min_time):
        if self.took is not None:
            return self.took
        return _START_UP + self.windows * window * 1.15 + self.loops * min_time * 3


def plan(groups, columns):
    """Steps in the order of a repetition: for each group of rows, every column in turn.

    `groups` is a list of [(column id, plain name)] lists.
    """
    steps = []
    for wanted in groups:
        for column in columns:
            by_program = {}
            for column_id, name in wanted:
                if column_id == column.id and name in column.benchmarks:
                    program, full = column.benchmarks[name]
                    by_program.setdefault(program, [])
                    if full not in by_program[program]:
                        by_program[program].append(full)
            steps += [Step(column, program, names) for program, names in by_program.items()]
    return steps


def fit_window(steps, seconds_per_repetition, min_time, longest):
    """The window, in seconds, with which one repetition stays within its time; never below 20 ms."""
    rest = seconds_per_repetition - sum(_START_UP + step.loops * min_time * 3 for step in steps)
    windows = sum(step.windows for step in steps)
    if not windows:
        return longest
    return max(0.02, min(longest, rest / windows / 1.15))


class Progress:
    """One line on a terminal, rewritten; one line per repetition elsewhere."""

    def __init__(self, stream=sys.stderr):
        self._stream = stream
        self._tty = stream.isatty()

    def show(self, done, total, repetition, repetitions, left, what):
        if not self._tty:
            if what is None:
                self._stream.write(f"repetition {repetition}/{repetitions} done, about {left:.0f} s left\n")
                self._stream.flush()
            return
        if what is None:
            return
        width = 24
        filled = int(width * done / max(1, total))
        line = f"[{'#' * filled}{'.' * (width - filled)}] {repetition}/{repetitions}  {left:4.0f} s left  {what}"
        self._stream.write("\r\033[K" + line[:110])
        self._stream.flush()

    def end(self):
        if self._tty:
            self._stream.write("\r\033[K")
            self._stream.flush()


def run(steps, repetitions, window, min_time, results: Results, progress: Progress):
    environment = dict(os.environ, PYRT_BENCH_WINDOW_MS=str(max(1, round(window * 1000))), PYRT_BENCH_HISTOGRAMS="1")
    done, total = 0, len(steps) * repetitions
    for repetition in range(repetitions):
        # Every other repetition runs backwards, so that no column always follows the same other one.
        order = steps if repetition % 2 == 0 else steps[::-1]
        for index, step in enumerate(order):
            left = sum(other.expected(window, min_time) for other in order[index:])
            left += (repetitions - repetition - 1) * sum(other.expected(window, min_time) for other in steps)
            progress.show(done, total, repetition + 1, repetitions, left,
                          f"{step.column.title}: {plain_name(step.names[0])}")
            began = time.monotonic()
            _run_step(step, repetition, min_time, environment, results)
            step.took = time.monotonic() - began
            done += 1
        left = (repetitions - repetition - 1) * sum(step.expected(window, min_time) for step in steps)
        progress.show(done, total, repetition + 1, repetitions, left, None)
    progress.end()


def _run_step(step, repetition, min_time, environment, results):
    pattern = "^(" + "|".join(re.escape(name) for name in step.names) + ")$"
    command = [step.program, f"--benchmark_filter={pattern}", "--benchmark_format=json",
               f"--benchmark_min_time={min_time:g}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment)
    except subprocess.TimeoutExpired:
        results.fail(step.column.id, f"{os.path.basename(step.program)}: no end after {_TIMEOUT} s, stopped")
        return
    except OSError as error:
        results.fail(step.column.id, f"{os.path.basename(step.program)}: {error}")
        return
    if done.returncode != 0:
        results.fail(step.column.id, _complaint(step.program, done.returncode, done.stderr))
        return
    try:
        report = json.loads(done.stdout)
    except ValueError:
        results.fail(step.column.id, f"{os.path.basename(step.program)}: its output is not JSON")
        return
    step.column.context.update(report.get("context", {}))
    for one in report.get("benchmarks", []):
        if one.get("run_type", "iteration") == "iteration":
            results.add(step.column.id, repetition, one)
