#include "pyrt/tstate/thread_registry.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/runtime/sync/parking_lot.h"
#include "pyrt/tstate/tstate_test_util.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

class ThreadRegistryTest : public ::testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(ThreadState::Current(), nullptr);
    EXPECT_EQ(interpreter_.threads.size(), 0u);
  }
  TestInterpreter interpreter_;
};

void DeleteUnused(ThreadState* thread) {
  InterpreterThreads::Clear(*thread);
  InterpreterThreads::Delete(thread);
}

TEST_F(ThreadRegistryTest, B043_IdsStartAtOneAndAreNotUsedAgain) {
  TestThread first(interpreter_);
  EXPECT_EQ(first->id(), 1u);
  ThreadState* const second = interpreter_.threads.New(Whence::kThreading);
  EXPECT_EQ(second->id(), 2u);
  DeleteUnused(second);
  ThreadState* const third = interpreter_.threads.New(Whence::kThreading);
  EXPECT_EQ(third->id(), 3u);
  DeleteUnused(third);
  // Per interpreter (TS-14).
  TestInterpreter other(TestRegistry(), 1);
  DetachedScope detached;
  TestThread elsewhere(other);
  EXPECT_EQ(elsewhere->id(), 1u);
}

TEST_F(ThreadRegistryTest, TheListIsNewestFirst) {
  TestThread first(interpreter_);
  ThreadState* const second = interpreter_.threads.New(Whence::kThreading);
  ThreadState* const third = interpreter_.threads.New(Whence::kThreading);
  std::vector<uint64_t> ids;
  interpreter_.threads.ForEach([&](ThreadState& thread) { ids.push_back(thread.id()); });
  EXPECT_EQ(ids, (std::vector<uint64_t>{3, 2, 1}));
  DeleteUnused(second);
  DeleteUnused(third);
}

TEST_F(ThreadRegistryTest, B052_IdsAreUniqueUnderConcurrentCreation) {  // bpo-39776
  constexpr int kThreads = 8;
  constexpr int kEach = 12'500;
  std::vector<uint64_t> ids[kThreads];
  std::vector<std::thread> threads;
  for (auto& mine : ids) {
    threads.emplace_back([&] {
      TestThread self(interpreter_);
      mine.reserve(kEach);
      for (int i = 0; i < kEach; ++i) {
        ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
        mine.push_back(thread->id());
        DeleteUnused(thread);
        if (i % 64 == 0) self->Poll();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<uint64_t> all;
  for (const auto& mine : ids) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all.size(), size_t{kThreads} * kEach);
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  EXPECT_EQ(interpreter_.threads.last_id(), uint64_t{kThreads} * kEach + kThreads);
}

TEST_F(ThreadRegistryTest, B053_AsyncExceptionsReachAThreadOfThisInterpreterByIdent) {
  TestThread thread(interpreter_);
  InterpreterThreads& threads = interpreter_.threads;
  const uint64_t self = CurrentThreadIdent();
  AsyncException& slot = thread->data().async_exception;

  EXPECT_FALSE(threads.SetAsyncException(self + 1, Error::New(ErrorType::ValueError(), "x")));
  EXPECT_TRUE(threads.SetAsyncException(self, Error::New(ErrorType::ValueError(), "first")));
  EXPECT_TRUE(thread->breaker().IsSet(BreakerEvent::kAsyncException));
  EXPECT_TRUE(threads.SetAsyncException(self, Error::New(ErrorType::KeyError(), "second")));
  EXPECT_EQ(slot.Take(thread->breaker())->TypeName(), std::string("KeyError"));
  EXPECT_FALSE(thread->breaker().IsSet(BreakerEvent::kAsyncException));

  EXPECT_TRUE(threads.SetAsyncException(self, Error::New(ErrorType::KeyError(), "third")));
  EXPECT_TRUE(threads.SetAsyncException(self, nullptr));  // clears it, and sets the bit all the same
  EXPECT_TRUE(thread->breaker().IsSet(BreakerEvent::kAsyncException));
  EXPECT_EQ(slot.Take(thread->breaker()), nullptr);

  TestInterpreter other(TestRegistry(), 1);
  EXPECT_FALSE(other.threads.SetAsyncException(self, nullptr));
}

// A destructor of the state's own data, when the slot has been emptied.
class SetsAsyncException final : public Object {
 public:
  SetsAsyncException(InterpreterThreads& threads, bool* set) : threads_(threads), set_(set) {}
  ~SetsAsyncException() override {
    *set_ = threads_.SetAsyncException(CurrentThreadIdent(), Error::New(ErrorType::ValueError(), "late"));
  }
  const char* TypeName() const override { return "sets_async_exception"; }

 private:
  InterpreterThreads& threads_;
  bool* const set_;
};

TEST_F(ThreadRegistryTest, TS86_NoAsyncExceptionForAStateThatIsBeingCleared) {
  bool set = true;
  std::thread([&] {
    TestThread self(interpreter_);
    self->data().context = MakeRef<SetsAsyncException>(interpreter_.threads, &set);
  }).join();
  EXPECT_FALSE(set);
}

// The bit is set under the head lock, so that the state cannot go between its discovery and the bit.
TEST_F(ThreadRegistryTest, TS86_AsyncExceptionsForThreadsThatEnd) {
  constexpr int kRounds = 300;
  Atomic<uint64_t> ident{0};
  Atomic<bool> stop{false};
  std::thread short_lived([&] {
    for (int i = 0; i < kRounds; ++i) {
      TestThread self(interpreter_);
      ident.store(CurrentThreadIdent(), kRelease);
      EXPECT_EQ(self->Poll(), 0);
    }
    stop.store(true, kRelease);
  });
  TestThread sender(interpreter_);
  int found = 0;
  while (!stop.load(kAcquire)) {
    found += interpreter_.threads.SetAsyncException(ident.load(kAcquire),
                                                    Error::New(ErrorType::ValueError(), "x"));
    sender->Poll();
  }
  {
    DetachedScope detached;
    short_lived.join();
  }
  EXPECT_FALSE(interpreter_.threads.SetAsyncException(ident.load(kAcquire), nullptr))
      << "gone; found " << found;
}

TEST_F(ThreadRegistryTest, FindGivesAReference) {
  TestThread thread(interpreter_);
  ThreadState* const found = interpreter_.threads.Find(CurrentThreadIdent());
  EXPECT_EQ(found, &*thread);
  found->DecRef();
  EXPECT_EQ(interpreter_.threads.Find(1), nullptr);
}

class Tracked final : public Object {
 public:
  explicit Tracked(std::vector<std::string>* log, std::string name) : log_(log), name_(std::move(name)) {}
  ~Tracked() override { log_->push_back(name_); }
  const char* TypeName() const override { return "tracked"; }

 private:
  std::vector<std::string>* const log_;
  const std::string name_;
};

TEST_F(ThreadRegistryTest, ClearReleasesInCPythonsOrder) {  // TS-57
  std::vector<std::string> log;
  TestThread self(interpreter_);
  ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
  ThreadData& data = thread->data();
  data.context = MakeRef<Tracked>(&log, "context");
  data.trace.object = MakeRef<Tracked>(&log, "trace");
  data.profile.object = MakeRef<Tracked>(&log, "profile");
  data.running_loop = MakeRef<Tracked>(&log, "loop");
  data.local_key = MakeRef<Tracked>(&log, "key");
  data.async_gen_finalizer = MakeRef<Tracked>(&log, "finalizer");
  data.dict = Dict::New();
  data.dict->Set("entry", MakeRef<Tracked>(&log, "dict"));
  InterpreterThreads::Clear(*thread);
  EXPECT_EQ(log,
            (std::vector<std::string>{"key", "loop", "dict", "profile", "trace", "finalizer", "context"}));
  EXPECT_TRUE(thread->status().cleared);
  InterpreterThreads::Delete(thread);
}

// A destructor that walks the list: the head lock must not be held (gh-102126).
class Walker final : public Object {
 public:
  Walker(InterpreterThreads* threads, size_t* seen) : threads_(threads), seen_(seen) {}
  ~Walker() override { *seen_ = threads_->size(); }
  const char* TypeName() const override { return "walker"; }

 private:
  InterpreterThreads* const threads_;
  size_t* const seen_;
};

TEST_F(ThreadRegistryTest, DestructorsRunWithoutTheHeadLock) {
  TestThread self(interpreter_);
  size_t seen = 0;
  ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
  thread->data().context = MakeRef<Walker>(&interpreter_.threads, &seen);
  InterpreterThreads::DeleteRemoved(interpreter_.threads.RemoveAllExcept(&*self), /*threads_are_gone=*/true);
  EXPECT_EQ(seen, 1u);
}

TEST_F(ThreadRegistryTest, AThreadKeepsItsOwnRemovedStateUntilItEnds) {
  // Frames of the thread may still name it: the interpreter must stay for as long.
  std::jthread([&] {
    TestThread finalizer(interpreter_);
    ThreadState* const own = interpreter_.threads.NewBound();
    InterpreterThreads::DeleteRemoved(interpreter_.threads.RemoveAllExcept(&*finalizer, /*shut_down=*/true),
                                      /*threads_are_gone=*/false);
    EXPECT_EQ(interpreter_.threads.lost_states(), 1);
    EXPECT_TRUE(own->status().finalized);
  }).join();
  EXPECT_EQ(interpreter_.threads.lost_states(), 0);
}

// A thread that computes and polls, and has nothing else to answer, does not keep what others have retired.
TEST_F(ThreadRegistryTest, EB8_AThreadThatOnlyPollsReportsWhenItHoldsAReclamationUp) {
  if constexpr (kGilEnabled) GTEST_SKIP() << "frees are immediate";
  std::atomic<bool> attached{false}, end{false};
  std::thread busy([&] {
    TestThread self(interpreter_);
    attached = true;
    while (!end) EXPECT_EQ(self->Poll(), 0);
  });
  ASSERT_TRUE(Eventually([&] { return attached.load(); }));
  {
    TestThread self(interpreter_);
    const uint64_t goal = interpreter_.threads.qsbr().Advance();
    EXPECT_TRUE(Eventually([&] { return interpreter_.threads.qsbr().Poll(goal, self->qsbr_slot()); }));
  }
  end = true;
  busy.join();
}

// Nobody is left who could notice that a state was deleted if its thread has ended before.
TEST_F(ThreadRegistryTest, TS65_TheStateOfAThreadThatHasEndedGoesAtOnce) {
  std::thread([&] { interpreter_.threads.NewBound(); }).join();
  TestThread finalizer(interpreter_);
  EXPECT_EQ(interpreter_.threads.size(), 2u);
  InterpreterThreads::DeleteRemoved(interpreter_.threads.RemoveAllExcept(&*finalizer, /*shut_down=*/true),
                                    /*threads_are_gone=*/false);
  EXPECT_EQ(interpreter_.threads.lost_states(), 0);
}

TEST_F(ThreadRegistryTest, TS65_AStateDeletedAfterTheEndOfItsThreadIsFreed) {
  static int freed;
  freed = 0;
  ThreadState* left = nullptr;
  std::thread([&] { left = interpreter_.threads.NewBound(); }).join();
  left->IncRef();  // ours, the last
  left->set_deleter([](ThreadState*) { ++freed; });
  {
    TestThread self(interpreter_);
    InterpreterThreads::Clear(*left);
    InterpreterThreads::Delete(left);
  }
  EXPECT_EQ(freed, 0);
  left->DecRef();
  EXPECT_EQ(freed, 1);
  left->~ThreadState();
  ThreadRegistry::DeallocateState(left, sizeof(ThreadState), alignof(ThreadState));
}

TEST_F(ThreadRegistryTest, B066_ClearWarnsAboutAStateInUse) {
  TestThread self(interpreter_);
  interpreter_.threads.link().verbose = true;
  ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
  int frame = 0;
  thread->data().current_frame.store(&frame, kRelaxed);
  thread->data().current_exception = Error::New(ErrorType::ValueError(), "forgotten");
  ExcInfo generator;
  thread->data().exc_info.Push(generator);
  ::testing::internal::CaptureStderr();
  InterpreterThreads::Clear(*thread);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "PyThreadState_Clear: warning: thread still has a frame\n"
            "PyThreadState_Clear: warning: thread has an exception set\n"
            "ValueError: forgotten\n"
            "PyThreadState_Clear: warning: thread still has a generator\n");
  interpreter_.threads.link().verbose = false;
  thread->data().exc_info.Pop(generator);
  InterpreterThreads::Delete(thread);
}

// --- Memory

int allocations_left = 0;
int live = 0;

TEST_F(ThreadRegistryTest, B067_ACreationThatFailsLeavesNothingBehind) {
  static constexpr ThreadRegistry::Allocator kFailing{
      [](size_t size, size_t alignment) -> void* {
        if (allocations_left-- <= 0) return nullptr;
        ++live;
        return ::operator new(size, std::align_val_t(alignment));
      },
      [](void* memory, size_t, size_t alignment) {
        --live;
        ::operator delete(memory, std::align_val_t(alignment));
      }};
  ThreadRegistry::SetAllocator(&kFailing);
  allocations_left = 0;
  EXPECT_EQ(interpreter_.threads.New(Whence::kThreading), nullptr);
  EXPECT_EQ(interpreter_.threads.size(), 0u);
  EXPECT_EQ(interpreter_.threads.last_id(), 0u);

  // The slot went back: the first chunk of eight is enough for eight states after any number of failures.
  for (int i = 0; i < 100; ++i) EXPECT_EQ(interpreter_.threads.New(Whence::kThreading), nullptr);
  EXPECT_LE(interpreter_.threads.qsbr().capacity(), Qsbr::kFirstChunk);
  allocations_left = 1;
  { TestThread thread(interpreter_); }
  ThreadRegistry::SetAllocator(nullptr);
  EXPECT_EQ(live, 0);
}

TEST_F(ThreadRegistryTest, OneStateOverAndOverAllocatesOnce) {  // TS-11
  static int calls;
  calls = 0;
  static constexpr ThreadRegistry::Allocator kCounting{
      [](size_t size, size_t alignment) -> void* {
        ++calls;
        return ::operator new(size, std::align_val_t(alignment));
      },
      [](void* memory, size_t, size_t alignment) { ::operator delete(memory, std::align_val_t(alignment)); }};
  ThreadRegistry::SetAllocator(&kCounting);
  for (int i = 0; i < 100; ++i) TestThread thread(interpreter_);
  EXPECT_EQ(calls, 1);
  ThreadRegistry::SetAllocator(nullptr);
}

TEST_F(ThreadRegistryTest, AStateThatAnotherThreadDeletesStaysWhileItsThreadNamesIt) {  // TS-65
  TestThread self(interpreter_);
  std::atomic<ThreadState*> state{nullptr};
  std::atomic<bool> deleted{false};
  std::thread other([&] {
    state = interpreter_.threads.NewBound();
    while (!deleted) std::this_thread::yield();
    // Slot B still points there; a new state takes the place and drops it.
    EXPECT_EQ(ThreadState::GilState(), state.load());
    EXPECT_TRUE(state.load()->status().finalized);
    TestThread next(interpreter_);
    EXPECT_EQ(ThreadState::GilState(), &*next);
  });
  ASSERT_TRUE(Eventually([&] { return state.load() != nullptr; }));
  DeleteUnused(state);
  deleted = true;
  DetachedScope detached;
  other.join();
}

TEST_F(ThreadRegistryTest, ForkedChildKeepsOneStateAndGoesOn) {
  std::atomic<bool> end{false};
  std::thread busy([&] {
    TestThread thread(interpreter_);
    while (!end) thread->Poll();
  });
  ASSERT_TRUE(Eventually([&] { return interpreter_.threads.size() == 1; }));
  int status = 1;
  {
    TestThread self(interpreter_);
    const pid_t child = ForkProcess();
    ASSERT_GE(child, 0);
    if (child == 0) {
      PlatformAfterForkInChild();
      ParkingLot::AfterForkInChild();
      TestRegistry().ReinitAfterFork();
      interpreter_.threads.ReinitAfterFork(&*self, /*attached=*/true);
      interpreter_.gil.ReinitAfterFork(&self->gil_holder());
      if (kGilEnabled && interpreter_.gil.Take(self->gil_holder()) != Gil::TakeResult::kTaken) _exit(3);
      InterpreterThreads::DeleteRemoved(interpreter_.threads.RemoveAllExcept(&*self), true);
      bool ok =
          interpreter_.threads.size() == 1 && self->native_thread_id() == static_cast<uint64_t>(::getpid());
      { DetachedScope detached; }
      // ThreadSanitizer still knows the parent's threads, and ends a child whose new thread has the id of one of them.
      if constexpr (!kTsan) {
        std::thread second([&] { TestThread thread(interpreter_); });
        {
          DetachedScope detached;
          second.join();
        }
        ok = ok && interpreter_.threads.last_id() >= 3;
      }
      _exit(ok ? 0 : 2);
    }
    DetachedScope detached;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
  }
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  end = true;
  busy.join();
}

// --- Misuse

using ThreadRegistryDeathTest = ThreadRegistryTest;

TEST_F(ThreadRegistryDeathTest, B051_DeleteOfTheCurrentStateIsFatal) {
  TestThread thread(interpreter_);
  EXPECT_DEATH(InterpreterThreads::Delete(&*thread),
               "PyThreadState_Delete: tstate 0x[0-9a-f]+ is still current");
  EXPECT_DEATH(InterpreterThreads::Delete(nullptr), "PyThreadState_Delete: the thread state is NULL");
}

TEST_F(ThreadRegistryDeathTest, LifecycleOutOfOrderIsFatal) {
  TestThread self(interpreter_);
  EXPECT_DEATH(InterpreterThreads::DeleteCurrent(), "deleted once, after it was cleared");
  ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
  EXPECT_DEATH(InterpreterThreads::Delete(thread), "deleted once, after it was cleared");
  InterpreterThreads::Clear(*thread);
  EXPECT_DEATH(InterpreterThreads::Clear(*thread), "a thread state is cleared once");
  EXPECT_DEATH(thread->Bind(), "bound once, while it is new");
  InterpreterThreads::Delete(thread);
}

TEST_F(ThreadRegistryDeathTest, ClearFromAnotherInterpreterIsFatal) {
  TestInterpreter other(TestRegistry(), 1);
  TestThread self(other);
  ThreadState* const thread = interpreter_.threads.New(Whence::kThreading);
  EXPECT_DEATH(InterpreterThreads::Clear(*thread),
               "only a thread that is attached to the state's interpreter");
  DetachedScope detached;
  TestThread owner(interpreter_);
  DeleteUnused(thread);
}

TEST_F(ThreadRegistryDeathTest, AnInterpreterWithThreadsMayNotGo) {
  EXPECT_DEATH(
      {
        TestInterpreter other(TestRegistry(), 1);
        other.threads.New(Whence::kThreading);
      },
      "remaining threads");
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
