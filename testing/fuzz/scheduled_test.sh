#!/bin/bash
# Bytes that drive a schedule: one input fails, always in the same way, with a report that can be read; its
# neighbours pass; random inputs find one like it.
set -u

fuzz="$PWD/$1"
export TEST_UNDECLARED_OUTPUTS_DIR="$TEST_TMPDIR/outputs"
mkdir -p "$TEST_UNDECLARED_OUTPUTS_DIR"
failures=0
killed=134  # 128 + SIGABRT

run() {  # printf's input
  printf "$1" >"$TEST_TMPDIR/input"
  output="$("$fuzz" "$TEST_TMPDIR/input" 2>&1)"
}
expect() {
  [[ "$output" == *"$1"* ]] && return
  echo "FAILED: wanted \"$1\" in:" >&2
  echo "$output" >&2
  failures=$((failures + 1))
}

#          head       a: Add{5}     b: Add{3}     three dull choices, then the other thread
racy='\x00\x00' racy+='\x00\x00\x04' racy+='\x00\x00\x02' racy+='\x1f\x19'
run "$racy"
expect 'Add{5}.Perform(world, 0);'
expect 'Add{3}.Perform(world, 1);'
expect 'DETSCHED_CHECK(sum.load(kRelaxed) == expected)'
expect 'Add{5}'
expect 'sum'
expect 'input saved as'
first="$(grep '^replay:' <<<"$output")"
expect "$first"
run "$racy"
expect "$first"

run "${racy%????}\x00"  # the other thread's turn as a dull choice
expect '1 corpus files and 0 random inputs (seed 1) passed'
expect ' pairs of steps by different threads'
run '\x00'
expect 'passed'

"$fuzz" --random_inputs=2000 >"$TEST_TMPDIR/random" 2>&1
[[ $? -eq $killed ]] || { echo "FAILED: 2000 random inputs find nothing" >&2; failures=$((failures + 1)); }

exit $((failures > 0))
