// TextStream: a text file object over a real file descriptor, for stdin, stdout and stderr.
//
//   Write(text)    encodes attached and without a lock, then appends to the buffer; a flush writes it out
//   detached ReadLine()     reads detached, decodes attached
//
// The bytes of one Write reach the file in one piece: writers of one stream take turns. A descriptor that was
// redirected (dup2) under the stream is used as it now is; one that was closed gives OSError(EBADF).
//
// Locking, and why no thread can hang here for ever at shutdown (LC-9, gh-129536): the lock is only ever held
// across a system call while its owner is detached, and it is released before the owner attaches again,
// unless the owner is the thread that runs signal handlers: it attaches for them in the middle of an
// operation, and not any more when the runtime finalizes on another thread (B137). A daemon thread that may not
// attach any more therefore never takes the lock along. What remains is an owner which is stuck inside write(2)
// itself (a pipe that nobody reads), and one whose attaching for a handler and the end of the runtime meet; the
// thread that finalizes the runtime waits for it at most kFinalizingLockTimeout and then ends the process with
// CPython's fatal error instead of hanging.
//
// A signal handler that runs during a write (StreamHooks::check_signals) and uses the same stream gets
// RuntimeError "reentrant call inside ...", as in CPython. One that forks leaves parent and child in the
// middle of that write.
//
// All operations: attached, any thread, may block (detached), not signal-safe.
//
// CPython counterpart: io.TextIOWrapper over BufferedWriter/BufferedReader over FileIO, as far as sys needs
// it.

#ifndef PYRT_SYS_TEXT_STREAM_H_
#define PYRT_SYS_TEXT_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/runtime/sync/mutex.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/sys/text_codec.h"

namespace pyrt::inline PYRT_VARIANT {

// What a stream asks of the thread that uses it. Null functions do nothing: a stream works before there are
// threads.
struct StreamHooks {
  // Detaches the calling thread if it is attached, and says whether it did; `attach` undoes just that.
  // `attach` may never return.
  bool (*detach)() = nullptr;
  void (*attach)() = nullptr;
  // Runs pending signal handlers after EINTR, attached, on threads that `runs_handlers`. A failure ends the
  // operation.
  absl::Status (*check_signals)() = nullptr;
  // Whether waits must be bounded. Asked before `detach`.
  bool (*is_finalizing)() = nullptr;
  // Whether the calling thread runs signal handlers; the others try the system call again after EINTR. Asked
  // before `detach`. Null: no thread does.
  bool (*runs_handlers)() = nullptr;
  // Whether `attach` would still return, as far as can be said: asked after `detach`, before attaching for
  // handlers. Null: it would.
  bool (*may_attach)() = nullptr;
};

// The finalizing thread's longest wait for a stream: CPython's second.
inline constexpr Timeout kFinalizingLockTimeout = kNanosPerSecond;

class TextStream final : public Object {
 public:
  enum class Mode : uint8_t { kRead, kWrite };

  struct Options {
    std::string name;  // "<stdout>"
    Mode mode = Mode::kWrite;
    TextEncoding encoding = TextEncoding::kUtf8;
    TextErrors errors = TextErrors::kStrict;
    bool line_buffering = false;  // flush after a write that holds a newline
    bool write_through = false;   // keep nothing: each write goes out, and is lost if it fails
    size_t buffer_size = 8192;
    bool closes_fd = false;
    const StreamHooks* hooks = nullptr;  // outlives the stream
  };

  static bool IsKind(ObjectKind kind) { return kind == ObjectKind::kTextStream; }
  static Ref<TextStream> Open(int fd, Options options);

  // UnicodeEncodeError, OSError (BrokenPipeError, ...), ValueError when closed. After an error that was the
  // file's, bytes that were buffered before stay so; the rest of this write may be lost. BlockingIOError says how
  // many bytes of this write were taken: written, or buffered for the next flush.
  absl::Status Write(std::string_view text);
  // Encoded already: what io's stream.buffer.write does.
  absl::Status WriteBytes(std::string_view bytes);
  absl::Status Flush();

  // The next line with its '\n', the rest without one at the end of the file, "" behind it.
  absl::StatusOr<std::string> ReadLine();
  // Everything up to the end of the file.
  absl::StatusOr<std::string> Read();

  // Flushes and refuses further use. Closes the descriptor only if it owns it. Closing again does nothing.
  absl::Status Close();

  bool closed() const { return closed_.load(kRelaxed); }
  int fd() const { return fd_; }
  bool IsTty() const;
  const Options& options() const { return options_; }
  // Bytes that wait for a flush; approximate while others write.
  size_t buffered() const { return buffered_.load(kRelaxed); }

  // In a forked child, after ParkingLot::AfterForkInChild. What another thread of the parent was in the middle of
  // stays the parent's, and so does what was buffered then: its memory is left behind.
  void ReinitAfterFork();

  const char* TypeName() const override { return "_io.TextIOWrapper"; }
  absl::StatusOr<std::string> Repr() const override;
  // encoding, errors, name, mode, closed, line_buffering, write_through, buffer (of a writer: write(bytes) and the
  // same others), and the methods write, flush, readline, read, close, fileno, isatty, readable, writable.
  absl::StatusOr<Ref<Object>> GetAttr(std::string_view name) override;

 private:
  TextStream(int fd, Options options);
  ~TextStream() override;

  // The lock with its owner, and the rule that it is not held while attached across a system call.
  class Access;

  absl::Status CheckUsable(Mode mode) const;
  // `taken` is what BlockingIOError reports, by default what is written.
  absl::Status WriteOut(Access& access, std::string_view bytes, size_t* written, std::optional<size_t> taken);
  absl::Status FlushBuffer(Access& access, size_t taken = 0);
  // Appends to the buffer what read(2) has; *eof at the end of the file.
  absl::Status Fill(Access& access, bool* eof);
  std::string LockName() const;

  const int fd_;
  const Options options_;
  Atomic<bool> closed_{false};
  Atomic<size_t> buffered_{0};
  Atomic<uint64_t> owner_{0};  // thread ident; relaxed: only a thread's own value means something to it
  Mutex mutex_;
  std::string buffer_;  // guarded by mutex_, which Access holds across functions
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_SYS_TEXT_STREAM_H_
