#!/bin/bash
# Each id of docs/behaviours.md has a test, and the page lacks no id that a test names.

set -euo pipefail

python3 tools/behaviours --check
summary="$(python3 tools/behaviours | tail -n 1)"
echo "$summary"
if ! [[ "$summary" =~ ^([1-9][0-9]*)\ of\ ([0-9]+)\ behaviours && "${BASH_REMATCH[1]}" == "${BASH_REMATCH[2]}" ]]; then
  echo "behaviours without a test:" >&2
  python3 tools/behaviours | head -n -1 >&2
  exit 1
fi
