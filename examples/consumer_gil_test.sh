#!/bin/bash
# examples/consumer_gil builds and runs in both variants by one flag, brings nothing that it did not ask for, and cannot
# reach inside.
set -u

root="$(dirname "$(realpath MODULE.bazel)")"
workspace="$root/examples/consumer_gil"
export HOME="$TEST_TMPDIR"
# A long path would not fit into the socket's address.
base="$(mktemp -d /tmp/consumer_gil.XXXXXX)" || exit 1
failures=0

fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

bazel="$(command -v bazel || command -v bazelisk)" || {
  echo "no Bazel on the PATH ($PATH)" >&2
  exit 1
}

run_bazel() {
  (unset TEST_TMPDIR; cd "$workspace" && "$bazel" --output_user_root="$base/root" --output_base="$base/base" --max_idle_secs=60 \
    --host_jvm_args=-Xmx512m "$@" 2>&1)
}

finish() {
  run_bazel shutdown >/dev/null
  chmod -R u+w "$base"
  rm -rf "$base"
}
trap finish EXIT

build=(--symlink_prefix=/ --noshow_progress --jobs=2)

for variant in gil_enabled gil_disabled; do
  flag="--@pyrt//runtime/config:gil=${variant#gil_}"
  output="$(run_bazel run "${build[@]}" "$flag" //:counter -- 4 200000)" || fail "$variant does not run: $output"
  [[ "$output" == *"$variant: 800000 of 800000"* ]] || fail "$flag has no effect: $output"
done

output="$(run_bazel run "${build[@]}" --config=ft //:counter -- 1 1000)"
[[ "$output" == *"gil_disabled: 1000 of 1000"* ]] || fail "--config=ft of its .bazelrc: $output"

output="$(run_bazel build "${build[@]}" --@pyrt//runtime/config:gil=maybe //:counter)" &&
  fail "a value that the flag does not have is accepted"
[[ "$output" == *"gil=maybe: the value must be one of enabled, disabled"* ]] || fail "no clear error: $output"

dependencies="$(run_bazel cquery "${build[@]}" --output=label 'deps(//:counter)')" || fail "cquery: $dependencies"
[[ "$dependencies" == *pyrt*//gil:gil* ]] || fail "//gil is not among the dependencies: $dependencies"
for layer in ceval_breaker tstate interp importlock sys runtime:; do
  if grep -E "pyrt[^/]*//$layer" <<<"$dependencies"; then
    fail "depends on $layer"
  fi
done

output="$(run_bazel build "${build[@]}" //forbidden:reaches_inside)" && fail "an internal target can be used"
[[ "$output" == *"is not visible from target"* ]] || fail "no visibility error: $output"

exit $((failures > 0))
