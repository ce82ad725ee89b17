#include "pyrt/runtime/config/check.h"

#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace pyrt::inline PYRT_VARIANT {
namespace {

// std::atomic and not pyrt::Atomic: this file lies under the platform, and a fatal error is no scheduling
// point.
constinit std::atomic<FatalHook> fatal_hook{nullptr};
constinit std::atomic<FatalInterceptor> fatal_interceptor{nullptr};
constinit thread_local bool in_fatal = false;

void WriteAll(const char* text, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(STDERR_FILENO, text, size);
    if (written <= 0) return;
    text += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

FatalHook SetFatalHook(FatalHook hook) { return fatal_hook.exchange(hook, std::memory_order_acq_rel); }

FatalInterceptor SetFatalInterceptor(FatalInterceptor interceptor) {
  return fatal_interceptor.exchange(interceptor, std::memory_order_acq_rel);
}

void Fatal(const char* function, const char* format, ...) {
  if (in_fatal) std::abort();
  in_fatal = true;

  char line[2048];
  const int prefix = function == nullptr
                         ? std::snprintf(line, sizeof(line), "Fatal Python error: ")
                         : std::snprintf(line, sizeof(line), "Fatal Python error: %s: ", function);
  size_t used =
      static_cast<size_t>(prefix) < sizeof(line) - 1 ? static_cast<size_t>(prefix) : sizeof(line) - 1;
  va_list args;
  va_start(args, format);
  std::vsnprintf(line + used, sizeof(line) - used, format, args);
  va_end(args);
  used = std::strlen(line);
  if (used == sizeof(line) - 1) --used;  // truncated: the newline takes the last place
  line[used++] = '\n';

  if (FatalInterceptor interceptor = fatal_interceptor.load(std::memory_order_acquire)) {
    line[used] = '\0';
    in_fatal = false;  // it may not return
    interceptor(line);
    in_fatal = true;
  }
  WriteAll(line, used);

  if (FatalHook hook = fatal_hook.load(std::memory_order_acquire)) hook(STDERR_FILENO);
  std::abort();
}

}  // namespace pyrt::inline PYRT_VARIANT
