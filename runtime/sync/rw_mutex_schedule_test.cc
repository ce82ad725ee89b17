#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/rw_mutex.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;

void ReadAndWrite(Schedule& schedule, int readers, int writers, int turns) {
  static constexpr const char* kReaders[] = {"reader", "reader two", "reader three"};
  static constexpr const char* kWriters[] = {"writer", "writer two"};
  RwMutex mutex;
  Plain<int> left, right;
  detsched::Name(&mutex, "mutex");
  for (int i = 0; i < readers; ++i) {
    schedule.Spawn(kReaders[i], [&, turns] {
      for (int turn = 0; turn < turns; ++turn) {
        const ReaderLock lock(mutex);
        const int seen = left.Get();
        detsched::Point("reading");
        DETSCHED_CHECK(right.Get() == seen);
      }
    });
  }
  for (int i = 0; i < writers; ++i) {
    schedule.Spawn(kWriters[i], [&, turns] {
      for (int turn = 0; turn < turns; ++turn) {
        const WriterLock lock(mutex);
        left.Set(left.Get() + 1);
        detsched::Point("writing");
        right.Set(right.Get() + 1);
      }
    });
  }
  schedule.Run();
  DETSCHED_CHECK(left.Get() == writers * turns);
  DETSCHED_CHECK(mutex.bits() == 0);
}

std::vector<Scenario> Scenarios() {
  Options weak = Options::Pct(3, 20'000);
  weak.weak_cas_failures = 1;
  return {
      {"reader_and_writer", Options::Exhaustive(3), [](Schedule& s) { ReadAndWrite(s, 1, 1, 1); }},
      {"two_writers", Options::Exhaustive(3), [](Schedule& s) { ReadAndWrite(s, 0, 2, 1); }},
      {"two_readers_and_writer", Options::Exhaustive(2), [](Schedule& s) { ReadAndWrite(s, 2, 1, 1); }},
      {"reader_and_two_writers", Options::Exhaustive(2), [](Schedule& s) { ReadAndWrite(s, 1, 2, 1); }},
      {"crowd", weak, [](Schedule& s) { ReadAndWrite(s, 2, 2, 2); }},
  };
}

TEST(RwMutexScheduleTest, B014_ExcludesAndForgetsNobody) { ExpectAllHold(Scenarios()); }

TEST(RwMutexScheduleTest, MutantsAreCaught) {
  for (const char* mutant :
       {"rw_read_unlock_is_relaxed", "rw_reader_ignores_writer", "rw_writer_clears_has_parked",
        "rw_last_reader_forgets_wake", "rw_write_unlock_forgets_wake"}) {
    ExpectCaught(mutant, Scenarios());
  }
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
