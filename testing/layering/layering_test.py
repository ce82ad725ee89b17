#!/usr/bin/env python3
"""The layers of the tree are in order, and the checker that says so finds each kind of disorder."""

import os
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.getcwd(), "testing", "layering"))
import layering  # pylint: disable=wrong-import-position


def workspace_root() -> pathlib.Path:
    """The source tree: runfiles are links into it."""
    return pathlib.Path("MODULE.bazel").resolve().parent


class TreeTest(unittest.TestCase):

    def test_no_file_of_the_tree_breaks_a_rule(self):
        findings, count = layering.check_tree(workspace_root())
        self.assertGreater(count, 20, "the source tree was not found")
        self.assertEqual([], [str(finding) for finding in findings])


class CheckerTest(unittest.TestCase):

    def findings(self, files: dict[str, str]) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                file = pathlib.Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            findings, count = layering.check_tree(pathlib.Path(folder))
        self.assertEqual(len(files), count)
        return [str(finding) for finding in findings]

    def assert_clean(self, files: dict[str, str]):
        self.assertEqual([], self.findings(files))

    def assert_finds(self, files: dict[str, str], *expected: str):
        findings = self.findings(files)
        self.assertEqual(len(expected), len(findings), findings)
        for text, finding in zip(expected, findings):
            self.assertIn(text, finding)

    # Edges by #include.

    def test_lower_layers_may_be_used(self):
        self.assert_clean({
            "runtime/runtime.cc": '#include "pyrt/sys/audit.h"\n#include "pyrt/importlock/import_lock.h"\n',
            "sys/audit.cc": '#include "pyrt/interp/interpreter.h"\n',
            "tstate/a.cc": '#include "pyrt/gil/gil.h"\n#include "pyrt/ceval_breaker/eval_breaker.h"\n',
            "gil/gil.cc": '#include "pyrt/runtime/sync/platform.h"\n#include "pyrt/gil/internal/x.h"\n',
        })

    def test_each_layer_is_kept_from_every_higher_one_and_from_its_siblings(self):
        layers = [(layer, rank) for rank, group in enumerate(layering.ORDER) for layer in group]
        for user, user_rank in layers:
            for used, used_rank in layers:
                allowed = user == used or used_rank < user_rank
                with self.subTest(user=user, used=used):
                    found = list(
                        layering.check_cpp(f"{user}/a.cc", f'#include "pyrt/{used}/b.h"\n', lambda _: False))
                    self.assertEqual([] if allowed else [f"{user}/a.cc:1: {user} may not use {used} "
                                                         f'(#include "pyrt/{used}/b.h")'],
                                     [str(finding) for finding in found])

    def test_the_siblings_in_particular(self):
        self.assert_finds({"gil/gil.cc": '// a comment\n#include "pyrt/ceval_breaker/eval_breaker.h"\n'},
                          "gil/gil.cc:2: gil may not use ceval_breaker")

    def test_libraries_may_not_use_testing_or_bench_and_tests_only_testing(self):
        self.assert_clean({"gil/gil_test.cc": '#include "pyrt/testing/stress/stress.h"\n'})
        self.assert_finds(
            {
                "gil/gil.cc": '#include "pyrt/testing/stress/stress.h"\n',
                "gil/gil_fuzz.cc": '#include "pyrt/bench/harness.h"\n',
            }, "gil/gil.cc:1: gil may not use testing", "gil/gil_fuzz.cc:1: gil may not use bench")

    def test_the_platform_alone_may_stand_on_detsched(self):
        self.assert_clean({
            "runtime/sync/platform.h": '#include "pyrt/testing/detsched/platform.h"\n',
            "runtime/sync/BUILD.bazel": 'pyrt_cc_library(name = "platform", deps = ["//testing/detsched:platform"])\n',
        })
        self.assert_finds({"gil/gil.h": '#include "pyrt/testing/detsched/platform.h"\n'}, "gil may not use testing")

    def test_a_commented_include_is_none(self):
        self.assert_clean({"gil/gil.cc": '// #include "pyrt/tstate/a.h"\n/*\n#include "pyrt/sys/b.h"\n*/\n'})

    def test_a_short_include_is_found(self):
        self.assert_finds({"gil/gil.cc": '#include "gil.h"\n', "gil/gil.h": ""}, "write the full path")
        self.assert_finds({"gil/gil.cc": '#include "gil/gil.h"\n', "gil/gil.h": ""}, "write the full path")

    def test_an_unknown_folder_is_found(self):
        self.assert_finds({"gc/collector.cc": ""}, "gc/collector.cc:1: lies in no layer")

    # Edges by BUILD files.

    def test_dependencies_upward_are_found_also_inside_select(self):
        self.assert_finds(
            {
                "gil/BUILD.bazel": 'pyrt_cc_library(\n    name = "gil",\n    deps = [":x"] + select({\n'
                                   '        "//runtime/config:gil_disabled": ["//tstate"],\n'
                                   '        "//conditions:default": [],\n    }),\n)\n',
            }, "gil/BUILD.bazel:4: gil may not use tstate (//tstate)")

    def test_a_test_target_may_use_testing_and_no_higher_layer(self):
        self.assert_finds(
            {
                "gil/BUILD.bazel": 'pyrt_cc_test(name = "gil_test", deps = ["//testing/stress", "//interp"])\n',
            }, "gil may not use interp (//interp)")

    def test_loads_of_a_consumer_are_few(self):
        self.assert_clean({
            "gil/BUILD.bazel": 'load("@rules_cc//cc:defs.bzl", "cc_library")\n'
                               'load("//runtime/config:build_defs.bzl", "pyrt_cc_library")\n',
            "testing/BUILD.bazel": 'load("@rules_python//python:defs.bzl", "py_test")\n',
        })
        self.assert_finds({"gil/BUILD.bazel": 'load("@bazel_skylib//lib:selects.bzl", "selects")\n'},
                          "a consumer would need @bazel_skylib//lib:selects.bzl too")

    # What the code says.

    def test_conditions_on_the_variant_are_found(self):
        self.assert_clean({"runtime/config/config.h": "#if PYRT_GIL_DISABLED\n#endif\n"})
        self.assert_finds(
            {
                "tstate/a.h": "#if PYRT_GIL_DISABLED\n#elif defined(PYRT_DETSCHED)\n#endif\n",
                "tstate/b_test.cc": "#ifdef PYRT_DETSCHED\n#endif\n",
            }, "tstate/a.h:1: the variant", "tstate/a.h:2: the variant", "tstate/b_test.cc:1: the variant")

    def test_namespaces_without_the_variant_are_found(self):
        self.assert_clean({"gil/gil.h": "namespace pyrt::inline PYRT_VARIANT {\n}  // namespace pyrt\n"})
        self.assert_finds({"gil/gil.h": "namespace pyrt {\n}\n", "gil/x.h": "namespace pyrt::internal {\n}\n"},
                          "gil/gil.h:1: write `namespace pyrt::inline", "gil/x.h:1: write `namespace pyrt::inline")

    def test_what_goes_past_the_platform_is_found(self):
        text = ("#include <mutex>\nstd::atomic<int> a;\nstd::mutex m;\nstd::thread t;\nclock_gettime(CLOCK_MONOTONIC, &t);\n"
                "std::atomic_thread_fence(kSeqCst);\nauto now = std::chrono::steady_clock::now();\n__atomic_load_n(&a, 0);\n")
        found = self.findings({"gil/gil.cc": text})
        self.assertEqual([f"gil/gil.cc:{line}" for line in range(1, 9)], [line.rpartition(": ")[0] for line in found])

    def test_what_only_looks_like_it_is_not(self):
        self.assert_clean({
            "gil/gil.cc": '// std::mutex\nconst char* s = "std::atomic";\nstd::memory_order order;\nAtomic<int> a;\n',
            "gil/gil_test.cc": "#include <thread>\nstd::thread t;\n",
            "runtime/sync/internal/native_platform.cc": "std::atomic<int> a;\n",
            "runtime/config/check.cc": "std::atomic<int> a;\n",
            "testing/x.cc": "std::atomic<int> a;\n",
        })


if __name__ == "__main__":
    unittest.main()
