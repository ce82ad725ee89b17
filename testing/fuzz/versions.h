// For targets in which some threads write to a table and others read it without a lock: values that say which
// name they belong to and which write put them there, and what a reader may find.
//
// A name is written by one thread only (OwnerOf), so the order of its versions is known. Any thread reads:
// never another name's value, never a version that was not written yet, never an older one than it has seen;
// the writer sees its own last one. A reader that finds a value which has been destroyed, or whose making it
// does not see, is a race.

#ifndef PYRT_TESTING_FUZZ_VERSIONS_H_
#define PYRT_TESTING_FUZZ_VERSIONS_H_

#include <string>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {

class Version final : public Object {
 public:
  Version(int name, int number) : name_(name), number_(number) { ++alive; }
  ~Version() override {
    name_.Set(-1);
    --alive;
  }
  int name() const { return name_.Get(); }
  int number() const { return number_.Get(); }
  const char* TypeName() const override { return "version"; }

  // How many there are in this schedule.
  static inline int alive = 0;

 private:
  Plain<int> name_;
  Plain<int> number_;
};

class Versions {
 public:
  static constexpr int kThreads = 3;
  static constexpr int kNames = 6;

  Versions() { Version::alive = 0; }

  static int OwnerOf(int name) { return name % kThreads; }
  static std::string NameOf(int name) { return "name" + std::to_string(name); }

  // The value that the owner is about to write, or says that it removes it.
  Ref<Version> Next(int name) { return MakeRef<Version>(name, current_[name] = ++last_[name]); }
  void Remove(int name) { current_[name] = 0; }
  bool Present(int name) const { return current_[name] != 0; }
  // What Next or Remove said last; 0: removed.
  int Current(int name) const { return current_[name]; }
  int Count() const {
    int count = 0;
    for (const int number : current_) count += number != 0;
    return count;
  }

  // `self` has found `found`, which may be null. Does not keep it.
  void Check(int self, int name, const Object* found) {
    const bool owner = self == OwnerOf(name);
    if (found == nullptr) {
      DETSCHED_CHECK(!owner || !Present(name));
      return;
    }
    const auto& version = static_cast<const Version&>(*found);
    DETSCHED_CHECK(version.name() == name);
    const int number = version.number();
    DETSCHED_CHECK(number <= last_[name]);
    DETSCHED_CHECK(number >= seen_[self][name]);
    DETSCHED_CHECK(!owner || number == current_[name]);
    seen_[self][name] = number;
  }
  // The same for an item of a snapshot, which knows its name only.
  void CheckItem(int self, const std::string& name, const Object* found) {
    for (int i = 0; i < kNames; ++i) {
      if (NameOf(i) == name) Check(self, i, found);
    }
  }

 private:
  int last_[kNames] = {};     // written last, or being written
  int current_[kNames] = {};  // by its owner; 0: removed
  int seen_[kThreads][kNames] = {};
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TESTING_FUZZ_VERSIONS_H_
