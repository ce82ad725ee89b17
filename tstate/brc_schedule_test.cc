// The queues of references on the deterministic scheduler: who leaves, who queues and who takes over an ident.

#include <utility>

#include "gtest/gtest.h"

#include "pyrt/testing/detsched/expect.h"
#include "pyrt/testing/detsched/scheduler.h"
#include "pyrt/tstate/brc.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

using detsched::ExpectWalks;
using detsched::Explore;
using detsched::Failure;
using detsched::Options;
using detsched::Result;
using detsched::Schedule;

// A host's object. `local` is the owner's, and a race on it is two threads that merge.
struct Counted {
  Plain<int> local;
  Plain<int> owned;
  Atomic<int> shared{0};
  Atomic<int> destroyed{0};
};

bool MergeCounts(void*, void* object) {
  Counted& counted = *static_cast<Counted*>(object);
  const int local = counted.owned.Get() != 0 ? counted.local.Get() : 0;
  counted.owned.Set(0);
  counted.local.Set(0);
  return counted.shared.fetch_add(local - 1, kAcqRel) + local - 1 == 0;
}

void DestroyCounted(void*, void* object) { static_cast<Counted*>(object)->destroyed.fetch_add(1, kRelaxed); }

constexpr BrcHooks kHooks{.context = nullptr, .merge = &MergeCounts, .destroy = &DestroyCounted};

// One owner that polls once and leaves, and `givers` that each give up a reference to its one object. `watched`: while
// nobody is in a call of the owner's or a giver's, what was queued has its bit.
Result ExploreLeaving(Options options, int givers, bool watched = false) {
  return Explore(std::move(options), [givers, watched](Schedule& schedule) {
    Brc brc(kHooks);
    EvalBreaker breaker;
    BrcThread node;
    Counted object;
    object.owned.Set(1);
    object.local.Set(givers + 1);
    brc.Register(node, 1, breaker);
    int inside = 0;  // the model's, as what follows
    int queued = 0;
    if (watched) {
      schedule.Invariant("what was queued has its bit", [&] {
        return inside != 0 || queued == 0 || breaker.IsSet(BreakerEvent::kExplicitMerge);
      });
    }
    schedule.Spawn("owner", [&] {
      object.local.Set(object.local.Get() - 1);  // its own reference
      if (breaker.IsSet(BreakerEvent::kExplicitMerge)) {
        ++inside;
        breaker.Clear(BreakerEvent::kExplicitMerge);
        queued -= static_cast<int>(brc.MergeOwn(node));
        --inside;
      }
      ++inside;
      brc.Unregister(node);
      queued = 0;
      --inside;
    });
    for (int i = 0; i < givers; ++i) {
      schedule.Spawn(i == 0 ? "giver" : "other giver", [&] {
        ++inside;
        if (brc.Queue(1, &object) == Brc::QueueResult::kQueued && node.registered()) ++queued;
        --inside;
      });
    }
    schedule.Run();
    DETSCHED_CHECK(object.destroyed.load(kRelaxed) == 1);
    DETSCHED_CHECK(object.shared.load(kRelaxed) == 0);
    DETSCHED_CHECK(!node.registered());
  });
}

TEST(BrcScheduleTest, BR4_AnOwnerThatLeavesHasMergedEverything) {
  const Result result = ExploreLeaving(Options::Exhaustive(2), 1);
  ExpectComplete(result);
  ExpectComplete(ExploreLeaving(Options::Exhaustive(2), 2));
  ExpectComplete(ExploreLeaving(Options::Exhaustive(2), 1, /*watched=*/true));
  ExpectWalks([](const Options& options) { return ExploreLeaving(options, 3); }, 50'000);
  detsched::ScopedMutant mutant("brc_leaves_before_it_has_merged");
  const Result broken = ExploreLeaving(Options::Random(10'000), 2);
  EXPECT_EQ(broken.failure, Failure::kRace) << broken.report;
}

// The ident of a thread that is gone is used again while somebody merges in its place.
TEST(BrcScheduleTest, ANewOwnerOfTheIdentDoesNotMeetAMerge) {
  const Result result = Explore(Options::Exhaustive(2), [](Schedule& schedule) {
    Brc brc(kHooks);
    EvalBreaker breaker;
    BrcThread node;
    Counted object;
    object.owned.Set(1);
    object.local.Set(2);
    schedule.Spawn("heir", [&] {
      brc.Register(node, 1, breaker);
      if (object.owned.Get() != 0) object.local.Set(object.local.Get() + 1);
      brc.Unregister(node);
    });
    schedule.Spawn("giver", [&] { brc.Queue(1, &object); });
    schedule.Run();
    DETSCHED_CHECK(object.destroyed.load(kRelaxed) == 0);
    const int left = object.shared.load(kRelaxed);
    DETSCHED_CHECK(left == 1 || left == 2);
  });
  ExpectComplete(result);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
