"""Tests of regress.py with scripted reports: what counts as worse, and what does not."""

import contextlib
import io
import json
import os
import tempfile
import unittest

import regress

QUIET = [10.0, 10.1, 10.05, 9.95, 10.02]


def row(id="a.row", better="lower", **samples):
    return {"id": id, "unit": "ns", "better": better, "samples": samples}


def report(*rows, **context):
    base = {"cpu": "fake", "num_cpus": 2, "kernel": "1", "window_ms": 300, "quick": False, "repetitions": 5,
            "commit": "abc", "notes": []}
    return {"context": dict(base, **context), "rows": list(rows)}


def times(factor, samples=QUIET):
    return [factor * value for value in samples]


class RegressTest(unittest.TestCase):

    def run_regress(self, old, new, *arguments):
        folder = tempfile.mkdtemp(dir=os.environ.get("TEST_TMPDIR"))
        paths = []
        for name, content in (("old.json", old), ("new.json", new)):
            paths.append(os.path.join(folder, name))
            with open(paths[-1], "w", encoding="utf-8") as file:
                file.write(content if isinstance(content, str) else json.dumps(content))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = regress.main([*paths, *arguments])
            except SystemExit as end:
                code = end.code
        return code, out.getvalue(), err.getvalue()

    def kinds(self, old, new, better="lower"):
        verdicts, _ = regress.judge(report(row(better=better, pyrt_gil=old)), report(row(better=better, pyrt_gil=new)))
        return [verdict.kind for verdict in verdicts]

    # --- The verdict -------------------------------------------------------------------------------------------------

    def test_slower_by_a_fifth_is_worse_and_fails(self):
        code, out, _ = self.run_regress(report(row(pyrt_gil=QUIET)), report(row(pyrt_gil=times(1.2))))
        self.assertEqual(code, 1)
        self.assertIn("worse  a.row", out)
        self.assertIn("+20.0 % (allowed 5 %, p = 0.00397)", out)
        self.assertIn("1 figures of 1 rows compared (abc to abc): 1 worse", out)

    def test_five_percent_is_allowed(self):
        self.assertEqual(self.kinds(QUIET, times(1.045)), ["same"])
        self.assertEqual(self.kinds(QUIET, times(1.06)), ["worse"])

    def test_twice_the_old_spread_is_allowed(self):
        noisy = [8.0, 9.0, 10.0, 11.0, 12.0]  # 20 % between the quartiles
        self.assertEqual(self.kinds(noisy, times(1.35, noisy)), ["same"])
        self.assertEqual(self.kinds(noisy, times(1.7, noisy)), ["worse"])

    def test_the_spread_is_that_of_the_middle_half(self):
        self.assertAlmostEqual(regress.relative_spread([8.0, 9.0, 10.0, 11.0, 12.0]), 0.2)
        self.assertAlmostEqual(regress.relative_spread([10.0] * 8 + [9.0, 30.0]), 0.0)
        self.assertAlmostEqual(regress.relative_spread([8.0, 10.0, 12.0]), 0.4)
        self.assertEqual(regress.relative_spread([10.0]), 0.0)

    def test_one_outlier_among_the_old_hides_nothing(self):
        self.assertEqual(self.kinds(QUIET + [30.0], times(1.2, QUIET + QUIET[:1])), ["unsure"])
        self.assertEqual(self.kinds(QUIET + QUIET + [30.0], times(1.2, QUIET + QUIET)), ["worse"])

    def test_figures_too_noisy_to_judge_are_counted(self):
        noisy = [6.0, 8.0, 10.0, 12.0, 14.0]  # 40 % between the quartiles
        _, out, _ = self.run_regress(report(row(pyrt_gil=QUIET), row("b.row", pyrt_gil=noisy)),
                                     report(row(pyrt_gil=QUIET), row("b.row", pyrt_gil=noisy)))
        self.assertIn("1 too noisy to judge (allowed more than 30 %)", out)

    def test_noise_of_the_new_report_does_not_hide_that_all_are_worse(self):
        self.assertEqual(self.kinds(QUIET, [11.0, 30.0, 12.0, 50.0, 20.0]), ["worse"])

    def test_overlapping_repetitions_are_not_called_worse(self):
        self.assertEqual(self.kinds(QUIET, [9.0, 12.0, 12.0, 9.5, 12.0]), ["unsure"])

    def test_two_repetitions_prove_nothing(self):
        self.assertEqual(self.kinds(QUIET[:2], times(3, QUIET[:2])), ["unsure"])

    def test_where_more_is_better_less_is_worse(self):
        self.assertEqual(self.kinds(QUIET, times(0.8), better="higher"), ["worse"])
        self.assertEqual(self.kinds(QUIET, times(1.3), better="higher"), ["better"])
        self.assertEqual(self.kinds(QUIET, times(0.8)), ["better"])

    def test_lost_figure_fails(self):
        code, out, _ = self.run_regress(report(row(pyrt_ft=QUIET)), report(row(pyrt_ft=[])))
        self.assertEqual(code, 1)
        self.assertIn("lost   a.row", out)

    def test_row_that_was_not_asked_for_is_named_and_passes(self):
        code, out, _ = self.run_regress(report(row(pyrt_gil=QUIET), row("b.row", pyrt_gil=QUIET)),
                                        report(row(pyrt_gil=QUIET)))
        self.assertEqual(code, 0)
        self.assertIn("not in the new report, not compared: b.row", out)

    def test_cpython_getting_slower_is_not_ours(self):
        code, out, _ = self.run_regress(report(row(pyrt_gil=QUIET, cpython_3_11=QUIET)),
                                        report(row(pyrt_gil=QUIET, cpython_3_11=times(2))))
        self.assertEqual(code, 0)
        self.assertIn("1 figures of 1 rows compared", out)

    def test_zero_before_is_no_division(self):
        self.assertEqual(self.kinds([0.0] * 5, [0.0] * 5), ["same"])
        self.assertEqual(self.kinds([0.0] * 5, [1.0] * 5), ["worse"])

    # --- The test of Mann and Whitney --------------------------------------------------------------------------------

    def test_p_values(self):
        p = regress.p_value_greater
        self.assertAlmostEqual(p([4, 5, 6], [1, 2, 3]), 1 / 20)
        self.assertAlmostEqual(p([1, 2, 3], [4, 5, 6]), 1.0)
        self.assertAlmostEqual(p([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]), 1 / 252)
        self.assertAlmostEqual(p([2, 3, 6], [1, 4, 5]), 0.5)  # U = 5 of 9: 10 of 20 arrangements reach it
        self.assertEqual(p([5] * 4, [5] * 4), 1.0)

    def test_normal_approximation_agrees_with_the_exact_count(self):
        new, old = [1.5 * i for i in range(9)], [i + 0.25 for i in range(9)]
        exact = regress.p_value_greater(new, old)
        before, regress._EXACT = regress._EXACT, 0
        try:
            self.assertAlmostEqual(regress.p_value_greater(new, old), exact, delta=0.01)
            self.assertEqual(regress.p_value_greater([1] * 9, [1] * 9), 1.0)
        finally:
            regress._EXACT = before

    # --- Input and notes ---------------------------------------------------------------------------------------------

    def test_other_machines_and_noise_are_said(self):
        _, out, _ = self.run_regress(report(row(pyrt_gil=QUIET)),
                                     report(row(pyrt_gil=QUIET), cpu="other", repetitions=2, notes=["noisy: load 3"]))
        self.assertIn("note: cpu differs: fake and other", out)
        self.assertIn("the new report has fewer than 5 repetitions", out)
        self.assertIn("the new report: noisy: load 3", out)

    def test_bad_input_is_one_line_and_code_2(self):
        for text in ("{}", "no json", '{"rows": [], "context": {}}', '{"rows": [1], "context": {}}', "[]"):
            code, _, err = self.run_regress(report(row(pyrt_gil=QUIET)), text)
            self.assertEqual((code, err.count("\n")), (2, 1), text)
        code, _, err = self.run_regress(report(row(cpython=QUIET)), report(row(cpython=QUIET)))
        self.assertEqual(code, 2)
        self.assertIn("nothing to compare", err)


if __name__ == "__main__":
    unittest.main()
