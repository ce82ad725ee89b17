// The stdio layer: bytes are read from a file through a stream and written to another. With surrogateescape the copy is
// identical, whatever the bytes, the size of the buffer and the encoding; with every other handler nothing crashes.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/sys/text_codec.h"
#include "pyrt/sys/text_stream.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

std::string Contents(int fd) {
  std::string all(static_cast<size_t>(::lseek(fd, 0, SEEK_END)), '\0');
  PYRT_CHECK(::pread(fd, all.data(), all.size(), 0) == static_cast<ssize_t>(all.size()), "stdio_fuzz",
             "short read");
  return all;
}

void RunOne(std::string_view input) {
  if (input.size() < 2) return;
  const auto first = static_cast<unsigned char>(input[0]);
  const auto second = static_cast<unsigned char>(input[1]);
  const std::string_view bytes = input.substr(2);
  const int source = ::memfd_create("source", MFD_CLOEXEC);
  const int target = ::memfd_create("target", MFD_CLOEXEC);
  PYRT_CHECK(source >= 0 && target >= 0, "stdio_fuzz", "memfd_create failed");
  PYRT_CHECK(::pwrite(source, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
             "stdio_fuzz", "short write");

  TextStream::Options options;
  options.encoding = static_cast<TextEncoding>(first % 3);
  options.errors = static_cast<TextErrors>(second % 5);
  options.buffer_size = 1 + first % 64;
  options.line_buffering = second >= 128;
  options.write_through = first >= 192;
  bool complete = true;
  {
    Ref<TextStream> writer = TextStream::Open(target, options);
    options.mode = TextStream::Mode::kRead;
    Ref<TextStream> reader = TextStream::Open(source, options);
    while (true) {
      absl::StatusOr<std::string> line = reader->ReadLine();
      complete = complete && line.ok();
      if (!line.ok()) continue;  // a line that does not decode has been consumed
      if (line->empty()) break;
      complete = writer->Write(*line).ok() && complete;
    }
    PYRT_CHECK(writer->Close().ok(), "stdio_fuzz", "close failed");
  }
  if (options.errors == TextErrors::kSurrogateEscape || options.encoding == TextEncoding::kLatin1) {
    PYRT_CHECK(complete && Contents(target) == bytes, "stdio_fuzz", "the copy differs");
  }
  ::close(source);
  ::close(target);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pyrt::RunOne(std::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
