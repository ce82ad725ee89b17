#include "pyrt/ceval_breaker/signals.h"

#include <errno.h>
#include <unistd.h>

#include <string>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

constexpr SignalHandler default_handler;
constexpr SignalHandler ignore_handler;

// The object that the operating system's handler reports to.
constinit Atomic<uintptr_t> installed_signals{0};

bool IsSignal(int number) { return number >= 1 && number < Signals::kCount; }

}  // namespace

const SignalHandler* const Signals::kDefault = &default_handler;
const SignalHandler* const Signals::kIgnore = &ignore_handler;

Signals::Signals(const Hooks& hooks) : hooks_(hooks) {
  for (Atomic<uintptr_t>& handler : handlers_) handler.store(ToWord(kDefault), kRelaxed);
}

Signals::~Signals() { RestoreDefaults(); }

void Signals::Trip(int number) {
  if (!IsSignal(number)) return;
  const int saved_errno = errno;
  // Before the load of main_, and seq_cst like the store and the waits in SetMainThread: either this load
  // sees the new word, or the wait sees this trip.
  Atomic<uint32_t>& in_flight = trips_in_flight_[trip_epoch_.load(kRelaxed)];
  in_flight.fetch_add(1, kSeqCst);
  if (PYRT_MUTANT(bpo_30038_wakeup_before_flag)) WakeUp(number);
  tripped_[static_cast<size_t>(number)].store(true, kSeqCst);
  Announce();
  if (!PYRT_MUTANT(bpo_30038_wakeup_before_flag)) WakeUp(number);
  in_flight.fetch_sub(1, kRelease);
  errno = saved_errno;
}

// That Run has something to do. Among trips_in_flight_.
void Signals::Announce() {
  // An exchange: a plain store would end the release sequence of the trip before it, whose tripped_ the scan
  // could then miss while it takes back the flag of both.
  if (PYRT_MUTANT(any_tripped_is_a_plain_store)) {
    any_tripped_.store(true, kSeqCst);
  } else {
    any_tripped_.exchange(true, kSeqCst);
  }
  if (EvalBreaker* main = reinterpret_cast<EvalBreaker*>(main_.load(kSeqCst))) {
    main->Set(BreakerEvent::kSignalsPending);
  }
}

void Signals::RaiseOnMainThread(BreakerEvent event) {
  Atomic<uint32_t>& in_flight = trips_in_flight_[trip_epoch_.load(kRelaxed)];
  in_flight.fetch_add(1, kSeqCst);  // as in Trip
  if (EvalBreaker* main = reinterpret_cast<EvalBreaker*>(main_.load(kSeqCst))) main->Set(event);
  in_flight.fetch_sub(1, kRelease);
}

void Signals::WakeUp(int number) {
  const int fd = wakeup_fd_.load(kRelaxed);
  if (fd < 0) return;
  const uint8_t byte = static_cast<uint8_t>(number);
  ssize_t written;
  do {
    written = hooks_.write != nullptr ? hooks_.write(fd, &byte, 1) : ::write(fd, &byte, 1);
  } while (written < 0 && errno == EINTR);
  if (written >= 0) return;
  const bool full = errno == EAGAIN || errno == EWOULDBLOCK;
  if (full && !warn_on_full_buffer_.load(kRelaxed)) return;
  // Reporting allocates and runs code, so Run does it. CPython queues a pending call from here, the one
  // unsafe thing in its handler (EB-39).
  wakeup_error_.store(errno, kRelease);
  Announce();  // once more: the main thread may have run the signal already
}

absl::Status Signals::RunSlow(EvalBreaker& self) {
  // Before the scan: a signal that arrives during it trips again. An exchange, because it has to read the
  // store that it overwrites: that orders the scan after Trip's store to tripped_.
  if (!PYRT_MUTANT(any_tripped_cleared_after_scan)) any_tripped_.exchange(false, kSeqCst);
  ReportWakeupError();
  for (int number = 1; number < kCount; ++number) {
    Atomic<bool>& tripped = tripped_[static_cast<size_t>(number)];
    if (!tripped.load(kRelaxed)) continue;
    // Before the call, so that the signal may come again while its handler runs.
    tripped.exchange(false, kSeqCst);
    const SignalHandler* const handler = GetHandler(number);
    if (handler->call == nullptr) {
      if (hooks_.ignored != nullptr) hooks_.ignored(hooks_.context, number);
      continue;
    }
    absl::Status status = handler->call(handler->context, number);
    if (!status.ok()) {
      if (PYRT_MUTANT(failing_signal_handler_loses_the_rest)) return status;
      any_tripped_.exchange(true, kSeqCst);  // as in Announce
      self.Set(BreakerEvent::kSignalsPending);
      return status;
    }
  }
  if (PYRT_MUTANT(any_tripped_cleared_after_scan)) any_tripped_.store(false, kSeqCst);
  return absl::OkStatus();
}

void Signals::ReportWakeupError() {
  if (wakeup_error_.load(kRelaxed) == 0) return;
  const int error = wakeup_error_.exchange(0, kAcquire);
  if (error != 0 && hooks_.wakeup_failed != nullptr) hooks_.wakeup_failed(hooks_.context, error);
}

void Signals::SetMainThread(EvalBreaker* main) {
  main_.store(reinterpret_cast<uintptr_t>(main), kSeqCst);
  if (!PYRT_MUTANT(eb_41_no_wait_for_trips)) WaitForTrips();
  if (PYRT_MUTANT(set_main_thread_forgets_tripped)) return;
  if (main != nullptr && any_tripped_.load(kSeqCst)) main->Set(BreakerEvent::kSignalsPending);
}

void Signals::WaitForTrips() {
  // One counter would never be seen at zero in a storm. Two epochs: new trips count in the other one, so each
  // wait is for a few that are under way. Both are waited for, because a trip may have read the epoch long
  // ago. Acquire (in seq_cst) pairs with the last fetch_sub: the old word is not touched any more. A handler
  // that interrupts this very loop ends before it goes on.
  for (int turn = 0; turn < 2; ++turn) {
    const uint32_t epoch = trip_epoch_.load(kRelaxed);
    trip_epoch_.store(epoch ^ 1, kRelaxed);
    while (trips_in_flight_[epoch].load(kSeqCst) != 0) YieldCpu();
  }
}

const SignalHandler* Signals::SetHandler(int number, const SignalHandler* handler) {
  PYRT_CHECK(IsSignal(number), "Signals::SetHandler", "signal number %d is not in 1 ... %d", number,
             kCount - 1);
  PYRT_CHECK(handler != nullptr, "Signals::SetHandler",
             "null handler for signal %d: pass Signals::kDefault or Signals::kIgnore", number);
  Atomic<uintptr_t>& slot = handlers_[static_cast<size_t>(number)];
  return reinterpret_cast<const SignalHandler*>(slot.exchange(ToWord(handler), kAcqRel));
}

const SignalHandler* Signals::GetHandler(int number) const {
  if (!IsSignal(number)) return kDefault;
  return reinterpret_cast<const SignalHandler*>(handlers_[static_cast<size_t>(number)].load(kAcquire));
}

int Signals::SetInterrupt(int number) {
  if (!IsSignal(number)) return -1;
  // By address only: the handler may be on its way out on the main thread, and freed.
  const SignalHandler* const handler = GetHandler(number);
  if (handler != kDefault && handler != kIgnore) Trip(number);
  return 0;
}

int Signals::SetWakeupFd(int fd, bool warn_on_full_buffer) {
  warn_on_full_buffer_.store(warn_on_full_buffer, kRelaxed);
  return wakeup_fd_.exchange(fd < 0 ? -1 : fd, kAcqRel);
}

void Signals::OsHandler(int number) {
  const int saved_errno = errno;
  if (Signals* signals = reinterpret_cast<Signals*>(installed_signals.load(kAcquire))) signals->Trip(number);
  errno = saved_errno;
}

absl::Status Signals::InstallOsHandler(int number) {
  if (!IsSignal(number)) {
    return absl::InvalidArgumentError("signal number " + std::to_string(number) + " out of range; use 1 to " +
                                      std::to_string(kCount - 1));
  }
  uintptr_t expected = 0;
  const uintptr_t me = reinterpret_cast<uintptr_t>(this);
  if (!installed_signals.compare_exchange_strong(expected, me, kAcqRel, kAcquire) && expected != me) {
    return absl::FailedPreconditionError(
        "another Signals object of this process has installed handlers; call its RestoreDefaults() first");
  }
  struct sigaction action = {};
  action.sa_handler = &OsHandler;
  action.sa_flags = SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  if (::sigaction(number, &action, nullptr) != 0) {
    return absl::InvalidArgumentError("the system refuses a handler for signal " + std::to_string(number) +
                                      " (errno " + std::to_string(errno) + ")");
  }
  installed_[static_cast<size_t>(number)] = true;
  return absl::OkStatus();
}

void Signals::RestoreDefaults() {
  for (int number = 1; number < kCount; ++number) {
    if (!installed_[static_cast<size_t>(number)]) continue;
    ::signal(number, SIG_DFL);
    installed_[static_cast<size_t>(number)] = false;
  }
  for (Atomic<uintptr_t>& handler : handlers_) handler.store(ToWord(kDefault), kRelease);
  uintptr_t me = reinterpret_cast<uintptr_t>(this);
  installed_signals.compare_exchange_strong(me, 0, kAcqRel, kRelaxed);
  WaitForTrips();  // of this object; one that has just read installed_signals is excluded by the caller
}

void Signals::ForgetTripped() {
  any_tripped_.store(false, kRelaxed);  // first: a signal that comes now sets it again
  for (Atomic<bool>& tripped : tripped_) tripped.store(false, kRelaxed);
  wakeup_error_.store(0, kRelaxed);
}

void Signals::Forget() {
  ForgetTripped();
  SetWakeupFd(-1);
}

void Signals::AfterForkInChild(EvalBreaker* main) {
  for (Atomic<uint32_t>& in_flight : trips_in_flight_) in_flight.store(0, kRelaxed);
  // The bit first: a signal to the child itself sets it again.
  if (main != nullptr) main->Clear(BreakerEvent::kSignalsPending);
  ForgetTripped();
  SetMainThread(main);
}

}  // namespace pyrt::inline PYRT_VARIANT
