#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/sync/internal/schedule_test_util.h"
#include "pyrt/runtime/sync/platform.h"
#include "pyrt/runtime/sync/rw_mutex.h"
#include "pyrt/runtime/sync/wait_hooks.h"
#include "pyrt/testing/detsched/scheduler.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::Options;
using detsched::Schedule;
using detsched::Watched;

void ReadAndWrite(Schedule& schedule, int readers, int writers, int turns, Watched watched = Watched::kNo) {
  static constexpr const char* kReaders[] = {"reader", "reader two", "reader three"};
  static constexpr const char* kWriters[] = {"writer", "writer two"};
  RwMutex mutex;
  Plain<int> left, right;
  int reading = 0;  // changed between two scheduling points
  int writing = 0;
  detsched::Name(&mutex, "mutex");
  if (watched == Watched::kYes) {
    schedule.Invariant("readers or one writer, and the word says so", [&] {
      const uint64_t bits = mutex.bits();
      if (writing != 0) return writing == 1 && reading == 0 && (bits & 1) != 0;
      return static_cast<uint64_t>(reading) <= bits >> 2;
    });
  }
  for (int i = 0; i < readers; ++i) {
    schedule.Spawn(kReaders[i], [&, turns] {
      for (int turn = 0; turn < turns; ++turn) {
        const ReaderLock lock(mutex);
        ++reading;
        const int seen = left.Get();
        detsched::Point("reading");
        DETSCHED_CHECK(right.Get() == seen);
        --reading;
      }
    });
  }
  for (int i = 0; i < writers; ++i) {
    schedule.Spawn(kWriters[i], [&, turns] {
      for (int turn = 0; turn < turns; ++turn) {
        const WriterLock lock(mutex);
        ++writing;
        left.Set(left.Get() + 1);
        detsched::Point("writing");
        right.Set(right.Get() + 1);
        --writing;
      }
    });
  }
  schedule.Run();
  DETSCHED_CHECK(left.Get() == writers * turns);
  DETSCHED_CHECK(mutex.bits() == 0);
}

std::vector<Scenario> Scenarios() {
  const auto mishaps = [](Options& options) { options.weak_cas_failures = 1; };
  std::vector<Scenario> scenarios = {
      {"reader_and_writer", Options::Exhaustive(3), [](Schedule& s) { ReadAndWrite(s, 1, 1, 1); }},
      {"two_writers", Options::Exhaustive(3), [](Schedule& s) { ReadAndWrite(s, 0, 2, 1); }},
      {"two_readers_and_writer", Options::Exhaustive(2), [](Schedule& s) { ReadAndWrite(s, 2, 1, 1); }},
      {"reader_and_two_writers", Options::Exhaustive(2), [](Schedule& s) { ReadAndWrite(s, 1, 2, 1); }},
  };
  AddSampled(
      scenarios, "crowd", [](Schedule& s) { ReadAndWrite(s, 2, 2, 2, Watched::kYes); }, mishaps);
  return scenarios;
}

TEST(RwMutexScheduleTest, B014_ExcludesAndForgetsNobody) { ExpectAllHold(Scenarios()); }

TEST(RwMutexScheduleTest, MutantsAreCaught) {
  for (const char* mutant :
       {"rw_read_unlock_is_relaxed", "rw_reader_ignores_writer", "rw_writer_clears_has_parked",
        "rw_last_reader_forgets_wake", "rw_write_unlock_forgets_wake"}) {
    ExpectCaught(mutant, Scenarios());
  }
}

// Readers that come again and again while a writer sleeps: who asks after the writer was queued waits for it.
void WriterBesideReaders(Schedule& schedule, int readers, int turns) {
  static constexpr const char* kReaders[] = {"reader", "reader two", "reader three"};
  RwMutex mutex;
  bool queued = false;   // the writer, between two scheduling points
  bool written = false;  // and it has had its turn
  detsched::Name(&mutex, "mutex");
  for (int i = 0; i < readers; ++i) {
    schedule.Spawn(kReaders[i], [&, turns] {
      for (int turn = 0; turn < turns; ++turn) {
        const bool behind_the_writer = queued;
        const ReaderLock lock(mutex);
        DETSCHED_CHECK(!behind_the_writer || written);
      }
    });
  }
  schedule.Spawn("writer", [&] {
    WaitHooks hooks;
    hooks.context = &queued;
    hooks.before_park = [](void* is_queued) { *static_cast<bool*>(is_queued) = true; };
    hooks.after_park = [](void*) {};
    const WriterLock lock(mutex, &hooks);
    written = true;
  });
  schedule.Run();
  DETSCHED_CHECK(written && mutex.bits() == 0);
}

std::vector<Scenario> FairnessScenarios() {
  Options trio = Options::Exhaustive(2);
  trio.max_schedules = 400'000;
  std::vector<Scenario> scenarios = {
      {"one_reader", Options::Exhaustive(3), [](Schedule& s) { WriterBesideReaders(s, 1, 3); }},
      {"two_readers", trio, [](Schedule& s) { WriterBesideReaders(s, 2, 2); }},
  };
  AddSampled(scenarios, "three_readers", [](Schedule& s) { WriterBesideReaders(s, 3, 3); });
  return scenarios;
}

TEST(RwMutexScheduleTest, B015_NobodyStartsReadingWhileAWriterSleeps) { ExpectAllHold(FairnessScenarios()); }

TEST(RwMutexScheduleTest, AReaderThatOvertakesIsNoticed) {
  ExpectCaught("rw_reader_ignores_sleepers", FairnessScenarios());
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
