"""CcInfo, from where newer versions of rules_cc have it."""

load(":native.bzl", "NativeCcInfo")

CcInfo = NativeCcInfo
