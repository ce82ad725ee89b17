// References to objects of other threads, through an interpreter (GIL-disabled build).

#include <thread>
#include <utility>

#include "gtest/gtest.h"

#include "pyrt/interp/interpreter.h"
#include "pyrt/interp/interpreter_registry.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

struct Counted {
  uint64_t owner;
  int local;
  Atomic<int> shared{0};
  Atomic<bool> destroyed{false};
};

bool MergeCounts(void*, void* object) {
  Counted& counted = *static_cast<Counted*>(object);
  const int local = std::exchange(counted.local, 0);
  counted.owner = 0;
  return counted.shared.fetch_add(local - 1, kAcqRel) + local - 1 == 0;
}

void DestroyCounted(void*, void* object) {
  EXPECT_NE(ThreadState::Current(), nullptr);
  static_cast<Counted*>(object)->destroyed.store(true, kRelease);
}

class ReferencesTest : public testing::Test {
 public:
  void SetUp() override {
    if (kGilEnabled) GTEST_SKIP() << "references are counted under the GIL";
  }
  ReferencesTest() {
    registry.Enable();
    registry.set_hooks(
        {.references = {.context = nullptr, .merge = &MergeCounts, .destroy = &DestroyCounted}});
    main = *registry.New(nullptr, InterpreterConfig::Main(), InterpreterWhence::kRuntime);
    thread = main->threads().NewBound(Whence::kInit);
    thread->Attach();
  }
  ~ReferencesTest() override {
    main->Clear(*thread);
    registry.Delete(main);
  }

  // A thread of `main` that runs `body` attached.
  template <typename Body>
  std::jthread StartThread(Body body) {
    return std::jthread([this, body] {
      ThreadState* const self = main->threads().NewBound();
      self->Attach();
      body(*self);
      InterpreterThreads::Clear(*self);
      InterpreterThreads::DeleteCurrent();
    });
  }
  template <typename Condition>
  void Until(Condition holds) {
    DetachedScope detached;
    while (!holds()) std::this_thread::yield();
  }

  InterpreterRegistry registry;
  Interpreter* main;
  ThreadState* thread;
};

TEST_F(ReferencesTest, BR2_TheOwnerMergesAtAPoll) {
  Atomic<uint64_t> owner{0};
  Counted object{.owner = 0, .local = 1, .shared = {}, .destroyed = {}};
  std::jthread other = StartThread([&](ThreadState& self) {
    owner.store(CurrentThreadIdent(), kRelease);
    while (!object.destroyed.load(kAcquire)) ASSERT_EQ(self.Poll(), 0);
  });
  Until([&] { return owner.load(kAcquire) != 0; });
  main->QueueReference(owner.load(kAcquire), &object);
  Until([&] { return object.destroyed.load(kAcquire); });
  other.join();
}

TEST_F(ReferencesTest, BR4_AnOwnerThatEndsMergesAndThenItIsMergedAtOnce) {
  Atomic<uint64_t> owner{0};
  Atomic<bool> queued{false};
  Counted first{.owner = 0, .local = 1, .shared = {}, .destroyed = {}};
  Counted second{.owner = 0, .local = 1, .shared = {}, .destroyed = {}};
  std::jthread other = StartThread([&](ThreadState&) {
    owner.store(CurrentThreadIdent(), kRelease);
    DetachedScope detached;
    while (!queued.load(kAcquire)) std::this_thread::yield();
  });
  Until([&] { return owner.load(kAcquire) != 0; });
  main->QueueReference(owner.load(kAcquire), &first);
  EXPECT_FALSE(first.destroyed.load(kAcquire)) << "its owner has not polled";
  queued.store(true, kRelease);
  {
    DetachedScope detached;
    other.join();
  }
  EXPECT_TRUE(first.destroyed.load(kAcquire));
  main->QueueReference(owner.load(kAcquire), &second);
  EXPECT_TRUE(second.destroyed.load(kAcquire));
}

TEST_F(ReferencesTest, BR5_ForADetachedOwnerSomebodyElseMerges) {
  Atomic<uint64_t> owner{0};
  Atomic<bool> stop{false};
  Counted object{.owner = 0, .local = 1, .shared = {}, .destroyed = {}};
  std::jthread other = StartThread([&](ThreadState&) {
    DetachedScope detached;
    owner.store(CurrentThreadIdent(), kRelease);
    while (!stop.load(kAcquire)) std::this_thread::yield();
  });
  Until([&] { return owner.load(kAcquire) != 0; });
  main->QueueReference(owner.load(kAcquire), &object);
  EXPECT_FALSE(object.destroyed.load(kAcquire));
  EXPECT_TRUE(main->MergeReferencesOf(owner.load(kAcquire)));
  EXPECT_TRUE(object.destroyed.load(kAcquire));
  EXPECT_FALSE(main->MergeReferencesOf(12345)) << "there is no such thread";
  stop.store(true, kRelease);
  DetachedScope detached;
  other.join();
}

TEST_F(ReferencesTest, BR2_ToItself) {
  Counted object{.owner = CurrentThreadIdent(), .local = 1, .shared = {}, .destroyed = {}};
  main->QueueReference(CurrentThreadIdent(), &object);
  EXPECT_EQ(thread->Poll(), 0);
  EXPECT_TRUE(object.destroyed.load(kAcquire));
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
