// The table of interned strings of one interpreter: for each text one object, so that equal names are
// identical.
//
// The table keeps what it interned alive until it is destroyed (CPython's interned strings have been immortal
// or nearly so since 3.12). Any thread, attached; the lock is a leaf and is never held across a callback.
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
  InternTable() = default;
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

  void ReinitAfterFork() { mutex_.ReinitAfterFork(); }

 private:
  // The keys view the strings' own text.
  using Strings = std::unordered_map<std::string_view, Ref<String>>;

  mutable Mutex mutex_;
  Strings strings_ PYRT_GUARDED_BY(mutex_);
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_INTERN_TABLE_H_
