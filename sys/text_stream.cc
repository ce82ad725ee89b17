#include "pyrt/sys/text_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/check.h"
#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/error_type.h"
#include "pyrt/runtime/object/function.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/thread_annotations.h"
#include "pyrt/runtime/sync/wait_hooks.h"
#include "pyrt/sys/text_codec.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr StreamHooks kNoHooks;

absl::Status ClosedError() { return Raise(ErrorType::ValueError(), "I/O operation on closed file."); }

}  // namespace

// One thread's turn with the stream. Lock() takes the lock; Detach() before a system call; Leave(), or the
// destructor, unlocks first and attaches then. In between the owner may attach with the lock held for one
// thing only: running signal handlers, on the thread that does so.
class TextStream::Access {
 public:
  explicit Access(TextStream& stream)
      : stream_(stream), hooks_(stream.options_.hooks != nullptr ? *stream.options_.hooks : kNoHooks) {}
  ~Access() { Leave(); }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  absl::Status Lock() PYRT_NO_THREAD_SAFETY_ANALYSIS {  // across functions: Leave unlocks
    const uint64_t self = CurrentThreadIdent();
    if (stream_.owner_.load(kRelaxed) == self) {
      return Raise(ErrorType::RuntimeError(), "reentrant call inside %s", stream_.LockName().c_str());
    }
    if (!stream_.mutex_.TryLock()) {
      // Asked attached: a thread that is not may find its interpreter gone. And whoever is attached while the
      // runtime finalizes is the finalizer; the others, which will hang anyway, wait as long as it takes.
      const bool bounded = hooks_.is_finalizing != nullptr && hooks_.is_finalizing();
      Detach();
      const LockStatus status = stream_.mutex_.LockTimed(bounded ? kFinalizingLockTimeout : kForever);
      PYRT_CHECK(status == LockStatus::kAcquired, "_enter_buffered_busy",
                 "could not acquire lock for %s at interpreter shutdown, possibly due to daemon threads",
                 stream_.LockName().c_str());
    }
    stream_.owner_.store(self, kRelaxed);
    locked_ = true;
    return absl::OkStatus();
  }

  void Detach() {
    if (detached_) return;
    // Asked attached, for CheckSignals.
    runs_handlers_ = hooks_.runs_handlers != nullptr && hooks_.runs_handlers();
    if (hooks_.detach != nullptr) detached_ = hooks_.detach();
  }

  // After EINTR, and after Detach. Handlers run attached and may come back to this stream, where owner_ stops
  // them. A thread that runs none must not attach here: it might never return, and the lock is held. Nor must the
  // one that runs them while another thread ends the runtime: the signal has nobody any more.
  absl::Status CheckSignals() {
    if (!runs_handlers_ || hooks_.check_signals == nullptr) return absl::OkStatus();
    if (detached_ && hooks_.may_attach != nullptr && !hooks_.may_attach()) return absl::OkStatus();
    const bool was_detached = std::exchange(detached_, false);
    if (was_detached) hooks_.attach();
    absl::Status status = hooks_.check_signals();
    if (was_detached) Detach();
    return status;
  }

  void Leave() PYRT_NO_THREAD_SAFETY_ANALYSIS {
    if (std::exchange(locked_, false)) {
      stream_.owner_.store(0, kRelaxed);
      stream_.mutex_.Unlock();
    }
    // gh-129536: only now, with nothing held, may this thread find that it must never run again.
    if (std::exchange(detached_, false)) hooks_.attach();
  }

 private:
  TextStream& stream_;
  const StreamHooks& hooks_;
  bool locked_ = false;
  bool detached_ = false;
  bool runs_handlers_ = false;
};

Ref<TextStream> TextStream::Open(int fd, Options options) {
  return Ref<TextStream>::Adopt(new TextStream(fd, std::move(options)));
}

TextStream::TextStream(int fd, Options options)
    : Object(ObjectKind::kTextStream), fd_(fd), options_(std::move(options)) {}

TextStream::~TextStream() {
  // Nobody else can use the stream any more. An error here has nobody to go to.
  if (!closed()) (void)Close();
}

absl::Status TextStream::CheckUsable(Mode mode) const {
  if (closed()) return ClosedError();
  if (options_.mode != mode) {
    return Raise(ErrorType::OSError(), "not %s", mode == Mode::kRead ? "readable" : "writable");
  }
  return absl::OkStatus();
}

absl::Status TextStream::Write(std::string_view text) {
  absl::Status usable = CheckUsable(Mode::kWrite);
  if (!usable.ok()) return usable;
  absl::StatusOr<std::string> bytes = EncodeText(text, options_.encoding, options_.errors);
  if (!bytes.ok()) return bytes.status();
  return WriteBytes(*bytes);
}

absl::Status TextStream::WriteBytes(std::string_view bytes) {
  Access access(*this);
  absl::Status status = access.Lock();
  if (!status.ok()) return status;
  status = CheckUsable(Mode::kWrite);
  if (!status.ok()) return status;

  if (buffer_.size() + bytes.size() > options_.buffer_size && !buffer_.empty()) {
    status = FlushBuffer(access);
    if (!status.ok()) return status;  // nothing of this write was taken
  }
  // Written through is unbuffered: what fails is the writer's loss at once, and not once more a failure at exit.
  if (options_.write_through || bytes.size() > options_.buffer_size) {
    size_t written = 0;
    return WriteOut(access, bytes, &written, std::nullopt);
  }
  buffer_ += bytes;
  buffered_.store(buffer_.size(), kRelaxed);
  const bool newline = options_.line_buffering && bytes.find_first_of("\n\r") != std::string_view::npos;
  // All of it is buffered, whatever the flush comes to: who writes the rest again would write it twice.
  return newline ? FlushBuffer(access, bytes.size()) : absl::OkStatus();
}

absl::Status TextStream::Flush() {
  if (closed()) return ClosedError();
  if (options_.mode == Mode::kRead) return absl::OkStatus();
  Access access(*this);
  absl::Status status = access.Lock();
  if (!status.ok()) return status;
  if (closed()) return ClosedError();
  return FlushBuffer(access);
}

absl::Status TextStream::FlushBuffer(Access& access, size_t taken) {
  if (buffer_.empty()) return absl::OkStatus();
  size_t written = 0;
  absl::Status status = WriteOut(access, buffer_, &written, taken);
  buffer_.erase(0, written);
  buffered_.store(buffer_.size(), kRelaxed);
  return status;
}

absl::Status TextStream::WriteOut(Access& access, std::string_view bytes, size_t* written,
                                  std::optional<size_t> taken) {
  access.Detach();
  while (*written < bytes.size()) {
    const ssize_t count = ::write(fd_, bytes.data() + *written, bytes.size() - *written);
    if (count >= 0) {
      *written += static_cast<size_t>(count);
    } else if (errno == EINTR) {
      absl::Status status = access.CheckSignals();
      if (!status.ok()) return status;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      // The text of BufferedWriter, which also says how much it has taken.
      return ToStatus(Error::New(ErrorType::BlockingIOError(),
                                 {Int::Of(EAGAIN), String::Of("write could not complete without blocking"),
                                  Int::Of(static_cast<int64_t>(taken.value_or(*written)))}));
    } else {
      return ToStatus(NewOsError(errno));
    }
  }
  return absl::OkStatus();
}

absl::Status TextStream::Fill(Access& access, bool* eof) {
  access.Detach();
  char chunk[8192];
  while (true) {
    const ssize_t count = ::read(fd_, chunk, sizeof(chunk));
    if (count >= 0) {
      buffer_.append(chunk, static_cast<size_t>(count));
      *eof = count == 0;
      return absl::OkStatus();
    }
    if (errno != EINTR) return ToStatus(NewOsError(errno));
    absl::Status status = access.CheckSignals();
    if (!status.ok()) return status;
  }
}

absl::StatusOr<std::string> TextStream::ReadLine() {
  absl::Status usable = CheckUsable(Mode::kRead);
  if (!usable.ok()) return usable;
  std::string line;
  {
    Access access(*this);
    absl::Status status = access.Lock();
    if (status.ok()) status = CheckUsable(Mode::kRead);  // closed while this thread waited
    if (!status.ok()) return status;
    bool eof = false;
    size_t searched = 0;
    size_t newline = std::string::npos;
    // '\n' is no part of another character in any of the encodings.
    while ((newline = buffer_.find('\n', searched)) == std::string::npos && !eof) {
      searched = buffer_.size();
      status = Fill(access, &eof);
      if (!status.ok()) return status;
    }
    line = buffer_.substr(0, newline == std::string::npos ? newline : newline + 1);
    buffer_.erase(0, line.size());
  }
  return DecodeText(line, options_.encoding, options_.errors);
}

absl::StatusOr<std::string> TextStream::Read() {
  absl::Status usable = CheckUsable(Mode::kRead);
  if (!usable.ok()) return usable;
  std::string all;
  {
    Access access(*this);
    absl::Status status = access.Lock();
    if (status.ok()) status = CheckUsable(Mode::kRead);
    if (!status.ok()) return status;
    bool eof = false;
    while (!eof) {
      status = Fill(access, &eof);
      if (!status.ok()) return status;
    }
    all.swap(buffer_);
  }
  return DecodeText(all, options_.encoding, options_.errors);
}

absl::Status TextStream::Close() {
  if (closed()) return absl::OkStatus();
  Access access(*this);
  absl::Status status = access.Lock();
  if (!status.ok() || closed()) return status;
  if (options_.mode == Mode::kWrite) status = FlushBuffer(access);
  closed_.store(true, kRelaxed);
  if (options_.closes_fd && ::close(fd_) != 0 && status.ok()) status = ToStatus(NewOsError(errno));
  return status;
}

bool TextStream::IsTty() const { return ::isatty(fd_) == 1; }

void TextStream::ReinitAfterFork() {
  if (mutex_.IsLocked()) {
    // A signal handler that runs inside an operation of this thread has forked: the operation goes on here
    // too, with the buffer and the lock that it has.
    if (owner_.load(kRelaxed) == CurrentThreadIdent()) {
      mutex_.ReinitAfterForkLocked();
      return;
    }
    // Whoever held the lock may have been changing the string, detached as it was: it is neither read nor
    // destroyed, and what it owns is lost to this process.
    new (&buffer_) std::string;
    buffered_.store(0, kRelaxed);
  }
  owner_.store(0, kRelaxed);
  mutex_.ReinitAfterFork();
}

std::string TextStream::LockName() const {
  return std::string(options_.mode == Mode::kRead ? "<_io.BufferedReader" : "<_io.BufferedWriter") +
         " name=" + ReprOfString(options_.name) + ">";
}

absl::StatusOr<std::string> TextStream::Repr() const {
  return "<_io.TextIOWrapper name=" + ReprOfString(options_.name) +
         " mode=" + (options_.mode == Mode::kRead ? "'r'" : "'w'") +
         " encoding=" + ReprOfString(EncodingName(options_.encoding)) + ">";
}

namespace {

// stream.buffer: the bytes under the text. It shares the stream's only buffer, so that the two keep their order.
class BinaryLayer final : public Object {
 public:
  explicit BinaryLayer(Ref<TextStream> stream) : stream_(std::move(stream)) {}
  const char* TypeName() const override { return "_io.BufferedWriter"; }
  absl::StatusOr<std::string> Repr() const override {
    return "<_io.BufferedWriter name=" + ReprOfString(stream_->options().name) + ">";
  }
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override {
    if (name != "write") return stream_->GetAttr(name);
    return Ref<Object>(
        NativeFunction::New(name, [stream = stream_](Args args) -> absl::StatusOr<Ref<Object>> {
          const Bytes* const bytes = args.size() == 1 ? As<Bytes>(args[0]) : nullptr;
          if (bytes == nullptr) {
            return Raise(ErrorType::TypeError(), "a bytes-like object is required, not '%s'",
                         args.size() == 1 ? args[0]->TypeName() : "tuple");
          }
          absl::Status status = stream->WriteBytes(bytes->value());
          if (!status.ok()) return status;
          return Ref<Object>(Int::Of(static_cast<int64_t>(bytes->value().size())));
        }));
  }

 private:
  const Ref<TextStream> stream_;
};

}  // namespace

absl::StatusOr<Ref<Object>> TextStream::GetAttr(std::string_view name) {
  using Result = absl::StatusOr<Ref<Object>>;
  const Ref<TextStream> self = Ref<TextStream>::Share(this);
  const auto method = [&](Ref<Object> (*body)(TextStream&)) -> Result {
    return Ref<Object>(NativeFunction::New(name, [self, body](Args) -> Result { return body(*self); }));
  };
  const auto procedure = [&](absl::Status (TextStream::*body)()) -> Result {
    return Ref<Object>(NativeFunction::New(name, [self, body](Args) -> Result {
      absl::Status status = (self.get()->*body)();
      return status.ok() ? Result(None()) : Result(status);
    }));
  };
  const auto reader = [&](absl::StatusOr<std::string> (TextStream::*body)()) -> Result {
    return Ref<Object>(NativeFunction::New(name, [self, body](Args) -> Result {
      absl::StatusOr<std::string> text = (self.get()->*body)();
      return text.ok() ? Result(String::Of(*text)) : Result(text.status());
    }));
  };

  if (name == "encoding") return Ref<Object>(String::Of(EncodingName(options_.encoding)));
  if (name == "errors") return Ref<Object>(String::Of(ErrorsName(options_.errors)));
  if (name == "name") return Ref<Object>(String::Of(options_.name));
  if (name == "mode") return Ref<Object>(String::Of(options_.mode == Mode::kRead ? "r" : "w"));
  if (name == "closed") return BoolOf(closed());
  if (name == "line_buffering") return BoolOf(options_.line_buffering);
  if (name == "write_through") return BoolOf(options_.write_through);
  if (name == "newlines") return None();
  if (name == "flush") return procedure(&TextStream::Flush);
  if (name == "close") return procedure(&TextStream::Close);
  if (name == "readline") return reader(&TextStream::ReadLine);
  if (name == "read") return reader(&TextStream::Read);
  if (name == "fileno") return method([](TextStream& s) { return Ref<Object>(Int::Of(s.fd())); });
  if (name == "isatty") return method([](TextStream& s) { return BoolOf(s.IsTty()); });
  if (name == "readable")
    return method([](TextStream& s) { return BoolOf(s.options().mode == Mode::kRead); });
  if (name == "writable")
    return method([](TextStream& s) { return BoolOf(s.options().mode == Mode::kWrite); });
  if (name == "buffer" && options_.mode == Mode::kWrite) return Ref<Object>(MakeRef<BinaryLayer>(self));
  if (name == "write") {
    return Ref<Object>(NativeFunction::New(name, [self](Args args) -> Result {
      if (args.size() != 1) {
        return Raise(ErrorType::TypeError(), "TextIOWrapper.write() takes exactly one argument (%zu given)",
                     args.size());
      }
      const String* text = As<String>(args[0]);
      if (text == nullptr) {
        return Raise(ErrorType::TypeError(), "write() argument must be str, not %s", args[0]->TypeName());
      }
      absl::Status status = self->Write(text->value());
      if (!status.ok()) return status;
      size_t characters = 0;
      for (const char c : text->value()) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
      return Ref<Object>(Int::Of(static_cast<int64_t>(characters)));
    }));
  }
  return Object::GetAttr(name);
}

}  // namespace pyrt::inline PYRT_VARIANT
