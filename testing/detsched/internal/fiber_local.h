// The registry behind PYRT_THREAD_LOCAL.

#ifndef PYRT_TESTING_DETSCHED_INTERNAL_FIBER_LOCAL_H_
#define PYRT_TESTING_DETSCHED_INTERNAL_FIBER_LOCAL_H_

#include <vector>

#include "pyrt/runtime/config/config.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {

// Makes `locals` the values that the variables had at their initialisation.
void ResetFiberLocals(std::vector<char>* locals);
// Saves the variables to `old` and loads them from `next`.
void SwapFiberLocals(std::vector<char>* old, const std::vector<char>* next);

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal

#endif  // PYRT_TESTING_DETSCHED_INTERNAL_FIBER_LOCAL_H_
