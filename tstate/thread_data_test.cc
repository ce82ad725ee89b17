// The parts of a thread state that stand on their own: exc_info.h, recursion.h, data_stack.h, thread_heaps.h.

#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "pyrt/runtime/object/error.h"
#include "pyrt/tstate/data_stack.h"
#include "pyrt/tstate/exc_info.h"
#include "pyrt/tstate/mimalloc_heaps.h"
#include "pyrt/tstate/recursion.h"
#include "pyrt/tstate/thread_heaps.h"

namespace pyrt::inline PYRT_VARIANT {
namespace {

Ref<Error> Fresh(const char* text) { return Error::New(ErrorType::ValueError(), text); }

// --- exc_info

TEST(ExcInfoTest, B064_TheInnermostHandledExceptionIsSeenAndTheOuterOneRestored) {
  ExcInfoStack stack;
  EXPECT_EQ(stack.Handled(), nullptr);
  EXPECT_EQ(&stack.Topmost(), &stack.bottom());
  const Ref<Error> outer = Fresh("outer"), inner = Fresh("inner");
  {
    HandlingScope handling_outer(stack, outer);
    EXPECT_EQ(stack.Handled(), outer);
    {
      HandlingScope handling_inner(stack, inner);
      EXPECT_EQ(stack.Handled(), inner);
    }
    EXPECT_EQ(stack.Handled(), outer);
  }
  EXPECT_EQ(stack.Handled(), nullptr);
}

TEST(ExcInfoTest, B064_AGeneratorSeesItsCallersExceptionAndKeepsItsOwnToItself) {
  ExcInfoStack stack;
  const Ref<Error> callers = Fresh("caller"), generators = Fresh("generator");
  HandlingScope handling(stack, callers);
  ExcInfo generator;
  stack.Push(generator);
  EXPECT_EQ(stack.Handled(), callers);
  Ref<Error> before = stack.Exchange(generators);
  EXPECT_EQ(stack.Handled(), generators);
  stack.Pop(generator);  // it yields inside its handler
  EXPECT_EQ(stack.Handled(), callers);
  stack.Push(generator);
  EXPECT_EQ(stack.Handled(), generators);
  stack.Pop(generator);
}

TEST(ExcInfoDeathTest, EntriesLeaveInTheReverseOrder) {
  ExcInfoStack stack;
  ExcInfo a, b;
  stack.Push(a);
  stack.Push(b);
  EXPECT_DEATH(stack.Pop(a), "is not the innermost one");
}

// --- recursion

TEST(RecursionTest, TheLimitIsTheNumberOfCalls) {
  RecursionCounter counter(3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(counter.Enter().ok());
  EXPECT_EQ(counter.depth(), 3);
  const absl::Status status = counter.Enter(" in comparison");
  EXPECT_TRUE(IsError(status, ErrorType::RecursionError()));
  EXPECT_EQ(ErrorFromStatus(status)->Message(), "maximum recursion depth exceeded in comparison");
  EXPECT_EQ(counter.depth(), 3);  // the call did not happen
  counter.Leave();
  EXPECT_TRUE(counter.Enter().ok());
}

TEST(RecursionTest, LoweringTheLimitUnderAThreadLeavesItsDepth) {  // SY-55
  RecursionCounter counter(100);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(counter.Enter().ok());
  counter.set_limit(5);
  EXPECT_EQ(counter.depth(), 10);
  EXPECT_EQ(counter.remaining(), -5);
  EXPECT_FALSE(counter.Enter().ok());
}

TEST(RecursionDeathTest, FiftyMoreCallsWhileAnOverflowIsHandledAndNoMore) {  // SY-57
  RecursionCounter counter(0);
  counter.BeginHeadroom();
  for (int i = 0; i < RecursionCounter::kHeadroom; ++i) ASSERT_TRUE(counter.Enter().ok()) << i;
  EXPECT_DEATH(static_cast<void>(counter.Enter()), "Cannot recover from stack overflow.");
}

// Through a volatile pointer, so that it stays a recursion.
int Recurse(RecursionCounter& counter, int depth, absl::Status* status);
int (*volatile recurse)(RecursionCounter&, int, absl::Status*) = &Recurse;

int Recurse(RecursionCounter& counter, int depth, absl::Status* status) {
  char frame[4096];
  asm volatile("" : : "r"(frame) : "memory");  // all of it is needed, as far as the compiler knows
  *status = counter.CheckNativeStack(" in test");
  if (!status->ok() || depth == 100'000) return depth;
  const int deepest = recurse(counter, depth + 1, status);
  asm volatile("" : : "r"(frame) : "memory");
  return deepest;
}

TEST(RecursionTest, NativeRecursionStopsBeforeTheStackEnds) {
  std::thread([] {
    RecursionCounter counter;
    EXPECT_TRUE(counter.CheckNativeStack().ok());
    absl::Status status;
    const int depth = Recurse(counter, 0, &status);
    EXPECT_GT(depth, 100);
    EXPECT_TRUE(IsError(status, ErrorType::RecursionError()));
    EXPECT_NE(ErrorFromStatus(status)->Message().find("Stack overflow (used "), std::string::npos);
  }).join();
}

TEST(RecursionTest, BoundsOfAHostsOwnStackAreTaken) {
  RecursionCounter counter;
  char here;
  counter.SetStackBounds(reinterpret_cast<uintptr_t>(&here) + 1024 * 1024, 1024 * 1024 + 400 * 1024);
  EXPECT_TRUE(counter.CheckNativeStack().ok());
  counter.SetStackBounds(reinterpret_cast<uintptr_t>(&here) + 1024 * 1024, 1024 * 1024 + 100 * 1024);
  EXPECT_FALSE(counter.CheckNativeStack().ok());
}

// --- data stack

TEST(DataStackTest, B065_TheFirstWordOfTheRootChunkIsNeverHandedOut) {
  DataStack stack;
  DataStack::Word* const first = stack.Push(4);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(stack.chunks(), 1u);
  EXPECT_EQ(stack.top_chunk_bytes(), DataStack::kMinimumChunkBytes);
  stack.Pop(first);
  EXPECT_EQ(stack.chunks(), 1u);    // popping the outermost frame keeps the root
  EXPECT_EQ(stack.Push(4), first);  // and the word before it stays unused
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 16, 0u);
}

TEST(DataStackTest, B065_ChunksDoubleUntilTheRequestAndItsOverheadFit) {
  DataStack stack;
  stack.Push(1);
  stack.Push(3000);  // 3000 + 1000 words of 8 bytes
  EXPECT_EQ(stack.chunks(), 2u);
  EXPECT_EQ(stack.top_chunk_bytes(), 32u * 1024);
  stack.Push(10'000);
  EXPECT_EQ(stack.top_chunk_bytes(), 128u * 1024);
  EXPECT_EQ(stack.Push(SIZE_MAX / 2), nullptr);
  EXPECT_EQ(stack.chunks(), 3u);
}

TEST(DataStackTest, B065_OneEmptiedChunkIsKept) {
  DataStack stack;
  DataStack::Word* const a = stack.Push(3000);
  DataStack::Word* const b = stack.Push(3000);
  ASSERT_EQ(stack.chunks(), 2u);
  EXPECT_FALSE(stack.has_cached_chunk());
  stack.Pop(b);
  EXPECT_EQ(stack.chunks(), 1u);
  EXPECT_TRUE(stack.has_cached_chunk());
  EXPECT_EQ(stack.Push(3000), b);
  EXPECT_FALSE(stack.has_cached_chunk());
  stack.Pop(b);
  stack.Pop(a);
}

TEST(DataStackTest, FramesDoNotOverlap) {
  DataStack stack;
  DataStack::Word* frames[64];
  for (size_t i = 0; i < 64; ++i) {
    frames[i] = stack.Push(100 + i);
    std::memset(frames[i], static_cast<int>(i), (100 + i) * sizeof(DataStack::Word));
  }
  for (size_t i = 64; i-- > 0;) {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(frames[i]);
    EXPECT_EQ(bytes[0], i);
    EXPECT_EQ(bytes[(100 + i) * sizeof(DataStack::Word) - 1], i);
    stack.Pop(frames[i]);
  }
}

// --- heaps

void ExerciseHeaps() {
  ThreadHeaps heaps;
  for (int kind = 0; kind < kHeapKinds; ++kind) {
    void* block = heaps.Allocate(static_cast<HeapKind>(kind), 100);
    ASSERT_NE(block, nullptr);
    std::memset(block, 7, 100);
    block = heaps.Reallocate(static_cast<HeapKind>(kind), block, 5000);
    EXPECT_EQ(static_cast<char*>(block)[99], 7);
    ThreadHeaps::Free(block);
  }
  void* const survivor = heaps.Allocate(HeapKind::kObject, 64);
  void* const empty = heaps.Allocate(HeapKind::kMem, 0);
  EXPECT_NE(empty, nullptr);
  ThreadHeaps::Free(empty);
  std::memset(survivor, 1, 64);
  heaps.Abandon(/*on_own_thread=*/true);
  EXPECT_FALSE(heaps.has(HeapKind::kObject));
  EXPECT_EQ(static_cast<char*>(survivor)[63], 1);
  std::thread([survivor] { ThreadHeaps::Free(survivor); }).join();
}

TEST(ThreadHeapsTest, MallocServesAThreadWithoutAProvider) {
  ASSERT_EQ(ThreadHeaps::provider(), nullptr);
  ExerciseHeaps();
}

TEST(ThreadHeapsTest, MimallocServesEachKindFromAHeapOfItsOwn) {
  InstallMimallocHeaps();
  EXPECT_STREQ(ThreadHeaps::provider()->name, "mimalloc");
  std::thread(ExerciseHeaps).join();
  ThreadHeaps heaps;
  EXPECT_FALSE(heaps.has(HeapKind::kGc));  // made on demand
  void* const block = heaps.Allocate(HeapKind::kGc, 32);
  EXPECT_TRUE(heaps.has(HeapKind::kGc));
  EXPECT_FALSE(heaps.has(HeapKind::kMem));
  ThreadHeaps::Free(block);
  heaps.Abandon(true);
  ThreadHeaps::SetProvider(nullptr);
}

// What a thread leaves behind in its heaps stays valid, and its pages are taken over by threads that come later:
// CPython keeps such segments in a pool per interpreter, here mimalloc keeps one per process.
TEST(ThreadHeapsTest, TS36_PagesOfThreadsThatAreGoneAreAdopted) {
  InstallMimallocHeaps();
  const auto resident_kilobytes = [] {
    long total = 0;
    long resident = 0;
    FILE* const file = std::fopen("/proc/self/statm", "r");
    EXPECT_EQ(std::fscanf(file, "%ld %ld", &total, &resident), 2);
    std::fclose(file);
    return resident * 4;
  };
  constexpr int kBlocks = 4000;  // a megabyte a thread
  long after_ten = 0;
  std::vector<void*> left;
  for (int round = 0; round < 200; ++round) {
    if (round == 10) after_ten = resident_kilobytes();
    std::thread([&] {
      ThreadHeaps heaps;
      for (void* block : left) {
        ASSERT_EQ(static_cast<unsigned char*>(block)[255], 0x5a) << "of a thread that is gone";
        ThreadHeaps::Free(block);
      }
      left.clear();
      for (int i = 0; i < kBlocks; ++i) {
        void* const block = heaps.Allocate(HeapKind::kObject, 256);
        ASSERT_NE(block, nullptr);
        std::memset(block, 0x5a, 256);
        left.push_back(block);
      }
      heaps.Abandon(/*on_own_thread=*/true);
    }).join();
  }
  for (void* block : left) ThreadHeaps::Free(block);
  EXPECT_LT(resident_kilobytes() - after_ten, 16 * 1024) << "190 threads, a megabyte each";
  ThreadHeaps::SetProvider(nullptr);
}

}  // namespace
}  // namespace pyrt::inline PYRT_VARIANT
