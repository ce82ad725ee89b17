#!/bin/bash
#
# Runs the models of a file through Spin: each row of the table below is one verification. A row with a BUG_ must fail, and
# in the way that the row says; any other must hold with every state visited. Passes with a line that says so where Spin is
# not installed (Debian: apt-get install spin).
#
#   models_test.sh MODEL.pml TABLE      the rows are "OUTCOME DEFINES...", OUTCOME one of holds, deadlock, assertion

set -euo pipefail

model="$(realpath "$1")"
table="$2"

if ! command -v spin >/dev/null; then
  [[ -z "${PYRT_REQUIRE_SPIN:-}" ]] || { echo "spin is not installed, and PYRT_REQUIRE_SPIN is set"; exit 1; }
  echo "SKIPPED: spin is not installed (apt-get install spin); nothing was verified"
  exit 0
fi
command -v gcc >/dev/null || { echo "SKIPPED: no gcc to compile Spin's verifier with; nothing was verified"; exit 0; }

work="$(mktemp -d "${TEST_TMPDIR:-/tmp}/models.XXXXXX")"
trap 'rm -rf "$work"' EXIT
cd "$work"

failures=0
rows=0

verify() {  # outcome, defines...
  local expected="$1" seen started=$EPOCHREALTIME
  shift
  rm -f pan* ./*.trail
  spin -a "$@" "$model" >spin.log 2>&1 || { cat spin.log; exit 1; }
  # Unoptimised: compiling would take longer than it saves.
  gcc -O0 -w -DSAFETY -DMEMLIM=2000 -o pan pan.c
  ./pan -m500000 -w22 >pan.log 2>&1 || true
  if grep -q "max search depth too small\|reached -DMEMLIM\|out of memory" pan.log; then
    seen=incomplete
  elif grep -q "^pan:[0-9]*: invalid end state" pan.log; then
    seen=deadlock
  elif grep -q "^pan:[0-9]*: assertion violated" pan.log; then
    seen=assertion
  elif grep -q "errors: 0" pan.log; then
    seen=holds
  else
    seen=broken
  fi
  rows=$((rows + 1))
  printf '%-9s %12s states  %5.1f s  %s %s\n' "$seen" "$(awk '/states, stored/ {print $1; exit}' pan.log)" \
    "$(awk -v a="$started" -v b="$EPOCHREALTIME" 'BEGIN {print b - a}')" "$(basename "$model")" "$*"
  if [[ "$seen" != "$expected" ]]; then
    failures=$((failures + 1))
    echo "  expected: $expected"
    sed 's/^/  /' pan.log | head -20
    # The interleaving, one line per step.
    ls ./*.trail >/dev/null 2>&1 && spin -k ./*.trail -p "$@" "$model" 2>/dev/null | tail -60 | sed 's/^/  /'
  fi
}

while read -r -a row; do
  [[ ${#row[@]} -eq 0 || "${row[0]}" == "#"* ]] && continue
  verify "${row[@]}"
done <"$OLDPWD/$table"

# A mistake that the model offers and no row makes is a hole.
for bug in $(grep -oE '#(ifn?def|if|elif).*' "$model" | grep -oE 'BUG_[A-Z0-9_]+' | sort -u); do
  grep -qE -- "-D$bug( |\$)" "$OLDPWD/$table" || { echo "no row of $table has $bug"; failures=$((failures + 1)); }
done

echo "$rows verifications, $failures failed"
((rows > 0 && failures == 0))
