#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/seq_lock.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;

void ReadAndWrite(Schedule& schedule, int readers, int writers) {
  SeqLock lock;
  SeqLockCell<uint32_t> left{0}, right{0};
  detsched::Name(&lock, "lock");
  detsched::Name(&left, "left");
  detsched::Name(&right, "right");
  for (int i = 0; i < writers; ++i) {
    schedule.Spawn(i == 0 ? "writer" : "writer two", [&] {
      lock.WriteLock();
      left.Write(left.Read() + 1);
      right.Write(right.Read() + 1);
      lock.WriteUnlock();
    });
  }
  for (int i = 0; i < readers; ++i) {
    schedule.Spawn(i == 0 ? "reader" : "reader two", [&] {
      const uint32_t begin = lock.BeginRead();
      const uint32_t a = left.Read();
      const uint32_t b = right.Read();
      if (!lock.EndRead(begin)) return;
      DETSCHED_CHECK(a == b);
      DETSCHED_CHECK(2 * a == begin);  // the very version that was announced
    });
  }
  schedule.Run();
  DETSCHED_CHECK(left.Read() == static_cast<uint32_t>(writers) && right.Read() == left.Read());
  DETSCHED_CHECK(lock.sequence() == 2 * static_cast<uint32_t>(writers));
}

// A write that is abandoned does not disturb readers, and a later one does.
void Abandon(Schedule& schedule) {
  SeqLock lock;
  SeqLockCell<uint32_t> left{0}, right{0};
  schedule.Spawn("writer", [&] {
    lock.WriteLock();
    lock.WriteAbandon();
    lock.WriteLock();
    left.Write(1);
    right.Write(1);
    lock.WriteUnlock();
  });
  schedule.Spawn("reader", [&] {
    const uint32_t begin = lock.BeginRead();
    const uint32_t a = left.Read();
    const uint32_t b = right.Read();
    if (lock.EndRead(begin)) DETSCHED_CHECK(a == b);
  });
  schedule.Run();
  DETSCHED_CHECK(lock.sequence() == 2);
}

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> scenarios = {
      {"reader_and_writer", Options::Exhaustive(3), [](Schedule& s) { ReadAndWrite(s, 1, 1); }},
      {"reader_and_two_writers", Options::Exhaustive(2), [](Schedule& s) { ReadAndWrite(s, 1, 2); }},
      {"abandon", Options::Exhaustive(3), Abandon},
  };
  AddSampled(scenarios, "two_readers_and_two_writers", [](Schedule& s) { ReadAndWrite(s, 2, 2); });
  return scenarios;
}

TEST(SeqLockScheduleTest, B016_TornReadIsNeverAccepted) { ExpectAllHold(Scenarios()); }

TEST(SeqLockScheduleTest, MutantsAreCaught) {
  for (const char* mutant : {"gh_121368_relaxed_read", "gh_121368_relaxed_write", "seq_unlock_is_relaxed",
                             "seq_begin_is_relaxed", "seq_begin_ignores_writer"}) {
    ExpectCaught(mutant, Scenarios());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
