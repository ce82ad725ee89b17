// The functions of sys as callable objects: sys.exit, sys.intern, sys.setswitchinterval and so on, with CPython's checks of
// their arguments. What they do is in sys_control.h, error_display.h, audit.h, intern_table.h and monitoring.h.
//
// A function works on the sys module of the interpreter that calls it, and so may be shared, kept and called late;
// without one it fails with RuntimeError "no sys module".
//
// CPython counterpart: sys_methods in Python/sysmodule.c.

#ifndef PYRT_SYS_SYS_FUNCTIONS_H_
#define PYRT_SYS_SYS_FUNCTIONS_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/sys/sys_dict.h"

namespace pyrt::inline PYRT_VARIANT {

// Sets every function, and the dunder originals of the hooks (__displayhook__, __excepthook__, __unraisablehook__,
// __breakpointhook__).
void AddSysFunctions(SysDict& dict);

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_SYS_FUNCTIONS_H_
