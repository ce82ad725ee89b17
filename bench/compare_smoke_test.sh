#!/bin/bash
# Runs //bench:compare for a few rows with the real programs and looks at what it leaves behind.
set -euo pipefail

compare="$PWD/$1"
out="${TEST_TMPDIR:?}/out"

"$compare" --repetitions=1 --filter='^(grant\.asked|switch\.gap\.2\.1|tls\.current)$' --out="$out" >"$TEST_TMPDIR/table"
cat "$TEST_TMPDIR/table"
grep -q 'waiter has asked' "$TEST_TMPDIR/table"
grep -q '<svg' "$out/compare.html"
python3 - "$out/compare.json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
names = {run["name"].partition("/")[0] for run in report["benchmarks"]}
assert {"pyrt_gil", "floor"} <= names, names
row = next(row for row in report["rows"] if row["id"] == "grant.asked")
assert row["values"]["pyrt_gil"] > 0, row
assert report["context"]["commit"] and report["context"]["num_cpus"] >= 1
PYTHON

if "$compare" --repetitions=0 >"$TEST_TMPDIR/bad" 2>&1; then
  echo "--repetitions=0 was accepted" >&2
  exit 1
fi
[[ "$(wc -l <"$TEST_TMPDIR/bad")" == 1 ]]
