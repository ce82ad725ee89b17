#!/bin/bash
# Writes hot_functions_*.golden anew into the source tree, from the programs built now.
set -euo pipefail

folder="${BUILD_WORKSPACE_DIRECTORY:?start it with: bazel run //bench/golden_counts:update_goldens}/bench/golden_counts"
for suffix in gil ft; do
  bench/golden_counts/hot_functions.py update "bench/golden_counts/hot_functions_$suffix" "$folder/hot_functions_$suffix.golden"
done
