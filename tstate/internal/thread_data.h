// ThreadData: what a thread state keeps that is not about running: see ThreadState::data().
//
// Unless a member says otherwise it belongs to the thread itself, while attached, or to a party that excludes
// the thread (a stopped world, Clear).

#ifndef PYRT_TSTATE_INTERNAL_THREAD_DATA_H_
#define PYRT_TSTATE_INTERNAL_THREAD_DATA_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

struct ThreadData {
  // Ensure/Release: how many releases are outstanding. Starts at 1 (TS-17), so that a release never deletes a
  // state that no ensure has made.
  int32_t gilstate_counter = 1;

  // The exception that is being raised. CPython: current_exception.
  Ref<Error> current_exception;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_INTERNAL_THREAD_DATA_H_
