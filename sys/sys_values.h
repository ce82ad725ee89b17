// The constants and config-dependent values of sys: what `sys.flags`, `sys.version_info`, `sys.float_info`
// and the others hold, printed as CPython prints them.
//
// Pure functions; attached or not. What depends on the config is a new object at each call; what does not is one immortal
// object of the process: reading it writes no reference count, so that it scales.
//
// CPython counterpart: make_flags, make_version_info, get_float_info ... in Python/sysmodule.c and Objects/.

#ifndef PYRT_SYS_SYS_VALUES_H_
#define PYRT_SYS_SYS_VALUES_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/sys/intern_table.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/struct_sequence.h"

namespace pyrt::inline PYRT_VARIANT {

// 18 visible fields; gil, thread_inherit_context, context_aware_warnings, lazy_imports by name only. gil is 1 in a
// GIL-enabled build; None (default), 0 or 1 as configured in a GIL-disabled one.
Ref<StructSequence> MakeFlags(const RuntimeConfig& config);

Ref<StructSequence> MakeVersionInfo(const LanguageVersion& version);

// Constants.
Ref<StructSequence> MakeIntInfo();
Ref<StructSequence> MakeFloatInfo();
Ref<StructSequence> MakeHashInfo();
// name "pthread", lock "pymutex" (pyrt's locks are futex-based, as CPython's since 3.15), version "NPTL 2.36".
Ref<StructSequence> MakeThreadInfo();
Ref<Object> MakeMaxSize();
Ref<Object> MakeMaxUnicode();
Ref<Object> MakeApiVersion();
// The one immortal string of that text. For texts of which there are few. Attached: takes a lock of the process.
Ref<Object> ImmortalText(std::string_view text);
// Where they are. Whoever forks brackets it with BeforeFork and its kin: interpreters with a GIL of their own go on.
InternTable& ImmortalTexts();

// sys.implementation and, a constant, sys.abi_info: namespace(name='pyrt', ...).
Ref<Object> MakeImplementation(const RuntimeConfig& config);
Ref<Object> MakeAbiInfo();

// "" with the GIL, "t" without, "d" in debug builds.
std::string AbiFlags();

// An object with the given attributes that prints as `kind(name=value, ...)` (types.SimpleNamespace).
Ref<Object> MakeNamespace(std::string_view kind, std::vector<std::pair<std::string, Ref<Object>>> attributes);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_SYS_VALUES_H_
