// GilHolder: what a Gil knows of a thread. A thread state embeds one; so does anything else that takes a Gil.

#ifndef PYRT_GIL_GIL_HOLDER_H_
#define PYRT_GIL_GIL_HOLDER_H_

#include <cstdint>

#include "pyrt/runtime/config/config.h"
#include "pyrt/runtime/sync/platform.h"

namespace pyrt::inline PYRT_VARIANT {

class Gil;
struct GilWaiter;

// A holder belongs to one thread and takes at most one Gil at a time. Before its memory goes away, every Gil
// that it ever took must be told (Gil::Forget), because a waiter may be about to ask it to drop.
//
// CPython counterpart: PyThreadState.holds_gil, gil_requested and the thread state as an argument of
// take_gil.
class GilHolder {
 public:
  // A waiter asks this holder to give the GIL away by setting `drop_request_bit` in `*drop_request_word`; the
  // holder polls that word and answers with Gil::Yield. The word must outlive the holder.
  constexpr GilHolder(Atomic<uintptr_t>* drop_request_word, uintptr_t drop_request_bit)
      : drop_request_word_(drop_request_word), drop_request_bit_(drop_request_bit) {}
  GilHolder(const GilHolder&) = delete;
  GilHolder& operator=(const GilHolder&) = delete;

  // Whether this thread holds the GIL: exact on the thread itself, a moment's truth elsewhere.
  bool holds() const { return hold_.load(kRelaxed) != kNone; }

  // Whether this thread is inside Gil::Take or Gil::Yield, for profilers. Never true together with holds()
  // for the thread itself (gh-142207).
  bool requesting() const { return requesting_.load(kRelaxed); }

  bool drop_requested() const { return (drop_request_word_->load(kRelaxed) & drop_request_bit_) != 0; }

 private:
  friend class Gil;
  friend struct GilWaiter;

  // How this thread holds the GIL. Written by the thread; a thread that revokes the bias reads it.
  enum Hold : uint32_t {
    kNone,
    kPlain,   // Gil::word_ is kHeld and names us through last_holder_
    kBiased,  // Gil::word_ is kBiased and Gil::bias_ is us: nothing but this word says that we hold it
  };

  Atomic<uint32_t> hold_{kNone};
  Atomic<bool> exiting_{
      false};  // set by Gil::RequestExit, never cleared: this thread may not hold the GIL again
  Atomic<bool> requesting_{false};
  Atomic<uintptr_t>* const drop_request_word_;
  const uintptr_t drop_request_bit_;

  // Guarded by the queue lock of the Gil in question.
  bool converted_ = false;       // our biased hold was revoked while it lasted and is a plain one now
  bool gave_up_forced_ = false;  // the last drop answered a request: no interactive credit for the next take
  GilWaiter* waiter_ = nullptr;  // our place in the queue
};

}  // namespace pyrt::inline PYRT_VARIANT

#endif  // PYRT_GIL_GIL_HOLDER_H_
