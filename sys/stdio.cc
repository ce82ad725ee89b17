#include "pyrt/sys/stdio.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/sys/runtime_config.h"
#include "pyrt/sys/text_codec.h"
#include "pyrt/sys/text_stream.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

bool IsOpen(int fd) { return fd >= 0 && ::fcntl(fd, F_GETFD) >= 0; }

bool IsDirectory(int fd) {
  struct stat info;
  return ::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
}

Ref<Object> Open(int fd, TextStream::Options options) {
  if (!IsOpen(fd)) return None();
  return TextStream::Open(fd, std::move(options));
}

}  // namespace

ConfigStatus OpenStandardStreams(const RuntimeConfig& config, const StreamHooks* hooks,
                                 StandardStreams* streams, StandardDescriptors descriptors) {
  if (IsOpen(descriptors.input) && IsDirectory(descriptors.input)) {
    return ConfigStatus::Error("init_sys_streams", "<stdin> is a directory, cannot continue");
  }
  const std::optional<TextEncoding> encoding = FindEncoding(config.stdio_encoding.value_or("utf-8"));
  if (!encoding.has_value()) {
    return ConfigStatus::Error("init_stdio_encoding",
                               "failed to get the Python codec name of the stdio encoding");
  }
  const std::string errors_name = config.stdio_errors.value_or("strict");
  const std::optional<TextErrors> errors = FindErrors(errors_name);
  if (!errors.has_value()) {
    return ConfigStatus::Error("init_sys_streams", "unknown error handler name '" + errors_name + "'");
  }

  TextStream::Options options;
  options.encoding = *encoding;
  options.errors = *errors;
  options.hooks = hooks;

  options.name = "<stdin>";
  options.mode = TextStream::Mode::kRead;
  streams->standard_input = Open(descriptors.input, options);

  options.name = "<stdout>";
  options.mode = TextStream::Mode::kWrite;
  options.write_through = !config.buffered_stdio;
  options.line_buffering =
      config.buffered_stdio && (config.interactive > 0 || ::isatty(descriptors.output) == 1);
  streams->standard_output = Open(descriptors.output, options);

  options.name = "<stderr>";
  options.line_buffering = true;
  options.errors = TextErrors::kBackslashReplace;
  streams->standard_error = Open(descriptors.error, options);
  return ConfigStatus::Ok();
}

Ref<Object> OpenPreliminaryStderr(const StreamHooks* hooks, int fd) {
  TextStream::Options options;
  options.name = "<stderr>";
  options.errors = TextErrors::kBackslashReplace;
  options.write_through = true;
  options.hooks = hooks;
  return Open(fd, std::move(options));
}

}  // namespace pyrt::inline PYRT_VARIANT
