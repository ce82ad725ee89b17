"""Tests of compare.py: the table, the JSON and HTML reports, missing columns, bad arguments.

The measuring programs are little scripts here, so that each figure is known.
"""

import contextlib
import io
import json
import os
import re
import stat
import sys
import tempfile
import unittest

import compare
from report import histogram, machine, runner, svg, table
from report.results import Results, paired_ratio, plain_name
from rows import AtLeast, AtMost, AtMostOverFloor, AtMostTimesFloor, FLOORS, ROWS

FAKE = """#!{python}
import json, re, sys
runs = {runs!r}
arguments = dict(a.lstrip("-").partition("=")[::2] for a in sys.argv[1:])
if "benchmark_list_tests" in arguments:
    print("\\n".join(run["name"] for run in runs))
    sys.exit(0)
wanted = re.compile(arguments["benchmark_filter"])
chosen = [dict(run, cpu_time=run["real_time"], run_name=run["name"], run_type="iteration", iterations=1, time_unit="ns") for run in runs
          if wanted.search(run["name"])]
json.dump({{"context": {{"compiler": "fake 1.0"}}, "benchmarks": chosen}}, sys.stdout)
sys.exit({code})
"""


def bucket_of(ns):
    return next(bucket for bucket in range(1000) if histogram.lower_bound(bucket + 1) > ns)


class CompareTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))

    def program(self, name, runs, code=0):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(FAKE.format(python=sys.executable, runs=runs, code=code))
        os.chmod(path, stat.S_IRWXU)
        return path

    def run_compare(self, columns, *arguments):
        """(exit code, standard output, standard error, compare.json) of one run."""
        programs = os.path.join(self.folder, "programs.json")
        with open(programs, "w", encoding="utf-8") as file:
            json.dump({"columns": columns}, file)
        out = os.path.join(self.folder, "out")
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                code = compare.main([f"--programs={programs}", f"--out={out}", *arguments])
            except SystemExit as end:
                code = end.code
        report = None
        if os.path.exists(os.path.join(out, "compare.json")):
            with open(os.path.join(out, "compare.json"), encoding="utf-8") as file:
                report = json.load(file)
        return code, stdout.getvalue(), stderr.getvalue(), report

    def columns(self, pyrt_ns=2.0, peer_ns=30.0, peer=True, peer_code=0):
        ours = self.program("ours", [{"name": "BM_ImportLock", "real_time": pyrt_ns},
                                     {"name": "BM_Grant/asked:1/iterations:1/manual_time", "real_time": 500.0,
                                      "grant_p50_ns": 500.0, "grant_max_ns": 900.0, "label": "grant=100*9,120*1"}])
        theirs = self.program("theirs", [{"name": "BM_ImportLock", "real_time": peer_ns}], peer_code)
        floors = self.program("floors", [{"name": "BM_FloorCasStore", "real_time": 1.0}])
        columns = [{"id": "pyrt_gil", "title": "pyrt GIL", "kind": "pyrt_gil", "programs": [ours]},
                   {"id": "pyrt_ft", "title": "pyrt FT", "kind": "pyrt_ft", "gil": False, "programs": [ours]}]
        if peer:
            columns.append({"id": "cpython_3_11", "title": "CPython 3.11.2", "kind": "peer", "programs": [theirs]})
        else:
            columns.append({"id": "cpython", "title": "CPython", "kind": "peer", "programs": [],
                            "note": "no python3-dev found: apt-get install python3-dev"})
        return columns + [{"id": "floor", "title": "floor", "kind": "floor", "programs": [floors]}]

    # --- The table -----------------------------------------------------------------------------------------------

    def test_table_has_values_gain_floor_and_target(self):
        code, out, _, report = self.run_compare(self.columns(), "--filter=^import.lock$", "--repetitions=3")
        self.assertEqual(code, 0)
        line = next(line for line in out.splitlines() if "import lock, acquire + release" in line)
        self.assertEqual(line.split("release")[1].split(),
                         ["ns", "2.00", "2.00", "30.0", "1.00", "15.0x", "15.0x", "<=", "3,", "ft", "<=", "9", "yes/yes"])
        row = report["rows"][0]
        self.assertEqual(row["samples"]["pyrt_gil"], [2.0, 2.0, 2.0])
        self.assertEqual(row["met"], {"pyrt_gil": True, "pyrt_ft": True})
        self.assertEqual(row["gain"]["pyrt_gil"]["over"], "cpython_3_11")

    def test_missed_target_is_said(self):
        _, out, _, report = self.run_compare(self.columns(pyrt_ns=5.0), "--filter=^import.lock$", "--repetitions=1")
        self.assertEqual(report["rows"][0]["met"], {"pyrt_gil": False, "pyrt_ft": True})
        self.assertIn("NO/yes", out)

    def test_missing_peer_is_a_column_that_says_so(self):
        code, out, _, report = self.run_compare(self.columns(peer=False), "--filter=^import.lock$", "--repetitions=1")
        self.assertEqual(code, 0)
        self.assertIn("note: CPython: no python3-dev found: apt-get install python3-dev", out)
        self.assertIsNone(report["rows"][0]["values"]["cpython"])
        self.assertEqual(report["rows"][0]["gain"], {})

    def test_failing_program_is_named_and_the_rest_is_reported(self):
        code, out, _, report = self.run_compare(self.columns(peer_code=3), "--filter=^import.lock$", "--repetitions=1")
        self.assertEqual(code, 0)
        self.assertIn("note: CPython 3.11.2: theirs failed (3)", out)
        self.assertEqual(report["rows"][0]["values"]["pyrt_gil"], 2.0)
        self.assertIsNone(report["rows"][0]["values"]["cpython_3_11"])

    def test_missing_benchmark_is_listed_as_not_measured(self):
        _, out, _, _ = self.run_compare(self.columns(), "--filter=^import.reentry$", "--repetitions=1")
        self.assertIn("note: pyrt GIL: not measured yet: BM_ImportLockReentry", out)

    def test_skipped_benchmark_gives_its_reason(self):
        columns = self.columns()
        columns[2]["programs"] = [self.program("skips", [{"name": "BM_ImportLock", "real_time": 0.0,
                                                          "error_occurred": True, "error_message": "no lock today"}])]
        _, _, _, report = self.run_compare(columns, "--filter=^import.lock$", "--repetitions=1")
        self.assertEqual(report["rows"][0]["missing"]["cpython_3_11"], "no lock today")

    def test_distributions_are_listed_and_plotted(self):
        _, out, _, _ = self.run_compare(self.columns(), "--filter=^grant.asked$", "--repetitions=2")
        line = next(line for line in out.splitlines() if line.strip().startswith("pyrt GIL") and "us" in line)
        self.assertIn("20", line.split())  # samples: 10 in each repetition
        with open(os.path.join(self.folder, "out", "compare.html"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn('class="line gil"', text)

    def p99_of_stops(self, labels):
        """(the line of stop.p99.1, the notes) of a run with a repetition for each label."""
        results, name = Results(), "BM_StopTheWorld/busy:1"
        for repetition, (label, count) in enumerate(labels):
            results.add("pyrt_ft", repetition, {"name": name, "stop_p99_ns": 1e6, "stop_max_ns": 1e6,
                                                "stop_count": count, "label": label})
        column = runner.Column(dict(id="pyrt_ft", title="pyrt FT", kind="pyrt_ft", gil=False), "")
        lines = table.build([row for row in ROWS if row.id == "stop.p99.1"], [column], results)
        return lines[0], table.notes(lines, [column], results)

    def test_p99_is_over_the_samples_of_all_repetitions(self):
        # In each repetition the p99 is the one slow sample; over all of them it is not.
        labels = [(f"stop={bucket_of(1000)}*499,{bucket_of(1_000_000)}*1", 500.0)] * 4
        line, notes = self.p99_of_stops(labels)
        self.assertLess(line.cells["pyrt_ft"].value, 1.1)
        self.assertEqual(line.met, {"pyrt_ft": True})
        self.assertEqual(notes, [])

    def test_p99_of_too_few_samples_is_shown_and_not_judged(self):
        labels = [(f"stop={bucket_of(1_000_000)}*333", 333.0)] * 3
        # Without histograms it is the median over the repetitions, and the counters tell the samples.
        for wanted in (labels, [("", count) for _, count in labels]):
            line, notes = self.p99_of_stops(wanted)
            self.assertAlmostEqual(line.cells["pyrt_ft"].value, 1000, delta=60)
            self.assertEqual(line.met, {"pyrt_ft": None})
            self.assertEqual(notes, [
                "fewer than 1000 samples, too few to judge p99: stop.p99.1 (pyrt FT: 999)"])
        line, notes = self.p99_of_stops(labels + labels[:1])
        self.assertEqual((line.met, notes), ({"pyrt_ft": False}, []))

    def test_targets_relative_to_a_floor_are_said_to_take_the_best(self):
        _, out, _, _ = self.run_compare(self.columns(), "--filter=^import.lock$", "--repetitions=1")
        self.assertIn("relative to a floor are judged on the best repetition", out)

    def test_numbers(self):
        for value, text in ((0, "0"), (0.2449, "0.245"), (1.239, "1.24"), (12.34, "12.3"), (5096.7, "5097"),
                            (1234567, "1.23M"), (0.0012, "0.001"), (-3.14159, "-3.14")):
            self.assertEqual(table.number(value), text)

    # --- JSON and HTML -------------------------------------------------------------------------------------------

    def test_json_is_google_benchmarks_schema_with_context(self):
        _, _, _, report = self.run_compare(self.columns(), "--filter=^import.lock$", "--repetitions=2")
        for key in ("date", "host_name", "executable", "num_cpus", "load_avg", "commit", "cpu", "governor",
                    "repetitions", "window_ms", "pyrt GIL: compiler"):
            self.assertIn(key, report["context"])
        runs = [run for run in report["benchmarks"] if run["name"] == "cpython_3_11/BM_ImportLock"]
        self.assertEqual([run["repetition_index"] for run in runs], [0, 1])
        for run in runs:
            for key in ("run_name", "run_type", "iterations", "real_time", "time_unit"):
                self.assertIn(key, run)

    def test_html_loads_nothing_from_elsewhere(self):
        self.run_compare(self.columns(), "--filter=^(import.lock|grant.asked)$", "--repetitions=1")
        with open(os.path.join(self.folder, "out", "compare.html"), encoding="utf-8") as file:
            text = file.read()
        self.assertNotRegex(text, r"(src|href)\s*=|url\(|<script|https?://")
        self.assertIn("15.0x", text)

    # --- Arguments -----------------------------------------------------------------------------------------------

    def assert_refused(self, argument, expected):
        code, out, err, _ = self.run_compare(self.columns(), argument)
        self.assertEqual(code, 2, argument)
        self.assertEqual(out, "")
        self.assertEqual(len(err.strip().splitlines()), 1, err)
        self.assertIn(expected, err)

    def test_bad_arguments_get_one_line(self):
        self.assert_refused("--repetitions=0", "'0' is not a number from 1 to 1000")
        self.assert_refused("--repetitions=many", "'many' is not a number from 1 to 1000")
        self.assert_refused("--filter=(", "is not a regular expression")
        self.assert_refused("--filter=no_such_row", "matches no row")
        self.assert_refused("--frobnicate", "unrecognized arguments: --frobnicate")
        self.assert_refused("surplus", "unrecognized arguments: surplus")
        self.assert_refused("--out=/proc/none", "--out /proc/none")
        self.assert_refused("--out=" + self.program("a_file", []), "not a directory")

    def test_results_go_where_the_command_was_started(self):
        programs = os.path.join(self.folder, "programs.json")
        with open(programs, "w", encoding="utf-8") as file:
            json.dump({"columns": self.columns()}, file)
        os.environ["BUILD_WORKING_DIRECTORY"] = self.folder
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                compare.main([f"--programs={programs}", "--filter=^import.lock$", "--repetitions=1"])
        finally:
            del os.environ["BUILD_WORKING_DIRECTORY"]
        self.assertTrue(os.path.exists(os.path.join(self.folder, "compare.json")))

    # --- The pieces ----------------------------------------------------------------------------------------------

    def test_plain_name_keeps_arguments(self):
        self.assertEqual(plain_name("BM_X/pollers:2/interval_us:50/iterations:1/manual_time"),
                         "BM_X/pollers:2/interval_us:50")
        self.assertEqual(plain_name("BM_X/real_time"), "BM_X")

    def test_benchmarks_that_time_themselves_are_read_as_they_did(self):
        results = Results()
        for name in ("BM_Own/manual_time", "BM_Other"):
            results.add("pyrt_gil", 0, {"name": name, "cpu_time": 9.0, "real_time": 4.0, "time_unit": "ns"})
        self.assertEqual(results.samples("pyrt_gil", "BM_Own", "cpu_time", "ns"), {0: 4.0})
        self.assertEqual(results.samples("pyrt_gil", "BM_Other", "cpu_time", "ns"), {0: 9.0})

    def test_histogram_buckets_are_those_of_the_harness(self):
        self.assertEqual([histogram.lower_bound(b) for b in (0, 15, 16, 31, 32, 33, 47, 48)],
                         [0, 15, 16, 31, 32, 34, 62, 64])
        decoded = histogram.decode("gap=3*2,17*1;period=")
        self.assertEqual(decoded, {"gap": {3: 2, 17: 1}, "period": {}})
        merged = histogram.merge([decoded["gap"], {3: 1}])
        self.assertEqual(merged, {3: 3, 17: 1})
        self.assertAlmostEqual(histogram.quantile(merged, 0.75), 4.0)
        self.assertIsNone(histogram.quantile({}, 0.5))

    def test_rows_of_scaling_are_measured_when_asked_for(self):
        code, out, err, _ = self.run_compare(self.columns(), "--filter=^scale.import_lock")
        self.assertEqual(code, 2)
        self.assertIn("matches only rows that want --scaling", err)
        _, out, _, _ = self.run_compare(self.columns(), "--list")
        self.assertNotIn("scale.", out)
        self.assertIn("import.lock ", out)
        _, out, _, _ = self.run_compare(self.columns(), "--list", "--scaling")
        self.assertIn("scale.modules.100000", out)

    def test_scaling_rows_become_curves(self):
        runs = [{"name": f"BM_AuditHooks/hooks:{n}", "real_time": 10.0 + n} for n in (0, 1, 2, 4, 8, 16)]
        columns = self.columns()
        columns[0]["programs"] = [self.program("audit", runs)]
        _, _, _, report = self.run_compare(columns, "--scaling", "--filter=^scale.hooks", "--repetitions=1")
        self.assertEqual([row["values"]["pyrt_gil"] for row in report["rows"]], [10.0, 11.0, 12.0, 14.0, 18.0, 26.0])
        with open(os.path.join(self.folder, "out", "compare.html"), encoding="utf-8") as file:
            text = file.read()
        self.assertIn("As audit hooks are added: audit", text)
        self.assertIn(">hooks</text>", text)
        self.assertIn(">0</text>", text)

    def test_design_table_is_covered(self):
        """Each line of what has been promised has a row with a target, in the builds that it is about."""
        rows = {row.id: row for row in ROWS}
        for id in ("attach.pair", "attach.pair_biased", "ensure.nested", "ensure.detached", "switch.period.2.1",
                   "grant.asked", "reattach.interactive.1", "reattach.interactive_p99.1", "reattach.kept.1",
                   "tls.current", "poll.idle", "pending.idle", "pending.add_run", "import.lock", "import.reentry",
                   "import.module_lock", "import.lookup", "import.cached", "sys.attribute", "sys.attribute_constant",
                   "sys.audit", "state.new_delete"):
            self.assertIsNotNone(rows[id].target, id)
        for busy in (1, 2, 4, 8, 16):
            self.assertEqual(rows[f"stop.p99.{busy}"].target, AtMost(200))
            self.assertIsNone(rows[f"stop.p99.{busy}"].pyrt_name(gil=True))
        self.assertEqual((rows["state.new_delete"].target, rows["state.new_delete"].target_ft), (AtMost(60), AtMost(100)))

    def test_targets(self):
        self.assertTrue(AtMost(6).met(6, None))
        self.assertFalse(AtMost(6).met(6.1, None))
        self.assertTrue(AtLeast(95).met(96, None))
        self.assertTrue(AtMostTimesFloor(1.05).met(1.04, 1.0))
        self.assertIsNone(AtMostTimesFloor(1.05).met(1.04, None))
        self.assertFalse(AtMostOverFloor(0.3).met(0.7, 0.3))

    def test_ratio_is_paired_by_repetition(self):
        # Drift doubles both sides in the second repetition: the ratio does not move.
        self.assertEqual(paired_ratio({0: 10, 1: 20}, {0: 1, 1: 2}), (10, 10, 10))
        self.assertIsNone(paired_ratio({0: 1}, {1: 1}))

    def test_newest_python_of_the_same_kind_is_the_reference(self):
        columns = [runner.Column(dict(id=i, title=i, kind="peer", gil=g), "") for i, g in
                   (("old", True), ("new", True), ("free", False))]
        cells = {c.id: table.Cell(1.0) for c in columns}
        self.assertEqual(table._reference(cells, columns, gil=True).id, "new")
        self.assertEqual(table._reference(cells, columns, gil=False).id, "free")
        cells["free"] = table.Cell()
        self.assertEqual(table._reference(cells, columns, gil=False).id, "new")

    def test_window_shrinks_to_the_time_there_is(self):
        column = runner.Column(dict(id="c", title="c", kind="peer"), "")
        steps = [runner.Step(column, "p", ["BM_ForcedSwitch/iterations:1/manual_time"] * 10)]
        self.assertEqual(runner.fit_window(steps, 100, 0.01, 0.3), 0.3)
        self.assertLess(runner.fit_window(steps, 1, 0.01, 0.3), 0.1)
        self.assertEqual(runner.fit_window(steps, 0.01, 0.01, 0.3), 0.02)

    def test_noise_is_said(self):
        self.assertEqual(machine.noise_notes(0.1, 0.01, 0.0), [])
        self.assertEqual(len(machine.noise_notes(2.0, 0.5, 0.1)), 3)

    def test_chart_without_data_is_nothing(self):
        self.assertEqual(svg.tail_chart("t", [("gil", "pyrt", [])]), "")
        self.assertEqual(svg.scaling_chart("t", [("gil", "pyrt", [])], "threads"), "")
        self.assertTrue(svg.tail_chart("t", [("gil", "pyrt", [(10, 1.0), (20, 0.5), (30, 0.0)])]).startswith("<svg"))

    def test_rows_are_well_formed(self):
        self.assertEqual(len({row.id for row in ROWS}), len(ROWS))
        known = {name for _, _, name, _ in FLOORS}
        for row in ROWS:
            self.assertIn(row.unit, ("ns", "us", "ms", "%", "B"), row.id)
            self.assertIn(row.better, ("lower", "higher"), row.id)
            self.assertTrue(row.floor is None or row.floor in known, row.id)
            self.assertTrue(row.pyrt_name(True) or row.pyrt_name(False), row.id)
            for name in (row.pyrt_name(True), row.pyrt_name(False), row.peer, row.floor):
                self.assertTrue(name is None or re.fullmatch(r"BM_\w+(/\w+:\w+)*", name), row.id)


if __name__ == "__main__":
    unittest.main()
