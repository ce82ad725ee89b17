// A table of interned strings, an interpreter's or the process': for each text one object, so that equal names are
// identical.
//
// The table keeps what it interned alive until it is destroyed (CPython's interned strings have been immortal
// or nearly so since 3.12). Any thread, attached. Nothing is taken under the lock, and it is never held across a
// callback; who holds it across a fork may hold the head lock.
//
// CPython counterpart: PyUnicode_InternInPlace, interp->interned_strings, sys.intern.

#ifndef PYRT_SYS_INTERN_TABLE_H_
#define PYRT_SYS_INTERN_TABLE_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/thread_annotations.h"

namespace pyrt::inline PYRT_VARIANT {

class InternTable {
 public:
  // With `room` for as many texts before the table grows, which it does under its lock.
  explicit InternTable(size_t room = 0) { strings_.reserve(room); }
  InternTable(const InternTable&) = delete;
  InternTable& operator=(const InternTable&) = delete;

  // The one object of that text, null if there is none.
  Ref<String> Find(std::string_view text) const;
  // The same, made if there is none.
  Ref<String> Intern(std::string_view text);
  // The one object equal to `string`: `string` itself if it is the first.
  Ref<String> Intern(Ref<String> string);
  // sys.intern(object): TypeError for anything but a str (SY-71).
  absl::StatusOr<Ref<String>> InternObject(const Ref<Object>& object);

  // sys._is_interned(string).
  bool IsInterned(const String& string) const;
  size_t size() const;

  // Around a fork that does not stop all who use the table, so that the child finds it complete.
  void BeforeFork() PYRT_ACQUIRE(mutex_) { mutex_.Lock(); }
  void AfterForkInParent() PYRT_RELEASE(mutex_) { mutex_.Unlock(); }
  // In the child, of either kind.
  void ReinitAfterFork() PYRT_NO_THREAD_SAFETY_ANALYSIS { mutex_.ReinitAfterFork(); }

 private:
  // The keys view the strings' own text.
  using Strings = std::unordered_map<std::string_view, Ref<String>>;

  mutable Mutex mutex_;
  Strings strings_ PYRT_GUARDED_BY(mutex_);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_INTERN_TABLE_H_
