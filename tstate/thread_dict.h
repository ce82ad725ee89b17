// The dictionary that extensions keep things in per thread.
//
// CPython counterpart: PyThreadState_GetDict.

#ifndef PYRT_TSTATE_THREAD_DICT_H_
#define PYRT_TSTATE_THREAD_DICT_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/containers.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// The dictionary of the attached state, made on demand and released when the state is cleared; null, which is no
// error, on a detached thread (TS-89). The pointer is as good as the state.
inline Dict* CurrentThreadDict() {
  ThreadState* const thread = ThreadState::Current();
  if (thread == nullptr) return nullptr;
  Ref<Dict>& dict = thread->data().dict;
  if (dict == nullptr) dict = Dict::New();
  return dict.get();
}

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_THREAD_DICT_H_
