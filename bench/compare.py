"""Measures pyrt beside CPython: one table, compare.json and compare.html. Run as `bazel run //bench:compare`.

bench/README.md explains the rows, and what the figures may be used for.
"""

import argparse
import json
import os
import re
import sys
import time

from report import machine, page, runner, table
from report.results import Results, median, spread
from rows import FLOORS, ROWS

# Seconds that one repetition may take, how many there are, how long a contended benchmark watches at most and the
# time of a tight loop. Default: 5 x 26 s and the start-up, below 3 minutes; quick: 2 x 13 s, below 40 s; --scaling makes
# it three times that.
DEFAULT = {"repetitions": 5, "seconds": 26.0, "window": 0.3, "min_time": 0.05}
QUICK = {"repetitions": 2, "seconds": 13.0, "window": 0.1, "min_time": 0.01}


class OneLineParser(argparse.ArgumentParser):

    def error(self, message):
        print(f"compare: {message} (see --help)", file=sys.stderr)
        sys.exit(2)


def _repetitions(text):
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return value


def _regex(text):
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}")


def parse(arguments):
    parser = OneLineParser(prog="compare", description="Measures pyrt beside CPython.", allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="two short repetitions, under 40 seconds")
    parser.add_argument("--scaling", action="store_true", help="also how costs grow with threads, modules, interpreters, "
                        "hooks: 3 times as long")
    parser.add_argument("--filter", type=_regex, metavar="REGEX", help="only rows whose id, group or title matches")
    parser.add_argument("--repetitions", type=_repetitions, metavar="N", help="default 5, with --quick 2")
    parser.add_argument("--out", metavar="DIR", help="where compare.json and compare.html go; default: where the "
                        "command was started")
    parser.add_argument("--list", action="store_true", help="print the ids and titles of the rows and stop")
    parser.add_argument("--programs", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    matching = [row for row in ROWS if options.filter is None or
                any(options.filter.search(text) for text in (row.id, row.group, row.title))]
    options.rows = [row for row in matching if options.scaling or not row.scaling]
    if matching and not options.rows:
        parser.error(f"--filter {options.filter.pattern!r} matches only rows that want --scaling")
    if not options.rows:
        parser.error(f"--filter {options.filter.pattern!r} matches no row; --list shows them")
    # `bazel run` starts programs elsewhere and tells where the user was.
    started_in = os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd())
    options.out = os.path.normpath(os.path.join(started_in, os.path.expanduser(options.out or ".")))
    if os.path.exists(options.out) and not os.path.isdir(options.out):
        parser.error(f"--out {options.out}: not a directory")
    try:
        os.makedirs(options.out, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: {error.strerror}")
    if not os.access(options.out, os.W_OK):
        parser.error(f"--out {options.out}: not writable")
    return options


def load_columns(path):
    here = os.path.dirname(os.path.abspath(__file__))
    path = path or os.path.join(here, "programs.json")
    with open(path, encoding="utf-8") as file:
        specs = json.load(file)
    root = os.path.dirname(here)
    return [runner.Column(spec, root) for spec in specs["columns"]]


def wanted_by_group(rows, columns):
    """[(column id, benchmark)] for each group of rows, in the order of the table; the floors come first."""
    floor = [c for c in columns if c.kind == "floor"]
    groups = [[(c.id, name) for c in floor for name in dict.fromkeys(entry[2] for entry in FLOORS)]]
    by_title = {}
    for row in rows:
        wanted = by_title.setdefault(row.group, [])
        for column in columns:
            name = table.benchmark_name(row, column)
            if name is not None and column.kind != "floor":
                wanted.append((column.id, name))
    return groups + list(by_title.values())


def floor_figures(results, columns):
    floor = next((c for c in columns if c.kind == "floor"), None)
    figures = []
    for title, unit, name, metric in FLOORS if floor else []:
        samples = results.samples(floor.id, name, metric, unit)
        note = None if samples else results.error(floor.id, name) or "not measured"
        figures.append((title, unit, table.Cell(median(samples), spread(samples), note, samples)))
    return figures


def rows_as_json(lines):
    for line in lines:
        row = line.row
        yield {
            "id": row.id, "group": row.group, "title": row.title, "unit": row.unit, "better": row.better,
            "values": {column: cell.value for column, cell in line.cells.items()},
            "samples": {column: [v for _, v in sorted(cell.samples.items())] for column, cell in line.cells.items()},
            "missing": {column: cell.note for column, cell in line.cells.items() if cell.note},
            "floor": line.floor.value,
            "gain": {column: {"median": g[0], "min": g[1], "max": g[2], "over": g[3]} for column, g in line.gains.items()},
            "target": table.target_text(line), "met": line.met,
        }


def merge_context(context, columns):
    """Adds what the programs say about themselves: caches, clock, compilers, Python builds."""
    context = dict(context)
    for column in columns:
        for key in ("mhz_per_cpu", "cpu_scaling_enabled", "caches", "library_build_type"):
            if key in column.context:
                context.setdefault(key, column.context[key])
        for key in ("variant", "compiler", "optimised", "python_version", "python_build", "python_gil"):
            if key in column.context:
                context[f"{column.title}: {key.replace('python_', '')}"] = column.context[key]
    return context


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main(arguments):
    options = parse(arguments)
    if options.list:
        width = max(len(row.id) for row in options.rows)
        for row in options.rows:
            print(f"{row.id:{width}}  {row.group}: {row.title}")
        return 0
    settings = dict(QUICK if options.quick else DEFAULT)
    settings["repetitions"] = options.repetitions or settings["repetitions"]

    began = time.monotonic()
    load_before = os.getloadavg()[0]
    quiet = machine.QuietMeter()
    context = dict(machine.context(), executable="//bench:compare", repetitions=settings["repetitions"],
                   quick=options.quick, scaling=options.scaling, filter=options.filter.pattern if options.filter else "")
    columns, results = load_columns(options.programs), Results()
    for column in columns:
        column.discover(results)
    steps = runner.plan(wanted_by_group(options.rows, columns), columns)
    if options.scaling:
        settings["seconds"] *= 3
    window = runner.fit_window(steps, settings["seconds"], settings["min_time"], settings["window"])
    context["window_ms"] = round(window * 1000)
    if load_before > machine.NOISY_LOAD:
        print(f"compare: load average {load_before:.2f}: something else is running, figures will be indicative",
              file=sys.stderr)
    runner.run(steps, settings["repetitions"], window, settings["min_time"], results, runner.Progress())

    context = merge_context(context, columns)
    lines = table.build(options.rows, columns, results)
    floors = floor_figures(results, columns)
    notes = table.notes(lines, columns, results) + machine.noise_notes(load_before, *quiet.others())
    for column in columns:
        if column.context.get("optimised") == "no":
            notes.append(f"{column.title}: built without optimisation; use the //bench targets")

    bold = sys.stdout.isatty()
    detail = table.render_distributions(lines, columns, results, bold)
    if detail:
        print("Distributions, all repetitions together\n\n" + detail + "\n")
    print(table.render(lines, columns, bold))
    print("\nWhat the machine charges")
    for title, unit, cell in floors:
        print(f"  {title:42} {str(cell):>8} {unit}")
    print()
    for note in notes:
        print(f"note: {note}")
    print("~ repetitions differ by more than 30 %.  gain: CPython's figure over pyrt's, paired by repetition.")
    print(table.HOW_FIGURES_ARE_TAKEN)

    json_path = os.path.join(options.out, "compare.json")
    html_path = os.path.join(options.out, "compare.html")
    report = {"context": dict(context, notes=notes), "benchmarks": list(results.all_runs()),
              "rows": list(rows_as_json(lines)),
              "floors": [{"title": t, "unit": u, "value": c.value} for t, u, c in floors]}
    write(json_path, json.dumps(report, indent=1) + "\n")
    write(html_path, page.render(lines, columns, results, floors, context, notes))
    print(f"{json_path}\n{html_path}\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\ncompare: interrupted, nothing written", file=sys.stderr)
        sys.exit(130)
