// ImportTime: how long each import took, alone and with what it imported; CPython's -X importtime.
//
//   import time: self [us] | cumulative | imported package
//   import time:       121 |        121 |   zipimport
//   import time:       932 |       1053 | site
//
// A line is written when an import ends, so that imported modules stand above their importer, indented two
// spaces per level. Off: one load per import that is not cached, none for cached ones.

#ifndef PYRT_IMPORTLOCK_IMPORT_TIME_H_
#define PYRT_IMPORTLOCK_IMPORT_TIME_H_

#include <functional>
#include <string>
#include <string_view>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class ImportTime {
 public:
  using Sink = std::function<void(const std::string& line)>;

  // Starts to report, with the heading, to `sink` (null: standard error). It is called by importing threads,
  // several at a time without the GIL. Call before the first import.
  // Level 2 also reports import statements that found their module in the table.
  void Enable(Sink sink = nullptr, int level = 1);
  bool enabled() const { return level_.load(kRelaxed) > 0; }
  bool logs_cached() const { return level_.load(kRelaxed) > 1; }
  void LogCached(std::string_view name);

  // One import, on its thread's stack.
  class Scope {
   public:
    Scope(ImportTime& owner, std::string_view name) : owner_(owner), name_(name) {
      if (owner.enabled()) [[unlikely]]
        Begin();
    }
    ~Scope() {
      if (begun_) [[unlikely]]
        End();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    void Begin();
    void End();

    ImportTime& owner_;
    const std::string_view name_;
    bool begun_ = false;
    Scope* outer_ = nullptr;
    int64_t start_ = 0;
    int64_t nested_ = 0;  // ns in imports inside this one
  };

 private:
  void Write(const std::string& line) const;

  Atomic<int> level_{0};
  Sink sink_;
};

namespace internal {
PYRT_THREAD_LOCAL(ImportTime::Scope*, innermost_import) = nullptr;
PYRT_THREAD_LOCAL(int, import_depth) = 0;
}  // namespace internal

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_IMPORTLOCK_IMPORT_TIME_H_
