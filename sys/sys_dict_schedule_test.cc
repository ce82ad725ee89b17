// The dictionary of sys on the deterministic scheduler: readers without a lock beside writers that replace, delete
// and grow. What a reader finds is whole, and alive for as long as it holds it (gh-130163).

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/gil/gil.h"
#include "pyrt/runtime/object/object.h"
#include "pyrt/sys/sys_dict.h"
#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/thread_registry.h"
#include "pyrt/tstate/thread_state.h"

namespace pyrt::inline PYRT_VARIANT {

// Dictionaries of few slots, and what their tables hold.
class SysDictTestPeer {
 public:
  static std::unique_ptr<SysDict> New(size_t capacity) {
    return std::unique_ptr<SysDict>(new SysDict(capacity));
  }
  // Between two steps: every entry is the one that is found by its name, so that none is there twice or out of reach,
  // and at most a half of the slots are used, so that a search ends.
  static bool EachNameIsFoundOnce(const SysDict& dict) {
    const SysDict::Table& table = *dict.table_.load(kRelaxed);
    size_t used = 0;
    for (const Atomic<SysDict::Entry*>& slot : table.slots) {
      const SysDict::Entry* const entry = slot.load(kRelaxed);
      if (entry == nullptr) continue;
      if (++used > (table.mask + 1) / 2 || dict.FindEntry(entry->name) != entry) return false;
    }
    return true;
  }
};

namespace {

using detsched::ExpectPct;
using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;
using detsched::Watched;

// Says what it is for as long as it lives: its end is a write, so a reader that has it without a reference races.
class Value : public Object {
 public:
  Value(int number, Atomic<int>* living) : living_(living) {
    number_.Set(number);
    living_->fetch_add(1, kRelaxed);
  }
  const char* TypeName() const override { return "Value"; }
  int number() const { return number_.Get(); }

 protected:
  ~Value() override {
    number_.Set(-1);
    living_->fetch_sub(1, kRelaxed);
  }

 private:
  Plain<int> number_;
  Atomic<int>* const living_;
};

constexpr SysName kOut("stdout");
constexpr SysName kFresh("fresh");
constexpr size_t kFewSlots = 8;
constexpr size_t kShippedSlots = 256;

struct World {
  World(Schedule& s, Watched watched, size_t capacity = kFewSlots)
      : threads({.registry = &registry, .gil = &gil}), dict(SysDictTestPeer::New(capacity)) {
    detsched::Name(&dict, "dict");
    if (watched == Watched::kNo) return;
    s.Invariant("each name is in the table once, and what is only replaced never absent", [this] {
      if (!SysDictTestPeer::EachNameIsFoundOnce(*dict)) return false;
      for (const SysName& name : lasting) {
        if (!dict->Contains(name)) return false;
      }
      return true;
    });
  }

  void Set(SysName name, int number) { dict->Set(name, MakeRef<Value>(number, &living)); }
  // -1: there is none.
  int Read(SysName name) {
    const Ref<Object> found = dict->Find(name);
    if (found == nullptr) return -1;
    const int number = static_cast<Value&>(*found).number();
    detsched::Point("reading");
    DETSCHED_CHECK(static_cast<Value&>(*found).number() == number && number >= 0);
    return number;
  }
  template <typename Body>
  void Attached(Body body) {
    ThreadState* const thread = threads.NewBound();
    thread->Attach();
    body();
    InterpreterThreads::Clear(*thread);
    InterpreterThreads::DeleteCurrent();
  }
  // A poll of the loop: what was read before it is forgotten.
  static void Poll() { ThreadState::Current()->ReportQuiescent(); }
  // What was replaced goes when everybody has been quiescent; at the end nothing is left.
  void CheckNothingIsLost() {
    Attached([&] { dict.reset(); });
    threads.qsbr().Advance();
    Attached([] {});
    DETSCHED_CHECK(living.load(kRelaxed) == 0);
  }

  Atomic<int> living{0};
  ThreadRegistry registry;
  Gil gil;
  InterpreterThreads threads;
  std::unique_ptr<SysDict> dict;
  std::vector<SysName> lasting;  // names that nobody deletes any more
};

Options Base(Options options) {
  options.reset = [] { ThreadRegistry::SetAllocator(nullptr); };
  return options;
}

// Two preemptions without older values, or one with two of them: both together take minutes.
void ExpectEverySchedule(void (*body)(Schedule&)) {
  Options two_preemptions = Base(Options::Exhaustive(2));
  two_preemptions.stale_reads = 0;
  two_preemptions.usable_cpus = 1;
  ExpectComplete(Explore(two_preemptions, body));
  ExpectComplete(Explore(Base(Options::Exhaustive(1)), body));
}

// Readers beside a writer that replaces the entry, deletes it and puts in another.
template <int kReaders, Watched kWatched = Watched::kNo>
void ReadBesideWrite(Schedule& s) {
  World world(s, kWatched);
  world.Attached([&] { world.Set(kOut, 0); });
  for (int who = 0; who < kReaders; ++who) {
    s.Spawn("reader", [&] {
      world.Attached([&] {
        for (int i = 0; i < 2; ++i) {
          const int out = world.Read(kOut);
          DETSCHED_CHECK(out == -1 || out == 0 || out == 1);
          const int fresh = world.Read(kFresh);
          DETSCHED_CHECK(fresh == -1 || fresh == 2);
          World::Poll();
        }
      });
    });
  }
  s.Spawn("writer", [&] {
    world.Attached([&] {
      world.Set(kOut, 1);
      world.Set(kFresh, 2);
      world.lasting.push_back(kFresh);
      World::Poll();
      DETSCHED_CHECK(world.dict->Delete(kOut));
      World::Poll();
    });
  });
  s.Run();
  DETSCHED_CHECK(world.dict->size() == 1);
  world.CheckNothingIsLost();
}

TEST(SysDictScheduleTest, B120_ReadersBesideAWriter) {
  ExpectEverySchedule(ReadBesideWrite<1>);
  ExpectComplete(Explore(Base(Options::Exhaustive(1)), ReadBesideWrite<1, Watched::kYes>));
  ExpectOk(Explore(Base(Options::Random(4000)), ReadBesideWrite<1, Watched::kYes>));
  ExpectPct(ReadBesideWrite<1, Watched::kYes>, 10'000, Base);
}

TEST(SysDictScheduleTest, B120_ThreeReadersBesideAWriter) {
  ExpectPct(ReadBesideWrite<3, Watched::kYes>, 4000, Base);
}

// Writers of one name, each with another one of its own: nothing is lost, and each owned reference goes once.
template <int kWriters, Watched kWatched = Watched::kNo>
void Writers(Schedule& s) {
  static constexpr const char* kOwn[] = {"a", "b", "c", "d"};
  World world(s, kWatched);
  for (int who = 0; who < kWriters; ++who) {
    s.Spawn(kOwn[who], [&, who] {
      world.Attached([&] {
        world.Set(kOut, who);
        world.Set(kOwn[who], 10 * who);
        world.lasting.push_back(kOwn[who]);
        const int seen = world.Read(kOut);
        DETSCHED_CHECK(seen >= -1 && seen < kWriters);
        if (who == 1) world.dict->Delete(kOut);
      });
    });
  }
  s.Run();
  DETSCHED_CHECK(world.dict->size() == kWriters + (world.dict->Contains(kOut) ? 1u : 0u));
  for (int who = 0; who < kWriters; ++who) DETSCHED_CHECK(world.dict->Contains(kOwn[who]));
  world.CheckNothingIsLost();
}

TEST(SysDictScheduleTest, B120_TwoWriters) {
  ExpectEverySchedule(Writers<2>);
  ExpectPct(Writers<2, Watched::kYes>, 10'000, Base);
}

// More names than the table has room for, so that it grows under one of them.
TEST(SysDictScheduleTest, B120_FourWriters) { ExpectPct(Writers<4, Watched::kYes>, 4000, Base); }

// The table is full: the writer moves everything to a bigger one under the reader, but for the name that was deleted.
template <size_t kSlots, int kTurns, Watched kWatched = Watched::kNo>
void GrowBesideRead(Schedule& s) {
  World world(s, kWatched, kSlots);
  constexpr size_t kHalf = kSlots / 2;
  world.Attached([&] {
    for (size_t i = 0; i < kHalf; ++i) world.Set("name" + std::to_string(i), 3);
    world.dict->Delete("name1");
  });
  world.lasting.push_back("name0");
  s.Spawn("reader", [&] {
    world.Attached([&] {
      for (int i = 0; i < kTurns; ++i) {
        DETSCHED_CHECK(world.Read("name0") == 3);
        DETSCHED_CHECK(world.Read("name1") == -1);
        const int fresh = world.Read(kFresh);
        DETSCHED_CHECK(fresh == -1 || fresh == 4);
        World::Poll();
      }
    });
  });
  s.Spawn("writer", [&] {
    world.Attached([&] {
      world.Set(kFresh, 4);
      world.lasting.push_back(kFresh);
    });
  });
  s.Run();
  DETSCHED_CHECK(world.dict->capacity() == (kSlots == kShippedSlots ? 512 : 8));
  DETSCHED_CHECK(world.dict->size() == kHalf);
  world.CheckNothingIsLost();
}

TEST(SysDictScheduleTest, B120_GrowingUnderAReader) {
  ExpectEverySchedule(GrowBesideRead<4, 1>);
  ExpectComplete(Explore(Base(Options::Exhaustive(1)), GrowBesideRead<4, 1, Watched::kYes>));
  ExpectPct(GrowBesideRead<4, 3, Watched::kYes>, 4000, Base);
}

TEST(SysDictScheduleTest, B120_GrowingFromTheShippedSize) {
  ExpectOk(Explore(Base(Options::Random(400)), GrowBesideRead<kShippedSlots, 3>));
  ExpectPct(GrowBesideRead<kShippedSlots, 3>, 400, Base);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
