#include "pyrt/importlock/import_time.h"

#include <cinttypes>
#include <cstdio>

namespace pyrt::inline PYRT_VARIANT {

void ImportTime::Enable(Sink sink, int level) {
  sink_ = std::move(sink);
  level_.store(level, kRelaxed);
  Write("import time: self [us] | cumulative | imported package");
}

void ImportTime::Write(const std::string& line) const {
  if (sink_) {
    sink_(line);
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

void ImportTime::LogCached(std::string_view name) {
  // The name is aligned to the right of its indentation, as by CPython's "%*s".
  const size_t width = 2 * static_cast<size_t>(internal::import_depth);
  Write("import time: cached    | cached     | " +
        std::string(name.size() < width ? width - name.size() : 0, ' ') + std::string(name));
}

void ImportTime::Scope::Begin() {
  begun_ = true;
  outer_ = internal::innermost_import;
  internal::innermost_import = this;
  internal::import_depth = internal::import_depth + 1;
  start_ = MonotonicNow();
}

void ImportTime::Scope::End() {
  const int64_t cumulative = MonotonicNow() - start_;
  internal::innermost_import = outer_;
  internal::import_depth = internal::import_depth - 1;
  if (outer_ != nullptr) outer_->nested_ += cumulative;
  const auto to_micros = [](int64_t nanos) { return (nanos + kNanosPerMicro - 1) / kNanosPerMicro; };
  char numbers[96];
  std::snprintf(numbers, sizeof(numbers), "import time: %9" PRId64 " | %10" PRId64 " | ",
                to_micros(cumulative - nested_), to_micros(cumulative));
  owner_.Write(numbers + std::string(2 * static_cast<size_t>(internal::import_depth), ' ') +
               std::string(name_));
}

}  // namespace pyrt::inline PYRT_VARIANT
