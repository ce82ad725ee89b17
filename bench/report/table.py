"""From results to the cells of the table, and the table as text."""

import re
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from report import histogram as h
from report.results import median, paired_ratio, per_unit, spread
from rows import AtMostOverFloor, AtMostTimesFloor

# Repetitions that differ by more than this share of their median are marked with "~".
WIDE_SPREAD = 0.3
# With fewer samples in all, a p99 is one of the ten worst, which says more of the machine than of the code.
LEAST_SAMPLES_FOR_P99 = 1000

HOW_FIGURES_ARE_TAKEN = ("Figures are medians over the repetitions, p99 is over the samples of all of them. "
                         "Targets relative to a floor are judged on the best repetition of each side.")

_P99 = re.compile(r"(\w+)_p99_ns")


@dataclass
class Cell:
    """One figure: the median over the repetitions (a p99: over all their samples), or why there is none."""

    value: Optional[float] = None
    spread: float = 0.0
    note: Optional[str] = None
    samples: Dict[int, float] = field(default_factory=dict)
    behind_p99: Optional[int] = None  # how many samples a p99 is made of; None for other figures

    @property
    def best(self):
        return min(self.samples.values()) if self.samples else None

    @property
    def too_few(self):
        return self.behind_p99 is not None and self.behind_p99 < LEAST_SAMPLES_FOR_P99

    def __str__(self):
        if self.value is None:
            return "-"
        return number(self.value) + ("~" if self.spread > WIDE_SPREAD else "")


@dataclass
class Line:
    """A row of the table, filled in."""

    row: object
    cells: Dict[str, Cell]  # column id -> cell
    floor: Cell
    gains: Dict[str, tuple]  # pyrt column id -> (gain, smallest, largest, peer column id)
    # pyrt column id -> target met; None without a target, a figure, or the samples to judge it by.
    met: Dict[str, Optional[bool]]


def number(value):
    """Three significant digits and no exponent."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.01:
        return f"{value:.2f}" if size >= 1 else f"{value:.3g}"
    return f"{value:.1g}"


def benchmark_name(row, column):
    """What `column` calls the measurement of `row`; None where the row does not apply to it."""
    if column.kind == "pyrt_gil":
        return row.pyrt_name(gil=True)
    if column.kind == "pyrt_ft":
        return row.pyrt_name(gil=False)
    if column.kind == "peer":
        return row.peer
    return row.floor


def _cell(results, column, name, metric, unit):
    if name is None:
        return Cell(note="does not apply")
    samples = results.samples(column.id, name, metric, unit)
    if samples:
        p99 = _P99.fullmatch(metric)
        value, count = _pooled_p99(results, column.id, name, p99[1], unit) if p99 else (None, None)
        return Cell(median(samples) if value is None else value, spread(samples), None, samples, count)
    if column.note:
        return Cell(note=column.note)
    reason = results.error(column.id, name)
    if reason is None and name not in column.benchmarks:
        reason = f"no benchmark {name}"
    if reason is None:
        failures = results.failures.get(column.id)
        reason = failures[0] if failures else f"{name} has no figure {metric}"
    return Cell(note=reason)


def _pooled_p99(results, column_id, name, which, unit):
    """(p99 over the samples of all repetitions, how many they are); no p99 where the runs kept no histogram.

    One repetition has so few that its own p99 is its worst sample.
    """
    merged = results.distribution(column_id, name, which)
    if not merged:
        return None, round(sum(results.samples(column_id, name, f"{which}_count", "plain").values()))
    p99 = h.quantile(merged, 0.99) / per_unit(unit)
    worst = results.samples(column_id, name, f"{which}_max_ns", unit)
    return min([p99, *([max(worst.values())] if worst else [])]), sum(merged.values())


def _floor(row, floor_column, results):
    if floor_column is None or row.floor is None:
        return Cell(note="no floor")
    contended = results.samples(floor_column.id, row.floor, "latency_p50_ns", row.unit)
    metric = row.floor_metric or ("latency_p50_ns" if contended else "cpu_time")
    return _cell(results, floor_column, row.floor, metric, row.unit)


def _met(target, cell, floor):
    """Whether a target is met; None without one, without a figure, or where too few samples are behind a p99.

    A target relative to a floor compares the best repetitions: both are a few tenths of a nanosecond, and what
    disturbs a loop only ever adds.
    """
    if target is None or cell.value is None or cell.too_few:
        return None
    if isinstance(target, (AtMostTimesFloor, AtMostOverFloor)):
        return None if floor.value is None else target.met(cell.best, floor.best)
    return target.met(cell.value, floor.value)


def _reference(line_cells, columns, gil):
    """The Python to compare a pyrt column with: the newest of the same kind, else the newest with a GIL."""
    peers = [c for c in columns if c.kind == "peer" and line_cells[c.id].value is not None]
    same = [c for c in peers if c.gil == gil]
    other = [c for c in peers if c.gil]
    return (same or other or peers or [None])[-1]


def build(rows, columns, results):
    """Lines for all rows. `columns` holds the floor too; peers stand in the order of their versions."""
    floor_column = next((c for c in columns if c.kind == "floor"), None)
    lines = []
    for row in rows:
        cells = {c.id: _cell(results, c, benchmark_name(row, c), row.metric, row.unit)
                 for c in columns if c.kind != "floor"}
        floor = _floor(row, floor_column, results)
        gains, met = {}, {}
        for column in columns:
            if column.kind not in ("pyrt_gil", "pyrt_ft"):
                continue
            gil = column.kind == "pyrt_gil"
            ours = cells[column.id]
            target = row.target_of(gil)
            met[column.id] = _met(target, ours, floor)
            peer = _reference(cells, columns, gil)
            if ours.value is None or peer is None:
                continue
            theirs = cells[peer.id].samples
            ratio = (paired_ratio(theirs, ours.samples) if row.better == "lower"
                     else paired_ratio(ours.samples, theirs))
            if ratio is not None:
                gains[column.id] = (*ratio, peer.id)
        lines.append(Line(row, cells, floor, gains, met))
    return lines


def gain_text(line, column_id):
    gain = line.gains.get(column_id)
    return "-" if gain is None else number(gain[0]) + "x"


def met_text(line, column_id):
    return {True: "yes", False: "NO", None: "-"}[line.met.get(column_id)]


def target_text(line):
    """The target; both where the builds differ."""
    gil, ft = line.row.target_of(True), line.row.target_of(False)
    if gil is None and ft is None:
        return "-"
    return str(gil) if gil == ft else f"{gil or '-'}, ft {ft or '-'}"


def columns_of(columns):
    """(pyrt columns, peer columns), in order."""
    return ([c for c in columns if c.kind in ("pyrt_gil", "pyrt_ft")], [c for c in columns if c.kind == "peer"])


def render(lines, columns, bold=False) -> str:
    pyrt, peers = columns_of(columns)
    header = ["", "unit"] + [c.title for c in pyrt + peers] + ["floor"]
    header += [f"gain {c.title.split()[-1]}" for c in pyrt] + ["target", "met"]
    body: List[Optional[List[str]]] = []
    group = None
    for line in lines:
        if line.row.group != group:
            group = line.row.group
            body.append([group])
        body.append(["  " + line.row.title, line.row.unit] + [str(line.cells[c.id]) for c in pyrt + peers] +
                    [str(line.floor)] + [gain_text(line, c.id) for c in pyrt] +
                    [target_text(line), "/".join(met_text(line, c.id) for c in pyrt)])
    return _align(header, body, left=(0, 1), bold=bold)


def _align(header, body, left, bold):
    widths = [len(h) for h in header]
    for cells in body:
        if len(cells) > 1:
            widths = [max(width, len(cell)) for width, cell in zip(widths, cells)]
    def text(cells):
        return "  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                         for i, (cell, width) in enumerate(zip(cells, widths))).rstrip()
    out = [text(header), "-" * (sum(widths) + 2 * (len(widths) - 1))]
    for cells in body:
        if len(cells) == 1:
            out.append(f"\033[1m{cells[0]}\033[0m" if bold else cells[0])
        else:
            out.append(text(cells))
    return "\n".join(out)


# --- The second table: distributions -----------------------------------------------------------------------------


@dataclass
class Distribution:
    """One side's latencies of one row: percentiles in the row's unit over all repetitions, and the price."""

    column: object
    histogram: Dict[int, int]
    p50: float
    p99: float
    worst: float
    count: int
    rate: Optional[float]
    fairness: Optional[float]
    cpus: Optional[float]
    sleeps: Optional[float]


def distributions(line, columns, results) -> List[Distribution]:
    row, found = line.row, []
    scale = per_unit(row.unit)
    for column in columns:
        if column.kind == "floor" or row.detail is None:
            continue
        name = benchmark_name(row, column)
        merged = results.distribution(column.id, name, row.detail)
        if not merged:
            continue
        worst = results.samples(column.id, name, f"{row.detail}_max_ns", row.unit)
        worst = max(worst.values()) if worst else h.quantile(merged, 1.0) / scale
        plain = lambda metric: median(results.samples(column.id, name, metric, "plain"))
        found.append(Distribution(column, merged, min(worst, h.quantile(merged, 0.5) / scale),
                                  min(worst, h.quantile(merged, 0.99) / scale), worst, sum(merged.values()), plain("switches_per_s"), plain("fairness"),
                                  plain("cpus_used"), plain("sleeps_per_op")))
    return found


def render_distributions(lines, columns, results, bold=False) -> str:
    header = ["", "", "p50", "p99", "max", "unit", "samples", "per second", "fairness", "CPUs used", "sleeps/op"]
    body = []
    optional = lambda value: "-" if value is None else number(value)
    for line in lines:
        rows = distributions(line, columns, results)
        if not rows:
            continue
        body.append([line.row.group + ": " + line.row.title])
        for d in rows:
            body.append(["", d.column.title, number(d.p50), number(d.p99), number(d.worst), line.row.unit,
                         str(d.count), optional(d.rate), optional(d.fairness), optional(d.cpus), optional(d.sleeps)])
    return _align(header, body, left=(0, 1, 5), bold=bold) if body else ""


def notes(lines, columns, results):
    """One line per thing a reader should know: missing columns, programs that failed, odd gaps, few samples."""
    out = [f"{c.title}: {c.note}" for c in columns if c.note]
    for column in columns:
        out += [f"{column.title}: {reason}" for reason in results.failures.get(column.id, [])]
    missing = {}
    for line in lines:
        for column in columns:
            cell = line.cells.get(column.id)
            if cell is not None and cell.value is None and cell.note and cell.note.startswith("no benchmark "):
                missing.setdefault(column.title, []).append(cell.note[len("no benchmark "):])
    out += [f"{title}: not measured yet: {', '.join(dict.fromkeys(names))}" for title, names in missing.items()]
    few = [f"{line.row.id} ({column.title}: {line.cells[column.id].behind_p99})" for line in lines
           for column in columns_of(columns)[0]
           if line.cells[column.id].too_few and line.row.target_of(column.kind == "pyrt_gil") is not None]
    if few:
        out.append(f"fewer than {LEAST_SAMPLES_FOR_P99} samples, too few to judge p99: {', '.join(few)}")
    return list(dict.fromkeys(out))
