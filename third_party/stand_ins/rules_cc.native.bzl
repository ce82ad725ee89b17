"""What Bazel 4 has as globals. A file cannot give one of these its own name; those beside this one do."""

# buildifier: disable=native-cc-common
native_cc_common = cc_common

# buildifier: disable=native-cc-info
NativeCcInfo = CcInfo
