#!/bin/bash
# Objects of different variants do not link, and the linker's message names the variant. Compiled here by hand, because
# Bazel never mixes them: a consumer's own build system could.
set -u

include="$TEST_TMPDIR/include"
mkdir -p "$include"
ln -sfn "$PWD" "$include/pyrt"
cd "$TEST_TMPDIR" || exit 1

cat >library.cc <<'CODE'
#include "pyrt/runtime/config/config.h"
namespace pyrt::inline PYRT_VARIANT {
int Answer() { return 42; }
}
CODE
cat >program.cc <<'CODE'
#include "pyrt/runtime/config/config.h"
namespace pyrt::inline PYRT_VARIANT {
int Answer();
}
int main() { return pyrt::Answer() == 42 ? 0 : 1; }
CODE

compiler="${CXX:-c++}"
variants=(0:0:gil_enabled 1:0:gil_disabled 0:1:gil_enabled_detsched 1:1:gil_disabled_detsched)
failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

for variant in "${variants[@]}"; do
  IFS=: read -r gil_disabled detsched name <<<"$variant"
  for source in library program; do
    "$compiler" -std=c++20 -I"$include" -DPYRT_GIL_DISABLED="$gil_disabled" -DPYRT_DETSCHED="$detsched" \
      -c "$source.cc" -o "${source}_$name.o" || exit 1
  done
done

for program in "${variants[@]}"; do
  for library in "${variants[@]}"; do
    program_name="${program##*:}" library_name="${library##*:}"
    output="$("$compiler" "program_$program_name.o" "library_$library_name.o" -o program 2>&1)"
    status=$?
    if [[ "$program_name" == "$library_name" ]]; then
      [[ $status -eq 0 ]] && ./program || fail "$program_name does not link with itself: $output"
    elif [[ $status -eq 0 ]]; then
      fail "a $program_name program links with a $library_name library"
    elif [[ "$output" != *"pyrt::$program_name::Answer()"* ]]; then
      fail "the message does not name $program_name: $output"
    fi
  done
done

# And without the defines there is no variant at all.
output="$("$compiler" -std=c++20 -I"$include" -c library.cc -o none.o 2>&1)" && fail "compiles without a variant"
[[ "$output" == *"depend on @pyrt//runtime/config"* ]] || fail "no advice in: $output"

exit $((failures > 0))
