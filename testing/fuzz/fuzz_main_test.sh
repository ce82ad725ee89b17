#!/bin/bash
# The driver of fuzz targets: replays, searches, saves what kills the target, and kills it again with that.
set -u

fuzz="$PWD/$1"
export TEST_UNDECLARED_OUTPUTS_DIR="$TEST_TMPDIR/outputs"
mkdir -p "$TEST_UNDECLARED_OUTPUTS_DIR" "$TEST_TMPDIR/corpus"
failures=0

expect() {  # what it shows, expected exit code, expected text, command...
  local what="$1" code="$2" text="$3" output status
  shift 3
  output="$("$@" 2>&1)"
  status=$?
  if [[ $status -ne $code || "$output" != *"$text"* ]]; then
    echo "FAILED: $what: exit code $status, wanted $code; wanted \"$text\" in:" >&2
    echo "$output" >&2
    failures=$((failures + 1))
  fi
}

printf 'harmless' >"$TEST_TMPDIR/corpus/a"
printf 'pyrt!' >"$TEST_TMPDIR/corpus/b"
killed=134  # 128 + SIGABRT

expect "a folder is replayed" 0 "2 corpus files and 0 random inputs" "$fuzz" "$TEST_TMPDIR/corpus"
expect "random inputs are counted" 0 "0 corpus files and 500 random inputs (seed 3)" \
  "$fuzz" --random_inputs=500 --seed=3
expect "no seconds, no random inputs" 0 "0 random inputs" "$fuzz" --random_inputs=500 --seconds=0

export PYRT_SAMPLE_FUZZ_BUG=1
expect "a corpus file that kills the target is named" $killed "crash-b" "$fuzz" "$TEST_TMPDIR/corpus"
expect "random inputs find the shallow bug" $killed "input saved as $TEST_UNDECLARED_OUTPUTS_DIR/crash-seed-" \
  "$fuzz" --random_inputs=2000
found="$(ls "$TEST_UNDECLARED_OUTPUTS_DIR"/crash-seed-* | head -n 1)"
expect "the saved input kills it again" $killed "crash-" "$fuzz" "$found"

# Neighbouring seeds do not repeat each other's inputs, and the name tells seed and number.
first_found() {  # --seed: the input that kills first
  "$fuzz" --random_inputs=2000 --seed="$1" 2>&1 | sed -n 's/^fuzz: input saved as //p'
}
one="$(first_found 1)"
two="$(first_found 2)"
if ! [[ "$one" =~ /crash-seed-1\.[0-9]+$ && "$two" =~ /crash-seed-2\.[0-9]+$ ]] || cmp -s "$one" "$two"; then
  echo "FAILED: seeds 1 and 2 should die of two inputs: $one, $two" >&2
  failures=$((failures + 1))
fi
cp "$one" "$TEST_TMPDIR/one"
[[ "$(first_found 1)" == "$one" ]] && cmp -s "$one" "$TEST_TMPDIR/one" || {
  echo "FAILED: seed 1 should die of the same input again: $one" >&2
  failures=$((failures + 1))
}

expect "an unknown option" 2 "unknown option --ranom_inputs=5" "$fuzz" --ranom_inputs=5
expect "a value that is no number" 2 '--seed takes a number, not "x"' "$fuzz" --seed=x
expect "a file that is not there" 2 "cannot read /nonexistent" "$fuzz" /nonexistent

exit $((failures > 0))
