#!/bin/bash
# Writes hot_functions_*.golden anew into the source tree, from the programs built now.
set -euo pipefail

folder="${BUILD_WORKSPACE_DIRECTORY:?start it with: bazel run //bench/regress:update_goldens}/bench/regress"
for suffix in gil ft; do
  bench/regress/hot_functions.py update "bench/regress/hot_functions_$suffix" "$folder/hot_functions_$suffix.golden"
done
