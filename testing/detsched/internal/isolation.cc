#include "pyrt/testing/detsched/internal/isolation.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/sanitizers.h"

namespace pyrt::inline PYRT_VARIANT::detsched::internal {
namespace {

// The part of a Result that is plain data, and the lengths of the texts that follow it.
struct Header {
  Failure failure;
  bool complete;
  uint64_t schedules, pruned, steps, diverged, seed, turns;
  int fibers;
  double seconds, guaranteed;
  size_t sizes[4];
};

bool WriteAll(int fd, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(fd, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

bool ReadAll(int fd, void* data, size_t size) {
  char* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = ::read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

bool Send(int fd, const Result& result) {
  Header header{};
  header.failure = result.failure;
  header.complete = result.complete;
  header.schedules = result.schedules;
  header.pruned = result.pruned;
  header.steps = result.steps;
  header.diverged = result.diverged;
  header.seed = result.seed;
  header.seconds = result.seconds;
  header.fibers = result.fibers;
  header.turns = result.turns;
  header.guaranteed = result.guaranteed;
  const std::string* const texts[] = {&result.message, &result.trace, &result.report, &result.rest};
  for (int i = 0; i < 4; ++i) header.sizes[i] = texts[i]->size();
  bool sent = WriteAll(fd, &header, sizeof(header));
  for (const std::string* text : texts) sent = sent && WriteAll(fd, text->data(), text->size());
  return sent;
}

bool Receive(int fd, Result* result) {
  Header header;
  if (!ReadAll(fd, &header, sizeof(header))) return false;
  result->failure = header.failure;
  result->complete = header.complete;
  result->schedules = header.schedules;
  result->pruned = header.pruned;
  result->steps = header.steps;
  result->diverged = header.diverged;
  result->seed = header.seed;
  result->seconds = header.seconds;
  result->fibers = header.fibers;
  result->turns = header.turns;
  result->guaranteed = header.guaranteed;
  std::string* const texts[] = {&result->message, &result->trace, &result->report, &result->rest};
  for (int i = 0; i < 4; ++i) {
    texts[i]->resize(header.sizes[i]);
    if (!ReadAll(fd, texts[i]->data(), header.sizes[i])) return false;
  }
  return true;
}

// ---- Crashes

#if PYRT_ASAN
constexpr int kCrashSignals[] = {SIGABRT};  // of the others AddressSanitizer tells us when it has reported
#else
constexpr int kCrashSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
#endif
constexpr size_t kSignalStack = 64 * 1024;

std::function<void()> crash_callback;
struct sigaction previous_actions[std::size(kCrashSignals)];

void CallOnce() {
  if (const std::function<void()> callback = std::exchange(crash_callback, nullptr)) callback();
}

// Not async-signal-safe, what it calls allocates. It is the last that this process does, and mostly it works.
void HandleCrash(int signal) {
  CallOnce();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

CrashHandler::CrashHandler(std::function<void()> callback) {
  crash_callback = std::move(callback);
#if PYRT_ASAN
  __sanitizer_set_death_callback(&CallOnce);
#endif
  // A fiber that overflows its stack has none left for the handler.
  static char* const stack = new char[kSignalStack];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = kSignalStack;
  ::sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_handler = &HandleCrash;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (size_t i = 0; i < std::size(kCrashSignals); ++i) {
    ::sigaction(kCrashSignals[i], &action, &previous_actions[i]);
  }
}

CrashHandler::~CrashHandler() {
  crash_callback = nullptr;
  for (size_t i = 0; i < std::size(kCrashSignals); ++i) {
    ::sigaction(kCrashSignals[i], &previous_actions[i], nullptr);
  }
}

Result RunIsolated(const std::function<void(const std::function<void(const Result&)>& report)>& explore) {
  int fds[2];
  PYRT_CHECK(::pipe(fds) == 0, "detsched::Explore", "no pipe: %s", std::strerror(errno));
  std::fflush(nullptr);
  const pid_t child = ::fork();
  PYRT_CHECK(child >= 0, "detsched::Explore", "cannot fork: %s", std::strerror(errno));
  if (child == 0) {
    ::close(fds[0]);
    explore([&](const Result& result) {
      const bool sent = Send(fds[1], result);
      std::fflush(nullptr);
      ::_exit(sent ? 0 : 1);
    });
  }
  ::close(fds[1]);
  Result result;
  const bool received = Receive(fds[0], &result);
  ::close(fds[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!received) {
    result = Result{};
    result.failure = Failure::kCrash;
    result.message = WIFSIGNALED(status)
                         ? std::string("the isolated process died: ") + ::strsignal(WTERMSIG(status))
                         : "the isolated process ended with status " + std::to_string(WEXITSTATUS(status));
    result.report = "detsched: crash: " + result.message + "\n";
  }
  return result;
}

}  // namespace pyrt::inline PYRT_VARIANT::detsched::internal
