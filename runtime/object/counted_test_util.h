// An object that counts the living, for tests in which references change hands.

#ifndef PYRT_RUNTIME_OBJECT_COUNTED_TEST_UTIL_H_
#define PYRT_RUNTIME_OBJECT_COUNTED_TEST_UTIL_H_

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class Counted : public Object {
 public:
  explicit Counted(Atomic<int>* living) : living_(living) { living_->fetch_add(1, kRelaxed); }
  const char* TypeName() const override { return "Counted"; }

 protected:
  ~Counted() override { living_->fetch_sub(1, kRelaxed); }

 private:
  Atomic<int>* const living_;
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_RUNTIME_OBJECT_COUNTED_TEST_UTIL_H_
