#!/bin/bash
# Starts the script that has the target's name (compare.py for //bench:compare) with the system's Python: any from 3.9 on,
# the standard library is enough. Not the first python3 of the PATH, which may be a version manager's wrapper; PYRT_PYTHON
# overrides.
set -euo pipefail

name="$(basename "$0" .sh)"
for root in "${RUNFILES_DIR:-$0.runfiles}" "$PWD/.."; do
  for repository in pyrt _main; do
    script="$root/$repository/bench/$name.py"
    [[ -f "$script" ]] || continue
    python="${PYRT_PYTHON:-/usr/bin/python3}"
    [[ -x "$python" ]] || python=python3
    if ! command -v "$python" >/dev/null; then
      echo "$name: no python3 found: apt-get install python3" >&2
      exit 1
    fi
    # No __pycache__ in the source tree, which the scripts' links lead to.
    PYTHONDONTWRITEBYTECODE=1 exec "$python" "$script" "$@"
  done
done
echo "$name: its files are not beside it; start it with: bazel run //bench:$name" >&2
exit 1
