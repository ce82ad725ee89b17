#include "pyrt/runtime/sync/lock_rank.h"

#include <bit>

#include "pyrt/runtime/config/check.h"

namespace pyrt::inline PYRT_VARIANT {

const char* LockRankName(LockRank rank) {
  switch (rank) {
#define PYRT_RANK_NAME(name) \
  case LockRank::name:       \
    return #name
    PYRT_RANK_NAME(kStopTheWorldMutex);
    PYRT_RANK_NAME(kHeadLock);
    PYRT_RANK_NAME(kThreadHandle);
    PYRT_RANK_NAME(kQsbr);
    PYRT_RANK_NAME(kRefcountQueue);
    PYRT_RANK_NAME(kAudit);
    PYRT_RANK_NAME(kAtExit);
    PYRT_RANK_NAME(kExtensions);
    PYRT_RANK_NAME(kSysDict);
#undef PYRT_RANK_NAME
  }
  return "unknown rank";
}

namespace internal {

void LockRankViolation(LockRank wanted, uint64_t held) {
  const auto greatest = static_cast<LockRank>(63 - std::countl_zero(held));
  Fatal("LockRankAcquire",
        "lock order violated: taking %s while holding %s; take them in the order of lock_rank.h",
        LockRankName(wanted), LockRankName(greatest));
}

}  // namespace internal

void AssertNoRankedLockHeld(const char* function) {
  if constexpr (kDebug) {
    const uint64_t held = internal::held_lock_ranks;
    if (held == 0) return;
    Fatal(function, "called while holding %s",
          LockRankName(static_cast<LockRank>(63 - std::countl_zero(held))));
  }
}

}  // namespace pyrt::inline PYRT_VARIANT
