#!/bin/bash
# tools/behaviours finds no id that the page lacks, and does find tests.

set -euo pipefail

python3 tools/behaviours --check
summary="$(python3 tools/behaviours | tail -n 1)"
echo "$summary"
[[ "$summary" =~ ^[1-9][0-9]*\ of ]]
