#include "pyrt/testing/detsched/platform.h"

#include <unistd.h>

#include <cerrno>

#include "pyrt/runtime/config/check.h"
#include "pyrt/testing/detsched/internal/engine.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::internal::engine;
using detsched::internal::running;

// The clock and the options of code that runs outside of any schedule.
int64_t clock_outside = 1'000 * kNanosPerSecond;

uint32_t PlainRead32(const void* word) { return static_cast<const Atomic<uint32_t>*>(word)->load(kRelaxed); }

}  // namespace

namespace detsched::internal {

FutexResult FutexWait(const void* word, uint32_t expected, Deadline deadline, Site site) {
  if (running) return engine->FutexWait(word, expected, deadline, site);
  if (PlainRead32(word) != expected) return FutexResult::kChanged;
  PYRT_CHECK(deadline != kNoDeadline, "FutexWait",
             "called at %s:%d outside of Schedule::Run(), where nobody can wake the caller", site.file,
             site.line);
  if (engine != nullptr && deadline > engine->now()) {
    engine->AdvanceTime(deadline - engine->now());
  } else if (deadline > clock_outside) {
    clock_outside = deadline;
  }
  return FutexResult::kTimedOut;
}

int FutexWake(const void* word, int count, Site site) {
  return running ? engine->FutexWake(word, count, site) : 0;
}

}  // namespace detsched::internal

int64_t MonotonicNow() {
  if (running) return engine->MonotonicNow();
  return engine != nullptr ? engine->now() : clock_outside;
}

bool AsymmetricFence::IsAsymmetric() { return engine == nullptr || engine->options().membarrier; }

int UsableCpus() { return engine == nullptr ? 2 : engine->options().usable_cpus; }

// 0x100 for the body of a schedule and for code outside; never 0.
uint64_t CurrentThreadIdent() {
  return engine == nullptr || !engine->OnFiber() ? 0x100 : 0x200 + static_cast<uint64_t>(engine->current());
}

uint64_t CurrentNativeThreadId() { return engine == nullptr ? 1 : engine->NativeId(); }

int OsThread::Start(Body body, void* argument, size_t /*stack_size*/) {
  PYRT_CHECK(engine != nullptr, "OsThread::Start",
             "threads exist only in a schedule: see detsched::Explore()");
  const int id = engine->StartThread([body, argument] { body(argument); });
  if (id < 0) return EAGAIN;
  handle_ = static_cast<uint32_t>(id + 1) | static_cast<uint32_t>(engine->fiber(id).generation) << 8;
  return 0;
}

void OsThread::Join() {
  PYRT_CHECK(engine != nullptr && handle_ != 0, "OsThread::Join", "the thread was not started");
  engine->JoinThread(static_cast<int>(handle_ & 0xff) - 1, static_cast<uint8_t>(handle_ >> 8));
}

void OsThread::Detach() {
  PYRT_CHECK(engine != nullptr && handle_ != 0, "OsThread::Detach", "the thread was not started");
  engine->DetachThread(static_cast<int>(handle_ & 0xff) - 1, static_cast<uint8_t>(handle_ >> 8));
}

void HangForever() {
  PYRT_CHECK(engine != nullptr, "HangForever", "called outside of a schedule");
  engine->Hang();
}

pid_t ForkProcess() { return engine == nullptr ? ::fork() : engine->Fork(); }

void PlatformAfterForkInChild() {
  if (engine != nullptr) engine->ForgetNativeId();
}

}  // namespace pyrt::inline PYRT_VARIANT
