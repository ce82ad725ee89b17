#!/usr/bin/env python3
"""Every name that docs/cpython_map.md gives for pyrt occurs in the header that it names."""

import pathlib
import re
import unittest

REFERENCE = re.compile(r"`([\w/]+\.h):(\w+)`")

# How many names names.txt has at least: a list that was cut short would ask for little.
NAMES = 400


def workspace_root() -> pathlib.Path:
    """The source tree: runfiles are links into it."""
    return pathlib.Path("MODULE.bazel").resolve().parent


def rows(text: str) -> list[tuple[int, str, str]]:
    """(line number, CPython's column, pyrt's column) of each row of each table."""
    result = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 2 and cells[0] not in ("CPython", "---"):
            result.append((number, cells[0], cells[1]))
    return result


def wrong_references(root: pathlib.Path, text: str) -> list[str]:
    """One line for each reference that is not true, and for each row that says nothing."""
    found = []
    for number, cpython, pyrt in rows(text):
        references = REFERENCE.findall(pyrt)
        if not references and "not applicable" not in pyrt:
            found.append(f"line {number}: {cpython}: neither a header:Name nor a reason")
        for header, name in references:
            path = root / header
            if not path.is_file():
                found.append(f"line {number}: there is no {header}")
            elif not re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")):
                found.append(f"line {number}: {header} has no {name}")
    return found


def required(text: str) -> list[str]:
    """The names of names.txt."""
    return " ".join(line for line in text.splitlines() if not line.startswith("#")).split()


def missing(names: list[str], text: str) -> list[str]:
    """Those of `names` that no row has in its first column."""
    known = " ".join(cpython for _, cpython, _ in rows(text))
    return [name for name in names if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", known)]


class CPythonMapTest(unittest.TestCase):

    def setUp(self):
        self.root = workspace_root()
        self.text = (self.root / "docs" / "cpython_map.md").read_text(encoding="utf-8")

    def test_every_name_occurs_in_its_header(self):
        self.assertGreater(len(rows(self.text)), 100)
        self.assertEqual([], wrong_references(self.root, self.text))

    def test_what_must_be_there_is_there(self):
        names = required((self.root / "testing" / "cpython_map" / "names.txt").read_text(encoding="utf-8"))
        self.assertGreater(len(names), NAMES)
        self.assertEqual([], missing(names, self.text))


class CheckerTest(unittest.TestCase):

    def test_finds_a_missing_header_a_missing_name_and_an_empty_row(self):
        text = ("| CPython | pyrt |\n| --- | --- |\n| `a` | `gil/gil.h:Gil` |\n| `b` | `gil/none.h:Gil` |\n"
                "| `c` | `gil/gil.h:NoSuchName` |\n| `d` | later |\n| `e` | not applicable: reasons |\n")
        self.assertEqual([
            "line 4: there is no gil/none.h",
            "line 5: gil/gil.h has no NoSuchName",
            "line 6: `d`: neither a header:Name nor a reason",
        ], wrong_references(workspace_root(), text))

    def test_finds_what_has_no_row(self):
        text = "| CPython | pyrt |\n| --- | --- |\n| `a.b`, `Py_c` | `gil/gil.h:Gil` |\n"
        self.assertEqual(["b", "Py_d"], missing(required("# Py_e\na.b b\nPy_c Py_d\n"), text))


if __name__ == "__main__":
    unittest.main()
