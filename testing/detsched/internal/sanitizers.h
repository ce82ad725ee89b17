// The sanitizers' interfaces to fibers.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_SANITIZERS_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_SANITIZERS_H_

#include "pyrt/runtime/config/config.h"

#if PYRT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if PYRT_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_SANITIZERS_H_
