// What a thread state has been through (ThreadStatus), and why it exists (Whence).
//
// The bits live in two words because two parties write them: the thread that the state is bound to, and the
// one that clears and deletes it, which at shutdown is another thread. CPython kept them in one bit-field and
// had to move some out (gh-117657, gh-121751). Each word has one writer at a time, so plain read-modify-write
// sequences are enough; anybody may read a moment's truth.
//
//   word       bit             set                              cleared
//   owner      bound           Bind                             never
//              bound_gilstate  it becomes slot B of its thread  when another state does, or it is deleted
//   lifecycle  initialized     creation                         never
//              finalizing      Clear begins                     never
//              cleared         Clear is done                    never
//              finalized       the state is deleted             never
//   (derived)  unbound         bound, and the state is deleted  never
//              active          attached                         detached
//              holds_gil       GilHolder::holds()
//
// CPython counterpart: PyThreadState._status, _whence.

#ifndef PYRT_TSTATE_THREAD_STATUS_H_
#define PYRT_TSTATE_THREAD_STATUS_H_

#include <cstdint>
#include <string>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

// The values are CPython's (_PyThreadState_WHENCE_*).
enum class Whence : int8_t {
  kNotSet = -1,
  kUnknown = 0,          // the public ThreadState::New
  kInit = 1,             // the first state of an interpreter
  kFini = 2,             // made to finalize an interpreter
  kThreading = 3,        // a thread of the runtime
  kCApi = 4,             // Ensure, on a foreign thread
  kExec = 5,             // temporary, to run code of one interpreter from another
  kThreadingDaemon = 6,  // a thread that finalization does not wait for
};

const char* WhenceName(Whence whence);

// A snapshot of the bits.
struct ThreadStatus {
  bool initialized = false;
  bool bound = false;
  bool unbound = false;
  bool bound_gilstate = false;
  bool active = false;
  bool holds_gil = false;
  bool finalizing = false;
  bool cleared = false;
  bool finalized = false;

  bool is_bound() const { return bound && !unbound; }                                     // TS-8
  bool is_alive() const { return initialized && !finalizing && !cleared && !finalized; }  // TS-7

  // "initialized|bound|active".
  std::string ToString() const;
};

namespace internal {

// One of the two words: written by one party at a time, read by anybody.
class StatusWord {
 public:
  bool Has(uint8_t bit) const { return (bits_.load(kRelaxed) & bit) != 0; }
  // Relaxed and not a read-modify-write: there is one writer.
  void Set(uint8_t bit) { bits_.store(static_cast<uint8_t>(bits_.load(kRelaxed) | bit), kRelaxed); }
  void Clear(uint8_t bit) { bits_.store(static_cast<uint8_t>(bits_.load(kRelaxed) & ~bit), kRelaxed); }

 private:
  Atomic<uint8_t> bits_{0};
};

enum OwnerBit : uint8_t { kBound = 1, kBoundGilState = 2 };
enum LifecycleBit : uint8_t { kInitialized = 1, kFinalizing = 2, kCleared = 4, kFinalized = 8 };

}  // namespace internal

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_TSTATE_THREAD_STATUS_H_
