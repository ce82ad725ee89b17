#include "pyrt/sys/text_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/object/values.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/runtime/sync/platform.h"

namespace {

// What a thread that asks for it does with the block that it is about to free, once.
thread_local void (*before_free)(void*) = nullptr;

}  // namespace

void* operator new(size_t size) {
  if (void* const block = std::malloc(size == 0 ? 1 : size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept {
  if (block != nullptr && before_free != nullptr) std::exchange(before_free, nullptr)(block);
  std::free(block);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }

namespace pyrt::inline PYRT_VARIANT {
namespace {

// While this exists SIGUSR1 interrupts system calls (no SA_RESTART), and does what `handler` does.
class InterruptingSignal {
 public:
  explicit InterruptingSignal(void (*handler)(int) = [](int) {}) {
    struct sigaction action = {};
    action.sa_handler = handler;
    ::sigaction(SIGUSR1, &action, &old_);
  }
  ~InterruptingSignal() { ::sigaction(SIGUSR1, &old_, nullptr); }
  InterruptingSignal(const InterruptingSignal&) = delete;
  InterruptingSignal& operator=(const InterruptingSignal&) = delete;

 private:
  struct sigaction old_;
};

class Pipe {
 public:
  Pipe() {
    int fds[2];
    EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    read_ = fds[0];
    write_ = fds[1];
  }
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  int read_fd() const { return read_; }
  int write_fd() const { return write_; }
  void CloseRead() {
    if (read_ >= 0) ::close(std::exchange(read_, -1));
  }
  void CloseWrite() {
    if (write_ >= 0) ::close(std::exchange(write_, -1));
  }
  // What is in the pipe now; does not wait.
  std::string Take() {
    ::fcntl(read_, F_SETFL, O_NONBLOCK);
    std::string all;
    char chunk[4096];
    for (ssize_t n; (n = ::read(read_, chunk, sizeof(chunk))) > 0;) all.append(chunk, static_cast<size_t>(n));
    return all;
  }
  std::string TakeUntilClosed() {
    std::string all;
    char chunk[4096];
    for (ssize_t n; (n = ::read(read_, chunk, sizeof(chunk))) > 0;) all.append(chunk, static_cast<size_t>(n));
    return all;
  }

 private:
  int read_ = -1;
  int write_ = -1;
};

class TextStreamTest : public ::testing::Test {
 protected:
  void SetUp() override { ::signal(SIGPIPE, SIG_IGN); }
};
using TextStreamDeathTest = TextStreamTest;

TextStream::Options Writer() {
  TextStream::Options options;
  options.name = "<stdout>";
  return options;
}
TextStream::Options Reader() {
  TextStream::Options options;
  options.name = "<stdin>";
  options.mode = TextStream::Mode::kRead;
  return options;
}

TEST_F(TextStreamTest, BlockBufferedUntilFlushOrOverflow) {
  Pipe pipe;
  TextStream::Options options = Writer();
  options.buffer_size = 10;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(stream->Write("one\n").ok());
  EXPECT_EQ(pipe.Take(), "");
  EXPECT_EQ(stream->buffered(), 4u);
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(pipe.Take(), "one\n");
  ASSERT_TRUE(stream->Write("123456").ok());
  ASSERT_TRUE(stream->Write("789abc").ok());
  EXPECT_EQ(pipe.Take(), "123456") << "what was buffered goes first";
  ASSERT_TRUE(stream->Write("a write larger than the buffer").ok());
  EXPECT_EQ(pipe.Take(), "789abca write larger than the buffer");
}

TEST_F(TextStreamTest, SY9_LineBufferingAndWriteThrough) {
  Pipe pipe;
  TextStream::Options options = Writer();
  options.line_buffering = true;
  Ref<TextStream> line = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(line->Write("no newline").ok());
  EXPECT_EQ(pipe.Take(), "");
  ASSERT_TRUE(line->Write(" yet\nrest").ok());
  EXPECT_EQ(pipe.Take(), "no newline yet\nrest");
  options.line_buffering = false;
  options.write_through = true;
  Ref<TextStream> through = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(through->Write("x").ok());
  EXPECT_EQ(pipe.Take(), "x");
}

TEST_F(TextStreamTest, EncodingErrorsWriteNothing) {
  Pipe pipe;
  TextStream::Options options = Writer();
  options.encoding = TextEncoding::kAscii;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  EXPECT_TRUE(IsError(stream->Write("ok \xc3\xa9"), ErrorType::UnicodeEncodeError()));
  EXPECT_EQ(stream->buffered(), 0u);
  options.errors = TextErrors::kBackslashReplace;
  Ref<TextStream> lenient = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(lenient->Write("ok \xc3\xa9").ok());
  ASSERT_TRUE(lenient->Flush().ok());
  EXPECT_EQ(pipe.Take(), "ok \\xe9");
}

TEST_F(TextStreamTest, BrokenPipeIsAnErrorAndKeepsWhatWasBuffered) {
  Pipe pipe;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), Writer());
  ASSERT_TRUE(stream->Write("kept").ok());
  pipe.CloseRead();
  const absl::Status status = stream->Flush();
  EXPECT_TRUE(IsError(status, ErrorType::BrokenPipeError())) << status;
  EXPECT_EQ(ErrorFromStatus(status)->Message(), "[Errno 32] Broken pipe");
  EXPECT_EQ(stream->buffered(), 4u);
  EXPECT_TRUE(IsError(stream->Close(), ErrorType::BrokenPipeError()));
  EXPECT_TRUE(stream->closed()) << "closed all the same";
}

// What BlockingIOError says; -1 if `status` is none.
int64_t TakenOf(const absl::Status& status) {
  if (!IsError(status, ErrorType::BlockingIOError())) return -1;
  return As<Int>(ErrorFromStatus(status)->args()[2])->value();
}

TEST_F(TextStreamTest, FullNonBlockingPipeSaysHowMuchWentOut) {
  Pipe pipe;
  ::fcntl(pipe.write_fd(), F_SETFL, O_NONBLOCK);
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), Writer());
  const absl::Status status = stream->Write(std::string(1 << 20, 'x'));
  ASSERT_TRUE(IsError(status, ErrorType::BlockingIOError())) << status;
  EXPECT_EQ(TakenOf(status), static_cast<int64_t>(pipe.Take().size()));
}

// What a flush cannot write was taken by earlier writes; of the write that wants the flush either nothing was or all.
TEST_F(TextStreamTest, FullNonBlockingPipeAndBytesOfEarlierWrites) {
  Pipe pipe;
  ::fcntl(pipe.write_fd(), F_SETFL, O_NONBLOCK);
  std::string page(4096, 'f');
  while (::write(pipe.write_fd(), page.data(), page.size()) > 0) continue;
  TextStream::Options options = Writer();
  options.buffer_size = 10000;
  {
    Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
    ASSERT_TRUE(stream->Write(std::string(9000, 'o')).ok());
    EXPECT_EQ(TakenOf(stream->Flush()), 0);
    ASSERT_EQ(::read(pipe.read_fd(), page.data(), page.size()), 4096);
    EXPECT_EQ(TakenOf(stream->Write(std::string(2000, 'n'))), 0) << "some of the earlier write went out";
    EXPECT_EQ(stream->buffered(), 9000u - 4096u);
    pipe.Take();
  }
  pipe.Take();
  options.line_buffering = true;
  Ref<TextStream> line = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(line->Write("earlier").ok());
  while (::write(pipe.write_fd(), page.data(), page.size()) > 0) continue;
  EXPECT_EQ(TakenOf(line->Write("new\n")), 4) << "all of it is in the buffer";
  pipe.Take();
  ASSERT_TRUE(line->Flush().ok());
  EXPECT_EQ(pipe.Take(), "earliernew\n") << "once";
}

TEST_F(TextStreamTest, RedirectedAndClosedDescriptors) {
  Pipe first;
  Pipe second;
  const int fd = ::dup(first.write_fd());
  Ref<TextStream> stream = TextStream::Open(fd, Writer());
  ASSERT_TRUE(stream->Write("a").ok());
  ASSERT_TRUE(stream->Flush().ok());
  ASSERT_EQ(::dup2(second.write_fd(), fd), fd);
  ASSERT_TRUE(stream->Write("b").ok());
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(first.Take(), "a");
  EXPECT_EQ(second.Take(), "b");
  ::close(fd);
  ASSERT_TRUE(stream->Write("c").ok());
  EXPECT_EQ(ErrorFromStatus(stream->Flush())->Message(), "[Errno 9] Bad file descriptor");
}

TEST_F(TextStreamTest, ClosedStreamsRefuseEverything) {
  Pipe pipe;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), Writer());
  ASSERT_TRUE(stream->Write("last").ok());
  ASSERT_TRUE(stream->Close().ok());
  EXPECT_EQ(pipe.Take(), "last");
  ASSERT_TRUE(stream->Close().ok());
  for (const absl::Status& status : {stream->Write("x"), stream->Flush()}) {
    EXPECT_TRUE(IsError(status, ErrorType::ValueError()));
    EXPECT_EQ(status.message(), "I/O operation on closed file.");
  }
  EXPECT_TRUE(IsError(TextStream::Open(pipe.read_fd(), Reader())->Write("x"), ErrorType::OSError()));
}

TEST_F(TextStreamTest, AReaderThatWaitsWhileTheStreamIsClosedIsRefused) {
  static std::atomic<int> detached{0};
  static std::atomic<bool> served{false};
  static TextStream* stream_of_waiter = nullptr;
  static int input = -1;
  static thread_local bool is_waiter = false;
  struct Hooks {
    static bool Detach() {
      ++detached;
      if (!std::exchange(is_waiter, false)) return true;
      // Between the attempt to take the lock and the wait for it: the owner finishes, and the stream is closed.
      const std::string lines = "first\nsecond\n";
      EXPECT_EQ(::write(input, lines.data(), lines.size()), static_cast<ssize_t>(lines.size()));
      while (!served) std::this_thread::yield();
      EXPECT_TRUE(stream_of_waiter->Close().ok());
      return true;
    }
    static void Attach() {}
  };
  static constexpr StreamHooks kHooks{&Hooks::Detach, &Hooks::Attach};
  for (const bool whole : {false, true}) {
    detached = 0;
    served = false;
    Pipe pipe;
    TextStream::Options options = Reader();
    options.hooks = &kHooks;
    Ref<TextStream> stream = TextStream::Open(pipe.read_fd(), options);
    stream_of_waiter = stream.get();
    input = pipe.write_fd();
    std::thread owner([&] {
      EXPECT_EQ(stream->ReadLine().value(), "first\n");
      served = true;
    });
    while (detached == 0) std::this_thread::yield();  // it has the lock
    std::thread waiter([&] {
      is_waiter = true;
      const absl::Status status = whole ? stream->Read().status() : stream->ReadLine().status();
      EXPECT_TRUE(IsError(status, ErrorType::ValueError())) << status;
      EXPECT_EQ(status.message(), "I/O operation on closed file.");
    });
    owner.join();
    pipe.CloseWrite();
    waiter.join();
  }
}

TEST_F(TextStreamTest, ReadsLinesAcrossChunksAndBadBytes) {
  Pipe pipe;
  TextStream::Options options = Reader();
  options.errors = TextErrors::kSurrogateEscape;
  Ref<TextStream> stream = TextStream::Open(pipe.read_fd(), options);
  const std::string text = "first\n" + std::string(20000, 'y') + "\nbad\x80\nend";
  std::thread writer([&] {
    EXPECT_EQ(::write(pipe.write_fd(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    pipe.CloseWrite();
  });
  EXPECT_EQ(stream->ReadLine().value(), "first\n");
  EXPECT_EQ(stream->ReadLine().value(), std::string(20000, 'y') + "\n");
  EXPECT_EQ(stream->ReadLine().value(), "bad\xed\xb2\x80\n");
  EXPECT_EQ(stream->ReadLine().value(), "end");
  EXPECT_EQ(stream->ReadLine().value(), "");
  writer.join();
}

TEST_F(TextStreamTest, AttributesAndMethods) {
  Pipe pipe;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), Writer());
  EXPECT_EQ(stream->Repr().value(), "<_io.TextIOWrapper name='<stdout>' mode='w' encoding='utf-8'>");
  EXPECT_EQ(As<String>(stream->GetAttr("errors").value())->value(), "strict");
  EXPECT_EQ(stream->GetAttr("fileno").value()->Call({}).value()->Repr().value(),
            std::to_string(pipe.write_fd()));
  const std::vector<Ref<Object>> text{String::Of("h\xc3\xa9")};
  EXPECT_EQ(stream->GetAttr("write").value()->Call(text).value(), Int::Of(2)) << "characters, not bytes";
  const std::vector<Ref<Object>> number{Int::Of(1)};
  EXPECT_EQ(stream->GetAttr("write").value()->Call(number).status().message(),
            "write() argument must be str, not int");
  ASSERT_TRUE(stream->GetAttr("flush").value()->Call({}).ok());
  EXPECT_EQ(pipe.Take(), "h\xc3\xa9");
  EXPECT_TRUE(IsError(stream->GetAttr("nothing").status(), ErrorType::AttributeError()));
}

// Threads that run at once in both builds: the stream's own state is guarded by its lock, and nobody counts
// references here.
TEST_F(TextStreamTest, NoInterleavingInsideOneWrite) {
  constexpr int kThreads = 8;
  constexpr int kLines = 400;
  Pipe pipe;
  TextStream::Options options = Writer();
  options.buffer_size = 64;  // flushes, direct writes and appends all occur
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  std::string all;
  std::thread reader([&] { all = pipe.TakeUntilClosed(); });
  std::vector<std::thread> writers;
  for (int t = 0; t < kThreads; ++t) {
    writers.emplace_back([&, t] {
      for (int i = 0; i < kLines; ++i) {
        const std::string line(static_cast<size_t>(1 + (i * 7 + t) % 150), static_cast<char>('a' + t));
        ASSERT_TRUE(stream->Write(line + "\n").ok());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  ASSERT_TRUE(stream->Flush().ok());
  pipe.CloseWrite();
  reader.join();
  std::map<char, int> lines;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = all.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    const std::string line = all.substr(begin, end - begin);
    ASSERT_EQ(line, std::string(line.size(), line[0])) << "two writes were mixed";
    ++lines[line[0]];
    begin = end + 1;
  }
  for (int t = 0; t < kThreads; ++t) EXPECT_EQ(lines[static_cast<char>('a' + t)], kLines);
}

bool Always() { return true; }

// Hooks that count, and say whether somebody attached while holding the lock.
struct Recorder {
  static inline std::atomic<int> detached{0};
  static inline std::atomic<bool> finalizing{false};
  static bool Detach() {
    ++detached;
    return true;
  }
  static void Attach() { --detached; }
  static bool IsFinalizing() { return finalizing; }
  static constexpr StreamHooks kHooks{&Detach, &Attach, nullptr, &IsFinalizing, nullptr};
};

TEST_F(TextStreamTest, DetachesForSystemCallsOnly) {
  static int calls = 0;
  struct Counting {
    static bool Detach() { return ++calls > 0; }
    static void Attach() {}
  };
  static constexpr StreamHooks kHooks{&Counting::Detach, &Counting::Attach, nullptr, nullptr, nullptr};
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(stream->Write("buffered\n").ok());
  EXPECT_EQ(calls, 0) << "an append to the buffer gives nothing away";
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(calls, 1);
}

// gh-129536: a daemon thread which may never attach again must not take the stream's lock along.
TEST_F(TextStreamTest, ThreadThatHangsOnAttachHoldsNothing) {
  static std::atomic<bool> hanging{false};
  static std::atomic<bool> release{false};
  static thread_local bool is_daemon = false;
  struct Hooks {
    static bool Detach() { return true; }
    static void Attach() {
      if (!is_daemon) return;
      hanging = true;
      while (!release) std::this_thread::yield();
    }
  };
  static constexpr StreamHooks kHooks{&Hooks::Detach, &Hooks::Attach, nullptr, nullptr, nullptr};
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  std::thread daemon([&] {
    is_daemon = true;
    (void)stream->Write("from the daemon\n");
    (void)stream->Flush();
  });
  while (!hanging) std::this_thread::yield();
  ASSERT_TRUE(stream->Write("from the main thread\n").ok());
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(pipe.Take(), "from the daemon\nfrom the main thread\n");
  release = true;
  daemon.join();
}

// LC-9: an owner that is stuck inside write(2) itself cannot be waited for for ever at shutdown.
TEST_F(TextStreamDeathTest, StuckOwnerAtShutdownIsFatalInBoundedTime) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Pipe pipe;
        TextStream::Options options = Writer();
        options.hooks = &Recorder::kHooks;
        Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
        std::thread stuck([&] { (void)stream->Write(std::string(1 << 20, 'x')); });
        while (Recorder::detached == 0) std::this_thread::yield();
        // The pipe is full when nothing more arrives; until then the owner merely works.
        Recorder::finalizing = true;
        (void)stream->Flush();
      },
      "_enter_buffered_busy: could not acquire lock for <_io.BufferedWriter name='<stdout>'> at interpreter "
      "shutdown, possibly due to daemon threads");
}

// A thread that has detached may find its interpreter gone; and only who is attached can be the finalizer.
TEST_F(TextStreamTest, LC9_WhetherTheRuntimeFinalizesIsAskedAttached) {
  static std::atomic<int> detached{0};
  static std::atomic<int> asked{0};
  static std::atomic<bool> asked_detached{false};
  static thread_local bool is_attached = true;
  struct Hooks {
    static bool Detach() {
      is_attached = false;
      ++detached;
      return true;
    }
    static void Attach() { is_attached = true; }
    static bool IsFinalizing() {
      if (!is_attached) asked_detached = true;
      ++asked;
      return false;
    }
  };
  static constexpr StreamHooks kHooks{&Hooks::Detach, &Hooks::Attach, nullptr, &Hooks::IsFinalizing, nullptr};
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  std::thread owner([&] { EXPECT_TRUE(stream->Write(std::string(1 << 20, 'x')).ok()); });
  while (detached == 0) std::this_thread::yield();
  std::thread waiter([&] { EXPECT_TRUE(stream->Flush().ok()); });
  while (asked == 0) std::this_thread::yield();
  std::thread reader([&] { (void)pipe.TakeUntilClosed(); });
  owner.join();
  waiter.join();
  pipe.CloseWrite();
  reader.join();
  EXPECT_FALSE(asked_detached);
}

// gh-129536: a signal that interrupts the write of a thread which runs no handlers is no reason to attach,
// because that may be for ever.
TEST_F(TextStreamTest, ThreadThatRunsNoHandlersDoesNotAttachWithTheLock) {
  static std::atomic<int> signals{0};
  static std::atomic<int> attached{0};
  static std::atomic<int> checked{0};
  struct Hooks {
    static bool Detach() { return true; }
    static void Attach() { ++attached; }
    static absl::Status CheckSignals() {
      ++checked;
      return absl::OkStatus();
    }
    static bool Never() { return false; }
  };
  static constexpr StreamHooks kNobody{&Hooks::Detach, &Hooks::Attach, &Hooks::CheckSignals, nullptr,
                                       nullptr};
  static constexpr StreamHooks kOther{&Hooks::Detach, &Hooks::Attach, &Hooks::CheckSignals, nullptr,
                                      &Hooks::Never};
  const InterruptingSignal signal([](int) { ++signals; });
  for (const StreamHooks* hooks : {&kNobody, &kOther}) {
    signals = attached = checked = 0;
    Pipe pipe;
    TextStream::Options options = Writer();
    options.hooks = hooks;
    Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
    const pthread_t self = ::pthread_self();
    std::thread helper([&] {
      while (signals < 100) {
        ::pthread_kill(self, SIGUSR1);
        std::this_thread::yield();
      }
      (void)pipe.TakeUntilClosed();
    });
    EXPECT_TRUE(stream->Write(std::string(1 << 20, 'x')).ok()) << "interrupted, and gone on with";
    EXPECT_EQ(checked, 0);
    EXPECT_EQ(attached, 1) << "at the end, without the lock";
    pipe.CloseWrite();
    helper.join();
  }
}

// B137: nor is it one for the thread that runs handlers, when another one ends the runtime.
TEST_F(TextStreamTest, B137_NoHandlerRunsForAThreadThatCouldNotAttach) {
  static std::atomic<int> asked{0};
  static std::atomic<int> attached{0};
  static std::atomic<int> checked{0};
  struct Hooks {
    static bool Detach() { return true; }
    static void Attach() { ++attached; }
    static absl::Status CheckSignals() {
      ++checked;
      return absl::OkStatus();
    }
    static bool MayAttach() { return ++asked <= 5; }
  };
  static constexpr StreamHooks kHooks{&Hooks::Detach, &Hooks::Attach, &Hooks::CheckSignals,
                                      nullptr,        &Always,        &Hooks::MayAttach};
  const InterruptingSignal signal;
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  const pthread_t self = ::pthread_self();
  std::thread helper([&] {
    while (asked < 10 && checked < 10) {
      ::pthread_kill(self, SIGUSR1);
      std::this_thread::yield();
    }
    (void)pipe.TakeUntilClosed();
  });
  EXPECT_TRUE(stream->Write(std::string(1 << 20, 'x')).ok()) << "interrupted, and gone on with";
  EXPECT_EQ(checked, 5);
  EXPECT_EQ(attached, 6) << "and at the end, without the lock";
  pipe.CloseWrite();
  helper.join();
}

TEST_F(TextStreamTest, SignalHandlerThatUsesTheStreamIsStopped) {
  static TextStream* stream_of_handler = nullptr;
  static std::string text;
  static std::atomic<bool> ran{false};
  struct Hooks {
    static absl::Status CheckSignals() {
      text = ErrorFromStatus(stream_of_handler->Write("from the handler"))->Message();
      ran = true;
      return absl::OkStatus();
    }
  };
  static constexpr StreamHooks kHooks{nullptr, nullptr, &Hooks::CheckSignals, nullptr, &Always};
  const InterruptingSignal signal;
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  stream_of_handler = stream.get();
  const pthread_t self = ::pthread_self();
  std::string all;
  std::thread helper([&] {
    while (!ran) {
      ::pthread_kill(self, SIGUSR1);
      std::this_thread::yield();
    }
    all = pipe.TakeUntilClosed();
  });
  EXPECT_TRUE(stream->Write(std::string(1 << 20, 'x')).ok()) << "the write goes on after the handler";
  pipe.CloseWrite();
  helper.join();
  EXPECT_EQ(all.size(), size_t{1} << 20);
  EXPECT_EQ(text, "reentrant call inside <_io.BufferedWriter name='<stdout>'>");
}

TEST_F(TextStreamTest, FailingSignalHandlerEndsTheWrite) {
  static std::atomic<bool> ran{false};
  struct Hooks {
    static absl::Status CheckSignals() {
      ran = true;
      return ToStatus(Error::New(ErrorType::KeyboardInterrupt(), std::vector<Ref<Object>>{}));
    }
  };
  static constexpr StreamHooks kHooks{nullptr, nullptr, &Hooks::CheckSignals, nullptr, &Always};
  const InterruptingSignal signal;
  Pipe pipe;
  TextStream::Options options = Reader();
  options.hooks = &kHooks;
  Ref<TextStream> stream = TextStream::Open(pipe.read_fd(), options);
  const pthread_t self = ::pthread_self();
  std::thread helper([&] {
    while (!ran) {
      ::pthread_kill(self, SIGUSR1);
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(IsError(stream->ReadLine().status(), ErrorType::KeyboardInterrupt()));
  helper.join();
}

TEST_F(TextStreamTest, ForkedChildCanUseAStreamThatAnotherThreadHeld) {
  static std::atomic<bool> stuck{false};
  struct Hooks {
    static bool Detach() {
      stuck = true;
      return true;
    }
    static void Attach() {}
  };
  static constexpr StreamHooks kHooks{&Hooks::Detach, &Hooks::Attach, nullptr, nullptr, nullptr};
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  options.buffer_size = size_t{1} << 20;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(stream->Write(std::string(1 << 20, 'x')).ok());
  std::thread writer([&] { EXPECT_TRUE(stream->Flush().ok()); });
  while (!stuck) std::this_thread::yield();
  const pid_t child = ForkProcess();
  if (child == 0) {
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    stream->ReinitAfterFork();
    // The pipe is full of the parent's bytes: only that the lock is free and the buffer empty is tried here.
    ::_exit(stream->buffered() == 0 && stream->Flush().ok() && stream->Write("child").ok() &&
                    stream->buffered() == 5
                ? 42
                : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  std::thread reader([&] { (void)pipe.TakeUntilClosed(); });
  writer.join();
  pipe.CloseWrite();
  reader.join();
}

// The lock's owner is detached after a flush, so nothing stops it at any point of changing the buffer: here where the
// string has copied itself to a larger block and still points to the old one.
TEST_F(TextStreamTest, ForkedChildLeavesAloneTheBufferThatAnotherThreadWasChanging) {
  static std::atomic<void*> old_block{nullptr};
  static std::atomic<bool> forked{false};
  Pipe pipe;
  TextStream::Options options = Writer();
  options.buffer_size = 100;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  ASSERT_TRUE(stream->Write(std::string(40, 'a')).ok());
  std::thread writer([&] {
    before_free = [](void* block) {
      old_block = block;
      while (!forked) std::this_thread::yield();
    };
    EXPECT_TRUE(stream->Write(std::string(90, 'b')).ok());
  });
  while (old_block == nullptr) std::this_thread::yield();
  EXPECT_EQ(pipe.Take(), std::string(40, 'a')) << "flushed, and the lock is still held";
  const pid_t child = ForkProcess();
  if (child == 0) {
    PlatformAfterForkInChild();
    ParkingLot::AfterForkInChild();
    before_free = [](void* block) {
      if (block == old_block) ::_exit(1);
    };
    stream->ReinitAfterFork();
    const bool empty = stream->buffered() == 0;
    const bool wrote = stream->Write(std::string(95, 'c')).ok() && stream->Flush().ok();
    ::_exit(empty && wrote && pipe.Take() == std::string(95, 'c') ? 42 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  forked = true;
  writer.join();
  ASSERT_TRUE(stream->Flush().ok());
  EXPECT_EQ(pipe.Take(), std::string(90, 'b'));
}

// A signal handler that runs inside a write forks: the write goes on in parent and child.
TEST_F(TextStreamTest, ForkedChildGoesOnWithTheWriteThatItsHandlerInterrupted) {
  constexpr size_t kSize = size_t{1} << 20;
  static TextStream* stream_of_handler = nullptr;
  static std::atomic<pid_t> child{-1};
  static bool whole = false;
  struct Hooks {
    static absl::Status CheckSignals() {
      if (child != -1) return absl::OkStatus();
      child = ForkProcess();
      if (child != 0) return absl::OkStatus();
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      stream_of_handler->ReinitAfterFork();
      // The pipe is the parent's to fill and to empty.
      ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), stream_of_handler->fd());
      whole = stream_of_handler->buffered() == kSize &&
              IsError(stream_of_handler->Write("from the handler"), ErrorType::RuntimeError());
      return absl::OkStatus();
    }
  };
  static constexpr StreamHooks kHooks{nullptr, nullptr, &Hooks::CheckSignals, nullptr, &Always};
  const InterruptingSignal signal;
  Pipe pipe;
  TextStream::Options options = Writer();
  options.hooks = &kHooks;
  options.buffer_size = 2 * kSize;
  Ref<TextStream> stream = TextStream::Open(pipe.write_fd(), options);
  stream_of_handler = stream.get();
  ASSERT_TRUE(stream->Write(std::string(kSize, 'x')).ok());
  const pthread_t self = ::pthread_self();
  std::string all;
  std::thread helper([&] {
    while (child == -1) {
      ::pthread_kill(self, SIGUSR1);
      std::this_thread::yield();
    }
    all = pipe.TakeUntilClosed();
  });
  const bool flushed = stream->Flush().ok();
  if (child == 0) {
    ::_exit(whole && flushed && stream->buffered() == 0 && stream->Write("free again").ok() ? 42 : 1);
  }
  EXPECT_TRUE(flushed);
  pipe.CloseWrite();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  helper.join();
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(all, std::string(kSize, 'x'));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
